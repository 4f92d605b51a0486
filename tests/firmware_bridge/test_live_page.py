"""The live page in a real browser, beside a real run; and what a stop from it does to a device."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from browser import Browser, browser_path
from fake_device import FakeDevice

from firmware_bridge.config import Run
from firmware_bridge.errors import BridgeError
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.run import run
from hardware.protocol import Arm, Command, Disarm, State

BROWSER = pytest.mark.skipif(
    browser_path() is None and os.environ.get("CI") != "true", reason="no Chromium: apt-get install chromium"
)
COMPILER = pytest.mark.skipif(
    not any(shutil.which(name) for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name),
    reason="no C compiler: install gcc",
)


class Running:
    """`firmware_bridge run ... --live` as a process of its own; `url` is what it printed."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "firmware_bridge", "run", "--live", "--json", *map(str, arguments)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, **pipes)
        line = self.process.stderr.readline()
        assert line.startswith("live page: http://127.0.0.1:"), line + self.process.stderr.read()
        self.url = line.removeprefix("live page: ").strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)

    def end(self):
        """The result that it printed, its exit code and what it complained about."""
        out, errors = self.process.communicate(timeout=60)
        return json.loads(out), self.process.returncode, errors


def _text(element):
    return f"document.getElementById('{element}').textContent"


@BROWSER
@COMPILER
def test_a_person_watches_a_run_and_stops_it(policy_folder, tmp_path):
    log = tmp_path / "log"
    # Lock-step: a browser that draws without a graphics card may take the processor from a simulation in real time.
    arguments = ("--port", "sim:", "--clock", "lockstep", "--policy", policy_folder, "--log", log)
    with Running(*arguments, "--duration-s", 20_000) as running, Browser(tmp_path / "browser") as browser:
        browser.open(running.url)
        browser.wait_for(f"{_text('state')} === 'RUN'")
        assert (
            browser.wait_for(f"{_text('policy')} !== '-' && {_text('policy')}")
            == (open_policy_folder(policy_folder).digest[:12])
        )
        # The numbers move, the picture is drawn, the tables fill.
        tick = int(browser.evaluate(_text("tick")))
        angle = browser.evaluate(_text("angle"))
        browser.wait_for(f"Number({_text('tick')}) > {tick + 50}")
        assert browser.wait_for(f"{_text('angle')} !== '{angle}'")
        pixels = "document.getElementById('{}').getContext('2d').getImageData(0, 0, 4000, 4000).data"
        for canvas in ("picture", "strip-angle", "strip-position", "strip-action"):
            assert browser.evaluate(f"{pixels.format(canvas)}.some((byte) => byte > 0)"), canvas
        assert browser.wait_for("Number(document.querySelector('#since_start td').textContent) > 0")
        assert browser.evaluate("!document.body.classList.contains('lost-now')")
        assert browser.evaluate("getComputedStyle(document.getElementById('arm')).display") == "none"
        browser.click("#stop")
        browser.wait_for(f"{_text('state')} === 'ENDED'")
        words = browser.evaluate(_text("message"))
        assert re.match(r"the run has ended: the live page; braked: the device is in state (IDLE|OFF)", words)
        result, code, errors = running.end()
        assert browser.problems == []
    assert code == 130
    assert "stopped by the live page; the cart was braked" in errors
    assert result["stop"]["confirmed"]
    assert result["stop"]["state"] == "IDLE"
    assert result["steps"] > 50
    assert read_log(log).complete


