"""The whole firmware on an emulated ATmega328P: 32 KB of flash, 2 KB of RAM, soft float, one serial port."""

import threading
import zlib

import pytest
from fault_bench import Device, to_and_fro
from pendulum_host import SESSION, Host, simulate

from hardware.board import BOARDS
from hardware.build import build
from hardware.errors import ImageError
from hardware.flash import flash
from hardware.image import flash_contents, identify
from hardware.open_firmware import open_firmware
from hardware.plants.cart_rail import CART_RAIL, CartRailPlant
from hardware.protocol import Heartbeat, Mode, ResetCause, State
from hardware.simulator import Simulator

pytestmark = [pytest.mark.avr, pytest.mark.slow]
BOARD = BOARDS["atmega328p"]
TICKS = 150
PERIOD_CYCLES = BOARD.chip.clock_hz * CART_RAIL.period_us // 1_000_000


@pytest.fixture(scope="module")
def built(policy_folder, tmp_path_factory):
    return build(policy_folder, tmp_path_factory.mktemp("image"), BOARD.name)


def test_the_image_fits_and_carries_its_crc(built):
    assert built.flash_bytes <= BOARD.chip.flash_bytes
    assert built.ram_bytes <= BOARD.chip.ram_bytes  # the reserved stack included
    contents = flash_contents(built.path)
    assert len(contents) == built.flash_bytes
    assert zlib.crc32(contents) == 0x2144DF1C
    assert identify(built.path).board is BOARD


def test_it_is_not_flashed(built):
    with pytest.raises(ImageError, match="nothing here programs"):
        flash(built.path, BOARD.name, None, dry_run=True)


def play(image, folder, mode) -> dict:
    """Arm, drive for TICKS periods, disarm; what the simulation says at its end."""
    simulation = next(simulation_of := simulate(image, folder, "--clock", "lockstep"))
    host = Host(simulation.link)
    observation = host.arm(mode)
    while observation.tick < TICKS:
        if mode == Mode.HOST:
            host.answer(observation, lambda observed: to_and_fro(observed.tick))
        else:
            host.send(Heartbeat(SESSION, observation.tick))
        observation = host.wait(type(observation))
        assert observation.state == State.ARMED
    host.disarm(observation)
    host.close()
    result = simulation.end()
    simulation_of.close()
    return result


@pytest.mark.parametrize("mode", [Mode.DEVICE, Mode.HOST])
def test_soft_float_gives_the_bits_of_the_host(built, image, tmp_path, mode):
    results = []
    for number, one in enumerate((image, built.path)):
        (tmp_path / str(number)).mkdir()
        results.append(play(one, tmp_path / str(number), mode))
    assert results[0]["enabled_steps"] > TICKS // 2
    assert results[1]["missed_exchanges"] == 0
    assert results[0]["trajectory_sha256"] == results[1]["trajectory_sha256"]


def figures(firmware) -> list[int]:
    """Cycles in all, the longest stretch between two sleeps since the last question, and the stack's depth."""
    firmware.monitor.sendall(b"?")
    return [int(word) for word in firmware.monitor.recv(100).split()]


def test_a_period_is_done_in_time_and_the_stack_in_its_bounds(built, tmp_path):
    """Cycles between two sleeps: bytes on the line, safety, policy and all."""
    with open_firmware(built.path, tmp_path / "link", True) as firmware:
        simulator = Simulator(CartRailPlant(), firmware, "lockstep", 60.0)
        playing = threading.Thread(target=simulator.run, args=(None,))
        playing.start()
        host = Host(tmp_path / "link")
        observation = host.arm(Mode.SHADOW)
        figures(firmware)  # what came before, the CRC-32 of the image above all, takes its time once
        while observation.tick < TICKS:
            host.send(Heartbeat(SESSION, observation.tick))
            observation = host.wait(type(observation))
        host.close()
        simulator.stop()
        playing.join()
        _, longest, stack = figures(firmware)
        inference_us = max(timing.inference_us for timing in host.timings)
    print(f"longest stretch {longest} of {PERIOD_CYCLES} cycles, inference {inference_us} us, stack {stack} B")
    assert observation.state == State.ARMED
    assert 10_000 < longest < PERIOD_CYCLES * 3 // 4
    assert 50 < stack <= BOARD.chip.stack_bytes


def test_a_reset_in_the_middle_of_a_run_comes_up_disarmed(built, tmp_path):
    device = Device(built.path, tmp_path, "brown-out@60")
    try:
        host, observation = device.host, device.arm(Mode.DEVICE)
        while observation.tick < 59:
            host.send(Heartbeat(SESSION, observation.tick))
            observation = host.wait(type(observation))
        host.send(Heartbeat(SESSION, observation.tick))
        reply, observation = device.greet_restarted(60)
        assert reply.reset_cause == ResetCause.UNKNOWN  # the hil board does not ask
        assert observation.state == State.UNHOMED
    finally:
        device.kill()
