"""Who holds a serial port, found without opening it: to open a port raises DTR, and that resets many boards.

Three witnesses: the processes whose open files we may look at (all of them for root, else the user's own), the kernel's
list of flock() locks, and the lock files of minicom and its kin. A program of another user that locks nothing is seen
by none of them.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PROCESSES = Path("/proc")
_LOCK_FOLDERS = (Path("/run/lock"), Path("/var/lock"))


def port_user(path: str) -> str:
    """ "NAME (process PID)" of one that holds `path`; "" where nobody is seen to. This process does not count."""
    device = os.path.realpath(path)
    for process in _witnesses(device):
        if process != os.getpid():
            return f"{_name(process)} (process {process})"
    return ""


def _witnesses(device: str) -> Iterator[int]:
    yield from _lock_files(device)
    yield from _flocks(device)
    yield from _open_files(device)


def _open_files(device: str) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for process in _PROCESSES.iterdir():
            if not process.name.isdecimal():
                continue
            with contextlib.suppress(OSError):  # it has ended, or it is not ours to look at
                for file in (process / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        if str(file.readlink()) == device:
                            yield int(process.name)


def _flocks(device: str) -> Iterator[int]:
    """Lines of /proc/locks: `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`, the device in hexadecimal."""
    with contextlib.suppress(OSError):
        status = os.stat(device)
        wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in (_PROCESSES / "locks").read_text().splitlines():
            words = line.split()
            if len(words) > 5 and words[5] == wanted and words[4].isdecimal():
                yield int(words[4])


def _lock_files(device: str) -> Iterator[int]:
    """`LCK..NAME` holds the process's number as text (Filesystem Hierarchy Standard, 5.9)."""
    for folder in _LOCK_FOLDERS:
        with contextlib.suppress(OSError, ValueError):
            with (folder / f"LCK..{Path(device).name}").open(errors="replace") as file:
                process = int((file.read(32).split() or [""])[0])
            if (_PROCESSES / str(process)).exists():  # one that crashed leaves its file behind
                yield process


def _name(process: int) -> str:
    try:
        return (_PROCESSES / str(process) / "comm").read_text(errors="replace").strip() or "a program"
    except OSError:
        return "a program"
