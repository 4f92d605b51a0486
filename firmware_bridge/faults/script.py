"""Scripted faults of the link, a TOML file of `[[fault]]` tables:

    [[fault]]
    kind = "drop"             # one of KINDS
    direction = "to-device"   # or "to-host", "both" (default)
    message = "Command"       # a message of hardware/protocol.py; default: any frame
    period = 100              # control periods from the first ARMED observation of a connection, 0 is that one
    periods = 2               # for so many of them, default 1
    connection = 0            # only on the first connection; default: on every one

    [[fault]]
    kind = "corrupt"
    message = "HelloReply"
    index = 0                 # instead of `period`: the first such frame of the connection, ARMED or not

What `period` names are the device's own periods, so a script means the same whatever the clock.
"""

import dataclasses
import errno
import tomllib
from pathlib import Path
from typing import Any

from firmware_bridge.errors import BridgeError
from hardware.protocol import MESSAGES

RATE_KINDS = ("drop", "corrupt", "truncate", "duplicate", "reorder", "flood", "replay", "foreign")
"""Kinds that also have a rate of their own."""

KINDS = {
    "drop": "the frame is gone",
    "corrupt": "one to four of its bytes are changed, perhaps its delimiter",
    "truncate": "its end is cut off, perhaps with the delimiter",
    "duplicate": "it comes twice",
    "reorder": "it comes after one to six later ones of its direction",
    "flood": "up to 1,024 random bytes come before it",
    "replay": "an earlier frame to the device comes again before it, as it was",
    "foreign": "before a Command comes one of another session with the opposite action, its checksum right",
    "disconnect": "the connection to the host is cut",
}
"""Every kind, and what it does to a frame."""

_DIRECTIONS = ("both", "to-device", "to-host")
_NAMES = {message.__name__ for message in MESSAGES if message.ROUTE in ("host>device", "device>host")}
_LIMIT = 2**32
_LARGEST_FILE_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class ScriptedFault:
    """One `[[fault]]`; exactly one of `period` and `index` is given."""

    kind: str
    direction: str = "both"
    message: str = ""
    period: int | None = None
    periods: int = 1
    index: int | None = None
    connection: int | None = None

    def hits(self, connection: int, message: str, period: int | None, frame_index: int, message_index: int) -> bool:
        """Whether a frame is meant; the arguments are those of `plan.Moment`."""
        if self.connection not in (None, connection) or self.message not in ("", message):
            return False
        if self.index is not None:
            return self.index == (message_index if self.message else frame_index)
        return period is not None and self.period is not None and self.period <= period < self.period + self.periods


def read_script(path: Path) -> tuple[ScriptedFault, ...]:
    """The faults of a file, in its order. Raises BridgeError."""
    try:
        if path.exists() and not path.is_file():  # a FIFO would be waited for, and a device may never end
            raise OSError(errno.EINVAL, "Is a directory" if path.is_dir() else "not a regular file")
        data = path.read_bytes()
        if len(data) > _LARGEST_FILE_BYTES:
            raise _error(path, f"{len(data):,} bytes, expected at most {_LARGEST_FILE_BYTES:,}")
        content = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror or error}), expected a TOML file") from error
    except (ValueError, RecursionError) as error:  # both of tomllib's and of UTF-8
        raise _error(path, f"not TOML ({error})") from error
    tables = content.pop("fault", [])
    if content or not isinstance(tables, list):
        names = ", ".join(content) or "fault"
        raise _error(path, f"got {names}, expected nothing but [[fault]] tables")
    return tuple(_fault(path, number, table) for number, table in enumerate(tables, start=1))


def _fault(path: Path, number: int, table: Any) -> ScriptedFault:
    where = f"fault {number}: "
    if not isinstance(table, dict):
        raise _error(path, f"{where}got {table!r}, expected a [[fault]] table")
    fields = {field.name for field in dataclasses.fields(ScriptedFault)}
    if unknown := sorted(set(table) - fields):
        raise _error(path, f"{where}unknown key {unknown[0]!r}, expected one of {', '.join(sorted(fields))}")
    for key, choices in (("kind", tuple(KINDS)), ("direction", _DIRECTIONS), ("message", sorted(_NAMES))):
        if (key in table or key == "kind") and table.get(key) not in choices:
            raise _error(path, f"{where}{key} is {table.get(key)!r}, expected one of {', '.join(choices)}")
    for key, least in (("period", 0), ("periods", 1), ("index", 0), ("connection", 0)):
        value = table.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _LIMIT:
            raise _error(path, f"{where}{key} is {value!r}, expected a whole number from {least} on")
    if ("period" in table) == ("index" in table):
        raise _error(path, f"{where}expected exactly one of period and index")
    return ScriptedFault(**table)


def _error(path: Path, what: str) -> BridgeError:
    return BridgeError(f"fault script {path}: {what}; see the head of firmware_bridge/faults/script.py")
