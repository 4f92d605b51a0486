"""Scripted faults of the simulated plant's sensors: `KIND[=SIZE]@TICK[:PERIODS]`.

They change what SENSORS says, and a brown-out resets the device; the plant goes on as physics has it, and the
trajectory keeps its true counts. A fault lasts PERIODS control periods from TICK on, or for ever; SIZE [counts] is for
the jumps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hardware.errors import SimulatorError
from hardware.protocol import SensorFlag, Sensors

KINDS = {
    "encoder-frozen-cart": "the cart count stays what it was",
    "encoder-frozen-rod": "the rod count stays what it was",
    "encoder-jump-cart": "SIZE counts are added to the cart's (1000 counts are 50 mm)",
    "encoder-jump-rod": "SIZE counts are added to the rod's (256 counts are 22.5 degrees)",
    "e-stop": "the emergency-stop input is open",
    "end-left": "the left end switch is open",
    "end-right": "the right end switch is open",
    "drive-fault": "the drive reports a fault",
    "reference-lost": "the encoders have lost power since homing",
    "brown-out": "the supply fails for a moment: an emulated chip is reset, the encoders have lost power",
}
"""Every kind, and what it does."""

_RESET = "brown-out"
_FLAGS = {
    "e-stop": SensorFlag.EMERGENCY_STOP,
    "end-left": SensorFlag.END_LEFT,
    "end-right": SensorFlag.END_RIGHT,
    "drive-fault": SensorFlag.DRIVE_FAULT,
}
_JUMP_COUNTS = {"encoder-jump-cart": 1000, "encoder-jump-rod": 256}
_FORM = re.compile(r"(?P<kind>[a-z-]+)(=(?P<size>[+-]?[0-9]{1,10}))?@(?P<tick>[0-9]{1,10})(:(?P<periods>[0-9]{1,10}))?")
_SHOWN = 80  # characters of a wrong argument
_COUNT_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class ScriptedFault:
    """One fault: from `tick` on for `periods` (None: for ever); `size_counts` is 0 where it means nothing."""

    kind: str
    tick: int
    periods: int | None = None
    size_counts: int = 0

    def active(self, tick: int) -> bool:
        """Whether it is there at `tick`."""
        return self.tick <= tick and (self.periods is None or tick < self.tick + self.periods)


def parse_fault(text: str) -> ScriptedFault:
    """One `--inject` argument. Raises SimulatorError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise SimulatorError(
            f"--inject {text[:_SHOWN]!r}: expected KIND[=SIZE]@TICK[:PERIODS], numbers of ten digits at most, for "
            f"example e-stop@100 or encoder-jump-cart=2000@100:5; KIND is one of {', '.join(KINDS)}"
        )
    kind, tick = found["kind"], int(found["tick"])
    if kind not in KINDS:
        raise SimulatorError(f"--inject {text!r}: unknown kind {kind!r}, expected one of {', '.join(KINDS)}")
    if found["size"] is not None and kind not in _JUMP_COUNTS:
        raise SimulatorError(f"--inject {text!r}: got a size, expected one only for {' and '.join(_JUMP_COUNTS)}")
    periods = None if found["periods"] is None else int(found["periods"])
    size = int(found["size"]) if found["size"] is not None else _JUMP_COUNTS.get(kind, 0)
    if tick < 1 or periods == 0 or abs(size) > _COUNT_LIMIT:
        raise SimulatorError(
            f"--inject {text!r}: expected a tick from 1 on, at least one period, and a size that fits 32 bits; "
            "pass others"
        )
    return ScriptedFault(kind, tick, periods, size)


class FaultInjector:
    """Applies scripted faults to one SENSORS message after the other."""

    def __init__(self, faults: Sequence[ScriptedFault] = ()) -> None:
        self._faults = tuple(faults)
        self._last: Sensors | None = None

    def apply(self, sensors: Sensors) -> Sensors:
        """What the device is told instead of `sensors`. Faults that overlap act in the order of the script."""
        for fault in self._faults:
            if fault.active(sensors.tick):
                sensors = self._changed(fault, sensors)
        self._last = sensors
        return sensors

    @property
    def resets(self) -> bool:
        """Whether the script resets the device at all."""
        return any(fault.kind == _RESET for fault in self._faults)

    def resets_at(self, tick: int) -> bool:
        """Whether the device is reset just before this tick."""
        return any(fault.kind == _RESET and fault.tick == tick for fault in self._faults)

    def _changed(self, fault: ScriptedFault, sensors: Sensors) -> Sensors:
        last = self._last or sensors
        match fault.kind:
            case "encoder-frozen-cart":
                return replace(sensors, cart_count=last.cart_count)
            case "encoder-frozen-rod":
                return replace(sensors, rod_count=last.rod_count)
            case "encoder-jump-cart":
                return replace(sensors, cart_count=_wrapped(sensors.cart_count + fault.size_counts))
            case "encoder-jump-rod":
                return replace(sensors, rod_count=_wrapped(sensors.rod_count + fault.size_counts))
            case "reference-lost" | "brown-out":
                return replace(sensors, flags=sensors.flags & ~SensorFlag.REFERENCED)
            case _:
                return replace(sensors, flags=sensors.flags | _FLAGS[fault.kind])


def _wrapped(count: int) -> int:
    """A count as a 32-bit counter shows it."""
    return (count + 2**31) % 2**32 - 2**31
