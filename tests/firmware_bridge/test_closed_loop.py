"""The real firmware, built for the host, on the simulated plant: `--port sim:`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmware_bridge.config import Run
from firmware_bridge.errors import BridgeError, MismatchError, SimulatorError
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.ports.simulated_port import build_image
from firmware_bridge.run import run

if not any(shutil.which(name) for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name):
    if os.environ.get("CI") == "true":
        pytest.fail("no C compiler", pytrace=False)
    pytest.skip("no C compiler: install gcc", allow_module_level=True)


@pytest.fixture(scope="module")
def image(policy_folder, tmp_path_factory):
    return build_image(policy_folder, tmp_path_factory.mktemp("image"), "host").path


def _lockstep(policy_folder, image, log, mode, **changes):
    outcome = run(
        Run(
            **{
                "port": "sim:",
                "policy": policy_folder,
                "log": log,
                "mode": mode,
                "clock": "lockstep",
                "image": image,
                "duration_s": 4.0,
                **changes,
            }
        )
    )
    assert outcome.error is None
    return outcome.result


def test_host_and_device_give_the_same_trajectory_in_lockstep(policy_folder, image, tmp_path):
    host = _lockstep(policy_folder, image, tmp_path / "host", "host")
    device = _lockstep(policy_folder, image, tmp_path / "device", "device")
    for result in (host, device):
        assert result["clock_sync"] is None  # no clock runs in lock-step
        assert result["steps"] == 200
        assert (result["crc_errors"], result["lost"], result["deadline_misses"]) == (0, 0, 0)
        assert result["simulator"]["missed_exchanges"] == 0
        assert len(result["trajectory_sha256"]) == 64
        # Time stands still but for the ticks: every action was one period old when it was applied.
        assert (result["device_us"]["action_age"]["n"], result["device_us"]["action_age"]["max"]) == (199, 20000)
    assert [host["device_us"][name]["n"] for name in ("response", "inference")] == [199, 0]
    assert [device["device_us"][name]["n"] for name in ("response", "inference")] == [199, 199]
    assert host["trajectory_sha256"] == device["trajectory_sha256"]
    # The trajectory depends on the seed of the plant or on the policy, or the comparison would prove nothing.
    logs = [read_log(tmp_path / mode).values("/observation") for mode in ("host", "device")]
    actions = [[value["applied_action"] for value in log if value["state"] == 2] for log in logs]
    assert actions[0] == actions[1]
    assert len(set(actions[0])) > 50


def test_shadow_agrees_to_the_bit_on_every_action(policy_folder, image, tmp_path):
    result = _lockstep(policy_folder, image, tmp_path, "shadow")
    assert result["shadow"] == {"compared": 200, "max_difference": 0.0}


@pytest.mark.parametrize("mode", ["host", "device", "shadow"])
def test_real_time_run_is_clean(policy_folder, image, tmp_path, mode):
    settings = {"mode": mode, "image": image, "duration_s": 1.0, "watchdog_periods": 10}
    result = run(Run(port="sim:", policy=policy_folder, log=tmp_path, **settings)).result
    # A slow machine may lose periods or trip the watchdog; it may not damage a byte, nor leave the cart unbraked.
    assert (result["crc_errors"], result["latency_overflows"], result["log_dropped"]) == (0, 0, 0)
    assert result["steps"] > 0
    assert result["stop"]["confirmed"]
    assert {"late_periods", "late_actuations"} <= set(result["simulator"])
    # The firmware's clock is this machine's own in 32 bits of microseconds: the true offset is a multiple of a wrap.
    clock = result["clock_sync"]
    assert clock["samples"] > 0
    wrap_ns = 2**32 * 1000
    error_ns = (clock["offset_ns"] + wrap_ns // 2) % wrap_ns - wrap_ns // 2
    assert abs(error_ns) <= clock["uncertainty_ns"]
    assert result["device_us"]["response"]["n"] > 0
    log = read_log(tmp_path)
    applied = [value for value in log.values("/latency") if value["apply_ns"] is not None]
    assert len(applied) == result["stages_us"]["apply"]["n"]
    assert bool(applied) == (mode == "host")  # in the others the device applies its own action
    for value in applied:  # nothing is applied before it was written
        assert value["apply_ns"] >= -value["apply_uncertainty_ns"]
    clock = log.values("/clock")[-1]
    assert (clock["samples"], clock["restarts"]) == (result["clock_sync"]["samples"], 0)
    assert log.complete


def test_image_with_another_policy_is_refused_by_name(make_policy, image, tmp_path):
    other = make_policy(seed=5)
    with pytest.raises(MismatchError, match=r"policy digest differs: the device 'host.*python -m hardware build"):
        run(Run(port="sim:", policy=other, log=tmp_path, image=image, clock="lockstep"))
    assert not (tmp_path / "run.mcap").exists()


def test_missing_or_broken_image(policy_folder, tmp_path):
    with pytest.raises(BridgeError, match="no such file; build it with"):
        run(Run(port="sim:", policy=policy_folder, log=tmp_path, image=tmp_path / "firmware"))
    broken = tmp_path / "firmware"
    broken.write_bytes(b"\x00")
    broken.chmod(0o755)
    with pytest.raises((SimulatorError, BridgeError)) as caught:
        run(Run(port="sim:", policy=policy_folder, log=tmp_path, image=broken))
    assert "\n" not in str(caught.value)


def _children(pid):
    """Processes of the simulated device that `pid` has started, the eldest first."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f"\nPPid:\t{pid}\n" in text:
            child = int(status.parent.name)
            if b"writer_process" not in (status.parent / "cmdline").read_bytes():  # the log's
                found += [child, *_children(child)]
    return found


