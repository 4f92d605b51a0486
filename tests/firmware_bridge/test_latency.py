import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.latency.stage_histograms import STAGES, DurationHistogram, StageHistograms, decode_histogram


def _record(histograms, total_ns):
    histograms.record(first=0, last=0, decoded=0, inferred=0, encoded=0, written=total_ns)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200))
def test_percentiles_are_within_three_digits_of_the_exact_ones(durations_ns):
    histograms = StageHistograms()
    for duration in durations_ns:
        _record(histograms, duration)
    got = histograms.percentiles("total", 1.0)
    exact = np.percentile(durations_ns, [50, 99, 99.9], method="inverted_cdf") / 1e3
    assert got.n == len(durations_ns)
    assert got.max == max(durations_ns) / 1e3
    for value, expected in zip((got.p50, got.p99, got.p999), exact, strict=True):
        assert value == pytest.approx(expected, rel=2e-3, abs=2e-3)
    assert got.p50 <= got.p99 <= got.p999 <= got.max


def test_stages_are_differences_of_neighbouring_stamps():
    histograms = StageHistograms()
    histograms.record(first=1000, last=3000, decoded=6000, inferred=10000, encoded=15000, written=21000)
    medians = [round(histograms.percentiles(stage, 1.0).p50) for stage in STAGES]
    assert medians == [2, 3, 4, 5, 6, 18]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 59 * 10**9), min_size=1, max_size=100))
def test_counting_by_edges_loses_nothing_that_the_histogram_would_keep(durations_ns):
    ours, theirs = DurationHistogram(), HdrHistogram(1, 60 * 10**9, 3)
    for duration in durations_ns:
        ours.record(duration)
        theirs.record_value(duration)
    for percentile in (0.0, 50.0, 90.0, 99.9, 100.0):
        assert ours.histogram().get_value_at_percentile(percentile) == theirs.get_value_at_percentile(percentile)


def test_empty_histogram_says_n_zero():
    assert StageHistograms().percentiles("total", 3.0).n == 0


def test_value_beyond_the_range_is_counted_not_lost():
    histograms = StageHistograms()
    _record(histograms, 120 * 10**9)
    assert histograms.overflows == 2  # write and total
    assert histograms.percentiles("total", 1.0).n == 0


def test_encoded_histogram_survives_the_log():
    histograms = StageHistograms()
    for duration in (1000, 2000, 50_000):
        _record(histograms, duration)
    decoded = decode_histogram(histograms.encoded()["total"])
    assert decoded.get_total_count() == 3
    with pytest.raises(ValueError, match="not an encoded"):
        decode_histogram("AAAA")


def test_unknown_stage_lists_the_known():
    with pytest.raises(KeyError, match="receive, decode"):
        StageHistograms().percentiles("latency", 1.0)
