"""The emulated chip as a child: what is refused, what dies, and that nothing stays behind."""

import errno
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from conftest import write_policy
from fault_bench import Device
from pendulum_host import SESSION, Host, Simulation

from hardware.board import BOARDS
from hardware.build import build
from hardware.command_line import Simulate
from hardware.emulator import EmulatedFirmware
from hardware.errors import ImageError, SimulatorError
from hardware.protocol import Enable, Fault, Heartbeat, Mode, Observation, State

pytestmark = [pytest.mark.qemu, pytest.mark.slow]
PATIENCE_S = 20.0


def gone(pid: int) -> bool:
    """Whether the process has ended, after waiting for it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def simulation(emulated_image, tmp_path):
    simulation = Simulation(emulated_image, tmp_path, "--clock", "lockstep")
    yield simulation
    if simulation.child.poll() is None:
        simulation.end()


def test_an_emulator_that_dies_is_one_line(simulation):
    (emulator,) = simulation.firmware_pids()
    os.kill(emulator, signal.SIGKILL)
    _, error = simulation.child.communicate(timeout=PATIENCE_S)
    assert simulation.child.returncode == 1
    assert error.startswith("error: the emulator ended during the simulation: got SIGKILL")
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_emulator_stays_behind(simulation, number):
    (emulator,) = simulation.firmware_pids()
    host = Host(simulation.link)
    host.hello()
    simulation.child.send_signal(number)
    simulation.child.wait(PATIENCE_S)
    assert gone(emulator)
    host.close()


def test_images_that_cannot_be_emulated_are_refused(policy_folder, emulated_image, tmp_path):
    real = build(policy_folder, tmp_path, "netduinoplus2", "real").path
    with pytest.raises(SimulatorError, match="drives real pins of a netduinoplus2, expected the hil one"):
        Simulate(image=real, link=tmp_path / "link").run()
    stranger = tmp_path / "stranger.elf"
    data = emulated_image.read_bytes()
    stranger.write_bytes(data.replace(b"netduinoplus2 hil cart_rail", b"netduinoplus9 hil cart_rail"))
    with pytest.raises(ImageError, match="unknown board: got 'netduinoplus9'"):
        Simulate(image=stranger, link=tmp_path / "link").run()
    assert not os.path.lexists(tmp_path / "link")


def test_an_image_that_says_nothing_is_refused(emulated_image, tmp_path, monkeypatch):
    """Its entry point leads into data: it faults, resets, and faults again."""
    silent = tmp_path / "silent.elf"
    data = bytearray(emulated_image.read_bytes())
    start = data.find(emulated_image.with_suffix(".bin").read_bytes()[:64])
    data[start + 4 : start + 8] = (0x0800_0041).to_bytes(4, "little")
    silent.write_bytes(data)
    monkeypatch.setattr("hardware.emulator._START_TIMEOUT_S", 3.0)
    with pytest.raises(SimulatorError, match="said nothing within 3 s"):
        Simulate(image=silent, link=tmp_path / "link").run()
    assert not subprocess.run(["pgrep", "-f", str(silent)], capture_output=True, check=False).stdout


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.EIO, "Input/output error"), r"the relay .* failed \(\[Errno 5\] Input/output error\)"),
        (None, "the emulator closed one"),
    ],
)
def test_a_link_that_is_lost_while_the_emulator_runs_names_its_reason(
    emulated_image, tmp_path, monkeypatch, failure, reason
):
    """Without its relay the simulator hears nothing any more: the reason must not be lost in a thread."""

    def read_nothing(_firmware):
        if failure is None:
            return b""
        raise failure

    monkeypatch.setattr("hardware.emulator.END_TIMEOUT_S", 0.2)
    monkeypatch.setattr("hardware.emulator.EmulatedFirmware._from_host", read_nothing)
    with EmulatedFirmware(emulated_image, BOARDS["netduinoplus2"], tmp_path / "link") as firmware:
        host = Host(tmp_path / "link")
        if failure is None:
            firmware._serial[0].shutdown(socket.SHUT_RD)
        host.write(b"x")
        firmware.plant.settimeout(PATIENCE_S)
        while firmware.plant.recv(64):
            pass
        error = str(firmware.why_it_ended())
        host.close()
    assert re.search(f"the emulator still runs, but its serial ports are lost: {reason}; expected", error), error


@pytest.mark.parametrize("board", ["netduinoplus2", "microbit"])
def test_a_stack_that_overflows_in_the_middle_of_a_run_resets_the_chip(board, tmp_path):
    """It leaves RAM, where a fault can save nothing either: a handler that needs the stack would lock the core up."""
    overflow = '({ static int runs; if (++runs == 5) __asm volatile("0: push {r0, r1, r2, r3}\\n b 0b"); sum; })'
    image = build(write_policy(tmp_path / "policy", rule=overflow), tmp_path, board).path
    device = Device(image, tmp_path)
    observation = device.arm(Mode.DEVICE)
    last_tick = observation.tick + 3
    while observation.tick < last_tick:
        device.host.send(Heartbeat(SESSION, observation.tick))
        observation = device.host.wait(Observation)
    assert observation.state == State.ARMED
    device.host.send(Heartbeat(SESSION, observation.tick))  # the fifth run is that of the next tick, which it ends
    reply, observation = device.greet_restarted(last_tick + 1)
    assert (reply.board, observation.state, observation.fault) == (board, State.UNHOMED, Fault.NONE)
    enable = device.end()["enable"]
    assert enable[last_tick - 1] == Enable.DRIVE
    assert not enable[last_tick:].any()
