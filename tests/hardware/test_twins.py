"""C and Python twins: framing, observation and drive limit, the same bits on random input."""

import ctypes
import random
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import compile_program
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.build import FIRMWARE_FOLDER
from hardware.codec import encode_body
from hardware.drive import DriveLimit
from hardware.framing import MAXIMUM_ENCODED_SIZE, FrameDecoder, crc16, frame_body
from hardware.observe import Observer, rod_sin_cos
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import Arm, Command, Config, Disarm, Heartbeat, Hello

FIRMWARE_TESTS = Path(__file__).parent.parent / "firmware"
HOST_MESSAGES = (Hello(1, 2), Config(1, 0, 2, 0), Arm(1, 0), Disarm(0), Command(1, 2, 3.0), Heartbeat(1, 2))


class Decoder(ctypes.Structure):
    _fields_ = (
        ("buffer", ctypes.c_uint8 * MAXIMUM_ENCODED_SIZE),
        ("size", ctypes.c_size_t),
        ("skipping", ctypes.c_bool),
        ("frames", ctypes.c_uint32),
        ("crc_errors", ctypes.c_uint32),
        ("garbage", ctypes.c_uint32),
        ("oversize", ctypes.c_uint32),
    )


class Observe(ctypes.Structure):
    _fields_ = (
        ("cart_count", ctypes.c_int32),
        ("rod_count", ctypes.c_int32),
        ("cart_speed", ctypes.c_float),
        ("rod_speed", ctypes.c_float),
    )


def bits(value) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


def mutate(generator: random.Random) -> bytes:
    """Bytes a device may meet: noise, valid frames, frames with damage, frames with damage under a right CRC."""
    message = generator.choice(HOST_MESSAGES)
    body = bytearray(encode_body(message, generator.randrange(65536)))
    kind = generator.randrange(5)
    if kind == 0:
        return generator.randbytes(generator.randrange(1, 120))
    if kind == 1:
        return frame_body(bytes(body))
    if kind == 2:
        frame = bytearray(frame_body(bytes(body)))
        for _ in range(generator.randrange(1, 4)):
            frame[generator.randrange(len(frame))] = generator.randrange(256)
        return bytes(frame)
    if kind == 3:
        return frame_body(generator.randbytes(generator.randrange(3, 73)))
    for _ in range(generator.randrange(1, 5)):
        body[generator.randrange(1, len(body))] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
    return frame_body(bytes(body[: generator.choice((len(body), len(body), len(body) - 1))]))


@given(st.binary(max_size=200), st.integers(0, 0xFFFF))
def test_crc(library, data, initial):
    library.framing_crc16.restype = ctypes.c_uint16
    assert library.framing_crc16(ctypes.c_uint16(initial), data, ctypes.c_size_t(len(data))) == crc16(data, initial)


@given(st.binary(min_size=3, max_size=72))
def test_encoded_frames(library, body):
    library.framing_encode.restype = ctypes.c_size_t
    frame = ctypes.create_string_buffer(100)
    size = library.framing_encode(body, ctypes.c_size_t(len(body)), frame)
    assert frame.raw[:size] == frame_body(body)


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_decoders_hand_out_and_count_the_same(library, seed):
    generator = random.Random(seed)
    stream = b"".join(mutate(generator) for _ in range(20))
    python, c, bodies = FrameDecoder(), Decoder(), []
    library.framing_push.restype = ctypes.c_size_t
    for byte in stream:
        size = library.framing_push(ctypes.byref(c), ctypes.c_uint8(byte))
        if size:
            bodies.append(bytes(c.buffer[:size]))
    assert python.feed(stream) == bodies
    counts = (python.frames, python.crc_errors, python.garbage, python.oversize)
    assert counts == (c.frames, c.crc_errors, c.garbage, c.oversize)


def test_sine_and_cosine_at_every_count(library):
    sine, cosine = ctypes.c_float(), ctypes.c_float()
    turn = CART_RAIL.rod_counts_per_revolution
    counts = [*range(-turn, 2 * turn), 10**6 + 1, -(10**6) - 1, 2**31 - 1, -(2**31)]
    for count in counts:
        library.observe_sin_cos(ctypes.c_int32(count), ctypes.byref(sine), ctypes.byref(cosine))
        assert tuple(map(bits, rod_sin_cos(count, turn))) == (bits(sine.value), bits(cosine.value)), count


def test_observations_on_random_walks(library):
    generator = np.random.default_rng(1)
    observation = (ctypes.c_float * 5)()
    for _ in range(20):
        cart, rod = map(int, generator.integers(-20_000, 20_000, 2))
        python, c = Observer(), Observe()
        python.reset(cart, rod)
        library.observe_reset(ctypes.byref(c), cart, rod)
        for step in generator.integers(-1500, 1500, (500, 2)):
            cart, rod = cart + int(step[0]), rod + int(step[1])
            library.observe_step(ctypes.byref(c), cart, rod, observation)
            assert python.observe(cart, rod).tobytes() == bytes(observation)


def test_drive_limit_on_random_commands(library):
    generator = np.random.default_rng(2)
    library.drive_latch.restype = ctypes.c_float
    for _ in range(20):
        python, c = DriveLimit(), ctypes.c_float()
        library.drive_reset(ctypes.byref(c))
        position = np.float32(generator.uniform(-0.9, 0.9))
        for wanted in generator.normal(0.0, 15.0, 500).astype(np.float32):
            got = library.drive_latch(ctypes.byref(c), ctypes.c_float(wanted), ctypes.c_float(position))
            assert bits(python.latch(wanted, position)) == bits(got)
            assert bits(python.velocity_setpoint_m_s) == bits(c.value)
            position += np.float32(0.02) * python.velocity_setpoint_m_s + np.float32(generator.normal(0, 1e-3))


@pytest.fixture(scope="module")
def hostile_stream() -> bytes:
    generator = random.Random(3)
    return b"".join(mutate(generator) for _ in range(30_000))


@pytest.mark.parametrize("how", ["disarmed", "armed", "damaged"])
def test_hostile_bytes_under_sanitizers(tmp_path, hostile_stream, how):
    modules = [FIRMWARE_FOLDER / f"{name}.c" for name in ("link", "safety", "drive", "framing")]
    program = compile_program(tmp_path / "fuzz_link", [FIRMWARE_TESTS / "fuzz_link.c", *modules])
    done = subprocess.run([program, how], input=hostile_stream, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert int(done.stdout) > 5000  # the stream reaches the handlers, not only the CRC
