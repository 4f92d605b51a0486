"""What the log of a real run holds, compared with what the device saw, when the run ends badly."""

import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_device import FakeDevice

from firmware_bridge.config import Replay, Run
from firmware_bridge.logs.read_log import LogReader, read_log
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.replay.replay import replay
from firmware_bridge.run import run
from hardware.protocol import Arm, Command, Config, Disarm, State


def _start(device, policy_folder, log, *options, limit_kb=None):
    command = [sys.executable, "-m", "firmware_bridge", "run", "--port", device.path, "--policy", str(policy_folder)]
    if limit_kb is not None:
        command = ["prlimit", f"--fsize={limit_kb * 1024}", *command]
    return subprocess.Popen(
        [*command, "--log", str(log), "--duration-s", "3000", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _seen(device):
    return [(command.session, command.observation_tick, command.action) for command in device.of_type(Command)]


def _logged(log):
    return [(value["session"], value["observation_tick"], value["action"]) for value in log.values("/command")]


@pytest.mark.parametrize("both", [False, True], ids=["the bridge", "and its writer"])
@pytest.mark.parametrize("options", [[], ["--log-rotate-mb", "0.02"]], ids=["one file", "rotated"])
def test_killed_run_loses_at_most_a_second_of_what_the_device_saw(options, both, digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.005) as device:
        process = _start(device, policy_folder, tmp_path, *options)
        device.wait_for(lambda device: device._since() > 300)
        seen = _seen(device)
        time.sleep(1.0)  # the promise: what was sent before this second is in the file
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
        if both:
            os.kill(int(children[0]), signal.SIGKILL)
        process.communicate()
        everything = _seen(device)
    log = read_log(tmp_path)
    logged = _logged(log)
    assert not log.complete
    assert len(seen) >= 299
    assert logged[: len(seen)] == seen
    assert logged == everything[: len(logged)]
    assert (len(list(tmp_path.glob("run.*.mcap"))) >= 1) == bool(options)
    answer = replay(Replay(log=tmp_path, policy=policy_folder, backend="c"))
    assert answer["difference"] is None
    assert answer["host_actions"] >= len(seen)
    # What an answer answers stands in front of it.
    ticks = [record.value for record in LogReader(tmp_path) if record.topic in ("/observation", "/command")]
    places = {value["observation_tick"]: place for place, value in enumerate(ticks) if "observation_tick" in value}
    observed = {value["tick"]: place for place, value in enumerate(ticks) if "tick" in value}
    assert all(observed[tick] < place for tick, place in places.items())


def test_full_disk_brakes_and_leaves_what_was_there_readable(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device:
        process = _start(device, policy_folder, tmp_path, limit_kb=96)
        _, errors = process.communicate(timeout=60)
        everything = _seen(device)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "cannot write: File too large" in errors
    assert device.of_type(Disarm)
    assert device.state == State.IDLE
    log = read_log(tmp_path)
    assert not log.complete
    logged = _logged(log)
    assert len(logged) > 50
    assert logged == everything[: len(logged)]
    assert replay(Replay(log=tmp_path, policy=policy_folder, backend="c"))["difference"] is None


def test_full_disk_at_a_rotation_brakes_too(digest, policy_folder, tmp_path):
    with FakeDevice(digest, pace_s=0.002) as device:
        # The first part fits; the third cannot be made: a folder has its name.
        (tmp_path / "run.0002.mcap").mkdir(parents=True)
        process = _start(device, policy_folder, tmp_path, "--log-rotate-mb", "0.02")
        _, errors = process.communicate(timeout=60)
        everything = _seen(device)
    assert process.returncode == 1
    assert "cannot write: run.0002.mcap is there and is no regular file" in errors
    assert device.state == State.IDLE
    log = read_log(tmp_path)
    assert (log.complete, log.result) == (True, None)  # both parts were finished
    assert _logged(log) == everything[: len(_logged(log))]
    assert len(_logged(log)) > 50


def test_first_record_says_what_ran_where(digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device:
        process = _start(device, policy_folder, tmp_path, "--duration-s", "1")
        process.communicate(timeout=60)
    session = read_log(tmp_path).session
    assert session["policy_digest"] == digest
    assert session["config"]["log_rotate_mb"] == 0.0
    assert session["parents"].keys() >= {"student"}
    assert session["machine"]["cores"] >= 1
    assert session["machine"]["memory_bytes"] > 1e6
    assert {"processor", "kernel", "preempt_rt", "frequency_governor"} <= session["machine"].keys()


def test_run_keeps_so_many_files_of_its_log(digest, policy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("firmware_bridge.session.Recorder", functools.partial(Recorder, flush_interval_s=0.25))
    with FakeDevice(digest, pace_s=0.005) as device:
        config = Run(port=device.path, policy=policy_folder, log=tmp_path, duration_s=6.0)
        outcome = run(dataclasses.replace(config, log_rotate_minutes=0.001, log_keep_parts=2))
    assert outcome.error is None
    # 300 periods of at least 5 ms: a new file every 0.25 s makes five of them at least.
    parts = sorted(tmp_path.glob("run*.mcap"))
    assert [path.name[:6] for path in parts] == ["run.00", "run.00"]
    log = read_log(tmp_path)
    assert log.complete
    assert log.result["steps"] == 300
    assert [event["text"][:8] for event in log.values("/event") if event["kind"] == "log"] == ["deleted "] * 2


def test_a_log_that_dies_while_the_device_homes_is_no_log_to_arm_with(digest, policy_folder, tmp_path):
    with FakeDevice(digest, homed_at=400, pace_s=0.005) as device:
        process = _start(device, policy_folder, tmp_path)
        device.wait_for(lambda device: device.of_type(Config))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "its writer ended" in errors
    assert not device.of_type(Arm)
    assert device.of_type(Disarm)
