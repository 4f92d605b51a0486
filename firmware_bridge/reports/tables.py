"""Tables for people, on the terminal."""

import errno
import os
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from firmware_bridge.notices import printable


class _Terminal(Console):
    """Every text that is printed or stands in a table passes `render_str`: control characters end here."""

    def render_str(self, text: str, **options: Any) -> Text:
        """`text`, with what is not printable written out."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Raise it again: rich would exit here without a word."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console() -> Console:
    """Standard output for tables. Without markup: rich would swallow `[us]` and parts of paths as tags."""
    return _Terminal(markup=False)


def two_columns(title: str, rows: list[tuple[str, str]]) -> Table:
    """A table of names and values."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


def latency_text(latency: dict[str, Any]) -> str:
    """Percentiles in one line, never without n, max and duration."""
    if not latency["n"]:
        return "none measured"
    return (
        f"p50 {latency['p50']:.0f}, p99 {latency['p99']:.0f}, p99.9 {latency['p999']:.0f}, max {latency['max']:.0f} us "
        f"(n {latency['n']}, {latency['duration_s']:.1f} s)"
    )


DEVICE_TIME_NAMES = {
    "action_age": "device: sampled to its action applied",
    "response": "device: sampled to its answer accepted",
    "inference": "device: policy",
}


def device_rows(times: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and percentiles of each of the device's own times that was measured."""
    return [(name, latency_text(times[key])) for key, name in DEVICE_TIME_NAMES.items() if times[key]["n"]]


def print_run(result: dict[str, Any]) -> None:
    """What `run` measured."""
    rows = [
        ("ended by", result["ended_by"]),
        ("steps", str(result["steps"])),
        ("upright, last 3 s", f"{result['upright_fraction_last_3s']:.1%}"),
        ("latency, last byte in to answer out", latency_text(result["latency_us"])),
        *device_rows(result["device_us"]),
        ("checksum errors, both directions", str(result["crc_errors"])),
        ("frames lost, both directions", str(result["lost"])),
        *([("observations late or twice", str(result["out_of_order"]))] if result["out_of_order"] else []),
        ("deadlines missed", f"{result['deadline_misses']}, {result['own_deadline_misses']} by the bridge's own doing"),
        *_clock_row(result["clock_sync"]),
        *([("real-time knobs", _knobs_text(result["realtime"]))] if result["realtime"] else []),
        ("faults", ", ".join(f"{fault['reason']} at tick {fault['tick']}" for fault in result["faults"]) or "none"),
        ("log", f"{result['log'] or 'deleted'} ({result['log_dropped']} records dropped)"),
        ("policy", result["policy_digest"][:12]),
    ]
    if "shadow" in result:
        shadow = result["shadow"]
        text = f"{shadow['max_difference']:.3g} m/s^2 over {shadow['compared']} actions"
        rows.insert(3, ("largest difference host - device", text))
    if result.get("trajectory_sha256"):
        rows.append(("trajectory", result["trajectory_sha256"][:12]))
    console().print(two_columns(f"closed loop, mode {result['mode']}, clock {result['clock']}", rows))


def _clock_row(clock: dict[str, Any] | None) -> list[tuple[str, str]]:
    if clock is None:
        return []
    text = f"known to {clock['uncertainty_ns'] / 1e3:.0f} us, drift {clock['drift_ppm']:.1f} ppm"
    return [
        ("device's clock", f"{text} ({clock['samples']} round trips, smallest {clock['round_trip_ns'] / 1e3:.0f} us)")
    ]


def _knobs_text(knobs: dict[str, dict[str, Any]]) -> str:
    taken = [name for name, knob in knobs.items() if knob["taken"]]
    refused = [f"{name} ({knob['detail']})" for name, knob in knobs.items() if not knob["taken"]]
    return f"taken: {', '.join(taken) or 'none'}; refused: {', '.join(refused) or 'none'}"
