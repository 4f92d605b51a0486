"""The bridge at 1 kHz beside a bare pyserial echo, on the same pseudo terminal, in the same run.

    python -m benchmarks.bridge                     60 s of each, in turns; writes docs/results/bridge.json
    python -m benchmarks.bridge --soak --minutes 60 one run at 500 Hz: memory, drops, and the clock held to its bound

The other end is a small C process (`echo_device.c`) with a clock of its own: 50 ppm fast, and about to wrap. Loop: last
byte readable to answer written, policy included; echo: the same two moments around pyserial's read and write, with
frames of the same sizes. Response: what the device sees, sampled to answer read, which also holds what it takes to
wake a process and, for the bridge, its log writer, a process beside it that wants the processor, too.

Both write their result in any case, and end with 1 where it is not what the bridge promises (`failures`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.echo_device import EchoDevice, build_echo_device
from benchmarks.provenance import ROOT, commit, machine, refuse_dirty
from benchmarks.soak import SHORTEST_MINUTES, soak
from distill.result_file import write_json
from export.compile import compile_student
from export.student_file import read_student, write_student
from firmware_bridge.latency.stage_histograms import decode_histogram
from firmware_bridge.logs.read_log import read_log

TARGET = ROOT / "docs" / "results" / "bridge.json"
SOAK_TARGET = ROOT / "docs" / "results" / "soak.json"
STUDENT = ROOT / "students" / "cart_rail.safetensors"
DRIFT_PPM = 50.0
BEFORE_WRAP_US = 5_000_000
P50_LIMIT_US, P99_LIMIT_US = 60.0, 200.0  # of the loop
TIMES_ECHO_LIMIT = 2.5  # the loop's median against the echo's, which says how fast the machine is
START_UP_LIMIT_S = 1.0
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}


def policy_at(rate_hz: float, folder: Path) -> tuple[Path, str]:
    """The committed student with another control period, compiled: its folder and digest."""
    student = dataclasses.replace(read_student(STUDENT), control_period_s=1.0 / rate_hz)
    write_student(folder / "student.safetensors", student)
    return folder / "policy", compile_student(folder / "student.safetensors", folder / "policy", None).digest


def summary(durations_us: NDArray[Any]) -> dict[str, float]:
    """p50, p99, p999, max [us]."""
    if not durations_us.size:
        raise SystemExit("error: nothing was measured; expected answers; run it again on a machine with less to do")
    values = {name: float(np.percentile(durations_us, share)) for name, share in PERCENTILES.items()}
    return {**values, "max": float(durations_us.max())}


def loop_us(log: Path) -> NDArray[np.float64]:
    """Every `total` of a run [us], from the histogram in its log."""
    result = read_log(log).result or {}
    histogram = decode_histogram(result["histograms"]["total"])
    values, counts = [], []
    for item in histogram.get_recorded_iterator():
        values.append(item.value_iterated_to / 1e3)
        counts.append(item.count_added_in_this_iter_step)
    return np.repeat(np.array(values), np.array(counts, np.int64))


def bridge_round(device: EchoDevice, policy: Path, log: Path, seconds: float, extra: list[str]) -> dict[str, Any]:
    """One run of the bridge in a process of its own; its JSON. Ends the program when it failed."""
    command = [sys.executable, "-m", "firmware_bridge", "run", "--port", device.path, "--policy", str(policy)]
    command += ["--log", str(log), "--duration-s", f"{seconds:g}", "--backend", "c", "--json", *extra]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(f"error: the bridge ended with {done.returncode}; its own message stands above")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def echo_round(program: Path, rate_hz: float, folder: Path, seconds: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """(echo, response) [us] of one turn of the bare echo."""
    out = folder / "echo.npy"
    with EchoDevice(program, rate_hz, None) as device:
        command = [sys.executable, "-m", "benchmarks.bare_echo", "--port", device.path]
        subprocess.run([*command, "--seconds", f"{seconds:g}", "--out", str(out)], cwd=ROOT, check=True)
    return np.load(out) / 1e3, device.responses_us()


def measure(rate_hz: float, seconds: float, rounds: int, extra: list[str]) -> dict[str, Any]:
    """`rounds` turns of both; what docs/results/bridge.json holds but machine and commit."""
    loops, echoes, responses, echo_responses, runs, started = [], [], [], [], [], []
    late = held = 0
    with tempfile.TemporaryDirectory(prefix="bridge-") as name:
        folder = Path(name)
        program = build_echo_device(folder)
        policy, digest = policy_at(rate_hz, folder)
        for turn in range(rounds):
            echoed, response = echo_round(program, rate_hz, folder, seconds / rounds)
            echoes.append(echoed)
            echo_responses.append(response)
            with EchoDevice(program, rate_hz, digest, DRIFT_PPM, 2**32 - BEFORE_WRAP_US) as device:
                begin_ns = time.monotonic_ns()
                runs.append(bridge_round(device, policy, folder / "log", seconds / rounds, extra))
            started.append((device.counted["first_answer_ns"] - begin_ns) / 1e9)
            loops.append(loop_us(folder / "log"))
            responses.append(device.responses_us())
            late += device.counted["late"]
            held += device.counted["held"]
            told = {key: f"{value:.0f}" for key, value in summary(loops[-1]).items()}
            print(f"turn {turn + 1} of {rounds}: loop {told} us, echo p50 {np.median(echoed):.0f} us", file=sys.stderr)
    loop, echo = summary(np.concatenate(loops)), summary(np.concatenate(echoes))
    result = {
        "rate_hz": rate_hz,
        "n": int(sum(len(values) for values in loops)),
        "seconds": float(sum(run["latency_us"]["duration_s"] for run in runs)),
        "rounds": rounds,
        "loop_us": loop,
        "echo_us": echo,
        "echo_n": int(sum(len(values) for values in echoes)),
        "times_echo": loop["p50"] / echo["p50"],
        "response_us": summary(np.concatenate(responses)),
        "echo_response_us": summary(np.concatenate(echo_responses)),
        "stages_us": {stage: runs[-1]["stages_us"][stage]["p50"] for stage in runs[-1]["stages_us"]},
        "start_up_s": {"p50": float(np.median(started)), "max": max(started)},
        "deadline_misses": sum(run["deadline_misses"] for run in runs),
        "own_deadline_misses": sum(run["own_deadline_misses"] for run in runs),
        "held_periods": held,
        "late_device_periods": late,
        "lost": sum(run["lost"] for run in runs),
        "log_dropped": sum(run["log_dropped"] for run in runs),
        "clock": runs[-1]["clock_sync"],
        "realtime": runs[-1]["realtime"],
        "backend": runs[-1]["backend"],
    }
    return {**result, "failures": failures(result)}


def failures(result: dict[str, Any]) -> list[str]:
    """What of `measure`'s figures is beyond its limit, in words."""
    upper = [
        ("the loop's p50", result["loop_us"]["p50"], P50_LIMIT_US, "us"),
        ("the loop's p99", result["loop_us"]["p99"], P99_LIMIT_US, "us"),
        ("the loop's p50", result["times_echo"], TIMES_ECHO_LIMIT, "times the echo's"),
        ("deadlines missed by the bridge's own doing", result["own_deadline_misses"], 0, "periods"),
        ("start-up to the first command (p50)", result["start_up_s"]["p50"], START_UP_LIMIT_S, "s"),
    ]
    return [
        f"{name}: {value:.4g} {unit}, expected {limit:g} at most"
        for name, value, limit, unit in upper
        if not value <= limit  # a NaN is one, too
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate-hz", type=float, help="control periods a second (1000; --soak: 500)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each, all turns together")
    parser.add_argument("--rounds", type=int, default=6, help="turns")
    parser.add_argument("--realtime", action="store_true", help="with the bridge's real-time knobs (the echo has none)")
    parser.add_argument("--soak", action="store_true", help="one long run instead")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of --soak")
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    if arguments.soak and not arguments.minutes >= SHORTEST_MINUTES:
        parser.error(
            f"--minutes {arguments.minutes:g}: expected {SHORTEST_MINUTES:g} at least; memory is compared with what it "
            "was after the first minute"
        )
    refuse_dirty(allowed=arguments.allow_dirty)
    rate_hz = arguments.rate_hz or (500.0 if arguments.soak else 1000.0)
    extra = ["--realtime"] if arguments.realtime else []
    if arguments.soak:
        with tempfile.TemporaryDirectory(prefix="soak-") as name:
            policy, digest = policy_at(rate_hz, Path(name))
            result = soak(Path(name), policy, digest, rate_hz=rate_hz, minutes=arguments.minutes, extra=extra)
        target = SOAK_TARGET
    else:
        result, target = measure(rate_hz, arguments.seconds, arguments.rounds, extra), TARGET
    write_json(target, {**result, "machine": machine(), "commit": commit()})
    print(json.dumps(result, indent=1))
    print(f"wrote {target.relative_to(ROOT)}; tables: make results", file=sys.stderr)
    if result["failures"]:
        raise SystemExit(f"error: {'soak' if arguments.soak else 'bridge'}: {'; '.join(result['failures'])}")


if __name__ == "__main__":
    main()
