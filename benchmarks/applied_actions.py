"""Was everything that the drive did asked for? The plant's own record against what the bridge logged.

In every period in which the drive was driven (not braked), its acceleration must be, to the bit, what `drive.latch`
makes of one of two things: the COMMAND that the bridge logged for the observation before, in the session that is armed;
or, where that was lost, once more the action of the period before. A corrupt, stale or foreign command that gets
through fits neither. Behind the last driven period the drive brakes; it is off at once only where the cart stands
already. Where both fit (the limits cut them to the same), both are followed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from firmware_bridge.logs.read_log import Log
from hardware.drive import DriveLimit
from hardware.observe import Observer
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import Enable


@dataclasses.dataclass
class Verdict:
    """Periods: `driven` by the policy, of these `held` (the action before, again), `braked`; `blocks` of driven ones,
    each armed anew; `violations` in words, none of which may be."""

    driven: int = 0
    held: int = 0
    braked: int = 0
    blocks: int = 0
    faults: int = 0
    violations: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _State:
    """What the device may be in: the action in force, since how many periods it is held and how many it was in all,
    whose session, and the velocity set-point."""

    request: float
    holds: int
    session: int | None
    total_holds: int
    setpoint: np.float32


_REST_SETPOINT = np.float32(1e-4)  # m/s, what rounding leaves: REST_SETPOINT in firmware/safety_period.c

Commands = dict[int, set[tuple[int, float]]]


def logged_commands(logs: Iterable[Log]) -> tuple[Commands, set[int]]:
    """By tick, the sessions and actions of all COMMANDs that were sent; and the sessions that were asked for."""
    commands: Commands = {}
    sessions = set()
    for log in logs:
        for value in log.values("/command"):
            commands.setdefault(value["observation_tick"], set()).add((value["session"], value["action"]))
        sessions |= {value["device_nonce"] ^ value["host_nonce"] for value in log.values("/arm")}
    return commands, sessions


def judge(
    trajectory: Path, commands: Commands, sessions: set[int], watchdog_periods: int = 2, late_actuations: int = 0
) -> Verdict:
    """Follow the drive through a whole trajectory of the cart.

    `late_actuations`: in real time, the periods in which the simulator did not wait for the firmware any longer and
    wrote down what the drive was told before; so many rows may repeat the one before them.
    """
    rows: dict[str, Any] = load_file(trajectory)
    judgement = _Judgement(commands, sessions, watchdog_periods, late_actuations)
    observer = Observer()
    before: tuple[Any, ...] = (int(Enable.OFF),)
    for row, tick in enumerate(rows["tick"].tolist()):
        now = (int(rows["enable"][row]), *rows["drive"][row])
        position, speed = observer.observe(*rows["counts"][row].tolist())[:2]
        if now[0] == Enable.DRIVE:
            judgement.driven(tick, position, before, now)
        elif before[0] == Enable.DRIVE:
            judgement.end_block(tick, abs(speed), before, now)
        judgement.verdict.braked += now[0] == Enable.BRAKE
        before = now
    if before[0] == Enable.DRIVE:
        judgement.spend_session()
    faults = rows["fault"]
    judgement.verdict.faults = int(np.count_nonzero((faults[1:] != 0) & (faults[:-1] == 0)))
    return judgement.verdict


class _Judgement:
    """Follows the blocks of driven periods, one after the other."""

    def __init__(self, commands: Commands, sessions: set[int], watchdog_periods: int, late: int) -> None:
        self.verdict = Verdict()
        self._commands = commands
        self._sessions = sessions
        self._watchdog_periods = watchdog_periods
        self._late_left = late
        self._used: set[int] = set()
        self._states: list[_State] = []
        self._over = self._repeated = False
        self._limit = DriveLimit()

    def driven(self, tick: int, position: np.float32, before: tuple[Any, ...], now: tuple[Any, ...]) -> None:
        """One driven period; `before` and `now` are (enable, acceleration, set-point)."""
        verdict = self.verdict
        verdict.driven += 1
        asked = sorted(self._commands.get(tick - 1, ()))
        start = _State(0.0, 0, None, 0, np.float32(0))
        if before[0] != Enable.DRIVE:
            self._over = False
            if before[0] != Enable.OFF:
                verdict.violations.append(f"tick {tick}: driven again without having been off")
            verdict.blocks += 1
            candidates = [start]
            if self._late_left > 0:  # the first period itself may be the one that was written down as another
                candidates += self._next([start], asked)
        else:
            candidates = [] if self._over else self._next(self._states, asked)
        latched = [(each, *self._latched(each, position)) for each in candidates]
        explained = [each for each, acceleration, after in latched if (acceleration, after.setpoint) == now[1:]]
        self._repeated = repeated = now == before and self._late_left > 0
        if explained and not repeated:
            self._states = _shortest(after for each, _, after in latched if each in explained)
        elif repeated:
            # What the drive was told in this period is not known: anything that may have been goes on. Nothing may
            # where the watchdog has run out: then the device brakes, and this row is the last of the block.
            self._late_left -= not explained
            self._over = not latched
            self._states = _shortest(after for _, _, after in latched) or self._states
        else:
            verdict.violations.append(
                f"tick {tick}: the drive was told {now[1]} m/s^2 up to {now[2]} m/s, the bridge had asked for "
                f"{asked or 'nothing'}"
            )
            self._states = [_State(float(now[1]), 0, None, 0, now[2])]

    def end_block(self, tick: int, speed: np.float32, before: tuple[Any, ...], now: tuple[Any, ...]) -> None:
        """The first period that is not driven: it is braked, but where the axis stands already the drive goes off."""
        at_rest = abs(before[2]) <= _REST_SETPOINT and speed <= np.float32(CART_RAIL.rest_speed)
        # The period that was braked may be the one that was written down as the driven one before it.
        if now[0] != Enable.BRAKE and not at_rest and not self._repeated:
            self.verdict.violations.append(
                f"tick {tick}: off without having braked, at a set-point of {before[2]} m/s and {speed:.3f} m/s"
            )
        self.spend_session()

    def spend_session(self) -> None:
        """A session ends with its block: nothing of it may move anything again."""
        self._used |= {each.session for each in self._states if each.session is not None}
        self.verdict.held += min(each.total_holds for each in self._states)

    def _next(self, states: list[_State], asked: list[tuple[int, float]]) -> list[_State]:
        """What may have happened at the boundary: the action before goes on, or one that was sent takes its place."""
        candidates = []
        for each in states:
            if each.holds + 1 < self._watchdog_periods:
                candidates.append(dataclasses.replace(each, holds=each.holds + 1, total_holds=each.total_holds + 1))
            candidates += [
                dataclasses.replace(each, request=action, holds=0, session=session)
                for session, action in asked
                if each.session in (None, session) and session in self._sessions - self._used
            ]
        return candidates

    def _latched(self, state: _State, position: np.float32) -> tuple[np.float32, _State]:
        """The acceleration that the drive is told, and the state with the set-point after it."""
        self._limit.velocity_setpoint = state.setpoint
        acceleration = self._limit.latch(np.float32(state.request), position)
        return acceleration, dataclasses.replace(state, setpoint=self._limit.velocity_setpoint)


def _shortest(states: Iterable[_State]) -> list[_State]:
    """One of those that differ in nothing but how often they held: the one that did least."""
    best: dict[tuple[Any, ...], _State] = {}
    for each in states:
        key = (each.request, each.holds, each.session, float(each.setpoint))
        if key not in best or each.total_holds < best[key].total_holds:
            best[key] = each
    return list(best.values())
