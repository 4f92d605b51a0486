"""The verb `report`: what a log says, as JSON, as a terminal table, and as a self-contained HTML page."""

import dataclasses
import math
from typing import Any

import numpy as np
from rich.table import Table

from firmware_bridge import figures, page
from firmware_bridge.config import Report
from firmware_bridge.figures import Array
from firmware_bridge.latency import STAGES, DeviceTimes, Percentiles, StageHistograms
from firmware_bridge.read_log import Log, number, read_log
from firmware_bridge.tables import DEVICE_TIME_NAMES, console, device_rows, latency_text, two_columns
from hardware.plants.cart_rail import UPRIGHT_RAD, UPRIGHT_WINDOW_S
from hardware.protocol import State, Timing


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Columns of the ARMED observations, all (n,): time since the first [s], rod angle, cart position, action."""

    time_s: Array
    angle_rad: Array
    position_m: Array
    action: Array


def trajectory_of(log: Log) -> Trajectory:
    """The ARMED observations of a log; time is the device's (tick times period), so lost frames leave gaps."""
    rows = [
        (
            value["tick"],
            math.atan2(number(value["current"][2]), number(value["current"][3])),
            number(value["current"][0]),
            number(value["applied_action"]),
        )
        for value in log.values("/observation")
        if value["state"] == State.ARMED
    ]
    table = np.array(rows, np.float64).reshape(-1, 4)
    period_s = float(log.session.get("period_us", 20_000)) * 1e-6
    time_s = (table[:, 0] - table[0, 0]) * period_s if len(table) else table[:, 0]
    return Trajectory(time_s, table[:, 1], table[:, 2], table[:, 3])


def stage_percentiles(log: Log) -> dict[str, Percentiles]:
    """Percentiles [us] of every stage, rebuilt from the `/latency` records, so that a cut log has them too."""
    histograms = StageHistograms()
    records = log.topics.get("/latency", [])
    for record in records:
        stamps = [0]
        for stage in STAGES[:-1]:
            stamps.append(stamps[-1] + int(record.value[f"{stage}_ns"]))
        names = ("first", "last", "decoded", "inferred", "encoded", "written")
        histograms.record(**dict(zip(names, stamps, strict=True)))
    duration_s = (records[-1].time_ns - records[0].time_ns) / 1e9 if records else 0.0
    return {stage: histograms.percentiles(stage, duration_s) for stage in STAGES}


def device_percentiles(log: Log) -> dict[str, Percentiles]:
    """Percentiles [us] of the device's own times, rebuilt from the `/timing` records of the answered periods."""
    times = DeviceTimes()
    answered = [value["observation_tick"] for value in log.values("/latency")] or [0]
    device_policy = log.session.get("config", {}).get("mode", "host") != "host"
    records = [record for record in log.topics.get("/timing", []) if answered[0] < record.value["tick"] <= answered[-1]]
    for record in records:
        fields = {key: value for key, value in record.value.items() if key != "sequence"}
        times.record(Timing(**fields), policy_ran=device_policy)
    return times.percentiles((records[-1].time_ns - records[0].time_ns) / 1e9 if records else 0.0)


def total_latency_us(log: Log) -> Array:
    """Last byte in to answer out of every answer [us], (n,)."""
    return np.array([value["total_ns"] / 1e3 for value in log.values("/latency")], np.float64)


def make_report(config: Report) -> dict[str, Any]:
    """Read the log, write the page if asked to; the JSON of the verb. Raises LogError, OSError."""
    log = read_log(config.log)
    trajectory = trajectory_of(log)
    stages = {name: dataclasses.asdict(value) for name, value in stage_percentiles(log).items()}
    result: dict[str, Any] = {
        "log": str(log.path),
        "complete": log.complete,
        "cut": log.cut,
        "mode": log.session.get("config", {}).get("mode", "unknown"),
        "policy_digest": log.session.get("policy_digest", ""),
        "device": log.session.get("device", {}).get("board", ""),
        "started": log.session.get("started", ""),
        "steps": stages["total"]["n"],  # the run ended on one more ARMED observation, which nobody answered
        "upright_fraction_last_3s": _upright(trajectory),
        "latency_us": stages["total"],
        "stages_us": stages,
        "device_us": {name: dataclasses.asdict(value) for name, value in device_percentiles(log).items()},
        "run": log.result,
        "events": [{"kind": value["kind"], "text": value["text"]} for value in log.values("/event")],
    }
    if config.html is not None:
        page.replace_text(config.html, _page(log, trajectory, result))
        result["html"] = str(config.html)
    return result


