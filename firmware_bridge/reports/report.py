"""The verb `report`: what a log says, as JSON, as a terminal table, and as a self-contained HTML page."""

import dataclasses
import math
from typing import Any

import numpy as np
from rich.table import Table

from firmware_bridge.config import Report
from firmware_bridge.latency.histogram_files import CORRECTED, write_histograms
from firmware_bridge.latency.log_latency import TOTAL, Misses, corrected_counts, device_counts, misses, stage_counts
from firmware_bridge.logs.parts import files_of, refuse_to_replace
from firmware_bridge.logs.read_log import object_in, text_in
from firmware_bridge.logs.topics import DROPPED, EVENT
from firmware_bridge.reports import page
from firmware_bridge.reports.figures import Array
from firmware_bridge.reports.log_series import (
    ERRORS,
    FAULT,
    LATENCY,
    OBSERVATION,
    STATISTICS,
    LogSeries,
    read_series,
    ticks_since,
)
from firmware_bridge.reports.tables import DEVICE_TIME_NAMES, console, latency_text, two_columns
from hardware.codec import name_of
from hardware.plants.cart_rail import UPRIGHT_RAD, UPRIGHT_WINDOW_S
from hardware.protocol import Fault

_PERIOD_S = 0.02  # where a log does not say its own
_NONE = {"n": 0, "p50": 0.0, "p99": 0.0, "p999": 0.0, "max": 0.0, "duration_s": 0.0}


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Columns of the ARMED observations, all (n,): time since the first [s], rod angle, cart position, action."""

    time_s: Array
    angle_rad: Array
    position_m: Array
    action: Array


def trajectory_of(log: LogSeries) -> Trajectory:
    """The ARMED observations of a log; time is the device's (tick times period), so lost frames leave gaps."""
    armed = log.armed
    ticks = armed["tick"]
    time_s = ticks_since(ticks, ticks[0] if len(ticks) else 0).astype(np.float64) * (log.period_s or _PERIOD_S)
    angle_rad = np.arctan2(armed["current.2"], armed["current.3"])
    return Trajectory(time_s, angle_rad, armed["current.0"], armed["applied_action"])


def make_report(config: Report) -> dict[str, Any]:
    """Read the log, write page and histograms if asked to; the JSON of the verb.

    Raises LogError, BridgeError, OSError.
    """
    inputs = files_of(config.log)
    refuse_to_replace(inputs, [] if config.html is None else [config.html])
    log = read_series(config.log)
    stages = stage_counts(log)
    corrected = corrected_counts(log, stages)
    device = device_counts(log)
    missed = misses(log)
    measured = {name: dataclasses.asdict(counts.percentiles()) for name, counts in stages.items()}
    result: dict[str, Any] = {
        "log": str(log.path),
        "parts": log.parts,
        "complete": log.complete,
        "damaged": log.damaged,
        "cut": log.cut,
        "mode": text_in(object_in(log.session, "config"), "mode", default="unknown"),
        "policy_digest": text_in(log.session, "policy_digest"),
        "device": text_in(log.session, "device", "board"),
        "started": text_in(log.session, "started"),
        "steps": len(log.steps),
        "upright_fraction_last_3s": _upright(log),
        "latency_us": measured.get(TOTAL, _NONE),
        "stages_us": measured,
        "stages_corrected_us": {name: dataclasses.asdict(counts.percentiles()) for name, counts in corrected.items()},
        "overflows": sum(counts.overflows for counts in (*stages.values(), *device.values())),
        "device_us": {name: dataclasses.asdict(counts.percentiles()) for name, counts in device.items()},
        "deadlines": _deadlines(missed),
        "link": _link(log),
        "dropped": _dropped(log),
        "realtime": _knobs(log),
        "events": _events(log),
        "run": log.result,
    }
    if config.histograms is not None:
        files = {**stages, **{f"{name}{CORRECTED}": counts for name, counts in corrected.items()}, **device}
        start_s = float(log[LATENCY].time_ns[0]) / 1e9 if len(log[LATENCY]) else 0.0
        result["histograms"] = {"folder": str(config.histograms)}
        result["histograms"]["files"] = write_histograms(config.histograms, files, start_s, inputs)
    if config.html is not None:
        from firmware_bridge.reports.report_page import report_page

        page.replace_text(config.html, report_page(log, result, stages, corrected, missed))
        result["html"] = str(config.html)
    return result


