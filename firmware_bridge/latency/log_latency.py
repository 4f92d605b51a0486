"""Latency out of a log: stages raw and corrected, the device's own times, and the deadlines that were missed."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.latency.duration_counts import DurationCounts, count_durations
from firmware_bridge.latency.stage_histograms import APPLY, DEVICE_TIMES, STAGES
from firmware_bridge.logs.read_log import object_in, text_in
from firmware_bridge.reports.log_series import LATENCY, TIMING, LogSeries, Series, ticks_since
from hardware.protocol import NO_TIME_US, ObservationFlag

TOTAL = "total"
_NS = "_ns"
_TICKS = 0xFFFF_FFFF


@dataclasses.dataclass(frozen=True)
class Misses:
    """Deadlines missed, tick by tick, among the steps of the run.

    `unanswered`: the OBSERVATION is in the log and has no answer. `late_or_lost`: it was answered, and the device says
    (flag HELD of the next OBSERVATION) that nothing it could use came in time. `lost` ticks, whose OBSERVATION never
    arrived, are not missed deadlines and end a run of them. `longest_run` begins at `longest_run_tick`; `ticks` are the
    missed ones.
    """

    unanswered: int
    late_or_lost: int
    lost: int
    longest_run: int
    longest_run_tick: int | None
    ticks: NDArray[np.int64]

    @property
    def total(self) -> int:
        """Ticks without an answer that counted."""
        return self.unanswered + self.late_or_lost


def duration_s(series: Series) -> float:
    """Time from the first record to the last [s]."""
    return float(series.time_ns[-1] - series.time_ns[0]) / 1e9 if len(series) else 0.0


def stage_counts(log: LogSeries) -> dict[str, DurationCounts]:
    """The durations of every stage that the log has, as they were measured.

    `apply` is there where the device told of any; one below zero, within its clock's uncertainty, counts as nothing.
    """
    latency = log[LATENCY]
    seconds = duration_s(latency)
    found = {}
    for stage in (*STAGES, APPLY):
        values = latency.columns.get(stage + _NS)
        told = None if values is None else values[~np.isnan(values)]
        if told is not None and (len(told) or stage != APPLY):
            found[stage] = count_durations(np.maximum(told, 0.0), seconds)
    return found


def corrected_counts(log: LogSeries, stages: dict[str, DurationCounts]) -> dict[str, DurationCounts]:
    """`stages` corrected for coordinated omission; empty when the log does not say its control period.

    Without `apply`: an action waits for the device's next boundary by design, a period where nothing is wrong.
    """
    if not log.period_s:
        return {}
    return {name: counts.corrected(log.period_s) for name, counts in stages.items() if name != APPLY}


def device_series(log: LogSeries) -> dict[str, Series]:
    """What TIMING brought for the run's periods, by name; column `us`. Not corrected: the device samples every
    period, whether an answer came or not."""
    timing = _answered_timing(log)
    policy_ran = text_in(object_in(log.session, "config"), "mode", default="host") != "host"
    found = {}
    for name in DEVICE_TIMES:
        values = timing[f"{name}_us"]
        if name == "inference":
            chosen = np.full(len(values), policy_ran)
        else:
            chosen = values != NO_TIME_US
        found[name] = Series(timing.time_ns[chosen], {"us": values[chosen]})
    return found


def device_counts(log: LogSeries) -> dict[str, DurationCounts]:
    """The device's own times as histograms."""
    seconds = duration_s(_answered_timing(log))
    return {name: count_durations(series["us"] * 1e3, seconds) for name, series in device_series(log).items()}


def misses(log: LogSeries) -> Misses:
    """Which steps of the run had no answer that counted."""
    steps = log.steps
    if not len(steps):
        return Misses(0, 0, 0, 0, None, np.zeros(0, np.int64))
    first = steps["tick"][0]
    seen = np.unique(ticks_since(steps["tick"], first))
    has_answer = np.isin(seen, ticks_since(log[LATENCY]["observation_tick"], first))
    armed = log.armed  # the one that ended the run, too, tells of the answer before it
    held = (armed["flags"].astype(np.int64) & ObservationFlag.HELD) != 0
    not_used = np.isin(seen + 1, ticks_since(armed["tick"][held], first)) & has_answer
    missed = seen[~has_answer | not_used]
    longest, start = _longest_run(missed)
    return Misses(
        unanswered=int((~has_answer).sum()),
        late_or_lost=int(not_used.sum()),
        lost=int(seen[-1] + 1 - len(seen)),
        longest_run=longest,
        longest_run_tick=None if start is None else (int(first) + start) & _TICKS,
        ticks=(missed + int(first)) & _TICKS,
    )


def _answered_timing(log: LogSeries) -> Series:
    """What TIMING brought about the periods behind the first step up to the last."""
    timing, ticks = log[TIMING], log.steps["tick"]
    if not len(ticks):
        return timing.where(np.zeros(len(timing), np.bool_))
    behind = ticks_since(timing["tick"], ticks[0])
    return timing.where((behind > 0) & (behind <= ticks_since(ticks[-1:], ticks[0])))


def _longest_run(ticks: NDArray[np.int64]) -> tuple[int, int | None]:
    if not len(ticks):
        return 0, None
    starts = np.flatnonzero(np.diff(ticks, prepend=ticks[0] - 2) != 1)
    lengths = np.diff(starts, append=len(ticks))
    longest = int(np.argmax(lengths))
    return int(lengths[longest]), int(ticks[starts[longest]])
