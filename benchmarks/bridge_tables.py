"""The tables of the bridge's loop in docs/results.md."""

from __future__ import annotations

from typing import Any

_KEYS = ("p50", "p99", "p999", "max")


def section(stored: dict[str, Any], soaked: dict[str, Any] | None) -> str:
    """The loop beside the bare echo, whose doing the misses were, and the soak."""
    head = (
        f"`make bench-bridge`, commit `{stored['commit'][:12]}`, {stored['machine']}: {stored['rate_hz']:g} Hz against "
        f"a C process on a pty, {stored['rounds']} turns of each in one run. Loop: last byte readable to answer "
        "written, policy and framing included. Echo: pyserial's read and write of frames of the same sizes, between "
        "the same moments. Response: what the device sees, waking both processes included."
    )
    rows = [
        ("loop", stored["n"], stored["loop_us"]),
        ("bare pyserial echo", stored["echo_n"], stored["echo_us"]),
        ("response, seen by the device", stored["n"], stored["response_us"]),
        ("response of the bare echo", stored["echo_n"], stored["echo_response_us"]),
    ]
    lines = ["| us | n | p50 | p99 | p99.9 | max |", "|---|---|---|---|---|---|"]
    for name, count, values in rows:
        lines.append(f"| {name} | {count:,} | " + " | ".join(f"{values[key]:,.0f}" for key in _KEYS) + " |")
    misses = (
        f"{stored['seconds']:.0f} s; the loop's median is {stored['times_echo']:.2f} times the echo's. Deadlines "
        f"missed: {stored['deadline_misses']}, by the bridge's own doing: {stored['own_deadline_misses']} "
        "([latency.md](latency.md) says what counts). "
        f"Periods that the device itself began late: {stored['late_device_periods']}. Frames lost: {stored['lost']}, "
        f"log records dropped: {stored['log_dropped']}. From starting the program to the first command at the device: "
        f"{stored['start_up_s']['p50']:.2f} s (median), {stored['start_up_s']['max']:.2f} s at most. "
        f"Against the limits in `benchmarks/bridge.py`: {_verdict(stored)}."
    )
    return "\n\n".join([head, "\n".join(lines), misses, _soak(soaked)])


def _verdict(result: dict[str, Any]) -> str:
    return "; ".join(result["failures"]).upper() or "nothing to complain about"


def _soak(soaked: dict[str, Any] | None) -> str:
    if soaked is None:
        return "Not soaked yet: `make soak`."
    clock, memory = soaked["clock"], soaked["memory_kib"]
    return (
        f"`make soak`, commit `{soaked['commit'][:12]}`: {soaked['minutes']:g} minutes at {soaked['rate_hz']:g} Hz, "
        f"{soaked['steps']:,} periods. Memory after the first minute {memory['first'] / 1024:.1f} MiB, moved by "
        f"{memory['largest_change'] / 1024:.2f} MiB at most; {soaked['log_dropped']} log records dropped, "
        f"{soaked['lost']} frames lost, {soaked['own_deadline_misses']} deadlines missed by its own doing. The clock, "
        f"whose true drift was {clock['true_drift_ppm']:g} ppm, was estimated at {clock['drift_ppm']:.1f} ppm; it was "
        f"off by {clock['largest_error_us']:.0f} us at most and beyond its stated bound in {clock['beyond_bound']} of "
        f"{clock['records']:,} records: {_verdict(soaked)}."
    )