def print_report(result: dict[str, Any]) -> None:
    """Terminal tables of `make_report`'s result."""
    out = console()
    out.print(two_columns(f"log {result['log']}", overview_rows(result)))
    for title, header, rows in (
        ("latency, last byte of the observation in to answer out", STAGE_HEADER, stage_rows(result)),
        ("measured by the device", DEVICE_HEADER, device_time_rows(result)),
        ("real-time knobs", KNOB_HEADER, knob_rows(result)),
        ("faults and events", EVENT_HEADER, event_rows(result)),
    ):
        if rows:
            table = Table(*header, title=title, title_justify="left")
            for row in rows:
                table.add_row(*row)
            out.print(table)
    if "histograms" in result:
        out.print(f"{len(result['histograms']['files'])} histograms written to {result['histograms']['folder']}")
    if "html" in result:
        out.print(f"page written to {result['html']}")


STAGE_HEADER = ("stage [us]", "n", "p50", "p99", "p99.9", "max", "p99 corr.", "p99.9 corr.")
DEVICE_HEADER = ("device [us]", "n", "p50", "p99", "p99.9", "max")
KNOB_HEADER = ("knob", "taken", "detail")
EVENT_HEADER = ("time [s]", "kind", "text")


def overview_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What happened, in words."""
    run = result["run"] if isinstance(result["run"], dict) else {}
    deadlines, link = result["deadlines"], result["link"]
    dropped = ", ".join(f"{count} of {topic}" for topic, count in result["dropped"].items())
    rows = [
        ("complete", _completeness(result)),
        ("started", result["started"]),
        ("mode", result["mode"]),
        ("device", result["device"]),
        ("policy", result["policy_digest"]),
        ("steps", f"{result['steps']:,}"),
        ("upright, last 3 s", f"{result['upright_fraction_last_3s']:.1%}"),
        ("latency, last byte in to answer out", latency_text(result["latency_us"])),
        ("deadlines missed", _deadline_text(deadlines)),
        ("longest run of them", f"{deadlines['longest_run']}" + _at(deadlines["longest_run_tick"])),
        ("received: rejected, undecodable, lost", _triple(link["host"], ("rejected", "undecodable", "lost"))),
        (
            "device: checksum, lost, stale, refused",
            _triple(link["device"], ("crc_errors", "lost", "stale_commands", "refused")),
        ),
        ("log records dropped", dropped or "none"),
        ("ended by", text_in(run, "ended_by", default="unknown (the log ends before it)")),
    ]
    return [row for row in rows if row[1]]


def stage_rows(result: dict[str, Any]) -> list[list[str]]:
    """Percentiles of each stage, as measured and corrected for coordinated omission."""
    corrected = result["stages_corrected_us"]
    rows = []
    for stage, values in result["stages_us"].items():
        more = [f"{corrected[stage][key]:,.1f}" for key in ("p99", "p999")] if stage in corrected else ["", ""]
        rows.append([stage, *_numbers(values), *more])
    return rows


def device_time_rows(result: dict[str, Any]) -> list[list[str]]:
    """Percentiles of what the device measured itself."""
    times = {name: values for name, values in result["device_us"].items() if values["n"]}
    return [[DEVICE_TIME_NAMES[name].removeprefix("device: "), *_numbers(values)] for name, values in times.items()]


def knob_rows(result: dict[str, Any]) -> list[list[str]]:
    """The real-time knobs that the log says were tried."""
    return [[knob["knob"], "yes" if knob["taken"] else "no", knob["detail"]] for knob in result["realtime"]]


def event_rows(result: dict[str, Any]) -> list[list[str]]:
    """Faults and events with their time."""
    return [[f"{event['time_s']:z.3f}", event["kind"], event["text"]] for event in result["events"]]


def _numbers(values: dict[str, Any]) -> list[str]:
    return [f"{values['n']:,}", *(f"{values[key]:,.1f}" for key in ("p50", "p99", "p999", "max"))]


def _completeness(result: dict[str, Any]) -> str:
    parts = f" ({result['parts']} files)" if result["parts"] > 1 else ""
    if result["complete"]:
        return f"yes{parts}"
    return f"no, {'damaged' if result['damaged'] else 'cut off'}: {result['cut']}{parts}"


def _deadlines(missed: Misses) -> dict[str, Any]:
    values = {key: value for key, value in vars(missed).items() if key != "ticks"}
    return {"missed": missed.total, **values}


def _deadline_text(deadlines: dict[str, Any]) -> str:
    return (
        f"{deadlines['missed']} ({deadlines['unanswered']} not answered, {deadlines['late_or_lost']} answered too late "
        f"or lost on the way); {deadlines['lost']} observations never came"
    )


def _at(tick: int | None) -> str:
    return "" if tick is None else f", from tick {tick} on"


def _triple(counters: dict[str, int] | None, names: tuple[str, ...]) -> str:
    return "not in this log" if counters is None else " / ".join(f"{counters[name]:,}" for name in names)


def _link(log: LogSeries) -> dict[str, Any]:
    """What was counted while the log was written; the device's counters go on since its boot, so differences."""
    found: dict[str, Any] = {}
    for side, topic in (("host", ERRORS), ("device", STATISTICS)):
        series = log[topic]
        found[side] = None
        if len(series):
            columns = {name: values for name, values in series.columns.items() if name != "sequence"}
            found[side] = {name: int(_growth(values)) for name, values in columns.items()}
    return found