@BROWSER
@pytest.mark.parametrize("key", [(" ", "Space", " "), ("Escape", "Escape", "")], ids=["space", "escape"])
def test_keys_stop_whatever_has_the_focus(key, policy_folder, tmp_path):
    digest = open_policy_folder(policy_folder).digest
    with FakeDevice(digest, pace_s=0.005) as device:
        arguments = ("--port", device.path, "--policy", policy_folder, "--log", tmp_path / "log")
        with (
            Running(*arguments, "--duration-s", 1000, "--backend", "csr") as running,
            Browser(tmp_path / "browser", width=390, height=844) as browser,
        ):
            browser.open(running.url)
            browser.wait_for(f"{_text('state')} === 'RUN'")
            browser.evaluate("document.querySelector('summary').focus()")  # space would close the list of events
            # It fits the width of a phone, and the button is in view.
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert browser.evaluate("document.getElementById('stop').getBoundingClientRect().bottom <= innerHeight")
            browser.key(*key)
            browser.wait_for(f"{_text('state')} === 'ENDED'")
            assert browser.evaluate("document.querySelector('details').open")
            result, code, _ = running.end()
    assert (code, result["stop"]["confirmed"]) == (130, True)
    assert device.of_type(Disarm)
    assert device.state == State.IDLE


@BROWSER
def test_arming_takes_two_clicks_and_a_device_that_waits_for_it(policy_folder, tmp_path):
    digest = open_policy_folder(policy_folder).digest
    with FakeDevice(digest, pace_s=0.005) as device:
        arguments = ("--port", device.path, "--policy", policy_folder, "--log", tmp_path / "log", "--arm", "ask")
        with (
            Running(*arguments, "--duration-s", 1000, "--backend", "csr") as running,
            Browser(tmp_path / "browser", width=390, height=844) as browser,
        ):
            browser.open(running.url)
            browser.wait_for("document.getElementById('arm').hidden === false")
            assert browser.evaluate(_text("state")) == "IDLE"
            browser.click("#arm")
            assert browser.evaluate(_text("arm")) == "ARM: sure?"
            assert not device.of_type(Arm)
            browser.click("#arm")
            browser.wait_for(f"{_text('state')} === 'RUN'")
            browser.wait_for("document.getElementById('arm').hidden")
            browser.click("#stop")
            browser.wait_for(f"{_text('state')} === 'ENDED'")
            assert running.end()[0]["stop"]["confirmed"]
    assert len(device.of_type(Arm)) == 1


@BROWSER
def test_a_lost_connection_is_shown_and_a_fault_too(policy_folder, tmp_path):
    digest = open_policy_folder(policy_folder).digest
    with FakeDevice(digest, pace_s=0.005) as device:
        arguments = ("--port", device.path, "--policy", policy_folder, "--log", tmp_path / "log")
        with (
            Running(*arguments, "--duration-s", 1000, "--backend", "csr") as running,
            Browser(tmp_path / "browser") as browser,
        ):
            browser.open(running.url)
            browser.wait_for(f"{_text('state')} === 'RUN'")
            os.kill(_page_process(running.process.pid), signal.SIGSTOP)
            browser.wait_for("document.body.classList.contains('lost-now')")
            assert browser.evaluate(_text("lost")).startswith("No connection to the bridge for ")
            assert browser.evaluate("getComputedStyle(document.getElementById('lost')).display") == "block"
            os.kill(_page_process(running.process.pid), signal.SIGCONT)
            browser.wait_for("!document.body.classList.contains('lost-now')")
            assert running.process.poll() is None  # the run did not notice
            device.options["fault_at"] = device.tick - device.armed_tick + 50
            browser.wait_for(f"{_text('fault')} === 'fault RAIL_END'")
            browser.wait_for(f"{_text('state')} === 'ENDED'")
            assert "the device stopped the cart: fault RAIL_END" in browser.evaluate(_text("message"))
            assert running.end()[1] == 1


@BROWSER
def test_a_stop_that_cannot_be_delivered_is_said(policy_folder, tmp_path):
    digest = open_policy_folder(policy_folder).digest
    with FakeDevice(digest, pace_s=0.005) as device:
        arguments = ("--port", device.path, "--policy", policy_folder, "--log", tmp_path / "log")
        with (
            Running(*arguments, "--duration-s", 1000, "--backend", "csr") as running,
            Browser(tmp_path / "browser") as browser,
        ):
            browser.open(running.url)
            browser.wait_for(f"{_text('state')} === 'RUN'")
            os.kill(_page_process(running.process.pid), signal.SIGKILL)
            browser.wait_for("document.body.classList.contains('lost-now')")
            browser.click("#stop")
            browser.wait_for(f"{_text('stop')}.startsWith('STOP NOT DELIVERED')")
            assert running.process.poll() is None


