"""Durations in HdrHistograms (nanoseconds inside, microseconds outside): the stages of an answer, and the device's own.

The stamps of one answer, in order; all are CLOCK_MONOTONIC on the PC:

    first    select() said readable for the read that brought the first byte of the OBSERVATION frame
    last     the same for the read that brought its last byte (the read itself is therefore counted as ours)
    decoded  frame unstuffed, checksum checked, fields unpacked
    inferred policy evaluated (device mode: nothing to do, equals `decoded`)
    encoded  COMMAND or HEARTBEAT packed and stuffed
    written  write() to the port returned
    applied  the device handed the action to the drive: its own stamp, brought here by `clock_sync` (COMMANDs only)

Stage durations are differences of neighbours; `total` is `last` to `written`, the number reported as `latency_us`;
`apply` is `written` to `applied`, as uncertain as the clock (topic /clock), which each record of it says.
What only the device can measure comes in TIMING; all from the sampling of an observation on its own clock:

    action_age  to the moment when the action that answers it was handed to the drive; grows while it is held
    response    to the moment when its answer was accepted: the COMMAND in mode host, the HEARTBEAT in the others,
                which the device reads when its policy has run
    inference   how long the device's policy ran (modes device and shadow; 65,535 us and more count as that)

Percentiles are never given without n, max and the duration they were taken over.
"""

import array
import base64
import dataclasses
from typing import Any

from hdrh.histogram import HdrHistogram

from hardware.protocol import NO_TIME_US, Timing

STAGES = ("receive", "decode", "infer", "encode", "write", "total")
"""Names of the durations of every answer: first to last, last to decoded, ... , last to written."""

APPLY = "apply"
"""Name of what comes after them, for those answers of which the device tells."""

DEVICE_TIMES = ("action_age", "response", "inference")
"""Names of the durations that TIMING brings."""

_LOWEST_NS = 1
_HIGHEST_NS = 60_000_000_000  # one minute: anything above is a stopped clock, not a latency
_SIGNIFICANT_FIGURES = 3
_BUCKET_BITS = 11  # of a value that three digits keep: HdrHistogram's buckets are that fine
_OCTAVE_BITS = _BUCKET_BITS - 1
_BUCKETS = (_HIGHEST_NS.bit_length() - _BUCKET_BITS + 2) << _OCTAVE_BITS


@dataclasses.dataclass(frozen=True)
class Percentiles:
    """One distribution [us], over `n` values in `duration_s` seconds. All zero when `n` is 0."""

    n: int
    p50: float
    p99: float
    p999: float
    max: float
    duration_s: float


class DurationHistogram:
    """Durations of one kind.

    Counted in the HdrHistogram's own buckets and made one when somebody asks: `hdrh` is pure Python and takes ten times
    as long for a value. All buckets (216 KiB) are there from the beginning: memory does not grow while the loop runs.
    """

    def __init__(self) -> None:
        self._counts = array.array("q", bytes(8 * _BUCKETS))
        self._maximum_ns = 0
        self.overflows = 0
        """Durations above one minute: not in the histogram, but never silently gone."""

    def record(self, duration_ns: int) -> None:
        """Record one duration; 0 and less count as 1 ns."""
        if duration_ns > self._maximum_ns:
            if duration_ns > _HIGHEST_NS:
                self.overflows += 1
                return
            # The histogram rounds its maximum to 3 digits; the true one costs nothing to keep.
            self._maximum_ns = duration_ns
        edge = duration_ns if duration_ns > 0 else _LOWEST_NS
        shift = edge.bit_length() - _BUCKET_BITS
        self._counts[edge if shift <= 0 else (shift << _OCTAVE_BITS) + (edge >> shift)] += 1

    def histogram(self) -> Any:
        """The HdrHistogram with these counts, as measured: `duration_counts` corrects for coordinated omission."""
        histogram = HdrHistogram(_LOWEST_NS, _HIGHEST_NS, _SIGNIFICANT_FIGURES)
        for bucket, count in enumerate(self._counts):
            if count:
                shift = max(0, (bucket >> _OCTAVE_BITS) - 1)
                histogram.record_value(bucket - (shift << _OCTAVE_BITS) << shift, count)
        return histogram

    def percentiles(self, duration_s: float) -> Percentiles:
        """Percentiles [us]; `duration_s` is the time they were taken over."""
        histogram = self.histogram()
        n = int(histogram.get_total_count())
        # A bucket's upper edge can lie above the largest value seen; no percentile may.
        p50, p99, p999 = (
            min(int(histogram.get_value_at_percentile(p)), self._maximum_ns) / 1e3 if n else 0.0
            for p in (50.0, 99.0, 99.9)
        )
        return Percentiles(n=n, p50=p50, p99=p99, p999=p999, max=self._maximum_ns / 1e3, duration_s=duration_s)

    def encoded(self) -> str:
        """The portable HdrHistogram V2 encoding (base64)."""
        return str(self.histogram().encode().decode("ascii"))


