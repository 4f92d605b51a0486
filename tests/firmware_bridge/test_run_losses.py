"""Frames that are lost, damaged, or come too late to be answered: what the policy sees, and what is counted."""

import pytest
from fake_device import FakeDevice, frame_at, run_config

from firmware_bridge.loop.host_policy import CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.run import run
from hardware.protocol import (
    Command,
    Heartbeat,
    LinkStatistics,
    Observation,
)


def test_two_armed_observations_in_one_read_both_feed_the_ring(digest, policy_folder, tmp_path):
    held = []

    def bunch(since, message, frame):
        if isinstance(message, Observation) and since == 0:
            held.append(frame)
            return None
        return held.pop() + frame if isinstance(message, Observation) and since == 1 else frame

    def without_statistics(since, message, frame):
        return None if isinstance(message, LinkStatistics) and since in (0, 1) else bunch(since, message, frame)

    with FakeDevice(digest, mangle=without_statistics) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.error is None
    assert (outcome.result["steps"], outcome.result["deadline_misses"]) == (100, 1)
    assert outcome.result["history"] == {"repaired": 0, "gaps": 0, "withheld": 0}
    backend = CsrBackend(open_policy_folder(policy_folder))
    expected = [backend.step(frame_at(device.armed_tick + since)) for since in range(100)]
    commands = device.of_type(Command)
    assert [command.observation_tick - device.armed_tick for command in commands] == list(range(1, 100))
    assert [command.action for command in commands] == pytest.approx(expected[1:], abs=1e-4)


def test_lost_first_armed_observation_withholds_until_the_rings_agree(digest, policy_folder, tmp_path):
    def lose_first(since, message, frame):
        return None if isinstance(message, Observation) and since == 0 else frame

    with FakeDevice(digest, mangle=lose_first) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.result["history"] == {"repaired": 0, "gaps": 1, "withheld": 4}
    backend = CsrBackend(open_policy_folder(policy_folder))
    expected = [backend.step(frame_at(device.armed_tick + since)) for since in range(101)]
    commands = device.of_type(Command)
    assert [command.observation_tick - device.armed_tick for command in commands] == list(range(5, 101))
    assert [command.action for command in commands] == pytest.approx(expected[5:], abs=1e-4)


def test_one_lost_observation_is_repaired_and_changes_no_action(digest, policy_folder, tmp_path):
    def lose_one(since, message, frame):
        return None if isinstance(message, Observation) and since == 30 else frame

    with FakeDevice(digest, mangle=lose_one) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.result["lost"] == 1
    assert outcome.result["crc_errors"] == 0
    assert outcome.result["history"] == {"repaired": 1, "gaps": 0, "withheld": 0}
    backend = CsrBackend(open_policy_folder(policy_folder))
    expected = [backend.step(frame_at(device.armed_tick + since)) for since in range(100)]
    got = {command.observation_tick - device.armed_tick: command.action for command in device.of_type(Command)}
    assert sorted(got) == [since for since in range(100) if since != 30]
    for since, action in got.items():
        assert action == pytest.approx(expected[since], abs=1e-4)


def test_damaged_frame_is_a_checksum_error_and_a_loss(digest, policy_folder, tmp_path):
    def damage(since, message, frame):
        if isinstance(message, Observation) and since in (20, 60):
            return frame[:10] + bytes([frame[10] ^ 0x55 or 1]) + frame[11:]
        return frame

    with FakeDevice(digest, mangle=damage) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.error is None
    assert outcome.result["crc_errors"] == 2
    assert outcome.result["lost"] == 2
    assert outcome.result["history"]["repaired"] == 2


def test_longer_gap_withholds_commands_until_the_ring_is_true_again(digest, policy_folder, tmp_path):
    def lose_three(since, message, frame):
        return None if isinstance(message, Observation) and 40 <= since < 43 else frame

    with FakeDevice(digest, mangle=lose_three) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.result["history"] == {"repaired": 0, "gaps": 1, "withheld": 3}
    ticks = {command.observation_tick - device.armed_tick for command in device.of_type(Command)}
    assert {43, 44, 45}.isdisjoint(ticks)
    assert 46 in ticks
    beats = {beat.observation_tick - device.armed_tick for beat in device.of_type(Heartbeat)}
    assert {43, 44, 45} <= beats


def test_errors_before_arming_are_not_this_runs(digest, policy_folder, tmp_path):
    def damage(since, message, frame):
        return b"\x05noise\x00" + frame if since < 0 and isinstance(message, Observation) else frame

    with FakeDevice(digest, mangle=damage) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.result["crc_errors"] == 0


def test_stale_commands_reported_by_the_device_are_missed_deadlines(digest, policy_folder, tmp_path):
    with FakeDevice(digest, stale=4) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.result["deadline_misses"] == 4


def test_observation_overtaken_in_the_same_read_is_a_missed_deadline(digest, policy_folder, tmp_path):
    held = []

    def bunch(since, message, frame):
        if isinstance(message, Observation) and since == 50:
            held.append(frame)
            return None
        if isinstance(message, Observation) and since == 51:
            return held[0] + frame
        return frame

    def in_order(since, message, frame):
        return None if isinstance(message, LinkStatistics) and since in (50, 51) else bunch(since, message, frame)

    with FakeDevice(digest, mangle=in_order) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.result["deadline_misses"] == 1
    assert outcome.result["history"] == {"repaired": 0, "gaps": 0, "withheld": 0}
    assert 51 in {command.observation_tick - device.armed_tick for command in device.of_type(Command)}
