"""The HTML page of `report`: everything inside one file, nothing fetched, no scripts."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_bridge.latency.duration_counts import DurationCounts, count_durations
from firmware_bridge.latency.log_latency import TOTAL, Misses, device_series, duration_s
from firmware_bridge.logs.read_log import object_in
from firmware_bridge.reports import figures, log_figures, page
from firmware_bridge.reports.figures import Array
from firmware_bridge.reports.log_series import CLOCK, ERRORS, LATENCY, OBSERVATION, STATISTICS, LogSeries
from firmware_bridge.reports.report import (
    DEVICE_HEADER,
    EVENT_HEADER,
    KNOB_HEADER,
    STAGE_HEADER,
    device_time_rows,
    event_rows,
    first_ns,
    knob_rows,
    overview_rows,
    stage_rows,
    trajectory_of,
)
from firmware_bridge.reports.tables import DEVICE_TIME_NAMES, latency_text
from hardware.protocol import ObservationFlag

_EVENT_ROWS = 200

Sections = list[tuple[str, str]]


def report_page(
    log: LogSeries,
    result: dict[str, Any],
    stages: Mapping[str, DurationCounts],
    corrected: Mapping[str, DurationCounts],
    missed: Misses,
) -> str:
    """The page; `result` is that of `make_report`, the histograms and misses are what it was made from."""
    run = trajectory_of(log)
    sections: Sections = []
    if not log.complete:
        word = "is damaged" if log.damaged else "was cut off"
        sections.append(("Cut off", page.warning_html(f"This log {word}: {log.cut}. What is shown came before.")))
    if result["dropped"]:
        text = "The disk was too slow: records are missing in this log (see the events)."
        sections.append(("Dropped", page.warning_html(text)))
    sections.append(("What happened", page.table_html(("", ""), overview_rows(result), numbers=False)))
    svg = figures.trajectory_svg(run.time_s, run.angle_rad, run.position_m, run.action)
    sections.append(("Rod, cart and action", svg))
    sections += _latency(log, result, stages, corrected, missed)
    sections += _device(log, result)
    sections += _link(log)
    sections += _clock(log)
    if result["realtime"]:
        sections.append(("Real-time knobs", page.table_html(KNOB_HEADER, knob_rows(result))))
    events = event_rows(result)
    more = f"<p>{len(events) - _EVENT_ROWS} more in the log.</p>" if len(events) > _EVENT_ROWS else ""
    sections.append(("Faults and events", page.table_html(EVENT_HEADER, events[:_EVENT_ROWS], numbers=False) + more))
    sections.append(("Configuration, machine and versions", page.table_html(("", ""), _origin(log), numbers=False)))
    return page.page_html(f"Closed loop, mode {result['mode']}", sections)


def _latency(
    log: LogSeries,
    result: dict[str, Any],
    stages: Mapping[str, DurationCounts],
    corrected: Mapping[str, DurationCounts],
    missed: Misses,
) -> Sections:
    latency = result["latency_us"]
    total = stages.get(TOTAL, count_durations(np.zeros(0), 0.0))
    curves = {"as measured": total}
    if TOTAL in corrected:
        curves["corrected for coordinated omission"] = corrected[TOTAL]
    marks_s = _times_of_ticks(log, missed.ticks)
    caption = (
        f"<p>Last byte of the observation in, answer written: {latency_text(latency)}. "
        f"Deadlines missed: {missed.total}, longest run {missed.longest_run}; red lines are missed deadlines. "
        "Corrected: an answer that took longer than the control period stands for those that it held up, too.</p>"
    )
    content = (
        log_figures.duration_histogram_svg(total, "last byte in, answer written [us]", "latency histogram")
        + log_figures.percentile_svg(curves, "latency [us]", "latency percentiles")
        + log_figures.duration_series_svg(
            _since(log, LATENCY), log[LATENCY]["total_ns"] / 1e3, "latency [us]", "latency series", marks_s
        )
        + caption
        + page.table_html(STAGE_HEADER, stage_rows(result))
    )
    return [("Latency", content)]


def _device(log: LogSeries, result: dict[str, Any]) -> Sections:
    rows = device_time_rows(result)
    if not rows:
        return []
    content = page.table_html(DEVICE_HEADER, rows)
    for name, series in device_series(log).items():
        if name == "response" or not len(series):
            continue
        label = f"{DEVICE_TIME_NAMES[name].removeprefix('device: ')} [us]"
        counts = count_durations(series["us"] * 1e3, duration_s(series))
        time_s = (series.time_ns - first_ns(log)) / 1e9
        content += log_figures.duration_histogram_svg(counts, label, f"{name} histogram")
        content += log_figures.duration_series_svg(time_s, series["us"], label, f"{name} series")
    note = (
        "<p>Measured by the device: the age of the observation at actuation is the number that matters for control. "
        "It is one control period by design, and grows by one with each deadline missed.</p>"
    )
    return [("Age at actuation", note + content)]


def _link(log: LogSeries) -> Sections:
    counters: dict[str, tuple[Array, Array]] = {}
    names = {"rejected": "host: rejected (CRC)", "undecodable": "host: undecodable", "lost": "host: lost"}
    for key, name in names.items():
        if len(log[ERRORS]):
            counters[name] = (_since(log, ERRORS), log[ERRORS][key])
    for key in ("crc_errors", "lost", "stale_commands", "refused"):
        if len(log[STATISTICS]):
            counters[f"device: {key}"] = (_since(log, STATISTICS), log[STATISTICS][key])
    observations = log[OBSERVATION]
    if not counters:
        return []
    held = (observations["flags"].astype(np.int64) & ObservationFlag.HELD) != 0
    counters["device: action held"] = (_since(log, OBSERVATION), np.cumsum(held).astype(np.float64))
    end_s = float(_since(log, OBSERVATION)[-1]) if len(observations) else 0.0
    moved = {name: pair for name, pair in counters.items() if len(pair[1]) and pair[1][-1] != pair[1][0]}
    still = ", ".join(name for name in counters if name not in moved)
    content = log_figures.counters_svg(moved, end_s, "link") if moved else ""
    return [("Link health", content + (f"<p>Never counted anything: {html.escape(still)}.</p>" if still else ""))]


def _clock(log: LogSeries) -> Sections:
    clock = log[CLOCK]
    if not len(clock):
        return []
    shown = {
        "drift [ppm]": clock["drift_ppm"],
        "uncertainty [us]": clock["uncertainty_ns"] / 1e3,
        "smallest round trip [us]": clock["round_trip_ns"] / 1e3,
    }
    return [("Clock of the device", log_figures.numbers_svg(_since(log, CLOCK), shown, "clock"))]


def _origin(log: LogSeries) -> list[list[str]]:
    rows = [["log", str(log.path)], ["policy", str(log.session.get("policy_digest", ""))]]
    for key in ("config", "machine", "device", "versions"):
        rows += [[f"{name} ({key})", str(value)[:500]] for name, value in object_in(log.session, key).items()]
    return rows


def _since(log: LogSeries, topic: str) -> Array:
    """When each record of a topic was stamped, since the first answer [s], (n,)."""
    seconds: Array = (log[topic].time_ns - first_ns(log)) / 1e9
    return seconds


def _times_of_ticks(log: LogSeries, ticks: Any) -> Array:
    observations = log[OBSERVATION]
    place = np.isin(observations["tick"], ticks)
    times: Array = _since(log, OBSERVATION)[place]
    return times
