"""What most likely makes a link slow or lossy: cable, adapter, or this computer.

In that order: a damaged frame explains a slow answer, a latency timer a regular one, and load a ragged one.
"""

import dataclasses
import os
from pathlib import Path

from firmware_bridge.latency.stage_histograms import Percentiles

_SERIAL_DEVICES = Path("/sys/bus/usb-serial/devices")
_STAT = Path("/proc/stat")
_LOADAVG = Path("/proc/loadavg")
_TIMER_SHARE = 0.5  # of the latency timer: a median above this is the timer's
_STEAL_LIMIT = 0.02  # of one processor
_RAGGED = 5.0  # p99 over p50
_SLOW_US = 3_000.0


@dataclasses.dataclass(frozen=True)
class Load:
    """`stolen_s`: time the hypervisor took from all processors since boot; `runnable`: tasks that want one now."""

    stolen_s: float
    runnable: int
    processors: int


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything the verdict is made from. `stolen` is a share of one processor; `wire_us` 0 where no baud rate is."""

    round_trip: Percentiles
    sent: int
    unanswered: int
    crc_errors: int
    lost: int
    wire_us: float
    latency_timer_ms: int | None
    stolen: float
    runnable: int
    processors: int


def verdict_of(evidence: Evidence) -> dict[str, str]:
    """`cause` (cable, latency_timer, processor, baud_rate, device, none) and `text`: what was seen, what to do."""
    trip, timer_ms = evidence.round_trip, evidence.latency_timer_ms
    if evidence.crc_errors or evidence.lost or evidence.unanswered:
        text = (
            f"cable: {evidence.crc_errors} damaged and {evidence.lost} lost frames, {evidence.unanswered} of "
            f"{evidence.sent} unanswered; shorten or shield it, mind the motor's ground, or lower the baud rate"
        )
        return {"cause": "cable", "text": text}
    if timer_ms is not None and timer_ms > 1 and trip.p50 > _TIMER_SHARE * timer_ms * 1e3:
        text = (
            f"latency timer of the USB adapter: {timer_ms} ms, the median is {trip.p50 / 1e3:.1f} ms; set it to 1 "
            "(run --realtime, or the udev rule)"
        )
        return {"cause": "latency_timer", "text": text}
    ragged = trip.p50 > 0 and trip.p99 > _RAGGED * trip.p50
    if ragged and (evidence.stolen > _STEAL_LIMIT or evidence.runnable > evidence.processors):
        text = (
            f"this computer: {evidence.runnable} tasks want {evidence.processors} processors, "
            f"{evidence.stolen:.1%} of one was stolen by the hypervisor; p99 is {trip.p99 / trip.p50:.0f} times the "
            "median; stop what else runs, or run --realtime"
        )
        return {"cause": "processor", "text": text}
    if evidence.wire_us > 0.5 * trip.p50 and trip.p50 > _SLOW_US:
        text = f"baud rate: the bits alone take {evidence.wire_us / 1e3:.1f} ms of {trip.p50 / 1e3:.1f} ms; raise it"
        return {"cause": "baud_rate", "text": text}
    if trip.p50 > _SLOW_US:
        text = (
            f"the device or its USB stack: median {trip.p50 / 1e3:.1f} ms with no damaged frame and an idle computer; "
            "look at how often its main loop polls the link"
        )
        return {"cause": "device", "text": text}
    return {"cause": "none", "text": "nothing wrong with this link was seen"}


def latency_timer_ms(port: str, devices: Path = _SERIAL_DEVICES) -> int | None:
    """The latency timer of the USB adapter behind a port [ms]; None where it has none."""
    try:
        return int((devices / Path(port).resolve().name / "latency_timer").read_text())
    except (OSError, ValueError):
        return None


def stolen_and_runnable(stat: Path = _STAT, load: Path = _LOADAVG) -> Load:
    """How much this computer is wanted by others; zeros where the kernel does not say."""
    processors = len(os.sched_getaffinity(0))
    try:
        stolen_ticks = int(stat.read_text().split("\n", 1)[0].split()[8])
        runnable = int(load.read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return Load(0.0, 0, processors)
    return Load(stolen_ticks / os.sysconf("SC_CLK_TCK"), runnable, processors)
