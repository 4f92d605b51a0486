"""Plain runs, each against a device that answers: what is sent, computed, measured and logged."""

import itertools
import math
import subprocess
import sys

import pytest
from fake_device import FakeDevice, frame_at, run_config

from firmware_bridge.config import Run
from firmware_bridge.errors import (
    BridgeError,
)
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.logs.topics import to_json
from firmware_bridge.loop.host_policy import CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.run import run
from hardware.protocol import (
    Command,
    Heartbeat,
    Mode,
    Observation,
    State,
)


@pytest.mark.parametrize("transport", ["pty", "socket"])
def test_host_mode_answers_every_tick_with_the_policys_action(transport, digest, policy_folder, tmp_path):
    with FakeDevice(digest, transport) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
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
        result = run(run_config(device, policy_folder, tmp_path, slew_limit=5.0)).result
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
        run(run_config(device, policy_folder, tmp_path, constant_action=constant, slew_limit=slew_limit))
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
            run(run_config(device, policy_folder, tmp_path, constant_action=constant))
        assert not device.received


@pytest.mark.parametrize("changes", [{"mode": "device"}, {"mode": "shadow"}, {"dry_run": True}])
def test_a_constant_action_is_for_host_mode_only(changes, policy_folder, tmp_path):
    with pytest.raises(BridgeError, match="--constant-action 0: expected --mode host and no --dry-run"):
        Run(port="sim:", policy=policy_folder, log=tmp_path, constant_action=0.0, **changes)


def test_log_tells_the_whole_story(digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device:
        run(run_config(device, policy_folder, tmp_path))
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
        outcome = run(run_config(device, policy_folder, tmp_path, mode="device"))
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
        outcome = run(run_config(device, policy_folder, tmp_path, mode="shadow"))
    assert outcome.result["shadow"]["compared"] == 100
    assert outcome.result["shadow"]["max_difference"] == pytest.approx(0.5, abs=1e-3)
    assert not device.of_type(Command)


def test_nan_from_the_device_is_the_largest_difference(digest, policy_folder, tmp_path):
    with FakeDevice(digest, device_action=lambda tick: math.nan if tick % 40 == 0 else 0.0) as device:
        outcome = run(run_config(device, policy_folder, tmp_path, mode="shadow"))
    assert math.isnan(outcome.result["shadow"]["max_difference"])
    assert b'"max_difference":null' in to_json(outcome.result)


def test_heavy_packages_stay_out():
    code = (
        "import sys, firmware_bridge.run, firmware_bridge.reports.report, firmware_bridge.reports.summary;"
        "print(*({'torch', 'mujoco', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
