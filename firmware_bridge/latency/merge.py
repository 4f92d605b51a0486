"""The verb `merge`: the histograms of several runs added up, stage by stage."""

import dataclasses
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from firmware_bridge.config import Merge
from firmware_bridge.errors import LogError
from firmware_bridge.latency.duration_counts import DurationCounts, merge_counts
from firmware_bridge.latency.histogram_files import CORRECTED, read_histograms, write_histograms
from firmware_bridge.latency.log_latency import corrected_counts, device_counts, stage_counts
from firmware_bridge.logs.parts import LOG_NAME, file_identity, files_of, find_parts, part_number
from firmware_bridge.logs.read_log import object_in, text_in
from firmware_bridge.reports.log_series import LATENCY, LogSeries, read_series


def histograms_of(log: LogSeries) -> dict[str, DurationCounts]:
    """Every histogram of a log by name: stages, the same with `.corrected`, and the device's own times."""
    stages = stage_counts(log)
    corrected = {f"{name}{CORRECTED}": counts for name, counts in corrected_counts(log, stages).items()}
    return {**stages, **corrected, **device_counts(log)}


def start_of(log: LogSeries) -> float:
    """When the first answer was written [s since 1970]; 0 without any."""
    return float(log[LATENCY].time_ns[0]) / 1e9 if len(log[LATENCY]) else 0.0


def merge(config: Merge) -> dict[str, Any]:
    """Read all inputs, add up, write the result's histograms if asked to.

    Raises LogError, BridgeError, OSError.
    """
    if not config.inputs:
        raise LogError("merge: no logs given; name logs, or folders that `report --histograms` wrote")
    parts: dict[str, list[DurationCounts]] = {}
    inputs, starts = [], []
    known: dict[Hashable, Path] = {}
    for path in config.inputs:
        found, about, identities = _read(path)
        for identity in identities:
            if identity in known:
                raise LogError(f"merge: {path} and {known[identity]} hold the same records; name each log once")
            known[identity] = path
        inputs.append({"path": str(path), **about})
        starts.append(about.get("start_s", 0.0))
        for name, counts in found.items():
            parts.setdefault(name, []).append(counts)
    merged = {name: merge_counts(found) for name, found in parts.items()}
    result: dict[str, Any] = {
        "inputs": inputs,
        "us": {
            name: {**dataclasses.asdict(counts.percentiles()), "inputs": len(parts[name])}
            for name, counts in merged.items()
        },
        "overflows": sum(counts.overflows for counts in merged.values()),
    }
    if config.histograms is not None:
        files_read = [file for path in config.inputs for file in (*files_of(path), *path.glob("*.hlog"))]
        files = write_histograms(config.histograms, merged, min(starts), files_read)
        result["histograms"] = {"folder": str(config.histograms), "files": files}
    return result


def print_merge(result: dict[str, Any]) -> None:
    """The merged percentiles as a table."""
    from rich.table import Table

    from firmware_bridge.reports.tables import console

    title = f"{len(result['inputs'])} inputs merged"
    table = Table(title=title, title_justify="left")
    table.add_column("[us]", no_wrap=True)
    for head in ("n", "p50", "p99", "p99.9", "max", "seconds", "inputs"):
        table.add_column(head, justify="right")
    for name, values in result["us"].items():
        if not values["n"]:
            continue
        numbers = [f"{values[key]:,.1f}" for key in ("p50", "p99", "p999", "max", "duration_s")]
        table.add_row(name, f"{values['n']:,}", *numbers, str(values["inputs"]))
    console().print(table)


def _read(path: Path) -> tuple[dict[str, DurationCounts], dict[str, Any], set[Hashable]]:
    """Histograms, what is said of them, and what tells their files from others, copies of a log's among them."""
    if path.is_dir() and not (path / LOG_NAME).is_file() and any(path.glob("*.hlog")):
        return read_histograms(path), {"kind": "histograms"}, {file_identity(file) for file in path.glob("*.hlog")}
    parts = find_parts(path)
    log = read_series(path)
    about = {
        "kind": "log",
        "complete": log.complete,
        "start_s": start_of(log),
        "mode": text_in(object_in(log.session, "config"), "mode"),
        "policy_digest": text_in(log.session, "policy_digest"),
    }
    identities: set[Hashable] = {file_identity(part) for part in parts}
    log_id = text_in(log.session, "log_id")
    if log_id:
        identities |= {(log_id, part_number(part)) for part in parts}
    return histograms_of(log), about, identities
