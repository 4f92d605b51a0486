"""The judge of what a drive did, on rows made up for it, and what late rows of a real-time run excuse."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.applied_actions import judge
from hardware.drive import DriveLimit
from hardware.protocol import Enable

SESSION = 7


def _rows(actions, brake=2):
    """Ticks from 1: off, driven with `actions` (each answers the tick before), braked, off; the cart never moves."""
    limit = DriveLimit()
    drive = [
        (0.0, 0.0),
        *((limit.latch(np.float32(action), np.float32(0)), limit.velocity_setpoint) for action in actions),
    ]
    drive += [(-1.0, 0.0)] * brake + [(0.0, 0.0)]
    enable = [Enable.OFF, *[Enable.DRIVE] * len(actions), *[Enable.BRAKE] * brake, Enable.OFF]
    return {
        "tick": np.arange(1, len(drive) + 1, dtype=np.uint32),
        "counts": np.zeros((len(drive), 2), np.int32),
        "drive": np.array(drive, np.float32),
        "enable": np.array(enable, np.uint8),
        "fault": np.zeros(len(drive), np.uint8),
    }


def _verdict(tmp_path, rows, commands, **options):
    save_file(rows, tmp_path / "rows")
    given = {tick: {(SESSION, action)} for tick, action in commands.items()}
    return judge(tmp_path / "rows", given, options.pop("sessions", {SESSION}), **options)


ACTIONS = [0.0, 3.0, -2.0, -2.0, 5.0, 1.0]  # of ticks 2 to 7; the first is before any answer, tick 5 was held
COMMANDS = {2: 3.0, 3: -2.0, 5: 5.0, 6: 1.0}


def test_what_was_sent_explains_what_was_done(tmp_path):
    verdict = _verdict(tmp_path, _rows(ACTIONS), COMMANDS)
    assert verdict.violations == []
    assert (verdict.driven, verdict.held, verdict.braked, verdict.blocks) == (6, 1, 2, 1)


@pytest.mark.parametrize(
    "commands",
    [
        {**COMMANDS, 3: -2.5},  # another action was sent
        {tick + 1: action for tick, action in COMMANDS.items()},  # for another tick
        {tick: action for tick, action in COMMANDS.items() if tick != 6},  # held although the action changed
        {tick: action for tick, action in COMMANDS.items() if tick > 3},
    ],
)
def test_what_was_not_sent_is_a_violation(commands, tmp_path):
    assert _verdict(tmp_path, _rows(ACTIONS), commands).violations


def test_a_session_nobody_asked_for_and_one_that_is_over_are_violations(tmp_path):
    assert _verdict(tmp_path, _rows(ACTIONS), COMMANDS, sessions={SESSION + 1}).violations
    twice = {name: np.concatenate([array, array]) for name, array in _rows(ACTIONS).items()}
    count = len(twice["tick"]) // 2
    twice["tick"] = np.arange(1, 2 * count + 1, dtype=np.uint32)
    again = {**COMMANDS, **{tick + count: action for tick, action in COMMANDS.items()}}
    verdict = _verdict(tmp_path, twice, again)
    assert verdict.blocks == 2
    assert all(int(line.split(":")[0].removeprefix("tick ")) > count for line in verdict.violations)
    assert verdict.violations


def test_off_without_having_braked_is_a_violation_but_where_the_cart_stands(tmp_path):
    rows = _rows(ACTIONS, brake=0)
    assert ["off without having braked" in line for line in _verdict(tmp_path, rows, COMMANDS).violations] == [True]
    assert _verdict(tmp_path, rows, COMMANDS, late_actuations=1).violations
    # In real time the only row that was braked may be one that was written down as the row before.
    assert _verdict(tmp_path, _late(_rows(ACTIONS, brake=1), 7), COMMANDS, late_actuations=1).violations == []
    standing = _rows([0.0, 0.0], brake=0)
    assert _verdict(tmp_path, standing, {2: 0.0}).violations == []
    standing["counts"][-1] = (10_000, 0)  # the set-point is zero, but the cart is carried along
    assert _verdict(tmp_path, standing, {2: 0.0}).violations


def test_an_action_is_held_once(tmp_path):
    assert _verdict(tmp_path, _rows([0.0, 3.0, 3.0]), {2: 3.0}).violations == []
    assert _verdict(tmp_path, _rows([0.0, 3.0, 3.0, 3.0]), {2: 3.0}).violations
    assert _verdict(tmp_path, _rows([0.0, 3.0, 3.0, 3.0]), {2: 3.0}, watchdog_periods=3).violations == []


def _late(rows, *places):
    """The rows at `places` repeat the one before, as where the simulator did not wait."""
    for place in places:
        for name in ("drive", "enable", "fault"):
            rows[name][place] = rows[name][place - 1]
    return rows


@pytest.mark.parametrize("places", [(3,), (4,), (3, 4), (1,), (7,), (7, 8)])
def test_late_rows_are_excused_as_often_as_the_simulator_was_late(places, tmp_path):
    rows = _late(_rows(ACTIONS), *places)
    assert _verdict(tmp_path, rows, COMMANDS, late_actuations=len(places)).violations == []
    if any(rows["enable"][place] == Enable.DRIVE for place in places):
        assert _verdict(tmp_path, rows, COMMANDS).violations


def test_late_rows_excuse_nothing_else(tmp_path):
    rows = _late(_rows(ACTIONS), 4)
    assert _verdict(tmp_path, rows, {**COMMANDS, 6: -1.0}, late_actuations=1).violations
    # Driven on after the watchdog must have run out, once a late row is over.
    rows = _late(_rows([0.0, 3.0, 3.0, 3.0, 3.0, 3.0]), 4)
    assert _verdict(tmp_path, rows, {2: 3.0}, late_actuations=1).violations
