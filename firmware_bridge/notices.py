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


def say(text: str, priority: int = NOTICE) -> None:
    """Write `text` as one line. Never raises: the terminal may be gone, the run goes on."""
    prefix = f"<{priority}>" if is_journal() else ""
    with contextlib.suppress(OSError, ValueError):
        print(f"{prefix}{' '.join(text.splitlines())}", file=sys.stderr, flush=True)
