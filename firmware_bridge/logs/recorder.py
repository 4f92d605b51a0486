"""The log: an MCAP file written by its own thread, so that a slow disk never delays a command.

The control loop only appends to a bounded queue (`put`) and wakes the writer once its answer is out (`wake`); the
writer works while the loop waits for the next observation. What does not fit in the queue is dropped, counted by
topic, and the place of the hole is marked by `/dropped` records. Chunks are closed and handed to the kernel every
`FLUSH_INTERVAL_S`, so `kill -9` loses at most that much plus one batch (under a second in total), and everything
before opens with any MCAP reader that tolerates a missing footer. A long log can be rotated (`parts`): each part is
finished and synchronised before the next begins, and opens alone.
"""

import dataclasses
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware_bridge.errors import RecorderError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.log_file import LogFile
from firmware_bridge.logs.parts import keep_previous, part_path
from firmware_bridge.logs.topics import Topic

FLUSH_INTERVAL_S = 0.25
QUEUE_CAPACITY_BYTES = 64 * 1024 * 1024  # of memory; about 20 s of a blocked disk at 1 kHz
_BATCH = 256  # records between two looks at the clock: at 1 kHz the queue may never run empty
_WAIT_S = 0.1
_CLOSE_TIMEOUT_S = 20.0


@dataclasses.dataclass(frozen=True)
class Rotation:
    """When the log goes on in a new file: after `size_bytes` of file or `interval_s` seconds, 0 for never."""

    size_bytes: int = 0
    interval_s: float = 0.0


