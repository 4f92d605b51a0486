import dataclasses
import io
import tracemalloc

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.errors import LogError
from firmware_bridge.latency.duration_counts import count_durations, merge_counts
from firmware_bridge.latency.histogram_files import read_histograms, read_hlog, write_histograms
from firmware_bridge.latency.stage_histograms import DurationHistogram

DURATIONS = st.lists(st.integers(1, 60_000_000_000), max_size=60)


def _counted(durations, seconds=1.0):
    return count_durations(np.array(durations, np.int64), seconds)


def _same(left, right):
    assert left.values_ns.tolist() == right.values_ns.tolist()
    assert left.counts.tolist() == right.counts.tolist()
    assert (left.maximum_ns, left.duration_s) == (right.maximum_ns, pytest.approx(right.duration_s))


@settings(max_examples=100, deadline=None)
@given(DURATIONS)
def test_counted_at_once_is_counted_one_by_one(durations):
    one_by_one = DurationHistogram()
    for duration in durations:
        one_by_one.record(duration)
    at_once = _counted(durations)
    assert at_once.percentiles() == one_by_one.percentiles(1.0)
    assert at_once.encoded() == one_by_one.encoded()


def test_overflows_and_zeros_are_counted():
    counts = _counted([0, 5, 70_000_000_000])
    assert (counts.n, counts.overflows, counts.maximum_ns) == (2, 1, 5)
    assert counts.values_ns.tolist() == [1, 5]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200_000_000), max_size=30), st.sampled_from([1, 2, 5, 20]))
def test_correction_fills_in_what_a_hang_left_out(durations, period_ms):
    """Against the definition, value by value: d stands for d, d - i, ... as long as what remains is at least i."""
    interval_ns = period_ms * 1_000_000
    counts = _counted(durations)
    expected = HdrHistogram(1, 60_000_000_000, 3)
    for value, count in zip(counts.values_ns.tolist(), counts.counts.tolist(), strict=True):
        expected.record_value(value, count)
        missing = value - interval_ns
        while missing >= interval_ns:
            expected.record_value(missing, count)
            missing -= interval_ns
    corrected = counts.corrected(period_ms / 1e3)
    assert corrected.encoded() == expected.encode().decode()
    assert corrected.n == expected.get_total_count()
    assert corrected.maximum_ns == counts.maximum_ns


def test_a_hang_moves_the_corrected_percentiles_and_not_the_measured():
    counts = _counted([100_000] * 999 + [1_000_000_000])  # 1 kHz for a second, then nothing for a second
    corrected = counts.corrected(0.001)
    assert counts.percentile_us(99) == pytest.approx(100, rel=2e-3)
    assert corrected.n == 1998  # the hang's bucket begins just below a second: 999 - 1 omitted answers
    assert corrected.percentile_us(75) == pytest.approx(500_000, rel=5e-3)
    assert corrected.percentile_us(99) == pytest.approx(980_000, rel=2e-3)


