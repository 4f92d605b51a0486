"""SIGINT, SIGTERM, SIGHUP: an exception where nothing moves, a request to `Controls` where the cart does."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from firmware_bridge.errors import StopRequested
from firmware_bridge.safety.controls import Controls


class StopSignals:
    """Context manager that catches SIGINT, SIGTERM and SIGHUP (not where it is ignored: nohup), and SIGUSR1.

    While `deferred` is False a signal raises StopRequested at once (finally clauses reap what was started); while it is
    True the signal only asks `controls` for a stop, which is polled where it is safe to leave. Only the first request
    counts: everything that follows it is bounded in time, and a second exception would cut the braking. SIGUSR1 is the
    daemon's way to arm: it counts only while an arm is awaited.
    """

    def __init__(self, controls: Controls) -> None:
        self.deferred = False
        self._controls = controls
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._stop)
        self._previous[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._arm)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._controls.stop is not None:
            return
        stop = StopRequested.by_signal(number)
        self._controls.request_stop(str(stop), stop.exit_code)
        if not self.deferred:
            raise stop

    def _arm(self, number: int, frame: FrameType | None) -> None:
        self._controls.request_arm()
