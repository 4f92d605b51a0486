"""Folders for what is not finished: gone at the end, and where their process was killed, swept by the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_LOCK = ".in-use"
_YOUNG_S = 60.0  # a folder without a lock may be about to get one


class ScratchFolder:
    """A new folder `prefix`XXXX in `parent` (the system's folder for temporary files unless given), as `path`.

    A lock that the kernel drops with the process says that it is in use. A process number would not do: it is given
    out again, and means nothing in another container. Context manager; `cleanup` may be called twice. Raises OSError.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        _sweep(prefix, parent)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if (self.path / _LOCK).exists():  # else somebody swept it just before it was locked
                return
            os.close(self._lock)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()

    def keep_as(self, target: Path) -> None:
        """Rename it to `target`, in whose place no folder stands: it is no scratch folder any more. Raises OSError.

        It gets the rights of any new folder; a scratch folder is its owner's alone.
        """
        usual = self.path / ".usual"
        usual.mkdir()
        self.path.chmod(usual.stat().st_mode & 0o777)
        usual.rmdir()
        os.rename(self.path, target)
        (target / _LOCK).unlink(missing_ok=True)
        self._let_go()

    def cleanup(self) -> None:
        """Remove the folder and what is in it, unless it was kept."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def _sweep(prefix: str, parent: Path) -> None:
    """Remove our folders of this prefix whose process is gone."""
    for folder in parent.glob(f"{prefix}*"):
        # Whatever is odd about it (another user's, a symlink, gone by now) is left alone.
        with suppress(OSError):
            status = folder.lstat()
            if folder.is_symlink() or not folder.is_dir() or status.st_uid != os.geteuid():
                continue
            try:
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                if time.time() - status.st_mtime > _YOUNG_S:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: in use
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
