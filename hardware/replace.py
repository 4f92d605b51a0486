"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hardware.errors import HardwareError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path`, renamed to it at the end; a failure leaves the previous file.

    Raises HardwareError for every OSError inside: it names `path`, the reason and the next step.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):  # where the folder cannot be searched, nothing was written either
            temporary.unlink()


def check_writable(path: Path) -> None:
    """Make the folder of `path` and try whether a file can be created in it. Raises HardwareError."""
    if path.is_dir():
        raise HardwareError(f"cannot write {path}: got a folder, expected the name of a file; choose another")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> HardwareError:
    return HardwareError(
        f"cannot write {path}: got {error.strerror or error}, expected a writable folder with free space; "
        "mend that or choose another"
    )
