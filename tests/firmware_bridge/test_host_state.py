"""Which state may follow which: nothing is armed that was not homed on this connection."""

import itertools

import pytest

from firmware_bridge.safety.host_state import HostState, HostStateMachine

IDLE, HOMING, ARMED, RUN, FAULT = HostState


def _machine():
    seen = []
    return HostStateMachine(lambda state, why: seen.append((state, why))), seen


def test_a_run_from_start_to_end():
    machine, seen = _machine()
    machine.enter(HOMING, "connected")
    machine.homed("homed")
    machine.enter(ARMED, "asked")
    machine.enter(RUN, "tick 7")
    machine.enter(RUN, "again")
    machine.enter(IDLE, "duration")
    assert [state for state, _ in seen] == [HOMING, IDLE, ARMED, RUN, IDLE]
    assert machine.state == IDLE


def test_stopped_while_homing_is_not_homed():
    machine, _ = _machine()
    machine.enter(HOMING, "connected")
    machine.enter(IDLE, "stopped")
    with pytest.raises(ValueError, match=r"IDLE \(not homed\): ARMED cannot follow"):
        machine.enter(ARMED, "asked")


def test_homing_counts_for_one_arm_and_dies_with_the_connection():
    machine, _ = _machine()
    machine.enter(HOMING, "connected")
    machine.homed("homed")
    machine.enter(ARMED, "asked")
    machine.enter(IDLE, "refused")
    with pytest.raises(ValueError, match="not homed"):
        machine.enter(ARMED, "asked again")
    machine.enter(FAULT, "link lost")
    for state in (IDLE, ARMED, RUN):
        with pytest.raises(ValueError, match="cannot follow"):
            machine.enter(state, "by itself")
    machine.enter(HOMING, "reconnected")
    with pytest.raises(ValueError, match="cannot follow"):
        machine.enter(RUN, "by itself")


def test_run_is_entered_from_armed_only():
    """Every walk of five steps: ARMED directly before RUN, HOMING directly before the IDLE that ARMED follows."""
    steps = [*HostState, "homed"]
    for walk in itertools.product(steps, repeat=5):
        machine, seen = _machine()
        for step in walk:
            try:
                machine.homed("x") if step == "homed" else machine.enter(step, "x")
            except ValueError:
                continue
        states = [IDLE, *(state for state, _ in seen)]
        for position, state in enumerate(states):
            if state == RUN:
                assert states[position - 3 : position] == [HOMING, IDLE, ARMED]