def print_report(result: dict[str, Any]) -> None:
    """Terminal tables of `make_report`'s result."""
    out = console()
    out.print(two_columns(f"log {result['log']}", _rows(result)))
    table = Table("stage", "n", "p50", "p99", "p99.9", "max", title="latency [us]", title_justify="left")
    for row in _stage_rows(result):
        table.add_row(*row)
    out.print(table)
    if "html" in result:
        out.print(f"page written to {result['html']}")


def _upright(trajectory: Trajectory) -> float:
    if not len(trajectory.time_s):
        return 0.0
    last = trajectory.time_s > trajectory.time_s[-1] - UPRIGHT_WINDOW_S + 1e-9
    return float(np.mean(np.abs(trajectory.angle_rad[last]) < UPRIGHT_RAD))


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    run = result["run"] or {}
    rows = [
        ("complete", "yes" if result["complete"] else f"no: {result['cut']}"),
        ("started", result["started"]),
        ("mode", result["mode"]),
        ("device", result["device"]),
        ("policy", result["policy_digest"]),
        ("steps", str(result["steps"])),
        ("upright, last 3 s", f"{result['upright_fraction_last_3s']:.1%}"),
        ("latency, last byte in to answer out", latency_text(result["latency_us"])),
        *device_rows(result["device_us"]),
    ]
    for key, name in (
        ("crc_errors", "checksum errors, both directions"),
        ("lost", "frames lost, both directions"),
        ("deadline_misses", "deadlines missed"),
        ("log_dropped", "log records dropped"),
        ("ended_by", "ended by"),
    ):
        rows.append((name, str(run.get(key, "unknown (the log was cut off)"))))
    return rows


def _stage_rows(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    times = {DEVICE_TIME_NAMES[key]: values for key, values in result["device_us"].items() if values["n"]}
    for stage, values in {**result["stages_us"], **times}.items():
        numbers = [f"{values[key]:.1f}" for key in ("p50", "p99", "p999", "max")]
        rows.append([stage, str(values["n"]), *numbers])
    return rows


def _page(log: Log, trajectory: Trajectory, result: dict[str, Any]) -> str:
    latency = result["latency_us"]
    caption = f"n = {latency['n']} answers over {latency['duration_s']:.1f} s; largest {latency['max']:.1f} us."
    config = [[key, str(value)] for key, value in log.session.get("config", {}).items()]
    versions = [[key, str(value)] for key, value in log.session.get("versions", {}).items()]
    sections = [
        ("What happened", page.table_html(("", ""), _rows(result))),
        (
            "Rod, cart and action",
            figures.trajectory_svg(trajectory.time_s, trajectory.angle_rad, trajectory.position_m, trajectory.action),
        ),
        (
            "Latency",
            figures.latency_svg(total_latency_us(log))
            + f"<p>{caption}</p>"
            + page.table_html(("stage [us]", "n", "p50", "p99", "p99.9", "max"), _stage_rows(result)),
        ),
        ("Events", page.table_html(("kind", "text"), [[e["kind"], e["text"]] for e in result["events"]])),
        ("Configuration and versions", page.table_html(("", ""), config + versions)),
    ]
    if not log.complete:
        sections.insert(
            0, ("Cut off", page.warning_html(f"This log was cut off: {log.cut}. What is shown came before."))
        )
    return page.page_html(f"Closed loop, mode {result['mode']}", sections)
