"""Keys on a real terminal (a pty with a session of its own), and the terminal afterwards."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest
from fake_device import FakeDevice

from firmware_bridge.logs.read_log import read_log
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.host_state import HostState, HostStateMachine
from firmware_bridge.safety.keyboard import Keyboard
from hardware.protocol import Arm, Disarm, State


@pytest.fixture
def terminal():
    """Both ends of a new terminal, and the attributes it has at first."""
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


class _Process:
    """`run` as the foreground process of the terminal, as a shell would start it."""

    def __init__(self, terminal, device, policy_folder, tmp_path, *extra):
        self.master, slave = terminal
        command = [sys.executable, "-m", "firmware_bridge", "run", "--port", device.path, "--json", *extra]
        command += ["--policy", str(policy_folder), "--log", str(tmp_path), "--duration-s", "3000"]
        # A new session whose controlling terminal is ours, as `login` makes it.
        program = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.popen = subprocess.Popen(
            [sys.executable, "-c", program, *command],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def type(self, keys):
        os.write(self.master, keys)


def _same(before, slave):
    now = termios.tcgetattr(slave)
    return now == before


@pytest.mark.parametrize("keys", [b" ", b"\r", b"q", b"\x1a", b"\x1c", b"\x1b[A"])
def test_any_key_stops_and_the_terminal_is_put_back(keys, digest, policy_folder, tmp_path, terminal):
    before = termios.tcgetattr(terminal[1])
    with FakeDevice(digest, pace_s=0.002) as device:
        process = _Process(terminal, device, policy_folder, tmp_path)
        device.wait_for(lambda device: device._since() > 20)
        assert not _same(before, terminal[1])
        process.type(keys)
        out, errors = process.popen.communicate(timeout=30)
    assert process.popen.returncode == 130
    assert json.loads(out)["ended_by"] == "a key"
    assert errors.splitlines()[-1].startswith("error: stopped by a key; the cart was braked")
    assert device.of_type(Disarm)
    assert device.state == State.IDLE
    assert _same(before, terminal[1])
    assert read_log(tmp_path).complete


def test_control_c_stays_a_signal(digest, policy_folder, tmp_path, terminal):
    before = termios.tcgetattr(terminal[1])
    with FakeDevice(digest, pace_s=0.002) as device:
        process = _Process(terminal, device, policy_folder, tmp_path)
        device.wait_for(lambda device: device._since() > 20)
        process.type(b"\x03")
        out, _ = process.popen.communicate(timeout=30)
    assert json.loads(out)["ended_by"] == "SIGINT"
    assert _same(before, terminal[1])


def test_enter_arms_what_waits_and_the_next_one_stops(digest, policy_folder, tmp_path, terminal):
    before = termios.tcgetattr(terminal[1])
    with FakeDevice(digest, pace_s=0.002) as device:
        process = _Process(terminal, device, policy_folder, tmp_path, "--arm", "ask")
        process.type(b"\r")  # typed before it was asked for: counts for nothing
        while "homed and disarmed" not in process.popen.stderr.readline():
            pass
        tick = device.tick
        device.wait_for(lambda device: device.tick > tick + 20)
        assert not device.of_type(Arm)
        process.type(b"\r")
        device.wait_for(lambda device: device._since() > 20)
        process.type(b"\r")
        out, _ = process.popen.communicate(timeout=30)
    assert json.loads(out)["ended_by"] == "a key"
    assert len(device.of_type(Arm)) == 1
    assert _same(before, terminal[1])


def test_other_keys_stop_what_waits(digest, policy_folder, tmp_path, terminal):
    before = termios.tcgetattr(terminal[1])
    with FakeDevice(digest, pace_s=0.002) as device:
        process = _Process(terminal, device, policy_folder, tmp_path, "--arm", "ask")
        while "homed and disarmed" not in process.popen.stderr.readline():
            pass
        process.type(b"n")
        _, errors = process.popen.communicate(timeout=30)
    assert process.popen.returncode == 130
    assert errors == "error: stopped by a key; nothing was armed\n"
    assert not device.of_type(Arm)
    assert _same(before, terminal[1])


def test_error_in_the_run_puts_the_terminal_back(digest, policy_folder, tmp_path, terminal):
    before = termios.tcgetattr(terminal[1])
    with FakeDevice(digest, fault_at=20) as device:
        process = _Process(terminal, device, policy_folder, tmp_path)
        _, errors = process.popen.communicate(timeout=30)
    assert process.popen.returncode == 1
    assert "RAIL_END" in errors
    assert _same(before, terminal[1])


def _background(terminal_descriptor, program):
    """Run `program` in a background process group of the terminal; its exit status."""
    pid = os.fork()
    if pid == 0:  # the session leader, with the terminal
        try:
            os.setsid()
            os.dup2(terminal_descriptor, 0)
            import fcntl

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            child = os.fork()
            if child == 0:
                os.setpgid(0, 0)  # no longer in the foreground
                os._exit(program())
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, os.WUNTRACED)[1] & 0xFFFF))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_background_process_leaves_the_terminal_alone_and_is_not_suspended(terminal):
    before = termios.tcgetattr(terminal[1])

    def program():
        with Controls() as controls, Keyboard(controls, HostStateMachine(lambda *_: None), 0) as keyboard:
            return 7 if keyboard.active else 5

    assert _background(terminal[1], program) == 5
    assert _same(before, terminal[1])


def test_no_terminal_no_keys(tmp_path):
    with (tmp_path / "file").open("w+") as file, Controls() as controls:
        with Keyboard(controls, HostStateMachine(lambda *_: None), file.fileno()) as keyboard:
            assert not keyboard.active
        assert controls.stop is None


@pytest.mark.parametrize(
    ("state", "keys", "stops", "arms"),
    [
        (HostState.HOMING, b"\n", False, False),
        (HostState.IDLE, b"\n", False, True),
        (HostState.FAULT, b"\r\n", False, False),
        (HostState.ARMED, b"\n", True, False),
        (HostState.RUN, b"\n", True, False),
        (HostState.RUN, b"x", True, False),
        (HostState.IDLE, b"\nx", True, False),
        (HostState.HOMING, b" ", True, False),
    ],
)
def test_what_keys_mean(state, keys, stops, arms):
    machine = HostStateMachine(lambda *_: None)
    machine.state = state
    with Controls() as controls:
        controls.await_arm(state == HostState.IDLE)
        Keyboard(controls, machine, -1).pressed(keys)
        assert (controls.stop is not None, controls.arm_requested) == (stops, arms)


def test_terminated_run_puts_the_terminal_back(digest, policy_folder, tmp_path, terminal):
    before = termios.tcgetattr(terminal[1])
    with FakeDevice(digest, pace_s=0.002) as device:
        process = _Process(terminal, device, policy_folder, tmp_path)
        device.wait_for(lambda device: device._since() > 5)
        process.popen.send_signal(signal.SIGTERM)
        process.popen.communicate(timeout=30)
    assert process.popen.returncode == 143
    assert _same(before, terminal[1])
