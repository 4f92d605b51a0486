"""A log on the live page: what is shown is what was recorded."""

import itertools
import json
import re
import socket
import threading

import pytest
from fake_device import FakeDevice

from firmware_bridge.config import Live, Run
from firmware_bridge.errors import BridgeError, LogError, StopRequested
from firmware_bridge.live.show_log import show_log
from firmware_bridge.logs.log_file import LogFile
from firmware_bridge.logs.read_log import LogReader, read_log
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.run import run


@pytest.fixture(scope="module")
def log(policy_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    with FakeDevice(open_policy_folder(policy_folder).digest) as device:
        outcome = run(Run(port=device.path, policy=policy_folder, log=folder, duration_s=4.0, backend="csr"))
    assert outcome.error is None
    return folder / "run.mcap"


@pytest.fixture
def watch(monkeypatch):
    """Opens the page whose address is told, and collects its updates in a thread; POSTs a stop where asked to."""

    class Watch:
        stop = False
        updates: list

        def __init__(self):
            self.updates = []

        def say(self, text, *_):
            if found := re.fullmatch(r"live page: http://(.*):(\d+)/\?token=(.*)", text):
                self.thread = threading.Thread(target=self.read, args=found.groups())
                self.thread.start()

        def read(self, host, port, token):
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                connection.sendall(f"GET /events?token={token} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                if self.stop:
                    connection.recv(1)
                    with socket.create_connection((host, int(port)), timeout=60) as other:
                        head = f"POST /stop HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
                        other.sendall(head.encode())
                        other.recv(100)
                with connection.makefile("rb") as lines:
                    self.updates += [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    found = Watch()
    monkeypatch.setattr("firmware_bridge.notices.say", found.say)
    return found


def test_a_log_is_shown_from_its_first_to_its_last_record(log, watch):
    result = show_log(Live(log, speed=2.0))
    watch.thread.join(60)
    recorded = read_log(log)
    assert result["complete"]
    assert result["records"] > len(recorded.values("/observation"))
    last = watch.updates[-1]
    observation = recorded.values("/observation")[-1]
    assert (last["tick"], last["position"]) == (observation["tick"], pytest.approx(observation["current"][0]))
    # An answer is logged when the device has told of it: the last ones come behind the last observation, and of two
    # that come between two observations the newer one is shown.
    topics = [record.topic for record in LogReader(log) if record.topic in ("/observation", "/latency")]
    answers = sum(pair == ("/observation", "/latency") for pair in itertools.pairwise(topics))
    not_shown = last["counts"]["not_shown"]  # a machine that is too busy
    assert answers - 5 - not_shown <= last["latency"]["since_start"]["n"] <= answers
    assert last["ended"]
    assert last["result"]["text"] == "the log is over (duration)"
    assert last["result"]["stop"]["confirmed"]
    assert {event["kind"] for event in last["events"]} >= {"armed", "stopped"}
    about = [update for update in watch.updates if "run" in update]
    assert about[-1]["run"]["policy_digest"] == recorded.session["policy_digest"]
    points = {tuple(point[:1]) for update in watch.updates for point in update["points"]}
    assert len(points) > 1  # how many depends on how fast the machine is


def test_the_page_stops_the_showing(log, watch):
    watch.stop = True
    with pytest.raises(StopRequested, match="the live page"):
        show_log(Live(log, speed=0.01))
    watch.thread.join(60)
    assert watch.updates[-1]["ended"]


def test_a_log_that_was_cut_off_says_so(log, watch, tmp_path):
    cut = tmp_path / "run.mcap"
    cut.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    result = show_log(Live(cut, speed=50.0))
    watch.thread.join(60)
    assert not result["complete"]
    assert watch.updates[-1]["result"]["text"].startswith("the log ends here: ")


@pytest.mark.parametrize("gap_s", [100_000, 17_000_000_000])
def test_a_gap_in_time_that_nobody_can_wait_for_is_one_line(gap_s, log, watch, tmp_path):
    file = LogFile(tmp_path / "run.mcap")
    for number, record in enumerate(LogReader(log)):
        file.add(record.topic, record.time_ns % 10**9 + (gap_s * 10**9 if number > 20 else 0), record.data, number)
    file.finish()
    with pytest.raises(LogError, match=r"s later than all before, expected a day at most") as caught:
        show_log(Live(tmp_path, speed=100.0))
    assert "\n" not in str(caught.value)
    watch.thread.join(60)


def test_no_log_and_no_speed_are_one_line(tmp_path):
    with pytest.raises(LogError, match="no such file"):
        show_log(Live(tmp_path))
    with pytest.raises(BridgeError, match=r"--speed 0: expected 0\.01 to 100"):
        Live(tmp_path, speed=0.0)
