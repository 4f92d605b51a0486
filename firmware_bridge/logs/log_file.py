"""One MCAP file being written: every topic with its schema, chunks closed when we say so, synchronised at the end."""

import contextlib
import os
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer

from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.topics import Topic

CHUNK_SIZE_BYTES = 256 * 1024


class LogFile:
    """Opens `path` for writing and registers all topics. Every method raises OSError when the disk does not take it."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")
        self._channels: dict[str, int] = {}
        self._writer: Any = Writer(self._stream, chunk_size=CHUNK_SIZE_BYTES, compression=CompressionType.ZSTD)
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

    def add(self, topic: Topic, time_ns: int, data: bytes, sequence: int) -> None:
        """Append one record; `time_ns` since 1970. `sequence` rises by one a record: readers see holes by it."""
        self._writer.add_message(self._channels[topic.name], time_ns, data, time_ns, sequence & 0xFFFF_FFFF)

    def flush(self) -> int:
        """Close the chunk and hand it to the kernel; bytes in the file so far."""
        # mcap closes a chunk by size only; its own finalizer is the one way to close it by time. The test
        # `test_every_flush_is_readable` fails should a newer mcap rename it.
        self._writer._Writer__finalize_chunk()
        self._stream.flush()
        return self._stream.tell()

    def finish(self) -> None:
        """Write index and footer, wait until the disk has everything, close."""
        self._writer.finish()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def abandon(self) -> None:
        """Close after a failure. What reached the disk before stays readable."""
        with contextlib.suppress(OSError):  # a full disk was already reported; close() only tries again
            self._stream.close()
