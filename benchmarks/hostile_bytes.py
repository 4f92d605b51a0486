"""Bytes that a device should never send: half of them random, half mutated frames whose checksum is right again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hardware.codec import MAXIMUM_BODY_SIZE, encode_body
from hardware.framing import encode_frame, frame_body
from hardware.protocol import (
    Acknowledge,
    Action,
    Command,
    Disarm,
    FaultReport,
    HelloReply,
    LinkStatistics,
    Message,
    Observation,
    Timing,
)

LANDMARK_TICK = 0xABCD0000
"""Each piece ends in a delimiter and the OBSERVATION of the next tick from here on."""

_PIECE_BYTES = 3000  # of a kind; a read of the link takes 4,096
_ZERO_SHARES = (1 / 256, 1 / 30, 1 / 8)  # how often a delimiter comes among random bytes
_FRAME = (0.1, 0.2, 0.3, 0.4, 0.5)
_TEMPLATES: tuple[Message, ...] = (
    HelloReply(2, 1, 2, 3, 20_000, 5, 5, bytes(range(32)), "board", 20.0, 1, 1),
    Acknowledge(3, 7, 0),
    Observation(9, 10, _FRAME, _FRAME, 1.0, 2, 0, 1),
    Action(9, -1.5),
    Timing(9, 20_000, 300, 12),
    FaultReport(1, 9, 2),
    LinkStatistics(1, 2, 3, 4),
    Command(1, 9, 2.0),  # the bridge's own, as a port that echoes sends them back
    Disarm(0),
)


def landmark(index: int) -> bytes:
    """What ends piece `index`: whatever came before it, this frame is to be decoded."""
    tick = (LANDMARK_TICK + index) & 0xFFFF_FFFF
    return b"\0" + encode_frame(Observation(tick, 0, _FRAME, _FRAME, 0.0, 2, 0, 1), index)


def hostile_pieces(size: int, seed: int) -> Iterator[bytes]:
    """At least `size` bytes in pieces that each end in a landmark, random and mutated ones in turn."""
    rng = np.random.default_rng(seed)
    total = index = 0
    while total < size:
        piece = _random_bytes(rng) if index % 2 == 0 else _mutated_frames(rng)
        piece += landmark(index)
        total += len(piece)
        index += 1
        yield piece


def _random_bytes(rng: np.random.Generator) -> bytes:
    data = rng.integers(1, 256, _PIECE_BYTES, np.uint8)
    data[rng.random(_PIECE_BYTES) < _ZERO_SHARES[int(rng.integers(len(_ZERO_SHARES)))]] = 0
    return data.tobytes()


def _mutated_frames(rng: np.random.Generator) -> bytes:
    frames = bytearray()
    while len(frames) < _PIECE_BYTES:
        message = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
        frames += frame_body(_mutated(bytearray(encode_body(message, int(rng.integers(65536)))), rng))
    return bytes(frames)


def _mutated(body: bytearray, rng: np.random.Generator) -> bytes:
    kind = int(rng.integers(8))
    if kind == 0:  # fields of any value, and lengths that are right
        body[3:] = rng.bytes(len(body) - 3)
    elif kind == 1:  # another type, of this protocol or not
        body[0] = int(rng.integers(256))
    elif kind == 2:  # too short, down to nothing
        del body[int(rng.integers(len(body))) :]
    elif kind == 3:  # too long
        body += rng.bytes(int(rng.integers(1, MAXIMUM_BODY_SIZE)))
    elif kind == 4:  # the extremes of every type: NaN, infinity, the largest and the smallest integers
        place = int(rng.integers(3, len(body)))
        body[place : place + 4] = _EXTREMES[int(rng.integers(len(_EXTREMES)))][: len(body) - place]
    else:
        for place in rng.integers(0, len(body), int(rng.integers(1, 6))):
            body[place] ^= int(rng.integers(1, 256))
    return bytes(body)


_EXTREMES = tuple(
    value.to_bytes(4, "little")
    for value in (0, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FC00000, 0x7F800000, 0xFF800000, 0x00000001, 0x7F7FFFFF)
)
