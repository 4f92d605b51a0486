"""The log of a run, seen from the loop: records are put into a list, packed once the answer is out, and sent on.

A process of its own writes the MCAP file (`writer_process`), so that neither a slow disk nor compression ever delays a
command. `put` only keeps a reference; `pump` packs what was put and hands it to a pipe that never blocks. What the pipe
has no room for waits here, up to a bound; beyond that it is dropped, counted by topic, and the place of the hole is
marked by `/dropped` records.
"""

import contextlib
import fcntl
import json
import os
import secrets
import select
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware_bridge.child_process import start_child
from firmware_bridge.errors import RecorderError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.record_pipe import END, HEADER, PAUSE, LogSettings, Rotation
from firmware_bridge.logs.topics import Topic
from firmware_bridge.logs.write_failure import next_step

FLUSH_INTERVAL_S = 0.75  # with the writer's own tenth of a second less than the second that is promised
QUEUE_CAPACITY_BYTES = 16 * 1024 * 1024  # at 1 kHz some 20 s of a blocked disk
_PIPE_BYTES = 1024 * 1024
_CROWD = 1000  # records; at 1 kHz some eight come between two answers
_OPEN_TIMEOUT_S = 10.0
_POLL_INTERVAL_S = 0.1
_CLOSE_TIMEOUT_S = 20.0
_READ_BYTES = 4096
_PROCESS_CLOCK = 2  # clock_getcpuclockid(3) on Linux: all threads, user and kernel
_PAUSE = HEADER.pack(PAUSE, 0, 0)


def launch_writer() -> subprocess.Popen[bytes]:
    """The process that will write a log: it takes a while to load, so start it early. Raises RecorderError."""
    try:
        return start_child("firmware_bridge.logs.writer_process")
    except OSError as error:
        raise RecorderError(
            f"cannot start the process that writes the log: {error.strerror}; {next_step(error.errno)}"
        ) from error


