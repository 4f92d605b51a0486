"""The proxy between a bridge and the fake device, in real time: what goes through, what ends, what comes back."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from fake_device import FakeDevice

from firmware_bridge.config import Run
from firmware_bridge.errors import BridgeError, DeviceFaultError, LinkError, LinkLostError, PortBusyError
from firmware_bridge.faults.fault_proxy import FaultProxy
from firmware_bridge.faults.port import host_port
from firmware_bridge.faults.settings import Proxy
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.ports.link import open_link
from firmware_bridge.run import run
from hardware.protocol import Command


class LeftAloneDevice(FakeDevice):
    """Goes on without an answer where the bridge that was to give it has gone, or its observation was lost."""

    proxy = None
    lost_since = None

    def _begin_period(self):
        self._said_to = self.proxy.counters.connections if self.proxy._connection is not None else None
        super()._begin_period()

    def _answered(self, kinds):
        here = self.proxy.counters.connections if self.proxy._connection is not None else None
        return super()._answered(kinds) or here is None or here != self._said_to or self._since() == self.lost_since


@contextlib.contextmanager
def proxied(device, listen="socket://127.0.0.1:0", **options):
    link = open_link(device.path)
    proxy = FaultProxy(Proxy(port=device.path, listen=str(listen), outage_s=0.0, **options), link)
    device.proxy = proxy
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)
        proxy.close()
        link.close()
    assert not thread.is_alive()


def _script(tmp_path, text):
    path = tmp_path / "faults.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _run(proxy, policy_folder, log, **changes):
    return run(Run(port=proxy.name, policy=policy_folder, log=log, **{"duration_s": 2.0, **changes}))


@pytest.mark.parametrize("kind", ["socket", "terminal"])
def test_without_faults_nobody_notices_it(kind, digest, policy_folder, tmp_path):
    listen = "socket://127.0.0.1:0" if kind == "socket" else tmp_path / "link"
    with LeftAloneDevice(digest) as device, proxied(device, listen) as proxy:
        for log in ("first", "second"):  # the port is there again for the next
            device.armed_tick = None
            _wait(lambda: os.path.lexists(listen) if kind == "terminal" else proxy._port.descriptor >= 0)
            outcome = _run(proxy, policy_folder, tmp_path / log)
            assert outcome.error is None
            assert (outcome.result["steps"], outcome.result["crc_errors"], outcome.result["lost"]) == (100, 0, 0)
    told = proxy.result()
    assert (told["connections"], told["cut"], told["ended_by_host"]) == (2, 0, 2)
    for direction in ("to-device", "to-host"):
        assert told[direction]["frames"] > 200
    assert told["to-device"]["bytes_in"] == told["to-device"]["bytes_out"]
    assert told["to-device"]["frames"] == len(device.received)
    assert not os.path.lexists(tmp_path / "link")


def _wait(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_delays_keep_the_order(digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device, proxied(device, jitter_ms=3.0, seed=4) as proxy:
        outcome = _run(proxy, policy_folder, tmp_path, duration_s=1.0)
    assert outcome.error is None
    assert outcome.result["lost"] == 0
    ticks = [command.observation_tick for command in device.of_type(Command)]
    assert ticks == list(range(device.armed_tick, device.armed_tick + 50))
    assert 0.0 < proxy.result()["longest_delay_s"] < 0.003


def test_lost_observation_is_lost_and_repaired(digest, policy_folder, tmp_path):
    script = _script(tmp_path, '[[fault]]\nkind="drop"\nmessage="Observation"\nperiod=30\n')
    with LeftAloneDevice(digest) as device, proxied(device, script=script) as proxy:
        device.lost_since = 30
        outcome = _run(proxy, policy_folder, tmp_path)
    assert outcome.result["lost"] == 1
    assert outcome.result["history"]["repaired"] == 1
    assert proxy.result()["to-host"]["drop"] == 1
    assert proxy.result()["to-device"]["drop"] == 0


def test_cut_connection_ends_the_run_and_the_next_one_is_let_in(digest, policy_folder, tmp_path):
    script = _script(tmp_path, '[[fault]]\nkind="disconnect"\nmessage="Observation"\nperiod=20\nconnection=0\n')
    with LeftAloneDevice(digest) as device, proxied(device, script=script) as proxy:
        outcome = _run(proxy, policy_folder, tmp_path / "first")
        assert isinstance(outcome.error, LinkLostError)
        assert not outcome.result["stop"]["confirmed"]
        assert outcome.result["steps"] == 20
        assert read_log(tmp_path / "first").complete
        assert proxy.counters.cut == 1
        assert proxy.counters.connections == 1
        _wait(lambda: proxy._port.descriptor >= 0)
        # The device never left ARMED: the next bridge disarms it first, and says so with an ARM of its own.
        device.armed_tick = None
        outcome = _run(proxy, policy_folder, tmp_path / "second", duration_s=0.5)
        assert outcome.error is None
    assert proxy.counters.connections == 2


def test_foreign_commands_reach_the_device_and_it_alone_judges(digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device, proxied(device, foreign=1.0, direction="to-device") as proxy:
        _run(proxy, policy_folder, tmp_path, duration_s=0.5)
    commands = device.of_type(Command)
    assert [command.session == device.session for command in commands] == [False, True] * (len(commands) // 2)
    assert proxy.result()["to-device"]["foreign"] == len(commands) // 2 == 25


def test_device_that_vanishes_ends_the_proxy(digest, policy_folder, tmp_path):
    with FakeDevice(digest, transport="socket", vanish_at=10) as device, proxied(device) as proxy:
        outcome = _run(proxy, policy_folder, tmp_path)
        assert isinstance(outcome.error, LinkLostError | DeviceFaultError)
        _wait(lambda: proxy._ended_by != "stop")
    assert "connection lost" in proxy.result()["ended_by"]


def test_port_that_is_taken_meanwhile_ends_the_proxy_and_is_told(digest, policy_folder, tmp_path):
    """Never silently: `run` raises, and the result says so too."""
    caught = []
    with FakeDevice(digest, transport="socket") as device:
        link = open_link(device.path)
        proxy = FaultProxy(Proxy(port=device.path, listen="socket://127.0.0.1:0", outage_s=0.0), link)

        def carry():
            with pytest.raises(PortBusyError) as error:
                proxy.run()
            caught.append(str(error.value))

        def taken():
            raise PortBusyError("--listen: taken")

        thread = threading.Thread(target=carry, daemon=True)
        thread.start()
        try:
            proxy._port.open = taken
            with contextlib.closing(socket.create_connection(("127.0.0.1", int(proxy.name.rpartition(":")[2])))):
                _wait(lambda: proxy.counters.connections == 1)
            thread.join(20)
            assert caught == ["--listen: taken"]
            assert proxy.result()["ended_by"] == "--listen: taken"
        finally:
            proxy.stop()
            thread.join(10)
            proxy.close()
            link.close()


def test_verb_prints_its_port_and_one_json_object(digest, policy_folder, tmp_path):
    with FakeDevice(digest) as device:
        command = [sys.executable, "-m", "firmware_bridge", "proxy", "--port", device.path]
        command += ["--listen", "socket://127.0.0.1:0", "--jitter-ms", "1", "--seed", "3", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            line = process.stderr.readline()
            assert line.startswith("faults at socket://127.0.0.1:")
            assert not line.endswith(":0, seed 3\n")
            port = line.split()[2].rstrip(",")
            outcome = run(Run(port=port, policy=policy_folder, log=tmp_path, duration_s=0.5))
            assert outcome.error is None
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, errors) == (0, "")
    told = json.loads(out)
    assert (told["seed"], told["connections"], told["ended_by"]) == (3, 1, "stop")
    assert told["to-host"]["frames"] > 25


@pytest.mark.parametrize(
    "listen",
    [
        "socket://0.0.0.0:5000",
        "socket://example.org:1",
        "socket://127.0.0.1:99999",
        "socket://127.0.0.1:x",
        "socket://",
    ],
)
def test_it_listens_on_this_machine_only(listen):
    with pytest.raises(LinkError, match=r"expected socket://127\.0\.0\.1:PORT"):
        host_port(listen)


def test_places_that_are_taken_are_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = host_port(f"socket://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(PortBusyError, match="expected a free port"):
            port.open()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "no" / "folder"):
        with pytest.raises(LinkError, match="--listen"):
            host_port(str(path)).open()


@pytest.mark.parametrize(
    "change",
    [
        {"disconnect_every_s": 0.0},
        {"disconnect_every_s": float("nan")},
        {"outage_s": -1.0},
        {"seed": -1},
        {"drop": 2.0},
    ],
)
def test_wrong_numbers_are_refused(change):
    with pytest.raises(BridgeError, match="expected"):
        Proxy(port="x", listen="y", **change)


def test_help_names_every_option():
    done = subprocess.run(
        [sys.executable, "-m", "firmware_bridge", "proxy", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--listen", "--script", "--drop", "--jitter-ms", "--disconnect-every-s", "--clock", "--seed"):
        assert option in done.stdout
