"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
from pathlib import Path
from types import TracebackType
from typing import IO

from .errors import DistillError


class FolderLock:
    """Context manager; holds `folder` for this process. The kernel lets go of it when the process ends, however."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._stream: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        """Take the folder.

        Raises:
            DistillError: another process holds it.
        """
        self._stream = self._path.open("w")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._stream.close()
            raise DistillError(
                f"--out {self._path.parent}: another process is training into it, expected a folder of its own; "
                "wait for it, or choose another --out"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._path.unlink(missing_ok=True)
            self._stream.close()
