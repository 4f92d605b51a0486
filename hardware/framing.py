"""Frames on a byte stream: `COBS(body || crc16 little-endian) || 0x00`.

COBS removes zeros from the inside of a frame, so a listener that joins in the middle is right again after the next
delimiter. The CRC is CRC-16/CCITT-FALSE over every byte of the body, started from `CRC_INITIAL`, which carries the
hash of the schema. The C twin is `firmware/framing.c`; `tests/golden/frames.json` holds both to the same bytes.
"""

from __future__ import annotations

import binascii

from hardware.codec import MAXIMUM_BODY_SIZE, SCHEMA_HASH, encode_body
from hardware.protocol import Message

CRC_INITIAL = 0xFFFF ^ SCHEMA_HASH
_LATE_FRAMES = 64  # so far behind the newest a frame was overtaken; a device sends up to four a period
MAXIMUM_ENCODED_SIZE = (MAXIMUM_BODY_SIZE + 2) + 1 + (MAXIMUM_BODY_SIZE + 2) // 254  # without the delimiter


def crc16(data: bytes, initial: int = CRC_INITIAL) -> int:
    """CRC-16/CCITT-FALSE (polynomial 0x1021, no reflection); with initial 0xFFFF "123456789" gives 0x29B1."""
    return binascii.crc_hqx(data, initial)


def cobs_encode(data: bytes) -> bytes:
    """`data` without zeros, at most `len(data) + 1 + len(data) // 254` bytes; no delimiter."""
    if len(data) < 254:
        return bytes(_stuffed(b"\0" + data + b"\0")[:-1])
    encoded = bytearray()
    parts = data.split(b"\0")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        while len(part) > 254 or (len(part) == 254 and not last):
            encoded.append(255)
            encoded += part[:254]
            part = part[254:]
        if last and len(part) == 254:
            encoded.append(255)
            encoded += part
        else:
            encoded.append(len(part) + 1)
            encoded += part
    return bytes(encoded)


def _stuffed(data: bytes) -> bytearray:
    """Fewer than 254 bytes between two zeros: each zero but the last becomes the code of the block behind it."""
    encoded = bytearray(data)
    at, end = 0, len(data) - 1
    while at < end:
        zero = encoded.index(0, at + 1)
        encoded[at] = zero - at
        at = zero
    return encoded


def cobs_decode(encoded: bytes) -> bytes | None:
    """Inverse of `cobs_encode`; None when `encoded` is not the code of anything."""
    size = len(encoded)
    if size < 255:
        # The code 255 cannot be right here, so every code becomes the zero in front of its block, in place.
        if 0 in encoded:
            return None
        decoded = bytearray(encoded)
        position = 0
        while position < size:
            code = decoded[position]
            decoded[position] = 0
            position += code
        return bytes(decoded[1:]) if position == size else None
    decoded = bytearray()
    position = 0
    while position < size:
        code = encoded[position]
        end = position + code
        if code == 0 or end > size:
            return None
        block = encoded[position + 1 : end]
        if 0 in block:
            return None
        decoded += block
        if code != 255 and end < size:
            decoded.append(0)
        position = end
    return bytes(decoded)


def encode_frame(message: Message, sequence: int) -> bytes:
    """Everything that goes on the wire for one message, delimiter included. Raises ProtocolError."""
    return frame_body(encode_body(message, sequence))


def frame_body(body: bytes) -> bytes:
    """Frame of a body that is already encoded."""
    check = binascii.crc_hqx(body, CRC_INITIAL).to_bytes(2, "little")
    if len(body) < 252:
        return bytes(_stuffed(b"\0" + body + check + b"\0"))
    return cobs_encode(body + check) + b"\0"


class FrameDecoder:
    """Cuts a byte stream into bodies; whatever the bytes are, it counts and never raises.

    crc_errors: frames of plausible shape with a wrong CRC; garbage: frames that are no COBS code or too short;
    oversize: frames longer than any message (skipped up to their delimiter); frames: bodies handed out.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.crc_errors = 0
        self.garbage = 0
        self.oversize = 0
        self._pending = bytearray()
        self._skipping = False

    @property
    def rejected(self) -> int:
        """All frames that were not handed out, for whatever reason."""
        return self.crc_errors + self.garbage + self.oversize

    def feed(self, data: bytes) -> list[bytes]:
        """Bodies completed by `data`, in order. Memory stays bounded by one frame whatever comes."""
        return [body for piece in self.cut(data) if (body := self.check(piece)) is not None]

    def cut(self, data: bytes) -> list[bytes]:
        """The first half of `feed`: frames completed by `data`, as they came; hand each to `check`, once."""
        *complete, rest = data.split(b"\0")
        pieces: list[bytes] = []
        for piece in complete:
            if self._pending or self._skipping or len(piece) > MAXIMUM_ENCODED_SIZE:
                self._append(piece)
                piece = b"" if self._skipping else bytes(self._pending)
                self._pending.clear()
                self._skipping = False
            if piece:
                pieces.append(piece)
        if rest:
            self._append(rest)
        return pieces

    def _append(self, piece: bytes) -> None:
        if self._skipping:
            return
        if len(self._pending) + len(piece) > MAXIMUM_ENCODED_SIZE:
            self.oversize += 1
            self._skipping = True
            self._pending.clear()
            return
        self._pending += piece

    def check(self, encoded: bytes) -> bytes | None:
        """The second half of `feed`: the body of one frame, None where it is damaged."""
        decoded = cobs_decode(encoded)
        if decoded is None or len(decoded) < 5:  # type, sequence, crc
            self.garbage += 1
            return None
        body = decoded[:-2]
        if binascii.crc_hqx(body, CRC_INITIAL) != decoded[-2] | decoded[-1] << 8:
            self.crc_errors += 1
            return None
        self.frames += 1
        return body


def seems_to_be(encoded: bytes, kind: int) -> bool:
    """Whether this frame would begin with type `kind`, were it whole: COBS leaves a first byte that is not 0 alone."""
    return len(encoded) > 1 and encoded[1] == kind and encoded[0] != 1


class SequenceCounter:
    """Counts the frames that a sequence of u16 numbers says were lost.

    A number at or behind the newest one is no loss: the same number is a duplicate; one a little behind was overtaken
    (a serial line does not do that, a gateway may) or came again, and the count goes on from the newest; any other
    means that the sender started again.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.duplicates = 0
        self.late = 0
        self.restarts = 0
        self._last: int | None = None

    def update(self, sequence: int) -> int:
        """Account for one received number; the number of frames missing just before it."""
        last = self._last
        ahead = 0 if last is None else (sequence - last) & 0xFFFF
        if ahead >= 0x10000 - _LATE_FRAMES:
            self.late += 1
            return 0
        self._last = sequence
        if last is None:
            return 0
        if ahead == 0:
            self.duplicates += 1
            return 0
        if ahead >= 0x8000:
            self.restarts += 1
            return 0
        self.lost += ahead - 1
        return ahead - 1