class Recorder:
    """One log. Records queue up from construction on; `start` opens the file and begins writing.

    One thread calls `put`. `dropped` counts records that found the queue full, `dropped_by_topic` the same for each
    topic, `written` those handed to the file.
    """

    def __init__(
        self, path: Path, capacity_bytes: int = QUEUE_CAPACITY_BYTES, rotation: Rotation | None = None
    ) -> None:
        self.path = path
        self.written = 0
        self.dropped_by_topic: dict[str, int] = {}
        self.tap: Callable[[Topic, int, Any], None] | None = None
        """Sees every record that is put, and the session, in the thread that puts it (the live page)."""
        self._capacity_bytes = capacity_bytes
        self._rotation = rotation or Rotation()
        self._queue: deque[tuple[Topic, int, Any]] = deque()
        # Each of the two is written by one thread only, so neither needs a lock; the difference is what is queued.
        self._bytes_in = self._bytes_out = 0
        self._hole: dict[str, int] = {}
        self._epoch_offset_ns = time.time_ns() - time.monotonic_ns()
        self._failure: Exception | None = None
        self._stopping = False
        # A lock used as a one-shot bell: the loop releases it, the writer acquires it. Cheaper than an Event.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._session: dict[str, Any] = {}
        self._part = 0
        self._part_started = 0.0
        self._file: LogFile | None = None

    @property
    def dropped(self) -> int:
        """Records that found the queue full."""
        return sum(self.dropped_by_topic.values())

    def put(self, topic: Topic, time_ns: int, payload: Any) -> None:
        """Queue one record, stamped with CLOCK_MONOTONIC nanoseconds. Never blocks, never raises."""
        if self.tap is not None:
            self.tap(topic, time_ns, payload)
        size = _size(topic, payload)
        queued = self._bytes_in - self._bytes_out
        # After a hole half of the queue must be free again: one long hole says more than a thousand short ones.
        if queued + size > (self._capacity_bytes // 2 if self._hole else self._capacity_bytes):
            self._hole[topic.name] = self._hole.get(topic.name, 0) + 1
            self.dropped_by_topic[topic.name] = self.dropped_by_topic.get(topic.name, 0) + 1
            return
        if self._hole:
            self._mark_hole(time_ns)
        self._bytes_in += size
        self._queue.append((topic, time_ns, payload))

    def wake(self) -> None:
        """Let the writer work now: call it when the answer to an observation is on its way."""
        if self._bell.locked():
            self._bell.release()

    def start(self, session: dict[str, Any]) -> None:
        """Open the file, write `session` as its first record and start the writer. Raises RecorderError.

        An older log of the same name is kept beside it as `<stem>.previous.mcap`.
        """
        self._session = {
            "format_version": log_topics.FORMAT_VERSION,
            "log_id": secrets.token_hex(8),
            "epoch_offset_ns": self._epoch_offset_ns,
            **session,
        }
        if self.tap is not None:
            self.tap(log_topics.SESSION, time.monotonic_ns(), self._session)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            keep_previous(self.path)
            self._open_part()
        except OSError as error:
            if self._file is not None:
                self._file.abandon()
            raise self._error(error) from error
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise RecorderError when the log could no longer be written."""
        if self._failure is not None:
            raise self._error(self._failure)

    def close(self, result: dict[str, Any] | None = None) -> None:
        """Write `result` as the last record, finish the file and fsync it. Raises RecorderError; safe to call twice."""
        if self._thread is None:
            return
        now_ns = time.monotonic_ns()
        if self._hole:
            self._mark_hole(now_ns)
        if result is not None:
            # Past the capacity on purpose: the result is worth more than the queue's bound.
            self._queue.append((log_topics.RESULT, now_ns, result))
        self._stopping = True
        self.wake()
        self._thread.join(_CLOSE_TIMEOUT_S)
        stuck = self._thread.is_alive()
        self._thread = None
        if stuck:
            raise RecorderError(
                f"log {self.path}: the disk did not take the rest within {_CLOSE_TIMEOUT_S:.0f} s; "
                "what is in the file opens; log to a faster disk"
            )
        self.check()

    def _mark_hole(self, time_ns: int) -> None:
        for name, count in self._hole.items():
            self._queue.append((log_topics.DROPPED, time_ns, (name, count, self.dropped_by_topic[name])))
        self._hole = {}

    def _run(self) -> None:
        last_flush = time.monotonic()
        try:
            while True:
                self._bell.acquire(timeout=_WAIT_S)
                stopping = self._stopping
                while self._queue:
                    for _ in range(min(_BATCH, len(self._queue))):
                        topic, time_ns, payload = self._queue.popleft()
                        self._write(topic, time_ns, payload)
                    last_flush = self._flush_when_due(last_flush)
                if stopping:
                    break
                last_flush = self._flush_when_due(last_flush)
            self._open_file().finish()
        except Exception as error:  # whatever it is, the loop must hear of it and brake
            self._failure = error
            if self._file is not None:
                self._file.abandon()

    def _write(self, topic: Topic, time_ns: int, payload: Any) -> None:
        self._open_file().add(topic, time_ns + self._epoch_offset_ns, topic.encode(payload), self.written)
        self.written += 1
        if topic is not log_topics.DROPPED and topic is not log_topics.RESULT:  # neither was counted in
            self._bytes_out += _size(topic, payload)

    def _flush_when_due(self, last_flush: float) -> float:
        now = time.monotonic()
        if now - last_flush < FLUSH_INTERVAL_S:
            return last_flush
        size = self._open_file().flush()
        limit, interval_s = self._rotation.size_bytes, self._rotation.interval_s
        if (limit and size >= limit) or (interval_s and now - self._part_started >= interval_s):
            self._open_file().finish()
            self._part += 1
            self._open_part()
        return now

    def _open_part(self) -> None:
        self._part_started = time.monotonic()
        self._file = LogFile(part_path(self.path, self._part))
        record = log_topics.SESSION.encode({**self._session, "part": self._part})
        self._file.add(log_topics.SESSION, time.time_ns(), record, self.written)
        self.written += 1
        self._file.flush()

    def _open_file(self) -> LogFile:
        assert self._file is not None  # the writer runs between `start` and `close`
        return self._file

    def _error(self, error: Exception) -> RecorderError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        return RecorderError(
            f"log {self.path}: cannot write: {reason}; expected a writable disk with space; "
            "free space or choose another folder for it"
        )


def _size(topic: Topic, payload: Any) -> int:
    """Bytes of memory that a queued record takes, at most."""
    return topic.queued_bytes + (len(payload) if topic.schema is None else 0)