@contextmanager
def _armed_run(policy_folder, image, tmp_path):
    """A run in a process of its own, once it is armed; its children, simulator first, then the firmware."""
    command = [sys.executable, "-m", "firmware_bridge", "run", "--port", "sim:", "--image", str(image)]
    command += ["--policy", str(policy_folder), "--log", str(tmp_path), "--json", "--duration-s", "1000"]
    command += ["--watchdog-periods", "10"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, env=environment) as process:
        deadline = time.monotonic() + 60
        while not _armed(tmp_path):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        children = _children(process.pid)
        assert len(children) >= 2  # the simulator and its firmware
        yield process, children


@pytest.mark.parametrize(
    ("victim", "words"), [(1, "the firmware ended during the simulation: got SIGKILL"), (0, "ended by SIGKILL")]
)
def test_a_simulated_device_that_is_killed_is_not_blamed_on_a_cable(victim, words, policy_folder, image, tmp_path):
    with _armed_run(policy_folder, image, tmp_path) as (process, children):
        os.kill(children[victim], signal.SIGKILL)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(out)["simulator"].keys() == {"error"}
    assert errors.startswith("error: the simulated device is gone: ")
    assert words in errors
    assert "cable" not in errors
    assert errors.count("\n") == 1
    assert json.loads(out)["ended_by"] == "SimulatorError"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv: the simulator ends by its own patience")
def test_nothing_outlives_a_killed_bridge_and_the_next_one_sweeps(policy_folder, image, tmp_path):
    with _armed_run(policy_folder, image, tmp_path) as (process, children):
        process.kill()
        process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while any(_runs(child) for child in children):
        assert time.monotonic() < deadline  # half of the simulator's own patience
        time.sleep(0.05)
    assert not (tmp_path / "trajectory.safetensors").exists()
    (left,) = tmp_path.glob("firmware-bridge-*")
    (tmp_path / "run.mcap").unlink()  # the next one is armed when it has a log
    with _armed_run(policy_folder, image, tmp_path) as (process, _):
        assert not left.exists()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert not list(tmp_path.glob("firmware-bridge-*"))


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_brakes_and_leaves_no_process_behind(number, policy_folder, image, tmp_path):
    with _armed_run(policy_folder, image, tmp_path) as (process, children):
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors.count("\n") == 1
    result = json.loads(out)
    assert result["stop"]["confirmed"]
    assert result["stop"]["state"] == "IDLE"
    assert read_log(tmp_path).complete
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def _armed(folder):
    try:
        return len(read_log(folder).values("/command")) > 5
    except BridgeError:
        return False
