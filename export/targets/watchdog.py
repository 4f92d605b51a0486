"""Stopping an emulator that does not return: one thread for all calls, because a thread or timer per call is slow."""

import threading
import time
import weakref
from collections.abc import Callable

_CHECK_S = 0.5


class Watchdog:
    """Calls `stop` from another thread when `limit_s` have passed since `start` without an `end`."""

    def __init__(self, stop: Callable[[], object], limit_s: float) -> None:
        self._limit_s = limit_s
        self._running: list[float] = []
        ended = threading.Event()
        weakref.finalize(self, ended.set)
        # The thread holds no reference to this object, or it would never end.
        arguments = (stop, self._running, ended)
        threading.Thread(target=_watch, args=arguments, name="emulator watchdog", daemon=True).start()

    def start(self) -> None:
        """Begin to count time."""
        self._running[:] = [time.monotonic() + self._limit_s]

    def end(self) -> None:
        """The emulator has returned."""
        self._running.clear()


def _watch(stop: Callable[[], object], running: list[float], ended: threading.Event) -> None:
    while not ended.wait(_CHECK_S):
        if any(time.monotonic() > deadline for deadline in list(running)):
            stop()
