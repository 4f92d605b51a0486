"""Where a run stands, as the host sees it: five states, and which may follow which.

    IDLE ──connected──▶ HOMING ──homed──▶ IDLE ──ARM sent──▶ ARMED ──first armed observation──▶ RUN
                          ▲                                    │                                 │
                          └──reconnected── FAULT ◀─────────────┴── error ────────────────────────┤
                                             IDLE ◀──────────── duration over, stop ─────────────┘

ARMED is reached from IDLE only, and only after HOMING on the same connection: what was homed before a fault, a lost
link or a restart of the device counts for nothing. Entering RUN never happens by itself after FAULT.
"""

from collections.abc import Callable
from enum import IntEnum


class HostState(IntEnum):
    """IDLE: nothing is armed. HOMING: waiting until the device is homed and at rest. ARMED: ARM was sent. RUN: armed
    observations are answered. FAULT: an error ended it; the way out is a new connection, or the end."""

    IDLE = 0
    HOMING = 1
    ARMED = 2
    RUN = 3
    FAULT = 4


_FOLLOWS: dict[HostState, frozenset[HostState]] = {
    HostState.IDLE: frozenset({HostState.HOMING, HostState.ARMED, HostState.FAULT}),
    HostState.HOMING: frozenset({HostState.IDLE, HostState.FAULT}),
    HostState.ARMED: frozenset({HostState.RUN, HostState.IDLE, HostState.FAULT}),
    HostState.RUN: frozenset({HostState.IDLE, HostState.FAULT}),
    HostState.FAULT: frozenset({HostState.HOMING}),
}


class HostStateMachine:
    """Holds the state; `changed(state, why)` hears of every change, in the thread that made it.

    `state` may be read from any thread.
    """

    def __init__(self, changed: Callable[[HostState, str], None]) -> None:
        self.state = HostState.IDLE
        self._homed = False
        self._changed = changed

    def enter(self, state: HostState, why: str) -> None:
        """Change the state. Entering the present one again changes nothing. Raises ValueError for a forbidden step."""
        if state == self.state:
            return
        if state not in _FOLLOWS[self.state] or (state == HostState.ARMED and not self._homed):
            homed = "" if self._homed else " (not homed)"
            raise ValueError(f"host state {self.state.name}{homed}: {state.name} cannot follow it ({why})")
        self._homed = False
        self.state = state
        self._changed(state, why)

    def homed(self, why: str) -> None:
        """HOMING is done: IDLE, from which alone ARMED may follow."""
        if self.state != HostState.HOMING:
            raise ValueError(f"host state {self.state.name}: only HOMING ends in homed ({why})")
        self.enter(HostState.IDLE, why)
        self._homed = True
