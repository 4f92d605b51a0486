"""What goes from the control loop to the process that writes the log, and what comes back.

The pipe begins with `LogSettings`. After that each record is a header and its bytes as `Topic.pack` made them. `PAUSE`
is a header alone: what belongs to one read is complete, here the log may go on in another file. The last header is
`END`, which a process that was killed never sent. What comes back are lines of JSON: `{"opened": true}` once
the file is there, then `{"written": N}`, or `{"error": TEXT, "errno": NUMBER}`
when the disk does not take it.
"""

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from firmware_bridge.child_process import settings_in, with_length
from firmware_bridge.logs.topics import to_json

HEADER = struct.Struct("<BqI")
"""Number of the topic, CLOCK_MONOTONIC [ns], bytes that follow."""
END = 255
PAUSE = 254


@dataclasses.dataclass(frozen=True)
class Rotation:
    """When the log goes on in a new file: after `size_bytes` of file or `interval_s` seconds, 0 for never.

    Of the run's files `keep_parts` are kept, 0 for all.
    """

    size_bytes: int = 0
    interval_s: float = 0.0
    keep_parts: int = 0


@dataclasses.dataclass(frozen=True)
class LogSettings:
    """Where the log goes, and its first record. `epoch_offset_ns`: since 1970, less CLOCK_MONOTONIC.

    `first_of_run`: what lies there is an earlier run's and is kept as the previous one's. Else it is this run's own, of
    a connection that came to nothing, and is replaced.
    """

    path: Path
    rotation: Rotation
    flush_interval_s: float
    epoch_offset_ns: int
    session: dict[str, Any]
    first_of_run: bool = True

    def encoded(self) -> bytes:
        """As the pipe begins."""
        return with_length(to_json(dataclasses.asdict(self)))


class PipeReader:
    """Takes the bytes of the pipe as they come. `settings` is None until they are complete; `ended` tells of `END`."""

    def __init__(self) -> None:
        self.settings: LogSettings | None = None
        self.ended = False
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(topic number, time [ns], bytes) of each record, or PAUSE, that is complete; none before the settings are."""
        self._buffer += data
        buffer, position = self._buffer, 0
        if self.settings is None:
            found = settings_in(buffer)
            if found is None:
                return
            value, position = found
            self.settings = _settings(value)
        while len(buffer) - position >= HEADER.size:
            number, time_ns, size = HEADER.unpack_from(buffer, position)
            begin = position + HEADER.size
            if len(buffer) < begin + size:
                break
            position = begin + size
            if number == END:
                self.ended = True
                break
            yield number, time_ns, bytes(buffer[begin:position])
        del buffer[:position]


def _settings(value: dict[str, Any]) -> LogSettings:
    return LogSettings(**{**value, "path": Path(value["path"]), "rotation": Rotation(**value["rotation"])})
