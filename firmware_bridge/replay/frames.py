"""Replay of the wire: the raw bytes of a log through the parser again, against what was logged when they came.

The parser here is the reference (`hardware.framing`, `hardware.codec`), one frame at a time in the order of the bytes:
whatever the loop used to be faster must have given the same messages, in the same order, and the same counts of errors.
"""

import dataclasses
import json
from collections import deque
from typing import Any

from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.read_log import Record
from hardware.codec import decode_body
from hardware.errors import ProtocolError
from hardware.framing import FrameDecoder, SequenceCounter
from hardware.protocol import Message

_PENDING_LIMIT = 4096  # frames of one read are logged beside it: more without a partner are a difference
_TICKS = ("tick", "observation_tick")


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first thing that is not as it was: `got` now, `expected` from the log. `tick` where there is one."""

    where: str
    tick: int | None
    field: str
    got: Any
    expected: Any


@dataclasses.dataclass(frozen=True)
class _Frame:
    """A message as the log would hold it; `read` numbers the raw record that brought it."""

    topic: str
    data: bytes
    read: int


class _Direction:
    """One direction of the link: bytes in, messages out, compared with the logged ones."""

    def __init__(self, name: str, route: str) -> None:
        self.name = name
        self.topics = {topic.name for message, topic in log_topics.MESSAGE_TOPICS.items() if route == message.ROUTE}
        self.compared = 0
        self.skipped = 0
        self._route = route
        self.restart(aligned=True)

    def restart(self, aligned: bool) -> None:
        """A new connection begins (`aligned`), or records are missing before this one: then the first message that
        both sides have is looked for."""
        self.decoder = FrameDecoder()
        self.undecodable = 0
        self.sequence = SequenceCounter()
        self._aligned = aligned
        self._parsed: deque[_Frame] = deque()
        self._logged: deque[_Frame] = deque()
        self._reads = 0

    def feed(self, data: bytes) -> Difference | None:
        """Take the bytes of one read or write."""
        self._reads += 1
        for body in self.decoder.feed(data):
            try:
                sequence, message = decode_body(body)
            except ProtocolError:
                self.undecodable += 1
                continue
            if self._route != message.ROUTE:
                self.undecodable += 1
                continue
            self.sequence.update(sequence)
            self._parsed.append(self._frame(body, message))
        return self._compare()

    def expect(self, record: Record) -> Difference | None:
        """Take a message that was logged."""
        self._logged.append(_Frame(record.topic, record.data, self._reads))
        return self._compare()

    def finish(self, cut: bool) -> Difference | None:
        """Nothing more comes. Where the log was cut, the last read may be there without its messages, or they without
        it."""
        if not self._aligned:
            return None
        if self._parsed and not (cut and self._parsed[0].read == self._reads):
            return self._difference(self._parsed[0], None)
        if self._logged and not (cut and self._logged[0].read == self._reads):
            return self._difference(None, self._logged[0])
        return None

    def _frame(self, body: bytes, message: Message) -> _Frame:
        topic = log_topics.MESSAGE_TOPICS[type(message)]
        return _Frame(topic.name, topic.render(body), self._reads)

    def _compare(self) -> Difference | None:
        if not self._aligned:
            self._align()
        while self._aligned and self._parsed and self._logged:
            parsed, logged = self._parsed.popleft(), self._logged.popleft()
            if (parsed.topic, parsed.data) != (logged.topic, logged.data):
                difference = self._difference(parsed, logged)
                if difference is not None:
                    return difference
            self.compared += 1
        for waiting in (self._parsed, self._logged):
            if len(waiting) > _PENDING_LIMIT:
                return self._difference(*((waiting[0], None) if waiting is self._parsed else (None, waiting[0])))
        return None

    def _align(self) -> None:
        places = {frame.data: index for index, frame in reversed(list(enumerate(self._logged)))}
        for index, frame in enumerate(self._parsed):
            if frame.data in places:
                self._aligned = True
                self.skipped += index + places[frame.data]
                for _ in range(index):
                    self._parsed.popleft()
                for _ in range(places[frame.data]):
                    self._logged.popleft()
                return

    def _difference(self, parsed: _Frame | None, logged: _Frame | None) -> Difference | None:
        got = _value(parsed)
        expected = _value(logged)
        tick = next((value[key] for value in (expected, got) for key in _TICKS if key in value), None)
        if parsed is None or logged is None or parsed.topic != logged.topic:
            names = [frame.topic if frame is not None else "no message" for frame in (parsed, logged)]
            return Difference(self.name, tick, "message", *names)
        for key in (*got, *expected):
            if key not in got or key not in expected or got[key] != expected[key]:
                return Difference(self.name, tick, key, got.get(key), expected.get(key))
        return None  # other white space or order of keys


class FrameReplay:
    """Feed it the records of a log in order; each method gives the first difference, None while there is none.

    `from_start`: the log begins with the connection; else (its first files are gone) errors are not compared.
    """

    def __init__(self, from_start: bool) -> None:
        self.received = _Direction("received", "device>host")
        self.sent = _Direction("sent", "host>device")
        self.errors_compared = 0
        self._by_topic = {topic: side for side in (self.received, self.sent) for topic in side.topics}
        self._errors: deque[tuple[int, int, int]] = deque()
        self._last_errors = (0, 0, 0)
        self._know_errors = from_start
        if not from_start:
            self.received.restart(aligned=False)
            self.sent.restart(aligned=False)

    def add(self, record: Record) -> Difference | None:
        """Take one record of any topic."""
        if record.topic == log_topics.RAW_RECEIVED.name:
            difference = self.received.feed(record.data)
            self._count_errors()
            return difference
        if record.topic == log_topics.RAW_SENT.name:
            return self.sent.feed(record.data)
        if record.topic in self._by_topic:
            return self._by_topic[record.topic].expect(record)
        if record.topic == log_topics.LINK_ERRORS.name:
            return self._expect_errors(record.value)
        if record.topic == log_topics.DROPPED.name:
            for side in (self.received, self.sent):
                side.restart(aligned=False)
            self._know_errors = False
        return None

    def finish(self, cut: bool) -> Difference | None:
        """The log has ended; `cut` when it did in the middle."""
        difference = self.received.finish(cut) or self.sent.finish(cut)
        if difference is None and self._know_errors and self._errors and not (cut and len(self._errors) == 1):
            return _error_difference(self._errors[0], None)
        return difference

    def _count_errors(self) -> None:
        side = self.received
        errors = (side.decoder.rejected, side.undecodable, side.sequence.lost)
        if errors != self._last_errors and self._know_errors:
            self._errors.append(errors)
        self._last_errors = errors

    def _expect_errors(self, value: dict[str, int]) -> Difference | None:
        expected = (value["rejected"], value["undecodable"], value["lost"])
        if expected == (0, 0, 0):  # the port was opened anew
            difference = self.received.finish(cut=False) or self.sent.finish(cut=False)
            if difference is None and self._know_errors and self._errors:
                difference = _error_difference(self._errors[0], None)
            self.received.restart(aligned=True)
            self.sent.restart(aligned=True)
            self._errors.clear()
            self._last_errors, self._know_errors = (0, 0, 0), True
            return difference
        if not self._know_errors:
            return None
        got = self._errors.popleft() if self._errors else None
        self.errors_compared += 1
        return None if got == expected else _error_difference(got, expected)


def _error_difference(got: tuple[int, ...] | None, expected: tuple[int, ...] | None) -> Difference:
    names = ("rejected", "undecodable", "lost")
    shown = [dict(zip(names, counts, strict=True)) if counts else "unchanged" for counts in (got, expected)]
    return Difference("received", None, "link errors", *shown)


def _value(frame: _Frame | None) -> dict[str, Any]:
    value: Any = json.loads(frame.data) if frame is not None else {}
    return value if isinstance(value, dict) else {}
