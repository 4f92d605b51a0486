"""Which frames the host's policy may trust.

An OBSERVATION carries the current and the previous frame, so one lost frame is repaired from the next one. A longer gap
leaves a hole: the ring is forgotten and there is no action until it has been refilled with consecutive frames.

The device starts its ring at its first ARMED period, filled with that one frame, and never has a hole. The host starts
there too when it knows which one that was: when the last observation before it came one tick earlier. Otherwise nobody
can tell where the device's ring starts, and there is no action until the host's has been filled with ARMED frames.
"""

from firmware_bridge.loop.host_policy import Backend


class History:
    """Feeds a backend with consecutive frames.

    Counts: `repaired` single losses, `gaps` longer ones, `withheld` observations without an action because of a gap.
    Ticks must rise (`device/observation_order.py` sees to that); one that repeats the last is ignored.
    """

    def __init__(self, backend: Backend, frames: int) -> None:
        self.repaired = 0
        self.gaps = 0
        self.withheld = 0
        self._backend = backend
        self._frames = frames
        self._missing = 0
        self._last_tick: int | None = None
        self._idle_tick: int | None = None

    def warm_up(self, base_size: int) -> None:
        """Compute one action for nothing: the first call of any backend is the slowest. Restarts."""
        self._backend.step((0.0,) * base_size)
        self.restart()

    def restart(self, idle_tick: int | None = None) -> None:
        """Forget everything: the next observation fills the ring and counts as complete.

        With `idle_tick`, the last tick that was seen before the device was armed, it does so only as the one after it.
        """
        self._backend.reset()
        self._missing = 0
        self._last_tick = None
        self._idle_tick = idle_tick

    def observe(self, tick: int, current: tuple[float, ...], previous: tuple[float, ...]) -> None:
        """Take an observation that nobody answers."""
        if self._admit(tick, previous):
            self._backend.observe(current)

    def step(self, tick: int, current: tuple[float, ...], previous: tuple[float, ...]) -> float | None:
        """Take an observation; the action [m/s^2], or None while the ring has a hole (or the tick is a repeat)."""
        if not self._admit(tick, previous):
            return None
        if self._missing > 0:
            self._backend.observe(current)
            self.withheld += 1
            return None
        return self._backend.step(current)

    def _admit(self, tick: int, previous: tuple[float, ...]) -> bool:
        last, self._last_tick = self._last_tick, tick
        if last is None:
            if self._idle_tick is not None and (tick - self._idle_tick) & 0xFFFF_FFFF != 1:
                self.gaps += 1
                self._missing = self._frames - 1  # `previous` may be older than the device's ring
            return True
        ahead = (tick - last) & 0xFFFF_FFFF
        if ahead == 0:
            return False
        if ahead == 2:
            self.repaired += 1
            self._backend.observe(previous)
            self._missing = max(0, self._missing - 2)
        elif ahead != 1:
            self.gaps += 1
            self._backend.reset()
            self._backend.observe(previous)
            # `previous` and `current` are the first two consecutive frames of the new ring.
            self._missing = max(0, self._frames - 2)
        else:
            self._missing = max(0, self._missing - 1)
        return True