class Recorder:
    """One log. Records gather from construction on; `start` opens the file and lets them go.

    One thread uses it. `process` is one of `launch_writer`; without it `start` starts one. `dropped` counts records for
    which there was no room, `dropped_by_topic` the same for each topic, `written` those in the file, once it is closed.
    """

    def __init__(
        self,
        path: Path,
        capacity_bytes: int = QUEUE_CAPACITY_BYTES,
        rotation: Rotation | None = None,
        flush_interval_s: float = FLUSH_INTERVAL_S,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.path = path
        self.written = 0
        self.dropped_by_topic: dict[str, int] = {}
        self.tap: Callable[[Topic, int, Any], None] | None = None
        """Sees every record, and the session, when it is packed (the live page)."""
        self._capacity_bytes = capacity_bytes
        self._rotation = rotation or Rotation()
        self._flush_interval_s = flush_interval_s
        self._epoch_offset_ns = time.time_ns() - time.monotonic_ns()
        self._put: list[tuple[Topic, int, Any]] = []
        self._packed: list[bytes] = []
        self._sending: deque[memoryview] = deque()
        self._held_bytes = 0  # packed, and not yet in the pipe
        self._hole: dict[str, int] = {}
        self._process = process
        self._pipe: int | None = None
        self._answers = b""
        self._clock: int | None = None  # the writer's processor time, where it matters
        self._failure = ""
        self._error_number: int | None = None  # of the system; None where the writer itself failed
        self.first_of_run = True
        """See `LogSettings`."""

    @property
    def dropped(self) -> int:
        """Records for which there was no room."""
        return sum(self.dropped_by_topic.values())

    @property
    def crowded(self) -> bool:
        """So much was put that it must be pumped, whatever waits for an answer."""
        return len(self._put) > _CROWD

    def put(self, topic: Topic, time_ns: int, payload: Any) -> None:
        """Take one record, stamped with CLOCK_MONOTONIC nanoseconds. Never blocks, never raises."""
        self._put.append((topic, time_ns, payload))

    def pump(self) -> None:
        """Pack and send what was put: call it when the answer to an observation is on its way. Never blocks."""
        put, self._put = self._put, []
        for topic, time_ns, payload in put:
            if self.tap is not None:
                self.tap(topic, time_ns, payload)
            self._pack(topic, time_ns, payload)
        self._send()

    def start(self, session: dict[str, Any], poll: Callable[[], None] = lambda: None) -> None:
        """Open the file with `session` as its first record, and let the records go. Raises RecorderError.

        An older log of the same name is kept beside it as `<stem>.previous.mcap`. `poll` is called while a slow disk is
        waited for; what it raises ends the wait, and the writer.
        """
        self._process = process = self._process or launch_writer()
        session = {
            "format_version": log_topics.FORMAT_VERSION,
            "log_id": secrets.token_hex(8),
            "epoch_offset_ns": self._epoch_offset_ns,
            **session,
        }
        if self.tap is not None:
            self.tap(log_topics.SESSION, time.monotonic_ns(), session)
        settings = LogSettings(
            self.path, self._rotation, self._flush_interval_s, self._epoch_offset_ns, session, self.first_of_run
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._pipe = process.stdin.fileno()
        os.set_blocking(self._pipe, False)
        with contextlib.suppress(AttributeError, OSError):  # Linux only, and bounded by fs.pipe-max-size
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        first = settings.encoded()
        self._sending.appendleft(memoryview(first))
        self._held_bytes += len(first)
        deadline = time.monotonic() + _OPEN_TIMEOUT_S
        try:
            self._drain(deadline)
            while not select.select([process.stdout], [], [], _POLL_INTERVAL_S)[0] and time.monotonic() < deadline:
                poll()
        except BaseException:
            self._end(time.monotonic() + _POLL_INTERVAL_S)
            raise
        answer = self._answer(deadline)
        if not answer.get("opened"):
            self._fail(answer)
            self._end(deadline)
            self.check()
        if len(os.sched_getaffinity(0) | os.sched_getaffinity(process.pid)) == 1:
            self._clock = ~process.pid << 3 | _PROCESS_CLOCK
        self.pump()

    def processor_ns(self) -> int:
        """Processor time that the loop may have waited for [ns]: the writer's, where it shares the only processor."""
        if self._clock is None:
            return 0
        with contextlib.suppress(OSError):  # it has ended; `check` tells
            return time.clock_gettime_ns(self._clock)
        return 0

    def check(self) -> None:
        """Raise RecorderError when the log could no longer be written."""
        if self._failure:
            raise self._error(self._failure)

    def close(self, result: dict[str, Any] | None = None) -> None:
        """Write `result` as the last record, finish the file and fsync it. Raises RecorderError; safe to call twice."""
        if self._process is None:
            return
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        if self._pipe is not None and not self._failure:
            self.pump()
            now_ns = time.monotonic_ns()
            self._mark_hole(now_ns)
            if result is not None:
                # Past the capacity on purpose: the result is worth more than the bound.
                self._append(log_topics.RESULT, now_ns, log_topics.RESULT.pack(result))
            self._packed.append(HEADER.pack(END, now_ns, 0))
            self._drain(deadline)
        stuck = self._end(deadline)
        if stuck:
            raise RecorderError(
                f"log {self.path}: the disk did not take the rest within {_CLOSE_TIMEOUT_S:.0f} s; "
                "what is in the file opens; log to a faster disk"
            )
        self.check()

    def _pack(self, topic: Topic, time_ns: int, payload: Any) -> None:
        packed = topic.pack(payload)
        # After a hole half of the room must be free again: one long hole says more than a thousand short ones.
        room = self._capacity_bytes // 2 if self._hole else self._capacity_bytes
        if self._held_bytes + HEADER.size + len(packed) > room:
            self._hole[topic.name] = self._hole.get(topic.name, 0) + 1
            self.dropped_by_topic[topic.name] = self.dropped_by_topic.get(topic.name, 0) + 1
            return
        if self._hole:
            self._mark_hole(time_ns)
        self._append(topic, time_ns, packed)

    def _append(self, topic: Topic, time_ns: int, packed: bytes) -> None:
        record = HEADER.pack(log_topics.NUMBERS[topic.name], time_ns, len(packed)) + packed
        self._packed.append(record)
        self._held_bytes += len(record)

    def _mark_hole(self, time_ns: int) -> None:
        for name, count in self._hole.items():
            marked = (name, count, self.dropped_by_topic[name])
            self._append(log_topics.DROPPED, time_ns, log_topics.DROPPED.pack(marked))
        self._hole = {}

    def _send(self) -> None:
        """Into the pipe, as much as it takes now."""
        if self._packed:
            self._packed.append(_PAUSE)
            self._held_bytes += len(_PAUSE)
            self._sending.append(memoryview(b"".join(self._packed)))
            self._packed.clear()
        if self._pipe is None or self._failure:
            return
        while self._sending:
            try:
                sent = os.write(self._pipe, self._sending[0])
            except BlockingIOError:
                return
            except OSError:  # its reader is gone, and has said why
                self._fail(self._answer(time.monotonic() + _OPEN_TIMEOUT_S))
                return
            self._held_bytes -= sent
            if sent == len(self._sending[0]):
                self._sending.popleft()
            else:
                self._sending[0] = self._sending[0][sent:]

    def _drain(self, deadline: float) -> None:
        """Send all of it, however long that takes until `deadline`."""
        self._send()
        while self._sending and self._pipe is not None and not self._failure and time.monotonic() < deadline:
            select.select([], [self._pipe], [], max(0.0, deadline - time.monotonic()))
            self._send()

    def _answer(self, deadline: float) -> dict[str, Any]:
        """The next line that the writer says; nothing when it ended, or said nothing until `deadline`."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        while b"\n" not in self._answers:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return {"error": "its writer does not answer"}
            data = os.read(descriptor, _READ_BYTES)
            if not data:
                return {"error": "its writer ended at once"}
            self._answers += data
        line, _, self._answers = self._answers.partition(b"\n")
        return _understood(line)

    def _fail(self, answer: dict[str, Any]) -> None:
        if not self._failure:
            self._failure, self._error_number = str(answer.get("error", "its writer ended")), answer.get("errno")

    def _end(self, deadline: float) -> bool:
        """End the writer's process and hear its last word; True when it did not come to an end."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        self._pipe = None
        try:
            said, _ = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()  # one that hangs in the kernel hears of it when the disk is back
            return True
        for line in (self._answers + said).splitlines():
            answer = _understood(line)
            self.written = answer.get("written", self.written)
            if "error" in answer:
                self._fail(answer)
        if process.returncode:
            self._fail({})
        return False

    def _error(self, reason: str) -> RecorderError:
        return RecorderError(f"log {self.path}: cannot write: {reason}; {next_step(self._error_number)}")


def _understood(line: bytes) -> dict[str, Any]:
    """What the writer says in one line; an error of its own where that is no JSON object."""
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"error": f"its writer said {line[:60]!r}"}