class DeviceTimes:
    """One histogram per time that TIMING brings."""

    def __init__(self) -> None:
        self._histograms = {name: DurationHistogram() for name in DEVICE_TIMES}

    def record(self, timing: Timing, *, policy_ran: bool) -> None:
        """Record one TIMING; `policy_ran`: the device's policy ran in the period before it."""
        for name, value_us in (("action_age", timing.action_age_us), ("response", timing.response_us)):
            if value_us != NO_TIME_US:
                self._histograms[name].record(value_us * 1000)
        if policy_ran:
            self._histograms["inference"].record(timing.inference_us * 1000)

    def percentiles(self, duration_s: float) -> dict[str, Percentiles]:
        """Percentiles [us] by name; `duration_s` is the time they were taken over."""
        return {name: histogram.percentiles(duration_s) for name, histogram in self._histograms.items()}


class StageHistograms:
    """One histogram per stage; `record` takes the six stamps of one answer, `record_applied` what came of it.

    Both are called when the answer is on its way, never before.
    """

    def __init__(self) -> None:
        self._histograms = tuple(DurationHistogram() for _ in (*STAGES, APPLY))

    @property
    def overflows(self) -> int:
        """Durations above one minute: not in the histograms, but never silently gone."""
        return sum(histogram.overflows for histogram in self._histograms)

    def record(self, *, first: int, last: int, decoded: int, inferred: int, encoded: int, written: int) -> None:
        """Record one answer. Stamps in nanoseconds, not decreasing."""
        durations = (last - first, decoded - last, inferred - decoded, encoded - inferred, written - encoded)
        for index, duration in enumerate((*durations, written - last)):
            self._histograms[index].record(duration)

    def record_applied(self, duration_ns: int) -> None:
        """Record one stretch from `written` to `applied`."""
        self._histograms[-1].record(duration_ns)

    def percentiles(self, stage: str, duration_s: float) -> Percentiles:
        """Percentiles of `stage` [us]; `duration_s` is the time they were taken over. KeyError: unknown stage."""
        return self._histograms[_index_of(stage)].percentiles(duration_s)

    def encoded(self) -> dict[str, str]:
        """Each stage's histogram in the portable HdrHistogram V2 encoding (base64), for the log's last record."""
        return {stage: histogram.encoded() for stage, histogram in zip((*STAGES, APPLY), self._histograms, strict=True)}


def decode_histogram(text: str) -> Any:
    """HdrHistogram from its base64 V2 encoding. Raises ValueError when the text is none."""
    try:
        base64.b64decode(text, validate=True)
        return HdrHistogram.decode(text.encode("ascii"))
    except Exception as error:  # hdrh raises a zoo of its own, zlib's and ctypes' exceptions
        raise ValueError(f"not an encoded HdrHistogram: {error}") from error


def _index_of(stage: str) -> int:
    names = (*STAGES, APPLY)
    if stage not in names:
        raise KeyError(f"unknown stage {stage!r}: choose one of {', '.join(names)}")
    return names.index(stage)
