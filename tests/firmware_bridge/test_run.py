import itertools
import json
import math
import os
import signal
import subprocess
import sys

import pytest
from fake_device import FakeDevice, frame_at

from firmware_bridge.config import Run
from firmware_bridge.device.handshake import check_identity
from firmware_bridge.errors import (
    BridgeError,
    DeviceFaultError,
    DeviceRestartedError,
    HandshakeError,
    LinkLostError,
    MismatchError,
    NoReplyError,
    RefusedError,
    StopRequested,
)
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.logs.topics import to_json
from firmware_bridge.loop.host_policy import CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.run import run
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.signals import StopSignals
from hardware.codec import SCHEMA_HASH
from hardware.protocol import (
    PROTOCOL_VERSION,
    Acknowledge,
    Arm,
    Command,
    Disarm,
    Fault,
    Heartbeat,
    HelloReply,
    LinkStatistics,
    Mode,
    Observation,
    Result,
    State,
)


@pytest.fixture
def digest(policy_folder):
    return open_policy_folder(policy_folder).digest


def _config(device, policy_folder, tmp_path, **changes):
    return Run(port=device.path, policy=policy_folder, log=tmp_path, **{"duration_s": 2.0, **changes})


@pytest.mark.parametrize("transport", ["pty", "socket"])
def test_host_mode_answers_every_tick_with_the_policys_action(transport, digest, policy_folder, tmp_path):
    with FakeDevice(digest, transport) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
    assert outcome.error is None
    result = outcome.result
    assert result["steps"] == 100
    assert (result["crc_errors"], result["lost"], result["deadline_misses"], result["faults"]) == (0, 0, 0, [])
    assert (result["latency_us"]["n"], result["latency_overflows"]) == (100, 0)
    commands = device.of_type(Command)
    assert [command.observation_tick for command in commands] == list(range(device.armed_tick, device.armed_tick + 100))
    assert {command.session for command in commands} == {device.session}
    backend = CsrBackend(open_policy_folder(policy_folder))
    for command in commands:
        assert command.action == pytest.approx(backend.step(frame_at(command.observation_tick)), abs=1e-4)
    assert result["stop"]["confirmed"]
    assert device.state == State.IDLE


