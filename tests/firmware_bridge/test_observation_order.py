"""Observations that come late or twice: counted and passed over; none of them is a device that started again."""

import pytest
from fake_device import FakeDevice, frame_at, run_config
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.config import Replay, Report
from firmware_bridge.device.observation_order import LATEST_ARMED_PERIODS, LATEST_PERIODS, ObservationOrder
from firmware_bridge.errors import DeviceRestartedError, LinkLostError
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.loop.host_policy import CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.replay.replay import replay
from firmware_bridge.reports.report import make_report
from firmware_bridge.run import run
from hardware.protocol import Command, Heartbeat, Observation, State

TICKS = 2**32


def _taken(*observations):
    order = ObservationOrder()
    return [order.take(tick % TICKS, state) for tick, state in observations], order.out_of_order


@given(st.integers(0, TICKS - 1), st.lists(st.integers(0, 200), min_size=1, max_size=60))
@settings(deadline=None)
def test_armed_observations_are_handed_on_in_rising_order_and_the_rest_is_counted(start, offsets):
    order = ObservationOrder()
    handed = [offset for offset in offsets if order.take((start + offset) % TICKS, State.ARMED)]
    assert handed == [offset for i, offset in enumerate(offsets) if offset > max(offsets[:i], default=-1)]
    assert order.out_of_order == len(offsets) - len(handed)


@pytest.mark.parametrize("state", [State.IDLE, State.UNHOMED, State.OFF])
def test_at_rest_what_is_near_is_late_and_what_is_far_has_started_again(state):
    assert _taken((100, state), (100 - LATEST_PERIODS, state)) == ([True, False], 1)
    assert _taken((100, state), (99 - LATEST_PERIODS, state), (100 - LATEST_PERIODS, state)) == ([True] * 3, 0)
    assert _taken((5, state), (5, state), (5 - LATEST_PERIODS, state)) == ([True, False, False], 2)


def test_an_armed_device_believes_unhomed_at_once_and_nothing_else():
    assert _taken((12, State.ARMED), (1, State.UNHOMED), (2, State.UNHOMED)) == ([True] * 3, 0)
    assert _taken((12, State.ARMED), (11, State.IDLE), (11, State.ARMED)) == ([True, False, False], 2)
    assert _taken((70_000, State.ARMED), (70_000 - LATEST_ARMED_PERIODS, State.ARMED)) == ([True, False], 1)
    assert _taken((70_000, State.ARMED), (69_999 - LATEST_ARMED_PERIODS, State.ARMED)) == ([True, True], 0)


def _late(held_since, sent_since):
    """The observation of tick `held_since` goes out behind that of `sent_since`, 0 being the first ARMED one."""
    held = []

    def mangle(since, message, frame):
        if isinstance(message, Observation):
            if since == held_since and not held:
                held.append(frame)
                return None
            if since == sent_since:
                return frame + held[0]
        return frame

    return mangle


def _again(twice_since, sent_since, first=False):
    """The observation of `twice_since` goes out in time, and once more behind that of `sent_since`, or before it."""
    kept = []

    def mangle(since, message, frame):
        if isinstance(message, Observation):
            if since == twice_since:
                kept[:] = [frame]
            if since == sent_since:
                return kept[0] + frame if first else frame + kept[0]
        return frame

    return mangle


@pytest.mark.parametrize("mode", ["host", "device"])
@pytest.mark.parametrize(
    ("mangle", "missing", "late"),
    [
        (lambda: _late(30, 31), {30}, 1),
        (lambda: _late(30, 33), {30}, 1),
        (lambda: _again(30, 30), set(), 1),
        (lambda: _again(30, 34), set(), 1),
        (lambda: _again(30, 32, first=True), set(), 1),
        # The last frame from before the arm, behind the first ARMED one: counted before this arming.
        (lambda: _again(-1, 0), set(), 0),
    ],
    ids=["one late", "three late", "twice", "again, later", "again, first of its read", "before the arm"],
)
def test_a_late_frame_is_counted_and_neither_answered_nor_fed(
    mangle, missing, late, mode, digest, policy_folder, tmp_path
):
    with FakeDevice(digest, mangle=mangle()) as device:
        outcome = run(run_config(device, policy_folder, tmp_path, mode=mode))
    assert outcome.error is None
    assert outcome.result["out_of_order"] == late
    assert outcome.result["steps"] == 100 - len(missing)
    assert outcome.result["deadline_misses"] == 0
    kind = Command if mode == "host" else Heartbeat
    answers = [answer for answer in device.of_type(kind) if answer.session == device.session]
    answered = [answer.observation_tick - device.armed_tick for answer in answers]
    assert answered[-100 + len(missing) :] == [since for since in range(100) if since not in missing]
    if mode == "host":
        backend = CsrBackend(open_policy_folder(policy_folder))
        expected = [backend.step(frame_at(device.armed_tick + since)) for since in range(100)]
        assert outcome.result["history"] == {"repaired": len(missing), "gaps": 0, "withheld": 0}
        for since, answer in zip(answered, answers, strict=True):
            assert answer.action == pytest.approx(expected[since], abs=1e-4)


@pytest.mark.parametrize("mangle", [lambda: _late(30, 33), lambda: _again(30, 34), lambda: _again(40, 40)])
def test_log_with_late_frames_holds_all_replays_and_reports(mangle, digest, policy_folder, tmp_path):
    with FakeDevice(digest, mangle=mangle()) as device:
        steps = run(run_config(device, policy_folder, tmp_path)).result["steps"]
    ticks = [value["tick"] for value in read_log(tmp_path).values("/observation") if value["state"] == State.ARMED]
    assert ticks != sorted(set(ticks))
    told = replay(Replay(log=tmp_path, policy=policy_folder))
    assert told["difference"] is None
    assert told["host_actions"] == steps
    deadlines = make_report(Report(log=tmp_path))["deadlines"]
    assert deadlines["missed"] == deadlines["unanswered"] == 0


@pytest.mark.parametrize("since", [2, 30])
def test_device_that_started_again_is_named_so_however_near_its_ticks_are(since, digest, policy_folder, tmp_path):
    with FakeDevice(digest, restart_at=since) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, DeviceRestartedError)
    assert "tick 1 after" in str(outcome.error)
    assert outcome.result["out_of_order"] == 0


def test_a_device_of_which_only_old_frames_come_is_silent(digest, policy_folder, tmp_path):
    first = []

    def stuck(since, message, frame):
        if isinstance(message, Observation) and since >= 0:
            first.append(frame)
            return first[0]
        return frame

    with FakeDevice(digest, mangle=stuck, pace_s=0.01) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, LinkLostError)
    assert "came late or again" in str(outcome.error)
    assert outcome.result["steps"] == 1
    assert outcome.result["out_of_order"] > 5
