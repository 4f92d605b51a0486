"""Runs that end early: faults, a lost device, signals, a full disk. The cart is braked, the log is whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_device import FakeDevice, run_config

from firmware_bridge.errors import (
    DeviceFaultError,
    DeviceRestartedError,
    LinkLostError,
    StopRequested,
)
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.run import run
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.signals import StopSignals
from hardware.protocol import (
    Arm,
    Disarm,
    Fault,
    Heartbeat,
    Observation,
    State,
)


def test_signal_between_arm_and_the_first_armed_observation_is_no_unarmed_stop(digest, policy_folder, tmp_path):
    def interrupt(since, message, frame):
        if since == 0 and isinstance(message, Observation):
            os.kill(os.getpid(), signal.SIGINT)
            return None
        return frame

    with FakeDevice(digest, mangle=interrupt) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, StopRequested)
    assert outcome.result["stop"] == {"confirmed": True, "state": "IDLE", "periods": outcome.result["stop"]["periods"]}
    assert outcome.result["steps"] <= 1  # the signal reaches the main thread when Python next looks
    assert device.of_type(Disarm)


def test_fault_of_the_device_ends_the_run(digest, policy_folder, tmp_path):
    with FakeDevice(digest, fault_at=30) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, DeviceFaultError)
    assert "RAIL_END" in str(outcome.error)
    assert outcome.result["faults"] == [{"reason": "RAIL_END", "tick": device.armed_tick + 30, "detail": 0}]
    assert outcome.result["steps"] == 30
    assert device.of_type(Disarm)
    assert (outcome.result["stop"]["state"], device.fault) == ("OFF", Fault.RAIL_END)  # latched until the next run
    assert read_log(tmp_path).complete


def test_restart_of_the_device_ends_the_run_with_its_cause(digest, policy_folder, tmp_path):
    with FakeDevice(digest, restart_at=30) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
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
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, LinkLostError)
    assert not outcome.result["stop"]["confirmed"]
    assert read_log(tmp_path).complete


def test_device_that_falls_silent(digest, policy_folder, tmp_path):
    with FakeDevice(digest, mute_at=25) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert isinstance(outcome.error, LinkLostError)
    assert "no OBSERVATION" in str(outcome.error)
    assert device.of_type(Disarm)


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


def _children(pid):
    """(process, start time) of each child: the number alone may be given to another process."""
    numbers = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [(number, _started(number)) for number in numbers]


def _started(pid):
    """Start time of a process in clock ticks; None when it is gone, or dead and not yet waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _wait_gone(processes, timeout_s=30.0):
    assert processes, "expected the bridge to have a child that writes its log"
    deadline = time.monotonic() + timeout_s
    while any(_started(pid) == started for pid, started in processes):
        assert time.monotonic() < deadline, f"still there: {processes}"
        time.sleep(0.01)


def test_killed_bridge_leaves_a_log_that_opens(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.01) as device:
        process = _start(device, policy_folder, tmp_path, "--duration-s", "3000")
        device.wait_for(lambda device: device._since() > 150)
        writers = _children(process.pid)
        process.kill()
        process.communicate()
        _wait_gone(writers)  # the log's writer outlives the bridge for as long as it takes to write what it was given
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


def test_log_that_cannot_be_opened_never_arms(digest, policy_folder, tmp_path):
    (tmp_path / "run.mcap").symlink_to("/dev/full")
    with FakeDevice(digest) as device:
        process = _start(device, policy_folder, tmp_path)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "run.mcap is there and is no regular file" in errors
    assert errors.count("\n") == 1
    assert not device.of_type(Arm)
