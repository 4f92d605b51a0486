"""Reading a log back, over all of its parts, also one that was cut off: everything up to the last complete chunk."""

import dataclasses
import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from firmware_bridge.errors import LogError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.columns import Field, check_record, fields_of
from firmware_bridge.logs.mcap_file import Channel, McapFile, Message
from firmware_bridge.logs.parts import find_parts

_SESSION = log_topics.SESSION.name
_JSON_TOPICS = frozenset(topic.name for topic in log_topics.TOPICS if topic.schema is not None)


@dataclasses.dataclass(frozen=True)
class Record:
    """One record: topic, wall-clock time [ns since 1970], and its JSON object (or bytes for `/raw/*`).

    `data` is what the file holds.
    """

    topic: str
    time_ns: int
    value: Any
    data: bytes


class LogReader:
    """Iterate over the records of a log in the order they were written; memory is bounded by one chunk.

    `session` and `fields` (of each topic seen so far) are there from construction on, `complete`, `cut` and `damaged`
    (the file holds wrong bytes, it does not merely stop) after the iteration. A log of several parts is read as one:
    the session record of the first part is kept, those of the others are not handed out.
    """

    def __init__(self, path: Path, topics: Collection[str] | None = None) -> None:
        """Find the files and read the session. `topics`: which to read, None for all. Raises LogError."""
        self.parts = find_parts(path)
        self.path = self.parts[0]
        self.fields: dict[str, tuple[Field, ...] | None] = {}
        self.complete = self.damaged = False
        self.cut = ""
        self.size_bytes = sum(part.stat().st_size for part in self.parts)
        self._before_bytes = 0
        self._file: McapFile | None = None
        self._topics = topics
        self.session = self._session(self.parts[0])

    def __iter__(self) -> Iterator[Record]:
        identity = self.session.get("log_id")
        for number, part in enumerate(self.parts):
            stranger = self._stranger(part, identity) if number else ""
            if stranger:
                self.complete, self.cut = False, stranger
                return
            if self._file is not None:
                self._before_bytes += self._file.position_bytes
            self._file = file = McapFile(part, self._wanted)
            for message in file:
                if message.channel.topic != _SESSION or not number:
                    yield self._record(part, message)
            self.complete, self.damaged, self.cut = file.ending.complete, file.ending.damaged, file.ending.reason
            if not self.complete:
                if number + 1 < len(self.parts):
                    self.cut = f"{part.name}: {self.cut}; the parts after it were not read"
                return

    @property
    def position_bytes(self) -> int:
        """How far the iteration has come, of `size_bytes`."""
        return self._before_bytes + (self._file.position_bytes if self._file is not None else 0)

    def read(self) -> "Log":
        """Everything in memory."""
        log = Log(self.path, self.session, {}, complete=False, cut="")
        for record in self:
            log.topics.setdefault(record.topic, []).append(record)
        log.complete, log.cut = self.complete, self.cut
        return log

    def _stranger(self, part: Path, identity: object) -> str:
        """Why `part` cannot be read on with: it is another log's, or nothing was written to it; "" when it can."""
        try:
            return "" if self._session(part).get("log_id") == identity else f"{part.name} belongs to another log"
        except LogError:
            return f"{part.name} holds no complete chunk"

    def _wanted(self, topic: str) -> bool:
        return self._topics is None or topic == _SESSION or topic in self._topics

    def _session(self, part: Path) -> dict[str, Any]:
        file = McapFile(part)
        first = next(iter(file), None)
        if first is None:
            raise LogError(
                f"log {part}: holds no complete chunk ({file.ending.reason or 'no record'}); "
                "expected a log of firmware_bridge; record it again"
            )
        if first.channel.topic != _SESSION:
            raise LogError(
                f"log {part}: its first record is of topic {first.channel.topic!r}, expected {_SESSION!r}; "
                "an MCAP file that firmware_bridge did not write"
            )
        session = self._record(part, first).value
        version = session.get("format_version")
        if version != log_topics.FORMAT_VERSION:
            raise LogError(
                f"log {part}: format version {str(version)[:20]}, expected {log_topics.FORMAT_VERSION}; "
                "read it with the version of this package that wrote it"
            )
        value: dict[str, Any] = session
        return value

    def _record(self, part: Path, message: Message) -> Record:
        channel = message.channel
        if channel.encoding != "json":
            if channel.topic in _JSON_TOPICS:
                raise LogError(
                    f"log {part}: {channel.topic} is encoded as {channel.encoding[:20]!r}, expected json; "
                    "expected a log of firmware_bridge"
                )
            return Record(channel.topic, message.time_ns, message.data, message.data)
        try:
            fields = self._fields(channel)
            value = json.loads(message.data.decode())
            check_record(fields or (), value)
        except (ValueError, RecursionError) as error:
            raise LogError(
                f"log {part}: a record of {channel.topic[:60]} {error}; its checksum is right, so it was written so: "
                "expected a log of firmware_bridge"
            ) from error
        return Record(channel.topic, message.time_ns, value, message.data)

    def _fields(self, channel: Channel) -> tuple[Field, ...] | None:
        if channel.topic not in self.fields:
            self.fields[channel.topic] = fields_of(channel.schema) if channel.schema else None
        return self.fields[channel.topic]


@dataclasses.dataclass
class Log:
    """A log in memory. `complete` is False when the footer is missing; `cut` then says why reading stopped."""

    path: Path
    session: dict[str, Any]
    topics: dict[str, list[Record]]
    complete: bool
    cut: str

    def values(self, topic: str) -> list[dict[str, Any]]:
        """The JSON objects of one topic in file order; empty when nothing was recorded."""
        return [record.value for record in self.topics.get(topic, [])]

    @property
    def result(self) -> dict[str, Any] | None:
        """The run's own summary, None when the log ended before it."""
        values = self.values(log_topics.RESULT.name)
        return values[-1] if values else None


def read_log(path: Path, raw: bool = False) -> Log:
    """Read a whole log into memory; `raw` keeps `/raw/*` too. Raises LogError when it is no log or holds no chunk."""
    topics = None if raw else [topic.name for topic in log_topics.TOPICS if not topic.name.startswith("/raw/")]
    return LogReader(path, topics).read()


def text_in(record: dict[str, Any], *keys: str, default: str = "") -> str:
    """A text at a path of keys of a session or a result; `default` when there is none."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else default


def object_in(record: dict[str, Any], key: str) -> dict[str, Any]:
    """An object in a session or a result; empty when there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def number(value: float | None) -> float:
    """A logged number: null (which stands for NaN or infinity) back to NaN."""
    return math.nan if value is None else float(value)
