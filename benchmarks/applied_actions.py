"""Was everything that the drive did asked for? The plant's own record against what the bridge logged.

In every period in which the drive was driven (not braked), its acceleration must be, to the bit, what `drive.latch`
makes of one of two things: the COMMAND that the bridge logged for the observation before, in the session that is armed;
or, where that was lost, once more the action of the period before. A corrupt, stale or foreign command that gets
through fits neither. Where both fit (the limits cut them to the same), both are followed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from firmware_bridge.read_log import Log
from hardware.drive import DriveLimit
from hardware.observe import Observer
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
    """What the device may be in: the action in force, since how many periods it is held, and whose session."""

    request: float
    holds: int
    session: int | None
    total_holds: int


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


def judge(trajectory: Path, commands: Commands, sessions: set[int], watchdog_periods: int = 2) -> Verdict:
    """Follow the drive through a whole trajectory of the cart."""
    rows: dict[str, Any] = load_file(trajectory)
    verdict = Verdict()
    used: set[int] = set()
    states: list[_State] = []
    limit, observer = DriveLimit(), Observer()
    before = int(Enable.OFF)
    for row, tick in enumerate(rows["tick"].tolist()):
        enable = int(rows["enable"][row])
        if enable == Enable.DRIVE:
            fresh = before != Enable.DRIVE
            if fresh:
                if before != Enable.OFF:
                    verdict.violations.append(f"tick {tick}: driven again without having been off")
                verdict.blocks += 1
                limit.reset()
                states = [_State(0.0, 0, None, 0)]
            verdict.driven += 1
            position = observer.observe(*rows["counts"][row].tolist())[0]
            asked = [] if fresh else sorted(commands.get(tick - 1, ()))
            applied = tuple(rows["drive"][row])
            candidates = _next_states(states, asked, fresh)
            states, setpoint = _explaining(candidates, limit, position, applied)
            states = [each for each in states if each.holds < watchdog_periods]
            allowed = [each for each in states if each.session is None or each.session in sessions - used]
            if not allowed:
                verdict.violations.append(
                    f"tick {tick}: the drive was told {applied}, the bridge had asked for {asked or 'nothing'}"
                )
                allowed = [_State(float(applied[0]), 0, None, 0)]
            states = allowed
            limit.velocity_setpoint = setpoint
        elif before == Enable.DRIVE:
            _end_block(states, used, verdict)
        verdict.braked += enable == Enable.BRAKE
        before = enable
    if before == Enable.DRIVE:
        _end_block(states, used, verdict)
    faults = rows["fault"]
    verdict.faults = int(np.count_nonzero((faults[1:] != 0) & (faults[:-1] == 0)))
    return verdict


def _end_block(states: list[_State], used: set[int], verdict: Verdict) -> None:
    """A session ends with its block: nothing of it may move anything again."""
    used |= {each.session for each in states if each.session is not None}
    verdict.held += min(each.total_holds for each in states)


def _next_states(states: list[_State], asked: list[tuple[int, float]], fresh: bool) -> list[_State]:
    """What may have happened at the boundary: the action before goes on, or one that was sent takes its place."""
    candidates = []
    for state in states:
        hold = 0 if fresh else 1
        candidates.append(_State(state.request, state.holds + hold, state.session, state.total_holds + hold))
        candidates += [
            _State(action, 0, session, state.total_holds)
            for session, action in asked
            if state.session in (None, session)
        ]
    return candidates


def _explaining(
    candidates: list[_State], limit: DriveLimit, position: np.float32, applied: tuple[Any, ...]
) -> tuple[list[_State], np.float32]:
    """The states that explain what the drive was told (its acceleration and set-point, to the bit)."""
    start = limit.velocity_setpoint
    explained: dict[tuple[float, int, int | None], _State] = {}
    for each in candidates:
        limit.velocity_setpoint = start
        acceleration = limit.latch(np.float32(each.request), position)
        if (acceleration, limit.velocity_setpoint) == applied:
            key = (each.request, each.holds, each.session)
            if key not in explained or each.total_holds < explained[key].total_holds:
                explained[key] = each
    return list(explained.values()), np.float32(applied[1])
