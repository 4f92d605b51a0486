"""Latency per stage of one answer, kept in HdrHistograms (nanoseconds inside, microseconds outside).

The stamps of one answer, in order; all are CLOCK_MONOTONIC on the PC:

    first    select() said readable for the read that brought the first byte of the OBSERVATION frame
    last     the same for the read that brought its last byte (the read itself is therefore counted as ours)
    decoded  frame unstuffed, checksum checked, fields unpacked
    inferred policy evaluated (device mode: nothing to do, equals `decoded`)
    encoded  COMMAND or HEARTBEAT packed and stuffed
    written  write() to the port returned

Stage durations are differences of neighbours; `total` is `last` to `written`, the number reported as `latency_us`.
Percentiles are never given without n, max and the duration they were taken over.
"""

import base64
import dataclasses
from typing import Any

from hdrh.histogram import HdrHistogram

STAGES = ("receive", "decode", "infer", "encode", "write", "total")
"""Names of the recorded durations: first to last, last to decoded, ... , last to written."""

_LOWEST_NS = 1
_HIGHEST_NS = 60_000_000_000  # one minute: anything above is a stopped clock, not a latency
_SIGNIFICANT_FIGURES = 3


@dataclasses.dataclass(frozen=True)
class Percentiles:
    """One stage's distribution [us], over `n` answers in `duration_s` seconds. All zero when `n` is 0."""

    n: int
    p50: float
    p99: float
    p999: float
    max: float
    duration_s: float


class StageHistograms:
    """One histogram per stage; `record` takes the six stamps of one answer.

    `hdrh` is pure Python (2 us a value), so `record` is called after the answer is on its way, never before.
    """

    def __init__(self) -> None:
        self._histograms: tuple[Any, ...] = tuple(
            HdrHistogram(_LOWEST_NS, _HIGHEST_NS, _SIGNIFICANT_FIGURES) for _ in STAGES
        )
        self._maxima_ns = [0] * len(STAGES)
        self.overflows = 0
        """Durations above one minute: not in the histograms, but never silently gone."""

    def record(self, *, first: int, last: int, decoded: int, inferred: int, encoded: int, written: int) -> None:
        """Record one answer. Stamps in nanoseconds, not decreasing."""
        durations = (last - first, decoded - last, inferred - decoded, encoded - inferred, written - encoded)
        for index, duration in enumerate((*durations, written - last)):
            if not self._histograms[index].record_value(max(duration, _LOWEST_NS)):
                self.overflows += 1
            elif duration > self._maxima_ns[index]:
                # The histogram rounds its maximum to 3 digits; the true one costs nothing to keep.
                self._maxima_ns[index] = duration

    def percentiles(self, stage: str, duration_s: float) -> Percentiles:
        """Percentiles of `stage` [us]; `duration_s` is the time they were taken over. KeyError: unknown stage."""
        index = _index_of(stage)
        histogram = self._histograms[index]
        n = int(histogram.get_total_count())
        maximum = self._maxima_ns[index]
        # A bucket's upper edge can lie above the largest value seen; no percentile may.
        p50, p99, p999 = (
            min(int(histogram.get_value_at_percentile(p)), maximum) / 1e3 if n else 0.0 for p in (50.0, 99.0, 99.9)
        )
        return Percentiles(n=n, p50=p50, p99=p99, p999=p999, max=maximum / 1e3, duration_s=duration_s)

    def encoded(self) -> dict[str, str]:
        """Each stage's histogram in the portable HdrHistogram V2 encoding (base64), for the log's last record."""
        return {
            stage: histogram.encode().decode("ascii") for stage, histogram in zip(STAGES, self._histograms, strict=True)
        }


def decode_histogram(text: str) -> Any:
    """HdrHistogram from its base64 V2 encoding. Raises ValueError when the text is none."""
    try:
        base64.b64decode(text, validate=True)
        return HdrHistogram.decode(text.encode("ascii"))
    except Exception as error:  # hdrh raises a zoo of its own, zlib's and ctypes' exceptions
        raise ValueError(f"not an encoded HdrHistogram: {error}") from error


def _index_of(stage: str) -> int:
    if stage not in STAGES:
        raise KeyError(f"unknown stage {stage!r}: choose one of {', '.join(STAGES)}")
    return STAGES.index(stage)
