"""C and Python twins: framing, and hostile bytes at the link (observation and drive: test_plant_twins.py)."""

import ctypes
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.codec import encode_body
from hardware.framing import MAXIMUM_ENCODED_SIZE, FrameDecoder, crc16, frame_body
from hardware.protocol import Arm, Command, Config, Disarm, Heartbeat, Hello

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