def _page_process(parent):
    """The process that serves the page of a run."""
    done = subprocess.run(["ps", "--ppid", str(parent), "-o", "pid=,args="], capture_output=True, text=True, check=True)
    return next(int(line.split()[0]) for line in done.stdout.splitlines() if "firmware_bridge.live.process" in line)


def _config(device, policy_folder, log, **changes):
    fields = {"duration_s": 1000.0, "backend": "csr", "live": True, **changes}
    return Run(port=device.path, policy=policy_folder, log=log, **fields)


def _post(url, path):
    host, port, token = re.fullmatch(r"http://(.*):(\d+)/\?token=(.*)", url).groups()
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        return connection.recv(100)


def _address(capfd, said):
    said.append(capfd.readouterr().err)
    found = re.search(r"live page: (\S+)\n", "".join(said))
    return found.group(1) if found else None


def _in_thread(config, outcomes):
    def target():
        try:
            outcomes.append(run(config))
        except BaseException as error:
            outcomes.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_a_stop_brakes_within_one_control_period(policy_folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda number, handler: None)  # run() in a thread of the test
    digest = open_policy_folder(policy_folder).digest
    outcomes, said = [], []
    with FakeDevice(digest, pace_s=0.4) as device:
        thread = _in_thread(_config(device, policy_folder, tmp_path), outcomes)
        device.wait_for(lambda device: _address(capfd, said))
        url = _address(capfd, said)
        _post(url, "/arm")  # nobody waits for that: without effect; but the page's process is up now
        device.wait_for(lambda device: device.of_type(Command))
        before = len(device.of_type(Command))
        device.wait_for(lambda device: len(device.of_type(Command)) > before)
        before = len(device.of_type(Command))
        assert b" 202 " in _post(url, "/stop")
        device.wait_for(lambda device: device.of_type(Disarm))
        # Periods are counted, not milliseconds: DISARM is there before a second observation is answered.
        assert len(device.of_type(Command)) <= before + 1
        thread.join(60)
    (outcome,) = outcomes
    assert str(outcome.error) == "the live page"
    assert outcome.result["stop"]["confirmed"]
    assert outcome.result["ended_by"] == "the live page"


def test_a_stop_before_anything_was_armed(policy_folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    digest = open_policy_folder(policy_folder).digest
    outcomes, said = [], []
    with FakeDevice(digest, pace_s=0.01, homed_at=10**9) as device:
        thread = _in_thread(_config(device, policy_folder, tmp_path), outcomes)
        device.wait_for(lambda device: _address(capfd, said))
        device.wait_for(lambda device: device.states)
        _post(_address(capfd, said), "/stop")
        thread.join(60)
    assert [str(outcome) for outcome in outcomes] == ["the live page"]
    assert State.ARMED not in device.states


def test_the_result_is_the_same_with_and_without_a_page(policy_folder, tmp_path, capfd):
    digest = open_policy_folder(policy_folder).digest
    results = []
    for live in (False, True):
        with FakeDevice(digest) as device:
            log = tmp_path / str(live)
            outcome = run(_config(device, policy_folder, log, live=live, duration_s=2.0))
        assert outcome.error is None
        results.append(
            {key: outcome.result[key] for key in ("steps", "lost", "crc_errors", "ended_by", "mode", "stop")}
        )
        assert len(read_log(log).values("/latency")) == 100
    assert results[0] == results[1]


def test_options_of_the_page_without_the_page_are_refused(tmp_path):
    for changes in ({"live_port": 8080}, {"live_bind": "0.0.0.0"}):
        with pytest.raises(BridgeError, match=r"--live-port and --live-bind .* pass --live"):
            Run(port="sim:", policy=tmp_path, log=tmp_path, **changes)
    with pytest.raises(BridgeError, match="--live-port 70000: expected 0 to 65535"):
        Run(port="sim:", policy=tmp_path, log=tmp_path, live=True, live_port=70000)
