"""The other end of the benchmark speaks the protocol, and its clock is the truth that it says."""

import json
import os
import shutil
import time

import numpy as np
import pytest
import serial

from benchmarks import bridge
from benchmarks.bridge import failures, loop_us, policy_at, summary
from benchmarks.bridge_tables import section
from benchmarks.echo_device import EchoDevice, build_echo_device
from benchmarks.soak import clock_errors, failures_of, resident_kib, true_offset_ns
from firmware_bridge.config import Ping, Run
from firmware_bridge.device.ping import ping
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.run import run

RATE_HZ = 100.0
DRIFT_PPM = 80.0

if not any(shutil.which(name) for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name):
    if os.environ.get("CI") == "true":
        pytest.fail("no C compiler", pytrace=False)
    pytest.skip("no C compiler: install gcc", allow_module_level=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build_echo_device(tmp_path_factory.mktemp("echo"))


@pytest.fixture(scope="module", params=["host", "device"])
def mode(request):
    return request.param


@pytest.fixture(scope="module")
def finished(program, mode, tmp_path_factory):
    """One run across a wrap of the device's clock: result, log folder, what the device counted, its clock's offset."""
    folder = tmp_path_factory.mktemp("run")
    policy, digest = policy_at(RATE_HZ, folder)
    device_ns = time.monotonic_ns() * (1 + DRIFT_PPM * 1e-6)
    offset_us = (2**32 - 1_500_000 - int(device_ns // 1000)) % 2**32  # wraps 1.5 s from now
    with EchoDevice(program, RATE_HZ, digest, DRIFT_PPM, offset_us) as device:
        outcome = run(Run(port=device.path, policy=policy, log=folder / "log", mode=mode, duration_s=3.0))
    assert outcome.error is None
    return outcome.result, folder / "log", device, offset_us


def test_every_answer_of_the_loop_is_one_the_device_counted_or_refused(finished):
    result, _, device, _ = finished
    counted = device.counted
    assert (result["crc_errors"], result["lost"], counted["damaged"], counted["lost"]) == (0, 0, 0, 0)
    answered = result["latency_us"]["n"]
    assert 0 < answered <= result["steps"]
    assert counted["answers"] + counted["stale"] >= answered
    assert len(device.responses_us()) == counted["answers"]
    assert result["own_deadline_misses"] <= result["deadline_misses"] + counted["held"]


def test_clock_is_known_as_well_as_it_says_across_the_wrap(finished):
    result, log, _, offset_us = finished
    read = read_log(log)
    epoch_ns = read.session["epoch_offset_ns"]
    records = [(record.time_ns - epoch_ns, record.value) for record in read.topics["/clock"]]
    errors = clock_errors(records, DRIFT_PPM, offset_us)
    assert errors["records"] >= 2
    assert errors["beyond_bound"] == 0
    assert result["clock_sync"]["restarts"] == 0
    stamps = [value["time_us"] for value in read.values("/observation")]
    assert stamps[-1] < stamps[0]  # it did wrap
    # What would be said of an estimate that is off by a millisecond.
    moved = [(at, {**value, "offset_ns": value["offset_ns"] + 10**9}) for at, value in records]
    assert clock_errors(moved, DRIFT_PPM, offset_us)["beyond_bound"] == errors["records"]


def test_applied_is_one_period_behind_and_never_before_written(finished, mode):
    _, log, _, _ = finished
    told = [value for value in read_log(log).values("/latency") if value["apply_ns"] is not None]
    assert bool(told) == (mode == "host")  # a HEARTBEAT brings no action
    for value in told:
        assert value["apply_ns"] >= -value["apply_uncertainty_ns"]
        assert value["apply_uncertainty_ns"] > 0


def test_loop_of_the_log_is_the_loop_of_the_result(finished):
    result, log, _, _ = finished
    values = loop_us(log)
    assert len(values) == result["latency_us"]["n"]
    # NumPy interpolates between two values, an HdrHistogram gives the one that was recorded.
    exact = np.percentile(values, 50, method="inverted_cdf")
    assert exact == pytest.approx(result["latency_us"]["p50"], rel=5e-3)


def test_ping_reaches_it(program):
    with EchoDevice(program, RATE_HZ, "ab" * 32) as device:
        result = ping(Ping(port=device.path, count=5))
    assert (result["round_trip_us"]["n"], result["board"]) == (5, "echo")


def test_bare_device_takes_any_answer(program):
    with EchoDevice(program, RATE_HZ, None) as device, serial.Serial(device.path, 921_600, timeout=10.0) as line:
        for _ in range(5):
            assert len(line.read(62)) == 62
            line.write(b"x" * 19)
        line.read(62)  # the fifth answer was read before it sends again
    assert device.counted["answers"] >= 4
    assert len(device.responses_us()) == device.counted["answers"]


def test_truth_of_a_clock_without_drift_is_its_offset():
    assert true_offset_ns(10**15, 0.0, 0) == 0
    assert true_offset_ns(10**15, 0.0, 2**32 - 5) == 5_000
    assert true_offset_ns(10**12, 100.0, 0) == pytest.approx(-1e8)


def test_memory_of_a_process_and_of_none():
    assert resident_kib(os.getpid()) > 10_000
    assert resident_kib(2**22 + 1) is None


def test_nothing_measured_is_an_error():
    with pytest.raises(SystemExit, match="nothing was measured"):
        summary(np.array([]))


def test_section_says_what_was_found():
    four = {"p50": 10.0, "p99": 20.0, "p999": 30.0, "max": 40.0}
    stored = {
        **{"commit": "c" * 40, "machine": "here", "rate_hz": 1000.0, "rounds": 6, "n": 60000, "echo_n": 59000},
        **{"loop_us": four, "echo_us": four, "response_us": four, "echo_response_us": four, "times_echo": 1.5},
        **{"seconds": 60.0, "deadline_misses": 3, "own_deadline_misses": 1, "late_device_periods": 9},
        **{"lost": 0, "log_dropped": 0, "start_up_s": {"p50": 0.6, "max": 0.7}, "failures": []},
    }
    text = section(stored, None)
    assert "| loop | 60,000 | 10 | 20 | 30 | 40 |" in text
    assert "1.50 times the echo's" in text
    assert "missed: 3, by the bridge's own doing: 1" in text
    assert "`make soak`" in text
    assert "nothing to complain about" in text
    assert "THE LOOP'S P99: 300 US" in section({**stored, "failures": ["the loop's p99: 300 us"]}, None)
    clock = {"true_drift_ppm": -50.0, "drift_ppm": -49.9, "largest_error_us": 30.0, "beyond_bound": 0, "records": 3600}
    soaked = {
        **{"commit": "d" * 40, "minutes": 60.0, "rate_hz": 500.0, "steps": 1_800_000, "log_dropped": 0},
        **{"lost": 0, "own_deadline_misses": 0},
        **{"memory_kib": {"first": 51200, "last": 51300, "largest_change": 512}, "clock": clock, "failures": []},
    }
    assert section(stored, soaked).count("nothing to complain about") == 2
    assert "MEMORY MOVED" in section(stored, {**soaked, "failures": ["memory moved by 2 GiB"]})


GOOD = {
    **{"loop_us": {"p50": 60.0, "p99": 200.0}, "times_echo": 2.5, "own_deadline_misses": 0},
    "start_up_s": {"p50": 1.0, "max": 3.0},
}


@pytest.mark.parametrize(
    "change",
    [
        {"loop_us": {"p50": 61.0, "p99": 200.0}},
        {"loop_us": {"p50": 60.0, "p99": 201.0}},
        {"times_echo": 2.6},
        {"times_echo": float("nan")},
        {"own_deadline_misses": 1},
        {"start_up_s": {"p50": 1.1, "max": 1.1}},
    ],
)
def test_each_limit_of_the_loop_is_judged(change):
    assert failures(GOOD) == []
    assert len(failures({**GOOD, **change})) == 1


@pytest.mark.parametrize("key", ["log_dropped", "lost", "own_deadline_misses", "memory", "beyond_bound", "records"])
def test_each_limit_of_the_soak_is_judged(key):
    run = {"log_dropped": 0, "lost": 0, "own_deadline_misses": 0}
    errors = {"beyond_bound": 0, "records": 3600}
    assert failures_of(run, errors, 1024) == []
    errors |= {"beyond_bound": {"beyond_bound": 1}, "records": {"records": 0}}.get(key, {})
    run |= {key: 1} if key in run else {}
    assert len(failures_of(run, errors, 2048 if key == "memory" else 0)) == 1


def test_what_the_bench_finds_is_written_and_ends_with_an_error(monkeypatch, tmp_path, capsys):
    found = {"failures": ["the loop's p99: 300 us, expected 200 at most"]}
    monkeypatch.setattr(bridge, "measure", lambda *_: found)
    monkeypatch.setattr(bridge, "ROOT", tmp_path)
    monkeypatch.setattr(bridge, "TARGET", tmp_path / "bridge.json")
    monkeypatch.setattr("sys.argv", ["bridge", "--allow-dirty"])
    with pytest.raises(SystemExit, match="the loop's p99: 300 us"):
        bridge.main()
    assert json.loads((tmp_path / "bridge.json").read_text())["failures"] == found["failures"]


def test_a_soak_that_ends_within_the_start_up_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bridge", "--soak", "--minutes", "1", "--allow-dirty"])
    with pytest.raises(SystemExit) as ended:
        bridge.main()
    assert ended.value.code == 2
    assert "--minutes 1: expected 1.5 at least" in capsys.readouterr().err


def test_policy_has_the_period_that_was_asked_for(tmp_path):
    from firmware_bridge.loop.policy_folder import open_policy_folder

    policy, digest = policy_at(1000.0, tmp_path)
    folder = open_policy_folder(policy)
    assert (folder.period_us, folder.digest) == (1000, digest)
