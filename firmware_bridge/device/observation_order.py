"""Which OBSERVATIONs come in the order in which they were sent, and which behind a newer one or for the second time.

A serial line keeps the order; a gateway between the bridge and the device may not. What comes late is counted and
passed over: the policy's history takes frames in order only, and the device refuses an answer to an older tick.

A device that started again counts its ticks from the beginning, too. It is told from a late frame by its state: nobody
has armed it, so an ARMED frame that is behind was sent before. In another state a frame is late only where few periods
lie between: what was still on its way when the device was armed. An UNHOMED one behind an ARMED one is not even then,
for an armed device was homed some exchanges ago: it is believed at once, and the run ends.
"""

from hardware.protocol import State

LATEST_ARMED_PERIODS = 0xFFFF
"""As far behind an ARMED observation is late; no link holds one back for so long (22 minutes at 50 Hz)."""
LATEST_PERIODS = 16
"""The same in any other state; a device that started again is that near for so many periods after its start only."""

_TICKS = 0xFFFF_FFFF


class ObservationOrder:
    """Follows one device's observations; `out_of_order` counts those that were late or came again."""

    def __init__(self) -> None:
        self.out_of_order = 0
        self._tick: int | None = None
        self._state = 0

    def take(self, tick: int, state: int) -> bool:
        """Whether this observation is the newest now; False where it is to be passed over."""
        if self._tick is not None and self._is_late((self._tick - tick) & _TICKS, state):
            self.out_of_order += 1
            return False
        self._tick, self._state = tick, state
        return True

    def _is_late(self, behind: int, state: int) -> bool:
        if state == State.ARMED:
            return behind <= LATEST_ARMED_PERIODS
        if state == State.UNHOMED and self._state == State.ARMED:
            return False
        return behind <= LATEST_PERIODS
