"""A chip that is reset in the middle of a run, in the orders in which its words can reach the simulator."""

import os
import select
import socket

import pytest

from hardware import simulator
from hardware.codec import decode_body
from hardware.errors import SimulatorError
from hardware.faults import parse_fault
from hardware.framing import FrameDecoder, encode_frame
from hardware.plants.by_name import plant_named
from hardware.protocol import STARTED_TICK, Actuate, Enable, ExchangeDone, Fault, Sensors
from hardware.simulator import Simulator

STARTED, GREETED = ExchangeDone(STARTED_TICK), ExchangeDone(0)


class Chip:
    """Its own plant port: what it is sent is answered before the simulator looks again. `up`: its words after a reset;
    `silent_from`: the tick from which on it answers nothing; `heard_out`: whether all it had said was read when it was
    reset."""

    CAN_RESET = True

    def __init__(self, *first, up=(), silent_from=2**32):
        self.plant = self
        self.up, self.silent_from = up, silent_from
        self.ticks = []
        self.heard_out = None
        self._theirs, self._ours = socket.socketpair()
        self._decoder = FrameDecoder()
        self.say(*first)

    def say(self, *messages):
        """All of them in one piece."""
        self._ours.sendall(b"\0" + b"".join(encode_frame(message, 0) for message in messages))

    def reset(self):
        self.heard_out = not select.select([self._theirs], [], [], 0)[0]
        self.say(*self.up)

    def why_it_ended(self):
        return SimulatorError("the chip is gone")

    def sendall(self, data):
        for body in self._decoder.feed(data):
            message = decode_body(body)[1]
            assert isinstance(message, Sensors)
            self.ticks.append(message.tick)
            if message.tick < self.silent_from:
                self.say(Actuate(message.tick, 5.0, 0.1, Enable.DRIVE, Fault.NONE), ExchangeDone(message.tick))

    def recv(self, size):
        return self._theirs.recv(size)

    def fileno(self):
        return self._theirs.fileno()

    def close(self):
        self._theirs.close()
        self._ours.close()


@pytest.fixture
def play(monkeypatch):
    """Runs a simulation of a chip that browns out before `tick`; the drive's enable flags, tick by tick."""
    monkeypatch.setattr(simulator, "ACTUATE_TIMEOUT_S", 1.0)  # only what fails waits so long
    chips = []

    def run(chip, tick, clock="lockstep"):
        chips.append(chip)
        played = Simulator(plant_named("cart_rail"), chip, clock, 60.0, [parse_fault(f"brown-out@{tick}:1")])
        played.run(4)
        return played.trajectory._enable

    yield run
    for chip in chips:
        chip.close()


def test_a_host_that_greets_the_chip_as_soon_as_it_is_up_hides_nothing(play):
    chip = Chip(STARTED, GREETED, up=(STARTED, GREETED))
    assert play(chip, 3) == [Enable.DRIVE] * 4
    assert chip.ticks == [1, 2, 3, 4]


def test_a_chip_that_does_not_come_back_is_an_error(play):
    with pytest.raises(SimulatorError, match="did not say within 1 s that it is up: got 1 starts, expected 2"):
        play(Chip(STARTED, GREETED, up=(GREETED,)), 3)


def test_what_it_ordered_just_before_the_reset_drives_nothing_after_it(play):
    before = Actuate(2, 5.0, 0.1, Enable.DRIVE, Fault.NONE)
    assert play(Chip(STARTED, up=(before, STARTED), silent_from=3), 3, "real")[2:] == [Enable.OFF] * 2


def test_the_word_of_power_on_is_not_taken_for_the_one_after_the_reset(play):
    chip = Chip(STARTED, up=())
    with pytest.raises(SimulatorError, match="got 1 starts, expected 2"):
        play(chip, 1, "real")
    assert chip.heard_out
    assert chip.ticks == []


def test_an_emulator_that_is_gone_cannot_be_reset(play):
    chip = Chip(STARTED, GREETED)
    chip.reset = lambda: os.write(-1, b"")
    with pytest.raises(SimulatorError, match="the chip is gone"):
        play(chip, 3)
