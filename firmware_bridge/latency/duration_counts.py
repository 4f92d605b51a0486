"""HdrHistograms of whole logs: built from arrays, corrected for coordinated omission, merged, written as text.

`DurationHistogram` counts while the loop runs, one value at a time. Here a million values are counted at once,
into the same buckets (three significant digits, 1 ns to one minute; a test holds both to the same encoding).

Coordinated omission: a loop that hangs measures one long answer where it owed many. The correction is Gil Tene's: a
duration d longer than the expected interval i (the control period) stands for d, d - i, d - 2i, ... down to i.
`hdrh.record_corrected_value` goes one step too far (it records what remains below i, too), so it is done here.
"""

import dataclasses
import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from firmware_bridge.latency.stage_histograms import Percentiles

LOWEST_NS = 1
HIGHEST_NS = 60_000_000_000
_SIGNIFICANT_FIGURES = 3
_SUB_BUCKET_BITS = 11  # 2^11 is the first power of two that gives three digits
_US = 1000.0

Counts = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class DurationCounts:
    """How often each duration was seen: `values_ns` (k,) lower edges of buckets, rising; `counts` (k,).

    `maximum_ns` is exact, `duration_s` the time they were taken over; `overflows` counts durations above one minute,
    which are in no bucket.
    """

    values_ns: Counts
    counts: Counts
    maximum_ns: int
    duration_s: float
    overflows: int = 0

    @property
    def n(self) -> int:
        """Durations counted."""
        return int(self.counts.sum())

    def percentile_us(self, percent: float) -> float:
        """The duration [us] that `percent` of all do not exceed, to three digits; 0 when there are none."""
        n = self.n
        if not n:
            return 0.0
        rank = min(max(int(percent / 100.0 * n + 0.5), 1), n)  # as HdrHistogram counts
        index = int(np.searchsorted(np.cumsum(self.counts), rank))
        # A bucket's upper edge can lie above the largest value seen; no percentile may.
        return min(_upper_edge(int(self.values_ns[index])), self.maximum_ns) / _US

    def percentiles(self) -> Percentiles:
        """The usual ones [us], with n, max and duration."""
        p50, p99, p999 = (self.percentile_us(percent) for percent in (50.0, 99.0, 99.9))
        return Percentiles(n=self.n, p50=p50, p99=p99, p999=p999, max=self.maximum_ns / _US, duration_s=self.duration_s)

    def corrected(self, interval_s: float) -> "DurationCounts":
        """The same with what coordinated omission left out, for a loop that owes an answer every `interval_s`."""
        interval_ns = round(interval_s * 1e9)
        edges = _bucket_edges()
        total = np.zeros(len(edges), np.int64)
        total[np.searchsorted(edges, self.values_ns)] = self.counts
        for value, count in zip(self.values_ns.tolist(), self.counts.tolist(), strict=True):
            if value > interval_ns:
                # By bucket and not one by one: a log may say of many answers that each took a minute.
                at_least = np.clip((value - edges) // interval_ns, 0, value // interval_ns - 1)
                total += count * (at_least - np.append(at_least[1:], 0))
        seen = total > 0
        return dataclasses.replace(self, values_ns=edges[seen], counts=total[seen])

    def histogram(self) -> Any:
        """The HdrHistogram with these counts."""
        histogram: Any = HdrHistogram(LOWEST_NS, HIGHEST_NS, _SIGNIFICANT_FIGURES)
        for value, count in zip(self.values_ns.tolist(), self.counts.tolist(), strict=True):
            histogram.record_value(value, count)
        return histogram

    def encoded(self) -> str:
        """The portable HdrHistogram V2 encoding (base64)."""
        return str(self.histogram().encode().decode("ascii"))

    def hgrm(self) -> str:
        """The percentile distribution as the usual .hgrm text, in microseconds."""
        out = io.StringIO()
        out.write(f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}\n\n")
        histogram = self.histogram()
        if self.n:
            for step in histogram.get_percentile_iterator(5):
                value = min(step.value_iterated_to, self.maximum_ns) / _US
                share = step.percentile_level_iterated_to / 100.0
                inverse = "" if share >= 1.0 else f" {1.0 / (1.0 - share):14.2f}"
                out.write(f"{value:12.3f} {share:14.12f} {step.total_count_to_this_value:10d}{inverse}\n")
        mean, deviation = self._moments_us()
        out.write(f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]\n")
        out.write(f"#[Max     = {self.maximum_ns / _US:12.3f}, TotalCount     = {self.n:12d}]\n")
        out.write(f"#[Buckets = {histogram.bucket_count:12d}, SubBuckets     = {histogram.sub_bucket_count:12d}]\n")
        return out.getvalue()

    def _moments_us(self) -> tuple[float, float]:
        if not self.n:
            return 0.0, 0.0
        middle = (self.values_ns + np.array([_upper_edge(value) for value in self.values_ns.tolist()])) / 2.0
        mean = float(np.average(middle, weights=self.counts))
        return mean / _US, float(np.sqrt(np.average((middle - mean) ** 2, weights=self.counts))) / _US


def count_durations(durations_ns: NDArray[np.float64] | Counts, duration_s: float) -> DurationCounts:
    """Count `durations_ns` (n,), taken over `duration_s`; less than 1 ns counts as 1 ns."""
    values = np.maximum(np.nan_to_num(np.asarray(durations_ns), nan=0.0), LOWEST_NS)
    inside = values[values <= HIGHEST_NS].astype(np.int64)
    maximum = int(inside.max()) if len(inside) else 0
    unique, total = _summed(lower_edges(inside), np.ones(len(inside), np.int64))
    return DurationCounts(unique, total, maximum, duration_s, overflows=len(values) - len(inside))


def merge_counts(parts: Sequence[DurationCounts]) -> DurationCounts:
    """All of `parts` together; their durations add up."""
    empty = np.zeros(0, np.int64)
    unique, total = _summed(
        np.concatenate([empty, *(part.values_ns for part in parts)]),
        np.concatenate([empty, *(part.counts for part in parts)]),
    )
    return DurationCounts(
        unique,
        total,
        maximum_ns=max((part.maximum_ns for part in parts), default=0),
        duration_s=sum(part.duration_s for part in parts),
        overflows=sum(part.overflows for part in parts),
    )


def _summed(values: Counts, counts: Counts) -> tuple[Counts, Counts]:
    unique, place = np.unique(values, return_inverse=True)
    total = np.zeros(len(unique), np.int64)
    np.add.at(total, place, counts)
    return unique, total


def lower_edges(values: Counts) -> Counts:
    """The smallest value in the bucket of each of `values` (n,) [ns]."""
    # frexp gives the number of bits: exact below 2^53, and one minute has 36.
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(bits - _SUB_BUCKET_BITS, 0)
    edges: Counts = (values >> shift) << shift
    return edges


@functools.cache
def _bucket_edges() -> Counts:
    """Lower edges of all buckets up to one minute (some 27,000), rising."""
    half = 1 << (_SUB_BUCKET_BITS - 1)
    shifts = range(1, HIGHEST_NS.bit_length() - _SUB_BUCKET_BITS + 1)
    wider = [np.arange(half, 2 * half, dtype=np.int64) << shift for shift in shifts]
    edges = np.concatenate([np.arange(LOWEST_NS, 2 * half, dtype=np.int64), *wider])
    return edges[edges <= HIGHEST_NS]


def _upper_edge(lower: int) -> int:
    return lower + (1 << max(lower.bit_length() - _SUB_BUCKET_BITS, 0)) - 1
