"""The simulator and its child processes: ends, signals, hosts that vanish, and errors that name their cause."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_policy
from pendulum_host import SESSION, WAIT_S, Host, Simulation, arm_message

from hardware.build import build
from hardware.command_line import CONTROL_PERIOD_S, Simulate
from hardware.errors import BuildError, SimulatorError
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import Command, Fault, Heartbeat, Hello, Mode, Observation, State


def wait_until(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def hardware(*arguments, timeout=60) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hardware", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def assert_one_line_error(done: subprocess.CompletedProcess, *parts: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("number", "clock"),
    [
        (signal.SIGTERM, "real"),
        (signal.SIGINT, "real"),
        (signal.SIGTERM, "lockstep"),
        (signal.SIGINT, "lockstep"),
        (signal.SIGHUP, "lockstep"),
    ],
)
def test_signals_end_it_cleanly(image, tmp_path, number, clock):
    simulation = Simulation(image, tmp_path, "--clock", clock)
    [firmware] = simulation.firmware_pids()
    result = simulation.end(number)
    assert result["clock"] == clock
    assert not is_running(firmware)


def test_a_killed_simulator_leaves_no_orphan(image, tmp_path):
    simulation = Simulation(image, tmp_path, "--clock", "lockstep")
    [firmware] = simulation.firmware_pids()
    simulation.child.kill()
    simulation.child.communicate()
    wait_until(lambda: not is_running(firmware))
    # What it left behind is a dangling symlink, which the next one replaces.
    Simulation(image, tmp_path, "--clock", "lockstep").end()


def test_firmware_survives_ctrl_c_of_the_terminal(image, tmp_path):
    simulation = Simulation(image, tmp_path, "--clock", "lockstep")
    [firmware] = simulation.firmware_pids()
    host = Host(simulation.link)
    host.hello()  # it is up
    os.kill(firmware, signal.SIGINT)
    host.hello()
    host.close()
    simulation.end()


def test_a_host_that_vanishes_is_braked_and_the_next_one_served(simulation):
    host = Host(simulation.link)
    observation = host.arm(Mode.HOST)
    for _ in range(10):
        host.send(Command(SESSION, observation.tick, 10.0))
        observation = host.wait(Observation)
    host.close()  # as after kill -9: no goodbye, and what the device says is read by nobody
    time.sleep(0.1)
    second = Host(simulation.link)
    second.hello()
    seen = second.wait(Observation)
    while seen.state in (State.BRAKING, State.ARMED):
        second.send(Heartbeat(0, seen.tick))
        seen = second.wait(Observation)
    assert (seen.state, seen.fault) == (State.OFF, Fault.WATCHDOG)
    second.close()
    simulation.end()


def test_a_host_that_does_not_read_blocks_nothing(image, tmp_path):
    # Real time: 20 s of simulated frames would not fit the pty's buffer; frames are dropped whole, ticks go on.
    simulation = Simulation(image, tmp_path, "--seconds", "4")
    host = Host(simulation.link)
    for _ in range(400):  # each is answered by 76 bytes that nobody reads
        host.send(Hello(1, 1))
        time.sleep(0.002)
    result = simulation.end(None)
    assert result["steps"] == 4.0 / CART_RAIL.period_s
    host.close()


def test_real_time_runs_in_device_mode(image, tmp_path):
    simulation = Simulation(image, tmp_path, "--clock", "real")
    host = Host(simulation.link)
    reply = host.hello()
    host.configure(Mode.DEVICE, 10)
    host.home()
    assert host.request(arm_message(reply)) == 0
    armed = 0
    while armed < 25:
        observation = host.wait(Observation)
        host.send(Heartbeat(SESSION, observation.tick))
        armed += observation.state == State.ARMED
    host.close()
    result = simulation.end()
    # The step that follows the last observation may not be simulated any more.
    assert result["enabled_steps"] >= 24


def test_it_ends_when_no_host_comes(image, tmp_path):
    result = Simulation(image, tmp_path, "--clock", "lockstep", "--patience-s", "0.2").end(None)
    assert result["steps"] == 0


def test_randomised_plants_differ_by_seed(image, tmp_path):
    hashes = []
    for seed in (1, 2, 1):
        simulation = Simulation(image, tmp_path, "--clock", "lockstep", "--randomise", "--seed", str(seed))
        host = Host(simulation.link)
        observation = host.arm(Mode.DEVICE)
        for _ in range(60):
            host.send(Heartbeat(SESSION, observation.tick))
            observation = host.wait(Observation)
        host.disarm(observation)
        host.close()
        hashes.append(simulation.end()["trajectory_sha256"])
    assert hashes[0] == hashes[2] != hashes[1]


def test_missing_image(tmp_path):
    done = hardware("simulate", "--image", tmp_path / "none", "--link", tmp_path / "link")
    assert_one_line_error(done, str(tmp_path / "none"), "hardware build")


def test_image_that_is_no_program(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"\x7fELF but not really")
    image.chmod(0o755)
    done = hardware("simulate", "--image", image, "--link", tmp_path / "link")
    assert_one_line_error(done, str(image), "build")
    assert not os.path.lexists(tmp_path / "link")


def test_firmware_that_dies_is_named_with_its_last_words(tmp_path):
    image = tmp_path / "image"
    image.write_text("#!/bin/sh\necho runtime error: the moon is full >&2\nexit 7\n")
    image.chmod(0o755)
    done = hardware("simulate", "--image", image, "--link", tmp_path / "link")
    assert done.returncode == 1
    assert "exit status 7" in done.stderr
    assert "the moon is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.lexists(tmp_path / "link")


def test_link_place_that_is_taken_is_left_alone(image, tmp_path):
    (tmp_path / "link").write_text("precious")
    done = hardware("simulate", "--image", image, "--link", tmp_path / "link")
    assert_one_line_error(done, "no symlink")
    assert (tmp_path / "link").read_text() == "precious"
    done = hardware("simulate", "--image", image, "--link", tmp_path / "none" / "link")
    assert_one_line_error(done, "no folder")


def test_a_link_in_use_is_refused_and_survives(image, tmp_path):
    first = Simulation(image, tmp_path, "--clock", "lockstep")
    terminal = os.readlink(first.link)
    done = hardware("simulate", "--image", image, "--link", first.link)
    assert_one_line_error(done, str(first.link), terminal, "in use", "--link")
    assert os.readlink(first.link) == terminal
    first.end()


def test_stale_link_to_a_terminal_number_used_again_is_replaced(image, tmp_path):
    link = tmp_path / "link"
    master, slave = os.openpty()
    first = os.ttyname(slave)
    link.symlink_to(first)
    time.sleep(0.05)  # longer than the kernel's clock tick
    os.close(slave)
    os.close(master)
    master, slave = os.openpty()  # the lowest free number
    try:
        if os.ttyname(slave) != first:
            pytest.skip("another program took the number")
        Simulation(image, tmp_path, "--clock", "lockstep").end()
    finally:
        os.close(slave)
        os.close(master)


def test_at_its_end_a_simulator_leaves_a_link_that_is_not_its_own(image, tmp_path):
    from hardware.process import FirmwareProcess

    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")  # dangling: replaced
    with FirmwareProcess(image, link, lockstep=True):
        assert os.readlink(link).startswith("/dev/pts/")
        link.unlink()
        link.symlink_to("/dev/null")
    assert os.readlink(link) == "/dev/null"


@pytest.mark.parametrize(
    ("option", "values", "text"),
    [
        ("--seconds", ("nan", "-1", "0", "inf"), "expected 0.02 to 1e+06 s"),
        ("--patience-s", ("nan", "-1", "0"), "expected more than 0 s"),
        ("--seed", ("-1",), "expected a number from 0 on"),
    ],
)
def test_numbers_out_of_range_are_refused(option, values, text, tmp_path):
    for value in values:
        simulate = Simulate(**{
            "image": tmp_path, "link": tmp_path / "link",
            option[2:].replace("-", "_"): int(value) if option == "--seed" else float(value),
        })  # fmt: skip
        with pytest.raises(SimulatorError, match=re.escape(text)) as caught:
            simulate.run()
        assert str(caught.value).startswith(f"{option} {value}")
    assert CART_RAIL.period_s == CONTROL_PERIOD_S


def test_trajectory_that_cannot_be_written_is_refused_before_the_run(image, tmp_path):
    done = hardware("simulate", "--image", image, "--link", tmp_path / "link", "--trajectory", "/proc/x")
    assert_one_line_error(done, "/proc/x", "expected a writable folder")


def test_interrupt_while_packages_load_is_one_line(tmp_path):
    for package in ("tyro", "gymnasium"):  # found before the installed ones
        (tmp_path / f"{package}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "hardware", "generate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "error: interrupted; earlier files are unchanged\n"


def test_interrupted_build_says_so(policy_folder, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nkill -INT $PPID\nexec sleep 60\n")
    compiler.chmod(0o755)
    command = [sys.executable, "-m", "hardware", "build", "--policy", policy_folder, "--out", tmp_path / "out"]
    environment = {**os.environ, "CC": str(compiler)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 130
    assert done.stderr == "error: interrupted; earlier files are unchanged\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_build_folders_that_cannot_be_written(policy_folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "firmware").mkdir(parents=True)
    for out in (Path("/proc/x"), tmp_path / "file", tmp_path / "taken"):
        with pytest.raises(BuildError, match=f"cannot build into {out}: got .*, expected .*; .* another --out"):
            build(policy_folder, out)
    full = tmp_path / "cc"
    full.write_text("#!/bin/sh\necho 'ld: final link failed: No space left on device' >&2\nexit 1\n")
    full.chmod(0o755)
    monkeypatch.setenv("CC", str(full))
    with pytest.raises(BuildError, match=r"No space left on device.*; free space"):
        build(policy_folder, tmp_path / "out")


def test_firmware_refuses_wrong_arguments(image):
    for arguments in ([], ["--link-fd", "0"], ["--link-fd", "x", "--plant-fd", "0"], ["--nonsense"]):
        done = subprocess.run([image, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert done.stderr


def test_firmware_ends_with_its_plant_even_without_a_link(image):
    plant, child = socket.socketpair()
    master, slave = os.openpty()
    command = [image, "--link-fd", str(master), "--plant-fd", str(child.fileno())]
    process = subprocess.Popen(command, pass_fds=(master, child.fileno()))
    child.close()
    os.close(master)
    os.close(slave)  # the link hangs up: no crash, no end
    time.sleep(0.1)
    assert process.poll() is None
    plant.close()
    assert process.wait(WAIT_S) == 0


def test_build_from_the_command_line(policy_folder, tmp_path):
    done = hardware("build", "--policy", policy_folder, "--out", tmp_path / "deep" / "out", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {
        "image",
        "policy_digest",
        "board",
        "variant",
        "flash_bytes",
        "ram_bytes",
        "stack_bytes",
        "seconds",
    }
    assert os.access(result["image"], os.X_OK)


def test_build_errors_are_one_line_and_keep_the_old_image(policy_folder, tmp_path):
    out = tmp_path / "out"
    assert_one_line_error(hardware("build", "--policy", tmp_path, "--out", out), "policy.h", "export compile")
    assert_one_line_error(
        hardware("build", "--policy", policy_folder, "--out", out, "--board", "toaster"), "toaster", "host"
    )
    (tmp_path / "policy.h").write_text("#define NOTHING\n")
    assert_one_line_error(hardware("build", "--policy", tmp_path, "--out", out), "POLICY_DIGEST_HEX")
    before = build(policy_folder, out).path.read_bytes()
    wrong = write_policy(tmp_path / "wrong", period=10000)
    assert_one_line_error(hardware("build", "--policy", wrong, "--out", out), "another control period")
    assert (out / "firmware").read_bytes() == before
    assert [path.name for path in out.iterdir()] == ["firmware"]


def test_wrong_usage_is_status_2():
    assert hardware("fly").returncode == 2


def test_generate_leaves_current_headers_alone():
    done = hardware("generate")
    assert done.returncode == 0, done.stderr
    assert "[]" in done.stdout


def test_the_first_byte_on_the_link_ends_what_a_reset_may_have_cut(simulation):
    """Otherwise the first reply after a reset would be taken for the rest of a frame from before it."""
    port = os.open(simulation.link, os.O_RDWR | os.O_NOCTTY)
    assert os.read(port, 64) == b"\0"
    os.close(port)
