"""The log: an MCAP file written by its own thread, so that a slow disk never delays a command.

The control loop only appends to a bounded queue (`put`) and wakes the writer once its answer is out (`wake`); the
writer works while the loop waits for the next observation. What does not fit in the queue is dropped and counted.
Chunks are closed and handed to the kernel every `FLUSH_INTERVAL_S`, so `kill -9` loses at most that much plus one
batch (under a second in total), and everything before opens with any MCAP reader that tolerates a missing footer.
"""

import contextlib
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer

from firmware_bridge import log_topics
from firmware_bridge.errors import RecorderError
from firmware_bridge.log_topics import Topic

FLUSH_INTERVAL_S = 0.25
CHUNK_SIZE_BYTES = 256 * 1024
QUEUE_CAPACITY = 50_000  # records; at 50 Hz about two minutes of a blocked disk
_WAIT_S = 0.1
_CLOSE_TIMEOUT_S = 20.0


class Recorder:
    """One log file. Records queue up from construction on; `start` opens the file and begins writing.

    `dropped` counts records that found the queue full, `written` those handed to the file.
    """

    def __init__(self, path: Path, capacity: int = QUEUE_CAPACITY) -> None:
        self.path = path
        self.dropped = 0
        self.written = 0
        self._capacity = capacity
        self._queue: deque[tuple[Topic, int, Any]] = deque()
        self._epoch_offset_ns = time.time_ns() - time.monotonic_ns()
        self._failure: Exception | None = None
        self._stopping = False
        # A lock used as a one-shot bell: the loop releases it, the writer acquires it. Cheaper than an Event.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._writer: Any = None
        self._stream: Any = None
        self._channels: dict[str, int] = {}

    def put(self, topic: Topic, time_ns: int, payload: Any) -> None:
        """Queue one record, stamped with CLOCK_MONOTONIC nanoseconds. Never blocks, never raises."""
        if len(self._queue) >= self._capacity:
            self.dropped += 1
        else:
            self._queue.append((topic, time_ns, payload))

    def wake(self) -> None:
        """Let the writer work now: call it when the answer to an observation is on its way."""
        if self._bell.locked():
            self._bell.release()

    def start(self, session: dict[str, Any]) -> None:
        """Open the file, write `session` as its first record and start the writer. Raises RecorderError.

        An older log of the same name is kept beside it as `<stem>.previous.mcap`.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file():
                self.path.replace(self.path.with_suffix(".previous.mcap"))
            self._stream = self.path.open("wb")
            self._writer = Writer(self._stream, chunk_size=CHUNK_SIZE_BYTES, compression=CompressionType.ZSTD)
            self._writer.start(profile="", library="firmware_bridge")
            for topic in log_topics.TOPICS:
                schema = 0
                if topic.schema is not None:
                    schema = self._writer.register_schema(
                        topic.schema_name, "jsonschema", log_topics.to_json(topic.schema)
                    )
                self._channels[topic.name] = self._writer.register_channel(topic.name, topic.message_encoding, schema)
            record = {"format_version": log_topics.FORMAT_VERSION, "epoch_offset_ns": self._epoch_offset_ns, **session}
            self._write(log_topics.SESSION, time.monotonic_ns(), record)
            self._flush()
        except OSError as error:
            self._close_stream()
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
        if result is not None:
            # Past the capacity on purpose: the result is worth more than the queue's bound.
            self._queue.append((log_topics.RESULT, time.monotonic_ns(), result))
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
        try:
            if self._failure is None:
                self._writer.finish()
                self._stream.flush()
                os.fsync(self._stream.fileno())
        except OSError as error:
            self._failure = error
        self._close_stream()
        self.check()

    def _run(self) -> None:
        last_flush = time.monotonic()
        try:
            while True:
                self._bell.acquire(timeout=_WAIT_S)
                stopping = self._stopping
                while self._queue:
                    topic, time_ns, payload = self._queue.popleft()
                    self._write(topic, time_ns, payload)
                now = time.monotonic()
                if now - last_flush >= FLUSH_INTERVAL_S or stopping:
                    self._flush()
                    last_flush = now
                if stopping:
                    return
        except Exception as error:  # whatever it is, the loop must hear of it and brake
            self._failure = error

    def _write(self, topic: Topic, time_ns: int, payload: Any) -> None:
        stamp = time_ns + self._epoch_offset_ns
        self._writer.add_message(self._channels[topic.name], stamp, topic.encode(payload), stamp, self.written)
        self.written += 1

    def _flush(self) -> None:
        # mcap closes a chunk by size only; its own finalizer is the one way to close it by time. The test
        # `test_every_flush_is_readable` fails should a newer mcap rename it.
        self._writer._Writer__finalize_chunk()
        self._stream.flush()

    def _close_stream(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):  # a full disk was already reported; close() only tries again
                self._stream.close()

    def _error(self, error: Exception) -> RecorderError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        return RecorderError(
            f"log {self.path}: cannot write: {reason}; expected a writable disk with space; "
            "free space or choose another --log folder"
        )
