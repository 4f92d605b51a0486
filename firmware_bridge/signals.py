"""SIGINT, SIGTERM, SIGHUP: an exception where nothing moves, a flag polled between two ticks where the cart does."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from firmware_bridge.errors import StopRequested


class StopSignals:
    """Context manager that catches SIGINT, SIGTERM and SIGHUP (not where it is ignored: nohup).

    While `deferred` is False a signal raises StopRequested at once (finally clauses reap what was started); while it is
    True the signal only sets `requested`, and `poll` raises StopRequested from a place that is safe to leave. Only the
    first signal counts: everything that follows it is bounded in time, and a second exception would cut the braking.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.requested: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def poll(self) -> None:
        """Raise StopRequested when a deferred signal has come."""
        if self.requested is not None:
            raise StopRequested(self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            return
        self.requested = number
        if not self.deferred:
            raise StopRequested(number)
