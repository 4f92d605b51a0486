"""What the live page is told, from the thread of the loop to the process that serves the page, through a pipe.

`LiveFeed.take` is called by the recorder for every record of the log, once the answer is on its way.
The pipe never blocks: what does not fit is dropped and counted, and the page says how many periods it did not show.

The pipe begins with `PageSettings`. After that a record is 64 bytes, so that writes of whole records up to PIPE_BUF are
atomic and a reader never sees half of one:

    TICK    the newest observation, with latency and age of the newest answer that is known (0: none)
    COUNTS  link and loop counters, every 50 ms at most
    TEXT    a piece of a JSON object {"session": ...}, {"event": ...} or {"result": ...}; the last piece says so
"""

import dataclasses
import json
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from firmware_bridge.child_process import with_length
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.topics import Topic
from hardware.codec import decode_body
from hardware.protocol import NO_TIME_US, Observation, Timing

RECORD_BYTES = 64
TICK, COUNTS, TEXT = 1, 2, 3
TICK_LAYOUT = struct.Struct("<BBBBIq6fII")
"""Kind, state, fault, flags, tick, time [ns], base observation (5), applied action, latency [ns], action age [us]."""
COUNTS_LAYOUT = struct.Struct("<BB7I")
"""Kind, 1 while an arm is awaited, the six of `Counts`, records that the pipe had no room for."""
TEXT_LAYOUT = struct.Struct("<BBB61s")
"""Kind, 1 in the last piece, bytes used, bytes of UTF-8."""

STOP, ARM, WATCHED = b"s", b"a", b"w"
"""What comes back from the page's process, through a pipe of its own; WATCHED: a page was opened."""

_PIECE_BYTES = 61
_BATCH_BYTES = min(select.PIPE_BUF, 4096) // RECORD_BYTES * RECORD_BYTES
_TEXT_LIMIT_BYTES = _BATCH_BYTES // RECORD_BYTES * _PIECE_BYTES
_FLUSH_NS = 18_000_000  # the page is updated every 50 ms
_COUNTS_NS = 50_000_000
_U32 = 0xFFFF_FFFF

Received = TypeVar("Received", Observation, Timing)

_OBSERVATION = log_topics.MESSAGE_TOPICS[Observation]
_TIMING = log_topics.MESSAGE_TOPICS[Timing]


@dataclasses.dataclass(frozen=True)
class PageSettings:
    """What the process is told first: descriptor of the listening socket, and who may ask."""

    listener: int
    token: str
    names: tuple[str, ...]

    def encoded(self) -> bytes:
        """As the pipe begins."""
        return with_length(json.dumps(dataclasses.asdict(self)).encode())


class Counts(NamedTuple):
    """Counters since the link was opened; `unanswered` observations were overtaken by newer ones."""

    crc_errors: int
    lost: int
    stale: int
    refused: int
    unanswered: int
    log_dropped: int


class LiveFeed:
    """Writes to `descriptor`, the non-blocking end of a pipe; for one thread, the one that fills the log.

    `counts` and `awaiting_arm` are asked between two observations. `not_shown` counts records that found the pipe full.
    """

    def __init__(self, descriptor: int) -> None:
        self.not_shown = 0
        self.counts: Callable[[], Counts] | None = None
        self.awaiting_arm: Callable[[], bool] | None = None
        self._descriptor = descriptor
        self._buffer = bytearray(_BATCH_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._flushed_ns = self._counted_ns = 0
        self._observation: Observation | None = None
        self._observed_ns = 0
        self._latency_ns = self._age_us = 0
        self._open = True

    def take(self, topic: Topic, time_ns: int, payload: Any) -> None:
        """One record of the log. Never blocks, never raises."""
        if topic is _OBSERVATION:
            if self._observation is not None:
                self._pack_tick(self._observation)  # two in one read: the older one is shown, too
            self._observation, self._observed_ns = _message(payload, Observation), time_ns
        elif topic is log_topics.RAW_SENT:
            if self._observation is not None:
                self._pack_tick(self._observation)
            if time_ns - self._flushed_ns >= _FLUSH_NS:
                self._flush(time_ns)
        elif topic is log_topics.LATENCY:
            self._latency_ns = payload[6]
        elif topic is _TIMING:
            age_us = _message(payload, Timing).action_age_us
            self._age_us = 0 if age_us == NO_TIME_US else age_us
        elif topic is log_topics.EVENT:
            self.tell("event", {"kind": payload[0], "text": payload[1]})
        elif topic is log_topics.SESSION:
            self.tell("session", _about(payload))

    def tell(self, name: str, value: Any) -> None:
        """Send a JSON value at once; of one that is too long (3.9 kB) the beginning goes as an event's text."""
        data = log_topics.to_json({name: value})
        if len(data) > _TEXT_LIMIT_BYTES:
            beginning = data[: _TEXT_LIMIT_BYTES // 4].decode("ascii")  # to_json escapes what is not ASCII
            data = log_topics.to_json({"event": {"kind": name, "text": beginning}})
        self._write()
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            last = start + _PIECE_BYTES >= len(data)
            TEXT_LAYOUT.pack_into(self._buffer, self._filled, TEXT, last, len(piece), piece)
            self._filled += RECORD_BYTES
        self._write()

    def close(self) -> None:
        """Send what has gathered, with the newest counters; nothing is sent after that."""
        if self._observation is not None:
            self._pack_tick(self._observation)
        self._counted_ns = 0
        self._flush(time.monotonic_ns())
        self._open = False

    def _pack_tick(self, observation: Observation) -> None:
        if self._filled == _BATCH_BYTES:
            self._write()
        TICK_LAYOUT.pack_into(
            self._buffer,
            self._filled,
            TICK,
            observation.state,
            observation.fault,
            observation.flags,
            observation.tick,
            self._observed_ns,
            *observation.current,
            observation.applied_action,
            min(self._latency_ns, _U32),
            self._age_us,
        )
        self._filled += RECORD_BYTES
        self._observation, self._latency_ns = None, 0

    def _flush(self, time_ns: int) -> None:
        self._flushed_ns = time_ns
        if self.counts is not None and time_ns - self._counted_ns >= _COUNTS_NS:
            self._counted_ns = time_ns
            if self._filled == _BATCH_BYTES:
                self._write()
            awaiting = self.awaiting_arm is not None and self.awaiting_arm()
            counted = (min(value, _U32) for value in (*self.counts(), self.not_shown))
            COUNTS_LAYOUT.pack_into(self._buffer, self._filled, COUNTS, awaiting, *counted)
            self._filled += RECORD_BYTES
        self._write()

    def _write(self) -> None:
        filled, self._filled = self._filled, 0
        if not filled or not self._open:
            return
        try:
            os.write(self._descriptor, self._view[:filled])
        except BlockingIOError:
            self.not_shown += filled // RECORD_BYTES
        except OSError:
            self._open = False  # the page's process is gone; the run goes on without it


def _message(body: bytes, kind: type[Received]) -> Received:
    _, message = decode_body(body)
    assert isinstance(message, kind)  # its topic says so
    return message


def _about(session: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of a log's session record."""
    device, config = session.get("device", {}), session.get("config", {})
    return {
        **{key: session.get(key) for key in ("policy_digest", "period_us", "observation_names", "backend", "started")},
        **{key: device.get(key) for key in ("board", "variant", "acceleration_limit")},
        **{key: config.get(key) for key in ("mode", "port", "clock")},
    }
