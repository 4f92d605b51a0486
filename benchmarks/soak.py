"""One long run of the bridge: memory, drops, and whether the clock's stated bound held all the time.

The device's clock is this computer's, times a known drift, plus a known offset: the truth. Every `/clock` record of the
log is compared with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mcap.reader import make_reader

from benchmarks.echo_device import EchoDevice, build_echo_device
from benchmarks.provenance import ROOT
from firmware_bridge.logs.topics import CLOCK, SESSION

DRIFT_PPM = 50.0
BEFORE_WRAP_US = 600_000_000  # ten minutes: every soak that is longer passes the wrap
MEMORY_LIMIT_KIB = 1024  # up or down, after the first minute
SHORTEST_MINUTES = 1.5
_WARM_UP_S = 60.0
_WRAP_NS = 2**32 * 1000


def resident_kib(pid: int) -> int | None:
    """Memory of a process and its children (the log's writer) in RAM [KiB]; None when it is gone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = [Path(f"/proc/{process}/status").read_text().splitlines() for process in (str(pid), *children)]
    except OSError:
        return None
    sizes = [int(line.split()[1]) for status in lines for line in status if line.startswith("VmRSS")]
    return sum(sizes) if len(sizes) == len(lines) else None


def true_offset_ns(host_ns: int, drift_ppm: float, offset_us: int) -> float:
    """Host minus device time [ns] as `echo_device.c` makes it, in +- half a wrap."""
    device_ns = host_ns + host_ns * drift_ppm * 1e-6 + offset_us * 1000
    return (host_ns - device_ns + _WRAP_NS / 2) % _WRAP_NS - _WRAP_NS / 2


def clock_errors(records: list[tuple[int, dict[str, Any]]], drift_ppm: float, offset_us: int) -> dict[str, Any]:
    """How far the estimate was off [us], at most, and how often farther than it said. `records`: (host time, value)."""
    worst_ns, beyond = 0.0, 0
    for host_ns, value in records:
        difference = value["offset_ns"] - true_offset_ns(host_ns, drift_ppm, offset_us)
        error_ns = abs((difference + _WRAP_NS / 2) % _WRAP_NS - _WRAP_NS / 2)
        worst_ns = max(worst_ns, error_ns)
        beyond += error_ns > value["uncertainty_ns"] + 1_000  # the device's stamps are whole microseconds
    return {"records": len(records), "largest_error_us": worst_ns / 1e3, "beyond_bound": beyond}


def soak(
    folder: Path, policy: Path, digest: str, *, rate_hz: float, minutes: float, extra: list[str]
) -> dict[str, Any]:
    """Run, watch the memory once a second, judge; `failures` is empty when all held."""
    offset_us = 2**32 - BEFORE_WRAP_US
    memory: list[tuple[float, int]] = []
    with EchoDevice(build_echo_device(folder), rate_hz, digest, DRIFT_PPM, offset_us) as device:
        command = [sys.executable, "-m", "firmware_bridge", "run", "--port", device.path, "--policy", str(policy)]
        command += ["--log", str(folder / "log"), "--duration-s", f"{minutes * 60:g}", "--backend", "c"]
        command += ["--json", *extra]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as bridge:
            started = time.monotonic()
            watcher = threading.Thread(target=_watch, args=(bridge.pid, started, memory))
            watcher.start()
            out, _ = bridge.communicate()
            watcher.join()
        if bridge.returncode != 0:
            raise SystemExit(f"error: the bridge ended with {bridge.returncode}; its own message stands above")
    run = json.loads(out)
    # The last seconds are the end of the run: percentiles are made, and the log's tail is written.
    ended = memory[-1][0] - 5.0 if memory else 0.0
    settled = [kib for at, kib in memory if _WARM_UP_S <= at < ended]
    if not settled:
        raise SystemExit("error: the memory was never read after the first minute; expected a run that lasts longer")
    growth_kib = max(abs(kib - settled[0]) for kib in settled)
    epoch_ns, clock = _clock_records(folder / "log")
    errors = clock_errors([(at - epoch_ns, value) for at, value in clock], DRIFT_PPM, offset_us)
    return {
        "rate_hz": rate_hz,
        "minutes": minutes,
        "steps": run["steps"],
        "memory_kib": {"first": settled[0], "last": settled[-1], "largest_change": growth_kib},
        "log_dropped": run["log_dropped"],
        "lost": run["lost"],
        "deadline_misses": run["deadline_misses"],
        "own_deadline_misses": run["own_deadline_misses"],
        "late_device_periods": device.counted["late"],
        "loop_us": {key: run["latency_us"][key] for key in ("p50", "p99", "p999", "max")},
        "clock": {**run["clock_sync"], **errors, "true_drift_ppm": -DRIFT_PPM},
        "failures": failures_of(run, errors, growth_kib),
    }


def failures_of(run: dict[str, Any], errors: dict[str, Any], growth_kib: int) -> list[str]:
    """What the soak must not find, in words: of the run's result, `clock_errors`, and how far the memory moved."""
    failures = []
    if growth_kib > MEMORY_LIMIT_KIB:
        failures.append(f"memory moved by {growth_kib} KiB, expected {MEMORY_LIMIT_KIB} at most")
    for key, what in (
        ("log_dropped", "log records dropped"),
        ("lost", "frames lost"),
        ("own_deadline_misses", "deadlines missed by the bridge's own doing"),
    ):
        if run[key]:
            failures.append(f"{run[key]} {what}, expected none")
    if errors["beyond_bound"] or not errors["records"]:
        failures.append(f"the clock was beyond its bound in {errors['beyond_bound']} of {errors['records']} records")
    return failures


def _watch(pid: int, started: float, memory: list[tuple[float, int]]) -> None:
    while Path(f"/proc/{pid}").exists():
        kib = resident_kib(pid)
        if kib is not None:
            memory.append((time.monotonic() - started, kib))
        time.sleep(1.0)


def _clock_records(folder: Path) -> tuple[int, list[tuple[int, dict[str, Any]]]]:
    """(epoch offset [ns], records of /clock) of the run's files: by their index, an hour does not fit into memory."""
    epoch_ns, clock = 0, []
    for path in sorted(folder.glob("*.mcap")):
        with path.open("rb") as stream:
            for _, channel, message in make_reader(stream).iter_messages(topics=[CLOCK.name, SESSION.name]):
                value = json.loads(message.data)
                if channel.topic == SESSION.name:
                    epoch_ns = int(value["epoch_offset_ns"])
                else:
                    clock.append((message.log_time, value))
    return epoch_ns, clock
