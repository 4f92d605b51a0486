"""What happens to one frame on its way through the fault proxy: drawn from the seed, or written in a script.

A frame's fate depends on the seed, its direction, the number of the connection, whether the device has been ARMED on
it, the type of the message, and how many of that type went before: never on how reads split, nor on when they came.
So the same seed does the same to the n-th COMMAND of an armed run, in lock-step and in real time alike.
"""

import dataclasses
import hashlib
import random
import struct
from enum import StrEnum

from firmware_bridge.errors import BridgeError
from firmware_bridge.faults.script import RATE_KINDS, ScriptedFault

_WORDS = struct.Struct("<16I")


class Direction(StrEnum):
    """Which way a frame travels."""

    TO_DEVICE = "to-device"
    TO_HOST = "to-host"


@dataclasses.dataclass(frozen=True)
class FaultRates:
    """Share of the frames (0 to 1) that each kind of fault hits, independently of the others; `jitter_s` [s] is the
    longest extra delay, drawn evenly from 0 on."""

    drop: float = 0.0
    corrupt: float = 0.0
    truncate: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    flood: float = 0.0
    replay: float = 0.0
    foreign: float = 0.0
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no share. Raises BridgeError."""
        for kind in RATE_KINDS:
            if not 0.0 <= getattr(self, kind) <= 1.0:  # also refuses NaN
                raise BridgeError(f"--{kind} {getattr(self, kind):g}: expected a share of frames from 0 to 1")
        if not 0.0 <= self.jitter_s <= 10.0:
            raise BridgeError(f"--jitter-ms {self.jitter_s * 1e3:g}: expected 0 to 10000 ms; pass another")


@dataclasses.dataclass(frozen=True)
class Fate:
    """The kinds of fault that hit one frame, its extra delay [s], and the seed of their details."""

    kinds: frozenset[str]
    delay_s: float
    detail: int

    def random(self) -> random.Random:
        """Random numbers for the details (which byte, how long), the same for the same frame."""
        return random.Random(self.detail)  # noqa: S311 - faults are no secrets


@dataclasses.dataclass(frozen=True)
class Moment:
    """Where on a connection a frame is.

    `connection` counts from 0; `period` counts control periods from its first ARMED observation on, None before. All
    other numbers count frames of one direction before this one: `frame_index` any and `message_index` those of this
    `message` (its class name, "" for what is no message) since the connection began, `phase_index` the same since the
    first ARMED observation.
    """

    connection: int
    message: str
    period: int | None
    frame_index: int = 0
    message_index: int = 0
    phase_index: int = 0


class FaultPlan:
    """Seed, rates and script of one direction."""

    def __init__(self, direction: Direction, seed: int, rates: FaultRates, script: tuple[ScriptedFault, ...]) -> None:
        self.direction = direction
        self._seed = seed
        self._rates = tuple(getattr(rates, kind) for kind in RATE_KINDS)
        self._jitter_s = rates.jitter_s
        self._script = tuple(fault for fault in script if fault.direction in ("both", direction.value))

    def fate(self, moment: Moment) -> Fate:
        """What happens to the frame at `moment`."""
        armed = moment.period is not None
        key = f"{self._seed}/{self.direction}/{moment.connection}/{armed}/{moment.message}/{moment.phase_index}"
        words = _WORDS.unpack(hashlib.blake2b(key.encode(), digest_size=_WORDS.size).digest())
        # 32 bits a draw: rates down to 1e-9 are what they say.
        hit = {kind for kind, rate, word in zip(RATE_KINDS, self._rates, words, strict=False) if word < rate * 2**32}
        hit |= {
            fault.kind
            for fault in self._script
            if fault.hits(moment.connection, moment.message, moment.period, moment.frame_index, moment.message_index)
        }
        return Fate(frozenset(hit), words[14] / 2**32 * self._jitter_s, words[15])