def test_memory_of_the_correction_does_not_grow_with_the_answers_that_are_missing():
    counts = _counted([60_000_000_000 - 40_000_000 * index for index in range(10)])  # ten buckets, a minute each
    missing = int(((counts.values_ns - 100_000) // 100_000).sum())
    assert missing > 5_000_000
    tracemalloc.start()
    try:
        corrected = counts.corrected(0.0001)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert corrected.n == len(counts.values_ns) + missing
    assert peak_bytes < 5_000_000  # a few numbers for each of 27,000 buckets, whatever is missing


@settings(max_examples=50, deadline=None)
@given(st.lists(DURATIONS, max_size=4))
def test_merged_is_counted_together(runs):
    merged = merge_counts([_counted(run, 0.5) for run in runs])
    _same(merged, _counted([value for run in runs for value in run], 0.5 * len(runs)))


@settings(max_examples=10, deadline=None)  # each waits for the disk
@given(durations=DURATIONS)
def test_files_give_back_what_was_written(durations, tmp_path_factory):
    folder = tmp_path_factory.mktemp("histograms")
    counts = _counted(durations, 12.5)
    names = write_histograms(folder, {"total": counts, "total.corrected": counts.corrected(0.02)}, 1.7e9)
    assert names == ["total.corrected.hgrm", "total.corrected.hlog", "total.hgrm", "total.hlog"]
    back = read_histograms(folder)
    _same(back["total"], counts)
    _same(back["total.corrected"], counts.corrected(0.02))


def test_hdrhistograms_own_reader_reads_the_log(tmp_path):
    write_histograms(tmp_path, {"total": _counted([5_000, 7_000_000], 3.0)}, 1.7e9)
    histogram = HistogramLogReader(str(tmp_path / "total.hlog"), None).get_next_interval_histogram()
    assert histogram.get_total_count() == 2
    assert histogram.get_start_time_stamp() == pytest.approx(1.7e12)
    assert histogram.get_end_time_stamp() == pytest.approx(1.7e12 + 3000)


def test_percentile_text_is_the_usual_one_in_microseconds():
    counts = _counted(list(range(1_000, 2_000_000, 1_000)))
    theirs = io.BytesIO()
    counts.histogram().output_percentile_distribution(theirs, 1000.0)
    ours, theirs = counts.hgrm().splitlines(), theirs.getvalue().decode().splitlines()
    assert ours[0].split() == theirs[0].split()
    body = [[line.split() for line in text if line[:1] not in ("#", "")][1:-1] for text in (ours, theirs)]
    assert len(body[0]) > 30
    # All but the values that the largest one bounds are equal, number by number.
    assert [row[1:] for row in body[0]] == [row[1:] for row in body[1]]
    assert all(float(a[0]) <= float(b[0]) for a, b in zip(*body, strict=True))
    mean, deviation = (float(part.split("=")[1].strip(" ],")) for part in ours[-3].split(","))
    exact = np.arange(1_000, 2_000_000, 1_000) / 1e3
    assert mean == pytest.approx(exact.mean(), rel=1e-3)
    assert deviation == pytest.approx(exact.std(), rel=1e-3)


def test_empty_histogram_is_written_too(tmp_path):
    write_histograms(tmp_path, {"receive": _counted([])}, 0.0)
    assert read_hlog(tmp_path / "receive.hlog").n == 0
    assert "TotalCount     =            0" in (tmp_path / "receive.hgrm").read_text()


def _line(text, length="1.0", maximum="1.0"):
    return f"0.0,{length},{maximum},{text}\n"


def _other_histogram(*limits):
    histogram = HdrHistogram(*limits)
    histogram.record_value(5)
    return histogram.encode().decode()


@pytest.mark.parametrize(
    "text",
    [
        "what is this\n",
        _line("AAAA"),
        _line("HISTFAAAAB"),
        _line("=" * 40),
        _line(_other_histogram(1, 3_600_000_000_000, 5)),
        _line(_counted([5]).encoded(), length="1.2.3"),
        _line(_counted([5]).encoded(), maximum="9.0"),
        _line(_counted([5]).encoded()[:-8]),
    ],
)
def test_hlog_that_is_none_is_one_line(text, tmp_path):
    path = tmp_path / "total.hlog"
    path.write_text("#[Histogram log format version 1.3]\n" + text)
    with pytest.raises(LogError, match=r"total\.hlog, line 2: ") as caught:
        read_hlog(path)
    assert "\n" not in str(caught.value)


def test_hlog_bomb_takes_no_memory(tmp_path):
    import base64
    import struct
    import tracemalloc
    import zlib

    packed = zlib.compress(bytes(200_000_000), 9)
    text = base64.b64encode(struct.pack(">II", 0x1C849314, len(packed)) + packed).decode()
    path = tmp_path / "total.hlog"
    path.write_text(_line(text))
    tracemalloc.start()
    with pytest.raises(LogError, match="reasonable size"):
        read_hlog(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_percentiles_say_n_max_and_duration():
    assert {"n", "max", "duration_s"} < {field.name for field in dataclasses.fields(_counted([1]).percentiles())}
