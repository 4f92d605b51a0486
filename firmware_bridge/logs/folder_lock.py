"""One run at a time writes into a folder of logs: the second would rename and overwrite the first's files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from firmware_bridge.errors import RecorderError
from firmware_bridge.logs.write_failure import next_step


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make `folder` where it is not there, and keep other runs out of it; a process that is killed keeps nobody out.

    A folder that was made for nothing (no device, no log) is taken away again.

    Raises RecorderError: another run has it, or it cannot be made.
    """
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise RecorderError(
            f"log {folder}: cannot write: {error.strerror or error}; {next_step(error.errno)}"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecorderError(
                f"log {folder}: another run writes its log there, expected a folder for each; pass another --log, or "
                "end that run"
            ) from error
        except OSError:
            pass  # a network file system that does not lock folders
        yield
    finally:
        if made:
            with suppress(OSError):  # there is a log in it
                folder.rmdir()
        os.close(descriptor)
