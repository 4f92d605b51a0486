"""The file under an HDF5 writer: HDF5 never sees a write fail, because the library crashes when one does.

HDF5 1.14 ends the process (SIGSEGV) when its cache cannot be flushed to a full disk. So it writes here, through h5py's
driver for file objects. The first failure is kept, what is written after it stays in memory, and `check` raises it
between two episodes, where the HDF5 file can still be closed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any


class Hdf5Stream:
    """Context manager: a new file that can be read and written; an interrupt waits for `check`, too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._error: BaseException | None = None
        self._held: list[tuple[int, bytes]] = []  # what could not be written, oldest first
        self._handler: Any = None

    def __enter__(self) -> Hdf5Stream:
        self._file = self._path.open("w+b", buffering=0)
        # a KeyboardInterrupt raised inside a call from HDF5 would be a failed write
        if threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._handler = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        with contextlib.suppress(OSError):  # nothing is buffered here: whatever failed has been kept for `check`
            self._file.close()

    def check(self) -> None:
        """Raise what went wrong since the file was opened; not for use while HDF5 is being called.

        Raises:
            OSError: the disk is full, a limit was reached, or the device failed.
            KeyboardInterrupt: the user asked to end.
        """
        if self._error is not None:
            raise self._error

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._error = self._error or KeyboardInterrupt()

    def write(self, data: Any) -> int:
        """All of `data`, to the file or, once that has failed, to memory."""
        view = memoryview(data).cast("B")
        start = self._position
        self._position += len(view)
        if not self._held:
            try:
                written = 0
                while written < len(view):
                    written += os.pwrite(self._file.fileno(), view[written:], start + written)
                return len(view)
            except OSError as error:
                self._error = error
        self._held.append((start, bytes(view)))
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """What was written here; zeros where nothing was."""
        view = memoryview(buffer).cast("B")
        start, end = self._position, self._position + len(view)
        found = os.pread(self._file.fileno(), len(view), start)
        view[:] = found + bytes(len(view) - len(found))
        for first, data in self._held:
            low, high = max(start, first), min(end, first + len(data))
            if low < high:
                view[low - start : high - start] = data[low - first : high - first]
        self._position = end
        return len(view)

    def read(self, size: int) -> bytes:
        """`readinto` as bytes; h5py asks for its presence."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; ends count what is held in memory."""
        ends = [os.fstat(self._file.fileno()).st_size, *(first + len(data) for first, data in self._held)]
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: max(ends)}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file, which is given up once a write has failed."""
        length = self._position if size is None else size
        if not self._held:
            try:
                os.ftruncate(self._file.fileno(), length)
            except OSError as error:
                self._error = error
        return length

    def flush(self) -> None:
        """Nothing is buffered."""