def _growth(values: Array) -> float:
    """How much a counter counted; one that fell was started again from zero."""
    steps = np.diff(values)
    return float(np.where(steps >= 0, steps, values[1:]).sum())


def _dropped(log: LogSeries) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, topic, value in log.events:
        if topic == DROPPED.name:
            found[value["topic"]] = found.get(value["topic"], 0) + value["count"]
    return found


def _knobs(log: LogSeries) -> list[dict[str, Any]]:
    return [
        {"knob": name, "taken": knob.get("taken") is True, "detail": text_in(knob, "detail")}
        for name, knob in object_in(log.session, "realtime").items()
        if isinstance(knob, dict)
    ]


def _events(log: LogSeries) -> list[dict[str, Any]]:
    """Faults of the device and events of the bridge; time since the first answer [s]."""
    start_ns = first_ns(log)
    found = []
    for time_ns, topic, value in log.events:
        if topic == EVENT.name:
            kind, text = value["kind"], value["text"]
        elif topic == FAULT:
            kind = "fault"
            reason = value.get("reason")
            name = name_of(Fault, reason) if isinstance(reason, int) else "unknown"
            text = f"{name} at tick {value.get('tick')}, detail {value.get('detail')}"
        else:
            kind, text = "dropped", f"{value['count']} records of {value['topic']} are missing here"
        found.append({"time_s": round((time_ns - start_ns) / 1e9, 6) + 0.0, "kind": kind, "text": text})
    return found


def first_ns(log: LogSeries) -> int:
    """When the first answer was written, or the log began [ns since 1970]."""
    for topic in (LATENCY, OBSERVATION):
        if len(log[topic]):
            return int(log[topic].time_ns[0])
    return log.events[0][0] if log.events else 0


def _upright(log: LogSeries) -> float:
    steps = log.steps.last(max(1, round(UPRIGHT_WINDOW_S / (log.period_s or _PERIOD_S))))
    if not len(steps):
        return 0.0
    angle_rad = np.arctan2(steps["current.2"], steps["current.3"])
    fraction = float(np.mean(np.abs(angle_rad) < UPRIGHT_RAD))
    return 0.0 if math.isnan(fraction) else fraction
