"""One MCAP file being written: every topic with its schema, chunks closed when we say so, synchronised at the end."""

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcap.records import ChunkIndex
from mcap.writer import CompressionType, Writer

from firmware_bridge.logs import topics as log_topics

CHUNK_SIZE_BYTES = 256 * 1024
_INDEX = struct.Struct("<QQQQQQQH")
_OFFSET = struct.Struct("<HQ")


class _ChunkIndexes:
    """What mcap collects for the summary at the file's end, in a file without a name beside the log: its own list grows
    by 20 MB an hour."""

    def __init__(self, compression: str, folder: Path) -> None:
        self._compression = compression
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the log)

    def append(self, index: ChunkIndex) -> None:
        """Take the index of one chunk."""
        times = (index.message_start_time, index.message_end_time, index.chunk_start_offset, index.chunk_length)
        sizes = (index.message_index_length, index.compressed_size, index.uncompressed_size)
        self._file.write(_INDEX.pack(*times, *sizes, len(index.message_index_offsets)))
        for channel, offset in index.message_index_offsets.items():
            self._file.write(_OFFSET.pack(channel, offset))

    def close(self) -> None:
        """Let go of it. Raises OSError when the disk has no space for it either."""
        self._file.close()

    def __iter__(self) -> Iterator[ChunkIndex]:
        self._file.seek(0)
        while packed := self._file.read(_INDEX.size):
            start, end, at, length, indexes, compressed, size, count = _INDEX.unpack(packed)
            offsets = dict(_OFFSET.iter_unpack(self._file.read(_OFFSET.size * count)))
            yield ChunkIndex(length, at, self._compression, compressed, end, indexes, offsets, start, size)


class LogFile:
    """Opens `path` for writing and registers all topics. Every method raises OSError when the disk does not take it."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")
        try:
            self._indexes = _ChunkIndexes("zstd", path.parent)
        except OSError:
            self._stream.close()
            raise
        self._channels: dict[str, int] = {}
        self._writer: Any = Writer(self._stream, chunk_size=CHUNK_SIZE_BYTES, compression=CompressionType.ZSTD)
        # mcap has no other way; `test_index_of_a_log_is_whole` fails should a newer one rename it.
        self._writer._Writer__chunk_indices = self._indexes
        try:
            self._writer.start(profile="", library="firmware_bridge")
            for topic in log_topics.TOPICS:
                schema = 0
                if topic.schema is not None:
                    text = log_topics.to_json(topic.schema)
                    schema = self._writer.register_schema(topic.schema_name, "jsonschema", text)
                self._channels[topic.name] = self._writer.register_channel(topic.name, topic.message_encoding, schema)
        except OSError:
            self.abandon()
            raise

    def add(self, topic: str, time_ns: int, data: bytes, sequence: int) -> None:
        """Append one record; `time_ns` since 1970. `sequence` rises by one a record: readers see holes by it."""
        self._writer.add_message(self._channels[topic], time_ns, data, time_ns, sequence & 0xFFFF_FFFF)

    def flush(self) -> int:
        """Close the chunk and hand it to the kernel; bytes in the file so far."""
        self._writer.flush()
        return self._stream.tell()

    def synchronise(self) -> None:
        """Wait until the disk has what was flushed."""
        os.fsync(self._stream.fileno())

    def is_at(self, path: Path) -> bool:
        """This very file is what `path` names: nobody has deleted, renamed or replaced it."""
        try:
            return os.path.samestat(os.fstat(self._stream.fileno()), path.stat())
        except FileNotFoundError:
            return False

    def finish(self) -> None:
        """Write index and footer, wait until the disk has everything, close."""
        self._writer.finish()
        self._indexes.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def abandon(self) -> None:
        """Close after a failure. What reached the disk before stays readable."""
        for file in (self._indexes, self._stream):
            with contextlib.suppress(OSError):  # a full disk was already reported; close() only tries again
                file.close()
