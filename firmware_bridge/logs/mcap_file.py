"""Reading MCAP from anywhere: every size is checked before memory is taken for it, and a cut is told from damage.

The `mcap` package writes the logs; its readers trust the lengths in a file, unpack a chunk to whatever size it claims,
and report the end of a killed process and a flipped bit in the same way. What is read here is the part of the format
(https://mcap.dev/spec) that logs are made of: schemas, channels, and messages in chunks with their CRC. Everything else
is skipped by its length.
"""

import dataclasses
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from firmware_bridge.errors import LogError

MAGIC = b"\x89MCAP0\r\n"
CHUNK_LIMIT_BYTES = 8 * 1024 * 1024  # the recorder closes a chunk at 256 KiB
RATIO_LIMIT = 256  # unpacked bytes a byte of the file; logs have about 10
_SLACK_BYTES = 64 * 1024 * 1024
_NAMES_LIMIT = 4096  # channels, and schemas
_SCHEMA_LIMIT_BYTES = 64 * 1024
_NAME_LIMIT_BYTES = 256

_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x02, 0x03, 0x04, 0x05, 0x06
_HEAD = struct.Struct("<BQ")  # opcode, length
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK_HEAD = struct.Struct("<QQQII")  # start, end, unpacked size, CRC-32 of it, length of the compression's name


@dataclasses.dataclass(frozen=True)
class Channel:
    """A topic: its name, how its messages are encoded, and its schema's text (b"" without one)."""

    topic: str
    encoding: str
    schema: bytes


@dataclasses.dataclass(frozen=True)
class Message:
    """One message: `time_ns` is its log time."""

    channel: Channel
    time_ns: int
    data: bytes


@dataclasses.dataclass
class Ending:
    """How reading ended: `complete` with the footer; else `reason`, and `damaged` when bytes in the file are wrong
    (False: the file merely stops, as that of a killed process does)."""

    complete: bool = False
    damaged: bool = False
    reason: str = ""


