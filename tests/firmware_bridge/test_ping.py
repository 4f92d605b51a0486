import json
import subprocess
import sys

import pytest
from fake_device import FakeDevice

from firmware_bridge.config import Ping
from firmware_bridge.device import ping as module
from firmware_bridge.device.link_verdict import Evidence, Load, latency_timer_ms, stolen_and_runnable, verdict_of
from firmware_bridge.device.ping import ping
from firmware_bridge.errors import BridgeError
from firmware_bridge.latency.stage_histograms import Percentiles
from firmware_bridge.ports.link import open_link
from hardware.protocol import Arm, Config, Hello, HelloReply, Observation

DIGEST = "ab" * 32


def test_round_trips_are_counted_and_nothing_is_armed():
    with FakeDevice(DIGEST) as device:
        result = ping(Ping(port=device.path, count=20))
        hellos = device.of_type(Hello)
    assert (result["sent"], result["unanswered"], result["crc_errors"], result["lost"]) == (20, 0, 0, 0)
    assert result["round_trip_us"]["n"] == 20
    assert 0 < result["round_trip_us"]["p50"] <= result["round_trip_us"]["max"]
    assert [hello.host_nonce for hello in hellos[-20:]] == list(range(1, 21))
    assert not device.of_type(Arm)
    assert not device.of_type(Config)
    assert result["board"] == "fake"
    assert result["latency_timer_ms"] is None
    assert result["wire_us"] == 0.0  # a pty has no baud rate


def test_damaged_and_missing_replies_are_the_cables():
    replies = []

    def damage(since, message, frame):
        if isinstance(message, HelloReply):
            replies.append(message)
            if len(replies) == 4:
                return None
        if isinstance(message, Observation) and len(replies) == 6 and not any(r is None for r in replies):
            replies.append(None)
            return frame[:10] + bytes([frame[10] ^ 0x55 or 1]) + frame[11:]
        return frame

    with FakeDevice(DIGEST, mangle=damage) as device:
        result = ping(Ping(port=device.path, count=10))
    assert (result["sent"], result["unanswered"], result["round_trip_us"]["n"]) == (10, 1, 9)
    assert result["crc_errors"] == 1
    assert result["lost"] == 2
    assert result["verdict"]["cause"] == "cable"


def _evidence(**changes):
    trip = {"n": 100, "p50": 500.0, "p99": 700.0, "p999": 800.0, "max": 900.0, "duration_s": 1.0}
    trip |= {key: changes.pop(key) for key in ("p50", "p99") if key in changes}
    told = {"sent": 100, "unanswered": 0, "crc_errors": 0, "lost": 0, "wire_us": 98.0, "latency_timer_ms": None}
    return Evidence(Percentiles(**trip), **{**told, "stolen": 0.0, "runnable": 1, "processors": 4, **changes})


@pytest.mark.parametrize(
    ("changes", "cause", "text"),
    [
        ({}, "none", "nothing wrong"),
        ({"crc_errors": 3}, "cable", "3 damaged"),
        ({"lost": 3, "latency_timer_ms": 16, "p50": 16_000.0}, "cable", "3 lost"),
        ({"unanswered": 1}, "cable", "1 of 100 unanswered"),
        ({"latency_timer_ms": 16, "p50": 15_900.0, "p99": 16_100.0}, "latency_timer", "16 ms"),
        ({"latency_timer_ms": 1, "p50": 900.0, "p99": 1_100.0}, "none", "nothing"),
        ({"latency_timer_ms": 16, "p50": 500.0}, "none", "nothing"),
        ({"p99": 9_000.0, "runnable": 9}, "processor", "9 tasks want 4"),
        ({"p99": 9_000.0, "stolen": 0.25}, "processor", "25.0% of one"),
        ({"p99": 9_000.0}, "none", "nothing"),
        ({"p50": 8_000.0, "p99": 8_100.0, "wire_us": 7_500.0}, "baud_rate", "7.5 ms of 8.0 ms"),
        ({"p50": 8_000.0, "p99": 8_100.0}, "device", "median 8.0 ms"),
    ],
)
def test_verdict_names_the_likely_cause(changes, cause, text):
    verdict = verdict_of(_evidence(**changes))
    assert verdict["cause"] == cause
    assert text in verdict["text"]
    assert "\n" not in verdict["text"]


def test_latency_timer_is_read_behind_a_stable_name(tmp_path):
    (tmp_path / "devices" / "ttyUSB7").mkdir(parents=True)
    (tmp_path / "devices" / "ttyUSB7" / "latency_timer").write_text("16\n")
    (tmp_path / "ttyUSB7").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB7")
    assert latency_timer_ms(str(tmp_path / "by-id"), tmp_path / "devices") == 16
    assert latency_timer_ms("/dev/ttyACM0", tmp_path / "devices") is None
    (tmp_path / "devices" / "ttyUSB7" / "latency_timer").write_text("nonsense")
    assert latency_timer_ms(str(tmp_path / "by-id"), tmp_path / "devices") is None


def test_latency_timer_is_that_of_the_port_behind_a_usb_device(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "latency_timer_ms", lambda port: asked.append(port) or 16)
    with FakeDevice(DIGEST) as device:
        monkeypatch.setattr(module, "open_link", lambda port, baudrate: open_link(device.path, baudrate))
        result = ping(Ping(port="usb:0403:6001", count=2))
        assert asked == [device.path]
    assert (result["port"], result["latency_timer_ms"]) == ("usb:0403:6001", 16)


def test_load_is_what_the_kernel_says(tmp_path):
    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 800 9 10\ncpu0 0 0\n")
    (tmp_path / "loadavg").write_text("0.5 0.4 0.3 7/140 4711\n")
    load = stolen_and_runnable(tmp_path / "stat", tmp_path / "loadavg")
    assert load == Load(8.0, 7, load.processors)
    assert stolen_and_runnable(tmp_path / "none", tmp_path / "none") == Load(0.0, 0, load.processors)


@pytest.mark.parametrize("options", [{"count": 0}, {"duration_s": 0.0}, {"duration_s": float("nan")}, {"baudrate": 1}])
def test_values_that_cannot_work_are_refused(options):
    with pytest.raises(BridgeError, match="expected"):
        Ping(port="/dev/null", **options)


def test_command_line_prints_one_object():
    with FakeDevice(DIGEST) as device:
        command = [sys.executable, "-m", "firmware_bridge", "ping", "--port", device.path, "--count", "3"]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["round_trip_us"]["n"] == 3
