"""Reading a log back, also one that was cut off: everything up to the last complete chunk."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcap.exceptions import InvalidMagic, McapError
from mcap.records import Channel, Footer, Message
from mcap.stream_reader import StreamReader

from firmware_bridge import log_topics
from firmware_bridge.errors import LogError

_RECORD_LIMIT_BYTES = 64 * 1024 * 1024  # far above CHUNK_SIZE_BYTES: a longer record is a damaged length


@dataclasses.dataclass(frozen=True)
class Record:
    """One record: topic, wall-clock time [ns since 1970], and its JSON object (or bytes for `/raw/*`)."""

    topic: str
    time_ns: int
    value: Any


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


def find_log(path: Path) -> Path:
    """`path` itself, or `run.mcap` in it when it is a folder. Raises LogError when there is none."""
    candidate = path / "run.mcap" if path.is_dir() else path
    if not candidate.is_file():
        raise LogError(
            f"log {candidate}: no such file; expected the run.mcap that "
            "`python -m firmware_bridge run --log DIR` writes"
        )
    return candidate


def read_log(path: Path, raw: bool = False) -> Log:
    """Read a whole log; `raw` keeps `/raw/*` too. Raises LogError when it is no log or holds not one chunk."""
    path = find_log(path)
    log = Log(path, {}, {}, complete=False, cut="")
    for record in _records(path, log):
        if raw or not record.topic.startswith("/raw/"):
            log.topics.setdefault(record.topic, []).append(record)
    sessions = log.values(log_topics.SESSION.name)
    if not sessions:
        raise LogError(
            f"log {path}: holds no complete chunk ({log.cut or 'no session record'}); "
            "expected a log of firmware_bridge; record it again"
        )
    log.session = sessions[0]
    version = log.session.get("format_version")
    if version != log_topics.FORMAT_VERSION:
        raise LogError(
            f"log {path}: format version {version}, expected {log_topics.FORMAT_VERSION}; "
            "read it with the version of this package that wrote it"
        )
    return log


def _records(path: Path, log: Log) -> Iterator[Record]:
    channels: dict[int, Channel] = {}
    with path.open("rb") as stream:
        try:
            for item in StreamReader(stream, validate_crcs=True, record_size_limit=_RECORD_LIMIT_BYTES).records:
                if isinstance(item, Channel):
                    channels[item.id] = item
                elif isinstance(item, Message):
                    channel = channels[item.channel_id]
                    value = json.loads(item.data) if channel.message_encoding == "json" else item.data
                    yield Record(channel.topic, item.log_time, value)
                elif isinstance(item, Footer):
                    log.complete = True
        except InvalidMagic as error:
            if not log.topics:
                raise LogError(f"log {path}: not an MCAP file; expected one that firmware_bridge wrote") from error
            log.complete, log.cut = False, "the end mark is damaged"
        except (McapError, OSError) as error:
            log.complete, log.cut = False, str(error) or "the file ends in the middle of a record"
        # What a damaged or cut record raises depends on where the cut is: struct, zstd, lz4, UTF-8, a missing channel.
        except Exception as error:
            log.complete, log.cut = False, f"damaged record: {error}"


def number(value: float | None) -> float:
    """A logged number: null (which stands for NaN or infinity) back to NaN."""
    return math.nan if value is None else float(value)
