"""Runs that people watch: arming on request, stops from other threads, dry runs, lost ports that come back."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from fake_device import FakeDevice, frame_at

from firmware_bridge.config import Run
from firmware_bridge.errors import BridgeError, LinkLostError, MismatchError, RecorderError, SensorError, StopRequested
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.loop.host_policy import CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.ports import back_off
from firmware_bridge.run import run
from firmware_bridge.safety.controls import Controls
from hardware.framing import encode_frame
from hardware.protocol import (
    Arm,
    Command,
    Config,
    Disarm,
    Heartbeat,
    Hello,
    LinkStatistics,
    Observation,
    State,
)


def _config(port, policy_folder, tmp_path, **changes):
    return Run(port=str(port), policy=policy_folder, log=tmp_path, **{"duration_s": 1.0, **changes})


class _Running:
    """`run` in a thread, as the live page sees it."""

    def __init__(self, config):
        self.controls = Controls()
        self.outcome = self.raised = None
        self._thread = threading.Thread(target=self._run, args=[config], daemon=True)

    def _run(self, config):
        try:
            self.outcome = run(config, self.controls)
        except BaseException as error:
            self.raised = error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.controls.request_stop("the test")
        self._thread.join(30)
        assert not self._thread.is_alive()


def _asked(device, policy_folder, tmp_path):
    return _Running(_config(device.path, policy_folder, tmp_path, arm="ask"))


def _reconnecting(device, policy_folder, tmp_path):
    return _Running(_config(device.path, policy_folder, tmp_path, reconnect=True))


@pytest.fixture(autouse=True)
def no_signals_outside_the_main_thread(monkeypatch):
    from firmware_bridge import run as module

    class Signals:
        deferred = False

        def __init__(self, controls):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    if threading.current_thread() is threading.main_thread():
        monkeypatch.setattr(module, "StopSignals", Signals)


def _states(log):
    return [event["text"].partition(":")[0] for event in log.values("/event") if event["kind"] == "state"]


def _arm_when_asked(running, device):
    device.wait_for(lambda _: running.controls.awaiting_arm)
    count = device.tick
    device.wait_for(lambda device: device.tick > count + 20)
    assert not device.of_type(Arm)
    assert running.controls.request_arm()


def test_armed_only_when_somebody_asks(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device, _asked(device, policy_folder, tmp_path) as running:
        _arm_when_asked(running, device)
    assert running.outcome.error is None
    assert running.outcome.result["steps"] == 50
    assert len(device.of_type(Arm)) == 1
    assert _states(read_log(tmp_path)) == ["HOMING", "IDLE", "ARMED", "RUN", "IDLE"]


def test_asked_before_homing_arms_nothing(digest, policy_folder, tmp_path):
    with FakeDevice(digest, homed_at=60, pace_s=0.002) as device, _asked(device, policy_folder, tmp_path) as running:
        device.wait_for(lambda device: device.tick > 20)
        assert not running.controls.request_arm()
        _arm_when_asked(running, device)
    assert device.armed_tick > 60
    assert running.outcome.error is None


def test_device_that_loses_its_homing_while_it_waits_is_homed_again_first(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device, _asked(device, policy_folder, tmp_path) as running:
        device.wait_for(lambda _: running.controls.awaiting_arm)
        device.options["homed_at"] = device.tick + 100
        device.state = State.UNHOMED
        device.wait_for(lambda _: not running.controls.awaiting_arm)
        assert not running.controls.request_arm()
        _arm_when_asked(running, device)
    assert running.outcome.error is None
    assert _states(read_log(tmp_path)) == ["HOMING", "IDLE", "HOMING", "IDLE", "ARMED", "RUN", "IDLE"]


def test_stop_while_waiting_leaves_the_device_disarmed(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device, _asked(device, policy_folder, tmp_path) as running:
        device.wait_for(lambda _: running.controls.awaiting_arm)
        running.controls.request_stop("the live page")
    assert isinstance(running.raised, StopRequested)
    assert not device.of_type(Arm)
    assert device.state == State.IDLE


def test_stop_from_another_thread_answers_no_further_observation(digest, policy_folder, tmp_path):
    """What must reach the device next is DISARM: within the period in which somebody asked."""
    asked = {}

    def ask(since, message, frame):
        if since == 20 and isinstance(message, Observation):
            asked["controls"].request_stop("the live page")
        return frame

    with FakeDevice(digest, mangle=ask) as device:
        config = _config(device.path, policy_folder, tmp_path)
        running = _Running(config)
        asked["controls"] = running.controls
        with running:
            pass
    assert isinstance(running.outcome.error, StopRequested)
    assert running.outcome.result["ended_by"] == "the live page"
    assert running.outcome.result["stop"]["confirmed"]
    after = device.received[[type(m) for m in device.received].index(Disarm) :]
    assert not [m for m in after if isinstance(m, Command)]
    answered = [m.observation_tick for m in device.of_type(Command)]
    assert max(answered) <= device.armed_tick + 20
    assert device.state == State.IDLE


def test_dry_run_computes_and_sends_nothing_that_moves(digest, policy_folder, tmp_path):
    with FakeDevice(digest, homed_at=10**9) as device:
        outcome = run(_config(device.path, policy_folder, tmp_path, dry_run=True))
    assert outcome.error is None
    assert {type(message) for message in device.received} == {Hello, Heartbeat}
    assert {beat.session for beat in device.of_type(Heartbeat)} == {0}
    assert (outcome.result["dry_run"], outcome.result["steps"], outcome.result["stop"]) == (True, 50, None)
    log = read_log(tmp_path)
    assert log.complete
    backend = CsrBackend(open_policy_folder(policy_folder))
    actions = log.values("/host_action")
    assert len(actions) == 50
    for action in actions:
        expected = backend.step(frame_at(action["observation_tick"]))
        assert action["action"] == pytest.approx(expected, abs=1e-4)
    assert not log.values("/command")


def test_dry_run_does_not_report_what_the_device_has_counted_before(digest, policy_folder, tmp_path):
    def before(since, message, frame):
        return encode_frame(LinkStatistics(7, 8, 9, 10), 900) if isinstance(message, LinkStatistics) else frame

    with FakeDevice(digest, mangle=before) as device:
        result = run(_config(device.path, policy_folder, tmp_path, dry_run=True)).result
    counted = [result[name] for name in ("crc_errors", "deadline_misses", "refused")]
    assert counted == [0, 0, 0]
    assert {type(message) for message in device.received} == {Hello, Heartbeat}


def test_dry_run_refuses_a_policy_that_is_not_the_devices(policy_folder, tmp_path):
    with FakeDevice("34" * 32) as device, pytest.raises(MismatchError, match="digest differs"):
        run(_config(device.path, policy_folder, tmp_path, dry_run=True))


def test_sensor_that_cannot_be_right_brakes_the_cart(digest, policy_folder, tmp_path, monkeypatch):
    def jump(tick):
        x, *rest = frame_at(tick)
        return (x + (0.3 if device.armed_tick and tick >= device.armed_tick + 30 else 0.0), *rest)

    monkeypatch.setattr("fake_device.frame_at", jump)
    with FakeDevice(digest) as device:
        outcome = run(_config(device.path, policy_folder, tmp_path))
    assert isinstance(outcome.error, SensorError)
    assert "the encoder of the axis jumped by" in str(outcome.error)
    assert outcome.result["steps"] == 31
    assert outcome.result["stop"]["confirmed"]
    assert device.of_type(Disarm)
    log = read_log(tmp_path)
    assert log.complete
    assert _states(log)[-1] == "FAULT"


@pytest.fixture
def quick_back_off(monkeypatch):
    pauses = []
    monkeypatch.setattr(back_off, "LONGEST_PAUSE_S", 0.2)
    original = back_off.BackOff.next_pause_s

    def noted(self):
        pauses.append(original(self))
        return 0.02

    monkeypatch.setattr(back_off.BackOff, "next_pause_s", noted)
    return pauses


def _swap(name, target):
    other = name.with_suffix(".new")
    other.symlink_to(target)
    other.replace(name)


def test_lost_port_comes_back_disarmed_and_is_armed_on_request_only(
    digest, policy_folder, tmp_path, quick_back_off, capfd
):
    name, logs = tmp_path / "port", tmp_path / "log"
    with FakeDevice(digest, vanish_at=25) as first, FakeDevice(digest, pace_s=0.002) as second:
        name.symlink_to(first.path)
        with _Running(_config(name, policy_folder, logs, reconnect=True)) as running:
            first.wait_for(lambda _: len(quick_back_off) >= 3)
            assert not second.received
            _swap(name, second.path)
            _arm_when_asked(running, second)
    assert running.outcome.error is None
    result = running.outcome.result
    # 50 periods were asked for; what the first connection did counts. Its last observation may have been lost with it.
    steps = [item["steps"] for item in result["connections"]]
    assert sum(steps) == 50
    assert steps[0] in (25, 26)
    assert result["stop"]["confirmed"]
    assert first.session != second.session
    one, two = read_log(logs / "run.mcap"), read_log(logs / "run-2.mcap")
    assert one.complete
    assert two.complete
    assert (one.session["connection"], two.session["connection"]) == (1, 2)
    assert _states(one) == ["HOMING", "IDLE", "ARMED", "RUN", "FAULT"]
    assert _states(two) == ["HOMING", "IDLE", "ARMED", "RUN", "IDLE"]
    assert one.result["ended_by"] == "LinkLostError"
    errors = capfd.readouterr().err.splitlines()
    assert sum("--reconnect tries again" in line for line in errors) == len(errors) - 1  # once for each reason
    assert any("homed and disarmed" in line for line in errors)


def test_pauses_double_up_to_their_bound():
    pauses = back_off.BackOff()
    assert [pauses.next_pause_s() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_device_that_appears_later_waits_for_an_arm_although_arm_is_auto(
    digest, policy_folder, tmp_path, quick_back_off
):
    name = tmp_path / "port"
    config = _config(name, policy_folder, tmp_path / "log", reconnect=True)
    with FakeDevice(digest, pace_s=0.002) as device, _Running(config) as running:
        device.wait_for(lambda _: len(quick_back_off) >= 2)
        name.symlink_to(device.path)
        _arm_when_asked(running, device)
    assert running.outcome.error is None
    assert [item["log"] for item in running.outcome.result["connections"]] == [str(tmp_path / "log" / "run.mcap")]


def test_restarted_device_is_met_again_disarmed(digest, policy_folder, tmp_path, quick_back_off):
    with (
        FakeDevice(digest, restart_at=20, pace_s=0.002) as device,
        _reconnecting(device, policy_folder, tmp_path) as running,
    ):
        device.wait_for(lambda _: running.controls.awaiting_arm)
        device.options["restart_at"] = None
        assert len(device.of_type(Arm)) == 1
        running.controls.request_stop("the live page")
    assert isinstance(running.outcome.error, StopRequested)
    assert [item["armed"] for item in running.outcome.result["connections"]] == [True, False]
    assert running.outcome.result["steps"] == 21
    assert running.outcome.result["stop"]["confirmed"]
    one, two = read_log(tmp_path / "run.mcap"), read_log(tmp_path / "run-2.mcap")
    assert (one.result["steps"], two.result["steps"]) == (21, 0)
    assert two.result["latency_us"]["n"] == 0
    assert two.result["log"] == str(tmp_path / "run-2.mcap")
    assert [item["steps"] for item in two.result["connections"]] == [21, 0]
    assert len(device.of_type(Arm)) == 1
    assert device.state == State.IDLE


def test_connections_that_came_to_nothing_leave_the_log_of_the_run_before(
    digest, policy_folder, tmp_path, quick_back_off
):
    name, logs = tmp_path / "port", tmp_path / "log"
    logs.mkdir()
    (logs / "run.mcap").write_bytes(b"good")
    devices = [FakeDevice(digest, homed_at=10**9) for _ in range(3)]  # gone before anything is homed
    name.symlink_to(devices[0].path)
    with _Running(_config(name, policy_folder, logs, reconnect=True)) as running:
        for device in devices:
            with device:
                _swap(name, device.path)
                device.wait_for(lambda device: device.of_type(Config))  # its log has begun
        count = len(quick_back_off)
        device.wait_for(lambda _: len(quick_back_off) > count + 1)
        running.controls.request_stop("a key")
    assert isinstance(running.raised, StopRequested)
    assert {path.name for path in logs.iterdir()} == {"run.mcap", "run.previous.mcap"}
    assert (logs / "run.previous.mcap").read_bytes() == b"good"


def test_result_names_only_logs_that_are_left(digest, policy_folder, tmp_path, quick_back_off):
    name, logs = tmp_path / "port", tmp_path / "log"
    with FakeDevice(digest, vanish_at=25) as first, FakeDevice(digest, pace_s=0.002) as second:
        name.symlink_to(first.path)
        with _Running(_config(name, policy_folder, logs, reconnect=True)) as running:
            first.wait_for(lambda _: len(quick_back_off) >= 2)
            (logs / "run.mcap").unlink()  # as --log-keep-parts does
            _swap(name, second.path)
            _arm_when_asked(running, second)
    assert running.outcome.error is None
    assert [item["log"] for item in running.outcome.result["connections"]] == [None, str(logs / "run-2.mcap")]
    assert read_log(logs).session["connection"] == 2


def test_log_that_is_deleted_while_it_is_written_fails_the_run(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device, _asked(device, policy_folder, tmp_path) as running:
        device.wait_for(lambda _: running.controls.awaiting_arm)
        (tmp_path / "run.mcap").unlink()
        assert running.controls.request_arm()
    assert isinstance(running.outcome.error, RecorderError)
    assert "was deleted" in str(running.outcome.error)
    assert running.outcome.result["log"] is None


def test_stop_during_the_pause_ends_at_once(digest, policy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(back_off.BackOff, "next_pause_s", lambda self: 3600.0)
    with FakeDevice(digest, vanish_at=10) as device:
        name = tmp_path / "port"
        name.symlink_to(device.path)
        with _Running(_config(name, policy_folder, tmp_path / "log", reconnect=True)) as running:
            device.wait_for(lambda device: device._master is None)
            running.controls.request_stop("a key")
    assert isinstance(running.outcome.error, StopRequested)
    assert running.outcome.result["connections"][0]["steps"] in (10, 11)
    assert read_log(tmp_path / "log").complete


def test_without_reconnect_a_lost_port_is_the_end(digest, policy_folder, tmp_path):
    with FakeDevice(digest, vanish_at=10) as device:
        outcome = run(_config(device.path, policy_folder, tmp_path))
    assert isinstance(outcome.error, LinkLostError)
    assert "connections" not in outcome.result


def test_another_policy_after_the_reconnect_ends_the_run(digest, policy_folder, tmp_path, quick_back_off):
    name = tmp_path / "port"
    with FakeDevice(digest, vanish_at=10) as first, FakeDevice("56" * 32) as second:
        name.symlink_to(first.path)
        with _Running(_config(name, policy_folder, tmp_path / "log", reconnect=True)) as running:
            first.wait_for(lambda _: quick_back_off)
            _swap(name, second.path)
    assert isinstance(running.outcome.error, MismatchError)
    assert not second.of_type(Arm)
    assert not second.of_type(Disarm)
    assert not second.of_type(Config)


def test_logs_of_an_earlier_runs_connections_are_retired(digest, policy_folder, tmp_path):
    for name in ("run.mcap", "run-2.mcap", "run-3.mcap", "run-notes.mcap"):
        (tmp_path / name).write_bytes(name.encode())
    with FakeDevice(digest) as device:
        run(_config(device.path, policy_folder, tmp_path))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["run-2.previous.mcap", "run-3.previous.mcap", "run-notes.mcap", "run.mcap", "run.previous.mcap"]


def test_second_run_with_the_same_log_is_refused_and_touches_nothing(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device, FakeDevice(digest) as other:
        with _asked(device, policy_folder, tmp_path) as running:
            device.wait_for(lambda _: running.controls.awaiting_arm)
            with pytest.raises(RecorderError, match=rf"log {tmp_path}: another run writes its log there"):
                run(_config(other.path, policy_folder, tmp_path))
            assert running.controls.request_arm()
        assert not other.received
    assert running.outcome.error is None
    assert [path.name for path in tmp_path.iterdir()] == ["run.mcap"]
    with FakeDevice(digest) as device:  # the first is over
        assert run(_config(device.path, policy_folder, tmp_path)).error is None


def test_a_run_that_finds_no_device_leaves_no_folder_of_its_own(policy_folder, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for folder in (theirs, tmp_path / "own"):
        with pytest.raises(BridgeError, match="/dev/ttyNone"):
            run(_config("/dev/ttyNone", policy_folder, folder))
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize("changes", [{"arm": "ask"}, {"reconnect": True}])
def test_dry_run_has_nothing_to_arm(changes, policy_folder, tmp_path):
    with pytest.raises(BridgeError, match="--dry-run arms nothing"):
        _config("/dev/ttyX", policy_folder, tmp_path, dry_run=True, **changes)


def test_the_user_signal_arms_a_daemon(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device:
        command = [sys.executable, "-m", "firmware_bridge", "run", "--port", device.path, "--arm", "ask", "--json"]
        command += ["--policy", str(policy_folder), "--log", str(tmp_path), "--duration-s", "0.5"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert f"kill -USR1 {process.pid}" in process.stderr.readline()
        assert not device.of_type(Arm)
        os.kill(process.pid, signal.SIGUSR1)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out)["steps"] == 25
    assert len(device.of_type(Arm)) == 1
