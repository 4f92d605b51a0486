"""One flipped bit anywhere in flash, also in the check itself, and the image never drives the motor."""

import multiprocessing
import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

import pytest
import unicorn
from unicorn_chip import UnicornChip, UnicornUsart, binary_of

from hardware.board import BOARDS
from hardware.build import build
from hardware.codec import decode_body
from hardware.errors import ProtocolError
from hardware.framing import FrameDecoder, encode_frame
from hardware.protocol import (
    PROTOCOL_VERSION,
    Actuate,
    Arm,
    Config,
    Enable,
    Hello,
    HelloReply,
    Message,
    Mode,
    SensorFlag,
    Sensors,
)

pytestmark = [pytest.mark.cross, pytest.mark.slow]
BOARD = BOARDS["netduinoplus2"]
LINK, LINK_INTERRUPT = 0x4001_1000, 37
PLANT, PLANT_INTERRUPT = 0x4000_4400, 38
STILL_PERIODS = 12  # until it is homed
ARMED_PERIODS = 3
HANGS_AFTER_US = 400_000
AT_ONCE = 6  # frames that the receive queue holds


@pytest.fixture(scope="module")
def binary(policy_folder, tmp_path_factory) -> bytes:
    return binary_of(build(policy_folder, tmp_path_factory.mktemp("image"), BOARD.name).path)


def messages(data: bytes) -> list[Message]:
    """What was said; a damaged image may also say what nobody understands."""
    understood = []
    for body in FrameDecoder().feed(data):
        with suppress(ProtocolError):
            understood.append(decode_body(body)[1])
    return understood


class Bench:
    """An image, and a host that does all it can to get it to drive."""

    def __init__(self, binary: bytes) -> None:
        assert BOARD.chip is not None
        self.chip = UnicornChip(BOARD.chip, binary)
        self.link = UnicornUsart(self.chip, LINK, LINK_INTERRUPT)
        self.plant = UnicornUsart(self.chip, PLANT, PLANT_INTERRUPT)

    def drives(self, patience_us: int = 10_000_000) -> bool:
        """Start it, home it, arm it in device mode: does any ACTUATE enable the drive?

        `patience_us`: after so long between two sleeps it is taken to hang; undamaged it needs a hundredth of a second.
        """
        self._patience_us = patience_us
        with suppress(unicorn.UcError, TimeoutError):  # such an image drives nothing either; what it said before counts
            self._try()
        return any(isinstance(said, Actuate) and said.enable != Enable.OFF for said in messages(bytes(self.plant.sent)))

    def _try(self) -> None:
        self.chip.reset()
        self.chip.run(self._patience_us)
        self._tell(Hello(PROTOCOL_VERSION, 1))
        replies = [said for said in messages(bytes(self.link.sent)) if isinstance(said, HelloReply)]
        nonce = replies[0].device_nonce if replies else 0
        self._tell(Config(nonce, Mode.DEVICE, 2, 0))
        self._periods(range(1, STILL_PERIODS))
        self._tell(Arm(nonce, 0x5EED))
        self._periods(range(STILL_PERIODS, STILL_PERIODS + ARMED_PERIODS))

    def _periods(self, ticks: range) -> None:
        frames = [
            encode_frame(Sensors(tick, tick * 20_000, 0, 0, SensorFlag.REFERENCED), tick & 0xFFFF) for tick in ticks
        ]
        for first in range(0, len(frames), AT_ONCE):
            self.plant.receive(b"".join(frames[first : first + AT_ONCE]))
            self.chip.run(self._patience_us)

    def _tell(self, message: Message) -> None:
        self.link.receive(encode_frame(message, 0))
        self.chip.run(self._patience_us)


def test_the_last_four_bytes_are_the_crc_of_all_others(binary):
    assert zlib.crc32(binary[:-4]) == int.from_bytes(binary[-4:], "little")
    assert zlib.crc32(binary) == 0x2144DF1C


def test_an_undamaged_image_drives(binary):
    bench = Bench(binary)
    assert bench.drives()
    bench.chip.flip(100, 0)
    bench.chip.flip(100, 0)
    assert bench.drives()


def driving_offsets(binary: bytes, offsets: range) -> list[tuple[int, int]]:
    """Offset and bit of every flip after which the drive was enabled; the bit varies from byte to byte."""
    bench = Bench(binary)
    driving = []
    for offset in offsets:
        bit = (offset * 5 + 3) % 8
        bench.chip.flip(offset, bit)
        if bench.drives(HANGS_AFTER_US):
            driving.append((offset, bit))
        bench.chip.flip(offset, bit)
    assert bench.drives()  # undamaged again: nothing of the flips stayed
    return driving


def test_an_image_with_one_flipped_bit_never_drives(binary):
    """At every byte of the flash."""
    processes = os.cpu_count() or 1
    shares = [range(start, len(binary), processes) for start in range(processes)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        results = list(pool.map(driving_offsets, [binary] * processes, shares))
    assert [flip for result in results for flip in result] == []
