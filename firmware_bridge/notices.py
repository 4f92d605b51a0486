"""Lines for people on standard error; where that is systemd's journal each carries its priority and no colour."""

import contextlib
import os
import sys

ERROR, WARNING, NOTICE, INFORMATION = 3, 4, 5, 6
"""Priorities of syslog(3), as the journal reads them from `<N>` at the start of a line."""


def is_journal() -> bool:
    """Standard error is connected to the journal: JOURNAL_STREAM names its device and inode (man 5 systemd.exec)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def printable(text: str) -> str:
    """`text` with all that a terminal would not show as a character written out (`\\x1b`), but for ends of lines.

    A device's name, a log and a file name are others' words: they must not move the cursor or change colours.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode("ascii") for each in text
    )


def say(text: str, priority: int = NOTICE) -> None:
    """Write `text` as one line. Never raises: the terminal may be gone, the run goes on."""
    if sys.stderr is None:
        return  # print() would take standard output instead, which is for the result
    prefix = f"<{priority}>" if is_journal() else ""
    with contextlib.suppress(OSError, ValueError):
        print(f"{prefix}{printable(' '.join(text.splitlines()))}", file=sys.stderr, flush=True)
