"""One direction of the fault proxy: bytes in, frames cut at their 0x00 delimiters, what is left of them out.

Nothing here reads a clock or a port. What the receiver will make of the output is known, too: the same decoder as the
receiver's reads along (`arrived`).
"""

import dataclasses
import random
from collections import deque

from firmware_bridge.faults.plan import Direction, Fate, FaultPlan, Moment
from hardware.codec import decode_body
from hardware.errors import ProtocolError
from hardware.framing import FrameDecoder, encode_frame
from hardware.protocol import Command, Message

_LONGEST_PIECE_BYTES = 1024  # bytes without any delimiter are handed on in such pieces: memory stays bounded
_REMEMBERED_FRAMES = 256
_LARGEST_FLOOD_BYTES = 1024
_MOST_CORRUPT_BYTES = 4
_MOST_OVERTAKING = 6  # frames; a device sends two or three a period


@dataclasses.dataclass
class StreamCounters:
    """What one direction carried and suffered; every kind of fault counts frames."""

    frames: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    drop: int = 0
    corrupt: int = 0
    truncate: int = 0
    duplicate: int = 0
    reorder: int = 0
    flood: int = 0
    replay: int = 0
    foreign: int = 0
    lost_in_flight: int = 0
    """Frames that were still held back when their connection ended."""
    without_host: int = 0
    """Frames that came while no host was connected."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One piece of the input up to its delimiter, and what it says: None for what no receiver would understand."""

    data: bytes
    sequence: int = 0
    message: Message | None = None


@dataclasses.dataclass(frozen=True)
class Passage:
    """What is sent for one frame, how much later [s], and the bodies that the receiver decodes from all of it."""

    data: bytes
    delay_s: float
    arrived: tuple[tuple[int, Message], ...]
    kinds: frozenset[str]


class FaultStream:
    """The frames of one direction, in order."""

    def __init__(self, plan: FaultPlan) -> None:
        self.counters = StreamCounters()
        self._plan = plan
        self._pending = bytearray()
        self._held: list[tuple[int, bytes]] = []  # until the frame of that index has gone
        self._receiver = FrameDecoder()
        self._frame_index = 0
        self._message_indices: dict[str, int] = {}
        self._phase_indices: dict[str, int] = {}
        self._phase_armed = False
        self._sessions: tuple[int, int] = (0, 0)  # of the newest Command, and the other one before it
        self._earlier: deque[bytes] = deque(maxlen=_REMEMBERED_FRAMES)

    def restart(self) -> None:
        """A new connection begins: indices start again; what the receiver has half read stays half read."""
        self.counters.lost_in_flight += len(self._held)
        self._held.clear()
        self._pending.clear()
        self._frame_index = 0
        self._message_indices.clear()
        self._phase_indices.clear()
        self._phase_armed = False

    def cut(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Whatever the bytes are, nothing is raised."""
        self.counters.bytes_in += len(data)
        *complete, rest = data.split(b"\0")
        frames = []
        for piece in complete:
            self._pending += piece + b"\0"
            frames.append(self._taken())
        self._pending += rest
        if len(self._pending) > _LONGEST_PIECE_BYTES:
            frames.append(self._taken())
        return frames

    def forward(self, frame: Frame, connection: int, period: int | None) -> Passage:
        """Draw the fate of `frame` and apply it."""
        fate = self._plan.fate(self._moment(frame, connection, period))
        self.counters.frames += 1
        data = self._mangled(frame, fate) if fate.kinds or self._held else frame.data
        if self._plan.direction == Direction.TO_DEVICE:
            self._earlier.append(frame.data)
            if isinstance(frame.message, Command) and frame.message.session != self._sessions[0]:
                self._sessions = (frame.message.session, self._sessions[0])
        return self._passage(data, fate)

    def inject(self, data: bytes) -> Passage:
        """Bytes of the proxy's own, untouched."""
        return self._passage(data, Fate(frozenset(), 0.0, 0))

    def _passage(self, data: bytes, fate: Fate) -> Passage:
        self.counters.bytes_out += len(data)
        arrived = []
        for body in self._receiver.feed(data):
            try:
                arrived.append(decode_body(body))
            except ProtocolError:
                continue
        return Passage(data, fate.delay_s, tuple(arrived), fate.kinds)

    def _taken(self) -> Frame:
        data = bytes(self._pending)
        self._pending.clear()
        for body in FrameDecoder().feed(data):
            try:
                sequence, message = decode_body(body)
            except ProtocolError:
                continue
            return Frame(data, sequence, message)
        return Frame(data)

    def _moment(self, frame: Frame, connection: int, period: int | None) -> Moment:
        if period is not None and not self._phase_armed:
            self._phase_armed = True
            self._phase_indices.clear()
        name = type(frame.message).__name__ if frame.message is not None else ""
        moment = Moment(
            *(connection, name, period, self._frame_index),
            *(self._message_indices.get(name, 0), self._phase_indices.get(name, 0)),
        )
        self._frame_index += 1
        self._message_indices[name] = moment.message_index + 1
        self._phase_indices[name] = moment.phase_index + 1
        return moment

    def _mangled(self, frame: Frame, fate: Fate) -> bytes:
        """What goes out for a frame that something happens to, or that one was held back for."""
        kinds, data, counters, details = fate.kinds, frame.data, self.counters, fate.random()
        before = b""
        if "flood" in kinds:
            counters.flood += 1
            before += details.randbytes(details.randint(1, _LARGEST_FLOOD_BYTES))
        if "replay" in kinds and self._earlier:
            counters.replay += 1
            before += self._earlier[details.randrange(len(self._earlier))]
        if "foreign" in kinds and isinstance(frame.message, Command):
            counters.foreign += 1
            before += self._foreign(frame.message, frame.sequence)
        held = b"".join(each for index, each in self._held if index < self._frame_index)
        self._held = [(index, each) for index, each in self._held if index >= self._frame_index]
        if "drop" in kinds:
            counters.drop += 1
            return before + held
        if "corrupt" in kinds:
            counters.corrupt += 1
            data = _corrupted(data, details)
        if "truncate" in kinds:
            counters.truncate += 1
            # More than the delimiter goes: with a new one the frame would be whole again.
            data = data[: details.randrange(max(1, len(data) - 1))] + (b"\0" if details.random() < 0.5 else b"")
        if "duplicate" in kinds:
            counters.duplicate += 1
            data += data
        if "reorder" in kinds:
            counters.reorder += 1
            self._held.append((self._frame_index - 1 + details.randint(1, _MOST_OVERTAKING), data))
            return before + held
        return before + data + held

    def _foreign(self, command: Command, sequence: int) -> bytes:
        """The answer to the same observation from another session, as wrong as the limits allow."""
        other = self._sessions[1] if self._sessions[0] == command.session else self._sessions[0]
        other = other or command.session ^ 0x5A5A5A5A or 1
        action = -19.0 if command.action > 0.0 else 19.0
        return encode_frame(Command(other, command.observation_tick, action), sequence)


def _corrupted(data: bytes, details: random.Random) -> bytes:
    changed = bytearray(data)
    for place in details.sample(range(len(data)), min(len(data), details.randint(1, _MOST_CORRUPT_BYTES))):
        changed[place] ^= details.randint(1, 255)
    return bytes(changed)
