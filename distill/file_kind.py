"""What a path leads to, in words for messages."""

from __future__ import annotations

import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def no_file(path: Path) -> str:
    """Why `path` is no regular file: "no such file", "is a folder", "is a device", or what the system says."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "no such file"
    except OSError as error:
        return str(error.strerror)
    return next((f"is {words}" for holds, words in _KINDS if holds(mode)), "is a file")