def test_slew_limit_holds_for_what_is_sent_and_the_log_keeps_what_was_asked(digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device:
        result = run(_config(device, policy_folder, tmp_path, slew_limit=5.0)).result
    sent = [0.0, *(command.action for command in device.of_type(Command))]
    steps = [abs(after - before) for before, after in itertools.pairwise(sent)]
    assert max(steps) == pytest.approx(0.1, rel=1e-5)  # 5 m/s^3 over 20 ms, in float32
    backend = CsrBackend(open_policy_folder(policy_folder))
    asked = [value["action"] for value in read_log(tmp_path).values("/host_action")]
    assert asked == pytest.approx([backend.step(frame_at(device.armed_tick + since)) for since in range(100)], abs=1e-4)
    assert result["limits"]["slewed"] > 0
    assert result["limits"]["clamped"] == 0


@pytest.mark.parametrize(("constant", "slew_limit"), [(0.0, None), (2.5, None), (2.5, 5.0)])
def test_a_constant_action_is_sent_instead_of_the_policys(constant, slew_limit, digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device:
        run(_config(device, policy_folder, tmp_path, constant_action=constant, slew_limit=slew_limit))
    sent = [command.action for command in device.of_type(Command)]
    assert len(sent) == 100
    ramp = [constant if slew_limit is None else min(constant, 0.1 * (since + 1)) for since in range(100)]
    assert sent == pytest.approx(ramp, rel=1e-5)
    log = read_log(tmp_path)
    backend = CsrBackend(open_policy_folder(policy_folder))
    asked = [value["action"] for value in log.values("/host_action")]
    assert asked == pytest.approx([backend.step(frame_at(device.armed_tick + since)) for since in range(100)], abs=1e-4)
    assert log.session["config"]["constant_action"] == constant
    assert any(event["kind"] == "constant action" for event in log.values("/event"))


@pytest.mark.parametrize("constant", [math.nan, math.inf, 20.5, -20.5])
def test_a_constant_action_out_of_range_never_arms(constant, digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device:
        with pytest.raises(BridgeError, match=r"--constant-action .*: the policy's actions go from -20 to 20"):
            run(_config(device, policy_folder, tmp_path, constant_action=constant))
        assert not device.received


@pytest.mark.parametrize("changes", [{"mode": "device"}, {"mode": "shadow"}, {"dry_run": True}])
def test_a_constant_action_is_for_host_mode_only(changes, policy_folder, tmp_path):
    with pytest.raises(BridgeError, match="--constant-action 0: expected --mode host and no --dry-run"):
        Run(port="sim:", policy=policy_folder, log=tmp_path, constant_action=0.0, **changes)


def test_log_tells_the_whole_story(digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device:
        run(_config(device, policy_folder, tmp_path))
    log = read_log(tmp_path, raw=True)
    assert log.complete
    assert log.session["policy_digest"] == digest
    assert log.session["device"]["policy_digest"] == digest
    assert log.session["config"]["mode"] == "host"
    assert len(log.values("/command")) == 100
    assert len(log.values("/latency")) == 100
    assert log.result["steps"] == 100
    events = [(event["kind"], event["text"].partition(":")[0]) for event in log.values("/event")]
    states = [text for kind, text in events if kind == "state"]
    assert states == ["HOMING", "IDLE", "ARMED", "RUN", "IDLE"]
    assert [kind for kind, _ in events if kind != "state"] == ["armed", "stopped"]
    # The raw bytes hold everything that was decoded, from the first HELLO on.
    from hardware.codec import decode_body
    from hardware.framing import FrameDecoder

    stream = b"".join(record.value for record in log.topics["/raw/received"])
    replayed = [decode_body(body)[1] for body in FrameDecoder().feed(stream)]
    ticks = [message.tick for message in replayed if isinstance(message, Observation)]
    assert ticks == [value["tick"] for value in log.values("/observation")]
    sent = b"".join(record.value for record in log.topics["/raw/sent"])
    assert len(FrameDecoder().feed(sent)) == len(device.received)


def test_device_mode_feeds_the_watchdog_and_sends_no_command(digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device:
        outcome = run(_config(device, policy_folder, tmp_path, mode="device"))
    assert outcome.error is None
    assert device.mode == Mode.DEVICE
    assert not device.of_type(Command)
    armed = [beat.observation_tick for beat in device.of_type(Heartbeat) if beat.session == device.session]
    assert armed[-100:] == list(range(device.armed_tick, device.armed_tick + 100))
    times = outcome.result["device_us"]
    assert (times["inference"]["n"], times["inference"]["max"], times["action_age"]["n"]) == (99, 21, 99)
    assert times["inference"]["p50"] == pytest.approx(12, rel=1e-3)  # three digits
    assert times["action_age"]["p50"] == pytest.approx(20000, rel=1e-3)
    assert times["response"]["n"] == 0
    assert outcome.result["backend"] == "none"


def test_shadow_mode_reports_the_largest_difference(digest, policy_folder, tmp_path):
    folder = open_policy_folder(policy_folder)
    actions = {}

    def device_action(tick):
        if not actions:
            actions["backend"] = CsrBackend(folder)
        return actions["backend"].step(frame_at(tick)) + (0.5 if tick % 50 == 0 else 0.0)

    with FakeDevice(digest, device_action=device_action) as device:
        outcome = run(_config(device, policy_folder, tmp_path, mode="shadow"))
    assert outcome.result["shadow"]["compared"] == 100
    assert outcome.result["shadow"]["max_difference"] == pytest.approx(0.5, abs=1e-3)
    assert not device.of_type(Command)


def test_nan_from_the_device_is_the_largest_difference(digest, policy_folder, tmp_path):
    with FakeDevice(digest, device_action=lambda tick: math.nan if tick % 40 == 0 else 0.0) as device:
        outcome = run(_config(device, policy_folder, tmp_path, mode="shadow"))
    assert math.isnan(outcome.result["shadow"]["max_difference"])
    assert b'"max_difference":null' in to_json(outcome.result)


def test_wrong_digest_names_both_and_the_remedy_and_never_arms(policy_folder, digest, tmp_path):
    with (
        FakeDevice("12" * 32) as device,
        pytest.raises(MismatchError, match=rf"1212.*{digest}.*python -m hardware build"),
    ):
        run(_config(device, policy_folder, tmp_path))
    assert not device.of_type(Arm)
    assert not (tmp_path / "run.mcap").exists()


@pytest.mark.parametrize(
    ("option", "text"), [({"period_us": 10000}, "control period"), ({"protocol_version": 99}, "protocol version")]
)
def test_other_mismatches(option, text, digest, policy_folder, tmp_path):
    with FakeDevice(digest, **option) as device, pytest.raises(MismatchError, match=text):
        run(_config(device, policy_folder, tmp_path))
    assert not device.of_type(Arm)


def test_wire_that_cannot_carry_the_period_is_refused_with_the_arithmetic(digest, policy_folder):
    folder = open_policy_folder(policy_folder)
    reply = HelloReply(
        *(PROTOCOL_VERSION, 1, 2, SCHEMA_HASH, 20000, 5, folder.history, bytes.fromhex(digest), "fake", 20.0, 1, 1)
    )
    # OBSERVATION 62, TIMING 21, ACTION 15 and once a second LINK_STATISTICS 23 bytes, ten bits each.
    with pytest.raises(MismatchError, match=r"121 bytes a period x 10 bits / 60000 baud = 20167 us.*20000 us"):
        check_identity(reply, folder, 60_000)
    check_identity(reply, folder, 61_000)
    check_identity(reply, folder, None)


@pytest.mark.parametrize("limit", [19.9, math.nan])
def test_policy_that_asks_for_more_than_the_device_gives_is_refused(limit, digest, policy_folder, tmp_path):
    with (
        FakeDevice(digest, acceleration_limit=limit) as device,
        pytest.raises(MismatchError, match=rf"up to 20 m/s\^2.*more than {limit:g} m/s\^2; not armed; distil"),
    ):
        run(_config(device, policy_folder, tmp_path))
    assert not device.of_type(Arm)


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
        outcome = run(_config(device, policy_folder, tmp_path))
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
        outcome = run(_config(device, policy_folder, tmp_path))
    assert outcome.result["history"] == {"repaired": 0, "gaps": 1, "withheld": 4}
    backend = CsrBackend(open_policy_folder(policy_folder))
    expected = [backend.step(frame_at(device.armed_tick + since)) for since in range(101)]
    commands = device.of_type(Command)
    assert [command.observation_tick - device.armed_tick for command in commands] == list(range(5, 101))
    assert [command.action for command in commands] == pytest.approx(expected[5:], abs=1e-4)


def test_signal_between_arm_and_the_first_armed_observation_is_no_unarmed_stop(digest, policy_folder, tmp_path):
    def interrupt(since, message, frame):
        if since == 0 and isinstance(message, Observation):
            os.kill(os.getpid(), signal.SIGINT)
            return None
        return frame

    with FakeDevice(digest, mangle=interrupt) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, StopRequested)
    assert outcome.result["stop"] == {"confirmed": True, "state": "IDLE", "periods": outcome.result["stop"]["periods"]}
    assert outcome.result["steps"] <= 1  # the signal reaches the main thread when Python next looks
    assert device.of_type(Disarm)


def test_refused_arm_says_why(digest, policy_folder, tmp_path):
    with FakeDevice(digest, arm_result=Result.SELF_TEST_FAILED) as device, pytest.raises(RefusedError) as caught:
        run(_config(device, policy_folder, tmp_path))
    assert "SELF_TEST_FAILED" in str(caught.value)
    assert device.of_type(Disarm)


def test_refused_arm_says_why_although_no_observation_follows(digest, policy_folder, tmp_path):
    refused = []

    def silent(since, message, frame):
        if isinstance(message, Acknowledge) and message.request_type == Arm.TYPE:
            refused.append(message)
        return None if refused and isinstance(message, Observation) else frame

    with (
        FakeDevice(digest, arm_result=Result.INPUT_OPEN, mangle=silent) as device,
        pytest.raises(RefusedError, match=r"INPUT_OPEN; .*emergency stop.*end switch.*motor driver"),
    ):
        run(_config(device, policy_folder, tmp_path))
    assert len(refused) == len(device.of_type(Arm)) == 1


def test_late_answer_to_a_repeated_hello_does_not_spoil_the_nonce(digest, policy_folder, tmp_path):
    late = []

    def delay_first_reply(since, message, frame):
        if isinstance(message, HelloReply) and not late:
            late.append(frame)
            return None
        return late[0] + frame if isinstance(message, HelloReply) else frame

    with FakeDevice(digest, mangle=delay_first_reply) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
    assert outcome.error is None
    assert device.nonce == 79


def test_device_that_is_never_homed(digest, policy_folder, tmp_path):
    with FakeDevice(digest, homed_at=10**9) as device, pytest.raises(HandshakeError, match="homed"):
        run(_config(device, policy_folder, tmp_path, homing_timeout_s=1.0))
    assert not device.of_type(Arm)


def test_one_lost_observation_is_repaired_and_changes_no_action(digest, policy_folder, tmp_path):
    def lose_one(since, message, frame):
        return None if isinstance(message, Observation) and since == 30 else frame

    with FakeDevice(digest, mangle=lose_one) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
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
        outcome = run(_config(device, policy_folder, tmp_path))
    assert outcome.error is None
    assert outcome.result["crc_errors"] == 2
    assert outcome.result["lost"] == 2
    assert outcome.result["history"]["repaired"] == 2


def test_longer_gap_withholds_commands_until_the_ring_is_true_again(digest, policy_folder, tmp_path):
    def lose_three(since, message, frame):
        return None if isinstance(message, Observation) and 40 <= since < 43 else frame

    with FakeDevice(digest, mangle=lose_three) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
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
        outcome = run(_config(device, policy_folder, tmp_path))
    assert outcome.result["crc_errors"] == 0


def test_stale_commands_reported_by_the_device_are_missed_deadlines(digest, policy_folder, tmp_path):
    with FakeDevice(digest, stale=4) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
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
        outcome = run(_config(device, policy_folder, tmp_path))
    assert outcome.result["deadline_misses"] == 1
    assert outcome.result["history"] == {"repaired": 0, "gaps": 0, "withheld": 0}
    assert 51 in {command.observation_tick - device.armed_tick for command in device.of_type(Command)}


def test_fault_of_the_device_ends_the_run(digest, policy_folder, tmp_path):
    with FakeDevice(digest, fault_at=30) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, DeviceFaultError)
    assert "RAIL_END" in str(outcome.error)
    assert outcome.result["faults"] == [{"reason": "RAIL_END", "tick": device.armed_tick + 30, "detail": 0}]
    assert outcome.result["steps"] == 30
    assert device.of_type(Disarm)
    assert (outcome.result["stop"]["state"], device.fault) == ("OFF", Fault.RAIL_END)  # latched until the next run
    assert read_log(tmp_path).complete


def test_restart_of_the_device_ends_the_run_with_its_cause(digest, policy_folder, tmp_path):
    with FakeDevice(digest, restart_at=30) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, DeviceRestartedError)
    assert "tick 1 after" in str(outcome.error)
    assert "reset cause BROWN_OUT" in str(outcome.error)
    assert "\n" not in str(outcome.error)
    assert outcome.result["device"] == {"board": "fake", "variant": "HIL", "reset_cause": "POWER_ON"}
    assert outcome.result["ended_by"] == "DeviceRestartedError"
    assert len(device.of_type(Arm)) == 1  # nobody armed it again
    assert device.state == State.IDLE  # homed since; never more
    assert read_log(tmp_path).complete


def test_unplugged_in_the_middle(digest, policy_folder, tmp_path):
    with FakeDevice(digest, vanish_at=25) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, LinkLostError)
    assert not outcome.result["stop"]["confirmed"]
    assert read_log(tmp_path).complete


def test_device_that_falls_silent(digest, policy_folder, tmp_path):
    with FakeDevice(digest, mute_at=25) as device:
        outcome = run(_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, LinkLostError)
    assert "no OBSERVATION" in str(outcome.error)
    assert device.of_type(Disarm)


def test_silent_port_and_port_with_another_language(policy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("firmware_bridge.device.handshake.HELLO_TIMEOUT_S", 0.3)
    monkeypatch.setattr("firmware_bridge.run.greet", lambda conversation: _greet(conversation, 0.3))
    master, slave = os.openpty()
    config = Run(port=os.ttyname(slave), policy=policy_folder, log=tmp_path)
    with pytest.raises(NoReplyError, match="0 bytes came"):
        run(config)
    os.close(master)
    os.close(slave)
    garbage = FakeDevice("00" * 32, mangle=lambda since, message, frame: frame[:3] + b"\x77\x77" + frame[5:])
    with garbage, pytest.raises(NoReplyError, match="0 with a valid checksum"):
        run(_config(garbage, policy_folder, tmp_path))


def _greet(conversation, timeout_s):
    from firmware_bridge.device.handshake import greet

    return greet(conversation, timeout_s)


def test_policy_folder_complaints(policy_folder, make_policy, tmp_path):
    with pytest.raises(BridgeError, match="no such folder"):
        open_policy_folder(tmp_path / "nowhere")
    with pytest.raises(BridgeError, match="no such file"):
        open_policy_folder(tmp_path)
    other = make_policy(seed=2)
    header = (policy_folder / "policy.h").read_bytes()
    (other / "policy.h").write_bytes(header)
    with pytest.raises(BridgeError, match=r"made from another policy\.safetensors"):
        open_policy_folder(other)


def _start(device, policy_folder, log, *extra, limit=None):
    command = [sys.executable, "-m", "firmware_bridge", "run", "--port", device.path]
    command += ["--policy", str(policy_folder), "--log", str(log), "--json", *extra]
    if limit is not None:
        command = ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash", *command]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_brakes_closes_the_log_and_exits_as_shells_expect(number, code, digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.005) as device:
        process = _start(device, policy_folder, tmp_path, "--duration-s", "3000")
        device.wait_for(lambda device: device._since() > 20)
        process.send_signal(number)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert isinstance([m for m in device.received if not isinstance(m, Heartbeat)][-1], Disarm)
    assert device.state == State.IDLE
    assert json.loads(out)["ended_by"] == number.name
    assert errors.startswith(f"error: stopped by {number.name}; the cart was braked")
    assert errors.count("\n") == 1
    assert read_log(tmp_path).complete


def test_hang_up_of_a_terminal_brakes_although_nobody_reads_the_result(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.005) as device:
        process = _start(device, policy_folder, tmp_path, "--duration-s", "3000")
        device.wait_for(lambda device: device._since() > 20)
        process.stdout.close()
        process.stderr.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 129
    assert device.of_type(Disarm)
    assert device.state == State.IDLE
    assert read_log(tmp_path).complete


def test_hang_up_is_ignored_where_nohup_asked_for_it():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Controls() as controls, StopSignals(controls):
            os.kill(os.getpid(), signal.SIGHUP)
        assert controls.stop is None
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_interrupt_while_packages_load_is_one_line(tmp_path):
    (tmp_path / "tyro.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "firmware_bridge", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "error: interrupted; nothing was armed, every file is whole\n"


def test_signal_before_arming(digest, policy_folder, tmp_path):
    with FakeDevice(digest, homed_at=10**9, pace_s=0.005) as device:
        process = _start(device, policy_folder, tmp_path)
        device.wait_for(lambda device: device.tick > 20)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert errors.count("\n") == 1
    assert not device.of_type(Arm)


def test_killed_bridge_leaves_a_log_that_opens(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.01) as device:
        process = _start(device, policy_folder, tmp_path, "--duration-s", "3000")
        device.wait_for(lambda device: device._since() > 150)
        process.kill()
        process.communicate()
    log = read_log(tmp_path)
    assert not log.complete
    # 150 periods of at least 10 ms were 1.5 s; at most one of them may be missing.
    assert len(log.values("/command")) >= 50
    report = subprocess.run(
        [
            sys.executable,
            "-m",
            "firmware_bridge",
            "report",
            str(tmp_path),
            "--html",
            str(tmp_path / "r.html"),
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    value = json.loads(report.stdout)
    assert not value["complete"]
    assert value["latency_us"]["n"] == len(log.values("/latency"))
    assert "cut off" in (tmp_path / "r.html").read_text()


def test_disk_that_fills_up_brakes_the_cart_and_says_so_in_one_line(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device:
        process = _start(device, policy_folder, tmp_path, "--duration-s", "3000", limit=64)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert device.of_type(Arm)
    assert device.of_type(Disarm)
    assert device.state == State.IDLE
    assert json.loads(out)["ended_by"] == "RecorderError"
    assert errors.count("\n") == 1
    assert "cannot write: File too large" in errors
    assert read_log(tmp_path).values("/command")


def test_full_disk_from_the_start_never_arms(digest, policy_folder, tmp_path):
    (tmp_path / "run.mcap").symlink_to("/dev/full")
    with FakeDevice(digest) as device:
        process = _start(device, policy_folder, tmp_path)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "No space left on device" in errors
    assert errors.count("\n") == 1
    assert not device.of_type(Arm)


def test_stop_requested_leaves_no_traceback_for_usage_errors():
    done = subprocess.run([sys.executable, "-m", "firmware_bridge", "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert issubclass(StopRequested, KeyboardInterrupt)


def test_heavy_packages_stay_out():
    code = (
        "import sys, firmware_bridge.run, firmware_bridge.reports.report, firmware_bridge.reports.summary;"
        "print(*({'torch', 'mujoco', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