class McapFile:
    """Iterate over the messages of one file, in file order; `position_bytes` says how far, `ending` afterwards how.

    `wanted` says for a topic whether its messages are unpacked at all. Raises LogError for what is no MCAP file, or is
    built to exhaust memory.
    """

    def __init__(self, path: Path, wanted: Callable[[str], bool] = lambda topic: True) -> None:
        self.path = path
        self.ending = Ending()
        self.position_bytes = 0
        self._wanted = wanted
        self._schemas: dict[int, bytes] = {}
        self._channels: dict[int, Channel] = {}
        self._skipped: set[int] = set()
        self._unpacked = 0
        self._next: int | None = None

    def __iter__(self) -> Iterator[Message]:
        try:
            with self.path.open("rb") as stream:
                size = self.path.stat().st_size
                self._check_magic(stream.read(len(MAGIC)))
                yield from self._records(stream, size)
        except _DamageError as damage:
            self.ending = Ending(damaged=True, reason=str(damage))
        except OSError as error:
            self.ending = Ending(reason=error.strerror or str(error))

    def _check_magic(self, start: bytes) -> None:
        if start != MAGIC and not (len(start) < len(MAGIC) and MAGIC.startswith(start)):
            raise LogError(f"log {self.path}: not an MCAP file; expected one that firmware_bridge wrote")

    def _records(self, stream: BinaryIO, size: int) -> Iterator[Message]:
        position = len(MAGIC)
        while position + _HEAD.size <= size:
            stream.seek(position)
            opcode, length = _HEAD.unpack(stream.read(_HEAD.size))
            position += _HEAD.size + length
            self.position_bytes = min(position, size)
            if position > size:
                self.ending = Ending(reason="the file ends in the middle of a record")
                return
            if opcode == _FOOTER:
                self.ending = Ending(complete=stream.seek(position) == position and stream.read(len(MAGIC)) == MAGIC)
                if not self.ending.complete:
                    self.ending = Ending(damaged=size >= position + len(MAGIC), reason="the end mark is missing")
                return
            if opcode not in (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK):
                continue
            if length > CHUNK_LIMIT_BYTES:
                raise _DamageError(f"a record of {length} bytes, expected at most {CHUNK_LIMIT_BYTES}")
            record = stream.read(length)
            if opcode == _CHUNK:
                yield from self._chunk(record, size)
            elif opcode != _MESSAGE:
                self._define(opcode, record)
            elif (message := self._message(record)) is not None:
                yield message
        self.ending = Ending(reason="the file ends without its footer")

    def _chunk(self, record: bytes, file_size: int) -> Iterator[Message]:
        _, _, unpacked, crc, name = _unpack(_CHUNK_HEAD, record, 0)
        position = _CHUNK_HEAD.size + name
        compression = record[_CHUNK_HEAD.size : position]
        data = record[position + 8 :]
        if unpacked > CHUNK_LIMIT_BYTES:
            raise _DamageError(f"a chunk of {unpacked} bytes, expected at most {CHUNK_LIMIT_BYTES}")
        self._unpacked += unpacked
        if self._unpacked > RATIO_LIMIT * file_size + _SLACK_BYTES:
            raise LogError(
                f"log {self.path}: unpacks to more than {RATIO_LIMIT} times its size, which no log of a run does; "
                "it is not read on"
            )
        plain = _unpacked(compression, data, unpacked)
        if crc and zlib.crc32(plain) != crc:
            raise _DamageError("the checksum of a chunk is wrong")
        position, end = 0, len(plain)
        while position < end:
            opcode, length = _unpack(_HEAD, plain, position)
            position += _HEAD.size
            if position + length > end:
                raise _DamageError("a record is longer than its chunk")
            record = plain[position : position + length]
            position += length
            if opcode == _MESSAGE:
                message = self._message(record)
                if message is not None:
                    yield message
            else:
                self._define(opcode, record)

    def _message(self, record: bytes) -> Message | None:
        """The message, None when nobody wants it."""
        number, sequence, time_ns, _ = _unpack(_MESSAGE_HEAD, record, 0)
        # The recorder numbers its records: a chunk that a damaged head hides would be a hole that nobody sees.
        if self._next is not None and sequence != self._next:
            raise _DamageError(f"record {self._next} is missing, {sequence} follows")
        self._next = (sequence + 1) & 0xFFFF_FFFF
        channel = self._channels.get(number)
        if channel is not None:
            return Message(channel, time_ns, record[_MESSAGE_HEAD.size :])
        if number not in self._skipped:
            raise _DamageError(f"a message of channel {number}, which the file does not define")
        return None

    def _define(self, opcode: int, record: bytes) -> None:
        """Take a schema or a channel; any other record in a chunk is skipped."""
        if opcode == _CHANNEL:
            self._define_channel(record)
        elif opcode == _SCHEMA:
            fields = _Fields(record)
            number, _, _ = fields.number("<H"), fields.text(), fields.text()
            text = fields.block(_SCHEMA_LIMIT_BYTES)
            if number not in self._schemas and len(self._schemas) >= _NAMES_LIMIT:
                raise _DamageError(f"more than {_NAMES_LIMIT} schemas")
            self._schemas[number] = text

    def _define_channel(self, record: bytes) -> None:
        fields = _Fields(record)
        number, schema = fields.number("<H"), fields.number("<H")
        channel = Channel(fields.text(), fields.text(), self._schemas.get(schema, b""))
        if len(self._channels) + len(self._skipped) >= _NAMES_LIMIT:
            raise _DamageError(f"more than {_NAMES_LIMIT} channels")
        if self._wanted(channel.topic):
            self._channels[number] = channel
        else:
            self._skipped.add(number)


class _DamageError(Exception):
    """Bytes that are there are wrong; becomes `Ending.reason`."""


class _Fields:
    """Fields of a record one after the other."""

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._position = 0

    def number(self, form: str) -> int:
        layout = struct.Struct(form)
        (value,) = _unpack(layout, self._record, self._position)
        self._position += layout.size
        return int(value)

    def block(self, limit: int) -> bytes:
        length = self.number("<I")
        end = self._position + length
        if length > limit or end > len(self._record):
            raise _DamageError(f"a field of {length} bytes, expected at most {limit}, within its record")
        value, self._position = self._record[self._position : end], end
        return value

    def text(self) -> str:
        return self.block(_NAME_LIMIT_BYTES).decode("utf-8", "replace")


def _unpack(layout: struct.Struct, record: bytes | memoryview, position: int) -> tuple[int, ...]:
    try:
        return layout.unpack_from(record, position)
    except struct.error as error:
        raise _DamageError(f"a record is too short ({error})") from error


def _unpacked(compression: bytes, data: bytes, size: int) -> bytes:
    if compression == b"":
        plain = data
    elif compression == b"zstd":
        import zstandard

        try:
            # The frame says its size, too, and the library takes that much memory before anything else.
            if zstandard.frame_content_size(data) > size:
                raise _DamageError("a chunk unpacks to more than it says")
            plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1))
        except zstandard.ZstdError as error:
            raise _DamageError(f"a chunk does not unpack ({error})") from error
    else:
        raise _DamageError(f"compression {compression[:16].decode('utf-8', 'replace')!r}, expected zstd or none")
    if len(plain) != size:
        raise _DamageError(f"a chunk has {len(plain)} bytes, expected {size}")
    return plain
