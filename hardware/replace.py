"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hardware.errors import HardwareError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside the file that `path` names, renamed to it at the end; a failure leaves the previous one.

    Raises HardwareError for every OSError inside: it names `path`, the reason and the next step.
    """
    temporary: Path | None = None
    try:
        target = regular_target(path)
        temporary = _temporary(target)
        yield temporary
        os.replace(temporary, regular_target(target))  # something else may stand there by now
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # where the folder cannot be searched, nothing was written either
                temporary.unlink()


def regular_target(path: Path) -> Path:
    """Where a file named `path` lies, symlinks followed. Raises OSError for what is there and is no regular file.

    A rename would put a regular file in the place of a device node: root once lost /dev/full that way.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder of that name")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a device, pipe, socket or endless symlink of that name")
    return target


def check_writable(path: Path) -> None:
    """Make the folder of `path` and try whether a file can be created in it. Raises HardwareError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(regular_target(path))
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def _unwritable(path: Path, error: OSError) -> HardwareError:
    if error.errno in (errno.EISDIR, errno.EINVAL):
        return HardwareError(
            f"cannot write {path}: got {error.strerror or error}, expected a regular file or a free name; "
            "choose another"
        )
    return HardwareError(
        f"cannot write {path}: got {error.strerror or error}, expected a writable folder with free space; "
        "mend that or choose another"
    )
