"""From the log's records through the pipe to what the page shows."""

import fcntl
import json
import math
import os

import pytest

from firmware_bridge.live.feed import RECORD_BYTES, TICK, TICK_LAYOUT, Counts, LiveFeed
from firmware_bridge.live.picture import picture_of
from firmware_bridge.live.state import LiveState
from firmware_bridge.logs import topics as log_topics
from hardware.codec import encode_body
from hardware.plants.cart_rail import CART_RAIL
from hardware.plants.edukit import EDUKIT
from hardware.protocol import NO_TIME_US, Fault, Observation, ObservationFlag, State, Timing

OBSERVATION = log_topics.MESSAGE_TOPICS[Observation]
TIMING = log_topics.MESSAGE_TOPICS[Timing]
PERIOD_NS = 20_000_000
START_NS = 5_000_000_000


def observation(tick, state=State.ARMED, angle_rad=0.25, position=0.5, action=3.0, fault=Fault.NONE, flags=1):
    frame = (position, -1.0, math.sin(angle_rad), math.cos(angle_rad), 2.0)
    return Observation(tick, tick * 20000, frame, frame, action, state, fault, flags)


@pytest.fixture
def pipe():
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    yield read, write
    os.close(read)
    os.close(write)


def period(feed, tick, latency_ns=0, age_us=NO_TIME_US, **changes):
    """What one period of the loop puts into the log, in its order."""
    now = START_NS + tick * PERIOD_NS
    feed.take(OBSERVATION, now, encode_body(observation(tick, **changes), tick))
    feed.take(TIMING, now, encode_body(Timing(tick, age_us, NO_TIME_US, 0), tick))
    feed.take(log_topics.RAW_RECEIVED, now, b"raw")
    feed.take(log_topics.RAW_SENT, now + 100_000, b"raw")
    if latency_ns:
        feed.take(log_topics.LATENCY, now + 100_000, (tick, 0, 0, 0, 0, 0, latency_ns))
    return now


def drained(descriptor, state):
    try:
        while data := os.read(descriptor, 100_000):
            assert len(data) % RECORD_BYTES == 0
            state.take(data)
    except BlockingIOError:
        pass


def test_a_run_arrives_as_it_was(pipe):
    read, write = pipe
    feed, state = LiveFeed(write), LiveState()
    feed.counts = lambda: Counts(1, 2, 3, 4, 5, 6)
    feed.awaiting_arm = lambda: True
    session = {
        "policy_digest": "ab" * 32,
        "period_us": 20000,
        "observation_names": list(CART_RAIL.observation_names),
        "backend": "c",
        "device": {"board": "host", "variant": "HIL", "acceleration_limit": 20.0},
        "config": {"mode": "host", "port": "sim:", "clock": "real", "policy": "/secret/path"},
    }
    feed.take(log_topics.SESSION, 0, session)
    for tick in range(100):
        now = period(feed, tick, latency_ns=(tick + 1) * 1000, age_us=20_000 + tick, action=-4.0)
    feed.close()
    drained(read, state)
    about, shown = state.about(), state.now(now)
    json.loads(log_topics.to_json({**about, **shown}))
    assert about["run"]["board"] == "host"
    assert about["run"]["plant"]["axis_limit"] == CART_RAIL.axis_limit
    assert "policy" not in about["run"]
    assert (shown["state"], shown["device_state"], shown["fault"], shown["tick"]) == ("RUN", "ARMED", "", 99)
    assert shown["angle_rad"] == pytest.approx(0.25, abs=1e-6)
    assert (shown["position"], shown["speed"], shown["rod_speed_rad_s"], shown["action"]) == (0.5, -1.0, 2.0, -4.0)
    assert (shown["age_s"], shown["action_age_us"]) == (0.0, 20_099)
    assert shown["counts"] == {
        **{"crc_errors": 1, "lost": 2, "stale": 3, "refused": 4, "unanswered": 5, "log_dropped": 6, "not_shown": 0}
    }
    assert shown["awaiting_arm"] is True
    # The latency of answer k travels with observation k + 1: the last one is not known yet.
    whole, recent = shown["latency"]["since_start"], shown["latency"]["last_second"]
    assert (whole["n"], whole["max"]) == (99, 99.0)
    assert whole["p50"] == pytest.approx(50.0, rel=0.01)
    assert whole["duration_s"] == pytest.approx(98 * 0.02)
    assert (recent["n"], recent["p50"], recent["p99"], recent["max"]) == (51, 74.0, 99.0, 99.0)
    assert state.points == 100
    assert [point[0] for point in state.points_since(98)] == [6.96, 6.98]


def test_the_loop_pays_nothing_before_its_answer_is_written(pipe):
    read, write = pipe
    feed = LiveFeed(write)
    feed.counts = lambda: pytest.fail("asked before the answer")
    now = START_NS
    feed.take(OBSERVATION, now, encode_body(observation(1), 1))
    feed.take(TIMING, now, encode_body(Timing(1, 5, 5, 0), 1))
    feed.take(log_topics.RAW_RECEIVED, now, b"raw")
    with pytest.raises(BlockingIOError):
        os.read(read, 1)


def test_two_observations_in_one_read_are_both_shown(pipe):
    read, write = pipe
    feed, state = LiveFeed(write), LiveState()
    for tick in (1, 2):
        feed.take(OBSERVATION, START_NS + tick * PERIOD_NS, encode_body(observation(tick), tick))
    feed.take(log_topics.RAW_SENT, START_NS + 3 * PERIOD_NS, b"")
    drained(read, state)
    assert state.points == 2


def test_a_fast_loop_is_thinned_to_a_hundred_points_a_second(pipe):
    read, write = pipe
    feed, state = LiveFeed(write), LiveState()
    for tick in range(2000):
        now = START_NS + tick * 1_000_000
        action = -20.0 if tick % 10 == 5 else 1.0
        feed.take(OBSERVATION, now, encode_body(observation(tick, action=action), tick & 0xFFFF))
        feed.take(log_topics.RAW_SENT, now, b"")
        if tick % 100 == 0:
            drained(read, state)
    feed.close()
    drained(read, state)
    assert state.points == 200
    assert {tuple(point[3:]) for point in state.points_since(0)} == {(-20.0, 1.0)}  # a single period is not lost


def test_a_full_pipe_drops_and_counts_and_the_page_says_so(pipe):
    read, write = pipe
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    feed, state = LiveFeed(write), LiveState()
    feed.counts = lambda: Counts(0, 0, 0, 0, 0, 0)
    for tick in range(5000):
        period(feed, tick)
    assert feed.not_shown > 1000
    missing = feed.not_shown
    drained(read, state)
    feed.close()
    drained(read, state)
    assert state.now(0)["counts"]["not_shown"] == missing
    assert state.now(0)["tick"] < 4999
    period(feed, 6000)  # after the end nothing is sent
    drained(read, state)
    assert state.now(0)["tick"] < 5000


def test_a_pipe_nobody_reads_any_more_is_no_error():
    read, write = os.pipe()
    feed = LiveFeed(write)
    os.close(read)
    for tick in range(10):
        period(feed, tick)
    feed.tell("event", {"kind": "a", "text": "b"})
    feed.close()
    os.close(write)


def test_a_page_that_nobody_opens_keeps_no_more_than_the_last_second():
    state = LiveState()
    for tick in range(100_000):
        observed_ns = START_NS + tick * 1_000_000
        record = TICK_LAYOUT.pack(TICK, State.ARMED, 0, 1, tick, observed_ns, *(0.0,) * 6, 50_000, 0)
        state.take(record.ljust(RECORD_BYTES, b"\0"))
    assert len(state._recent) == 1001
    assert state.now(observed_ns)["latency"]["last_second"]["n"] == 1001


@pytest.mark.parametrize("length", [0, 1, 60, 61, 62, 1000, 3800, 100_000])
def test_texts_of_any_length(pipe, length):
    read, write = pipe
    feed, state = LiveFeed(write), LiveState()
    feed.tell("event", {"kind": "long", "text": "ä" * (length // 6) + "x" * (length % 6)})
    feed.tell("event", {"kind": "next", "text": "whole"})
    drained(read, state)
    events = state.now(0)["events"]
    assert [event["kind"] for event in events] == ["long" if length < 3800 else events[0]["kind"], "next"]
    assert len(events[0]["text"]) >= min(length // 6, 900)


def test_a_reader_may_get_the_bytes_in_any_pieces(pipe):
    read, write = pipe
    feed, whole, pieces = LiveFeed(write), LiveState(), LiveState()
    feed.tell("result", {"text": "over"})
    for tick in range(20):
        period(feed, tick, latency_ns=1000)
    feed.close()
    data = os.read(read, 100_000)
    whole.take(data)
    for start in range(0, len(data), 7):
        pieces.take(data[start : start + 7])
    assert pieces.now(START_NS) == whole.now(START_NS)
    assert whole.now(0)["result"] == {"text": "over"}
    assert not whole.ended
    whole.take(b"")
    assert whole.now(0)["ended"]


@pytest.mark.parametrize(
    ("device", "fault", "host", "shown"),
    [
        (State.UNHOMED, 0, None, "HOMING"),
        (State.IDLE, 0, None, "IDLE"),
        (State.ARMED, 0, None, "RUN"),
        (State.OFF, 0, None, "OFF"),
        (77, 0, None, "UNKNOWN"),
        (State.ARMED, 0, "ARMED: ARM was sent", "ARMED"),
        (State.IDLE, 0, "HOMING", "HOMING"),
        # The device's own word against the host's: what moves counts.
        (State.BRAKING, 0, "RUN", "BRAKING"),
        (State.BRAKING, Fault.RAIL_END, "RUN", "FAULT"),
        (State.OFF, Fault.E_STOP, "IDLE", "FAULT"),
        (State.OFF, 99, None, "FAULT"),
    ],
)
def test_which_state_is_shown(pipe, device, fault, host, shown):
    read, write = pipe
    feed, state = LiveFeed(write), LiveState()
    if host is not None:
        feed.take(log_topics.EVENT, 0, ("state", host))
    period(feed, 1, state=device, fault=fault)
    drained(read, state)
    assert state.now(0)["state"] == shown
    assert state.now(0)["fault"] == ({0: "", 99: "unknown 99"}.get(fault) or (Fault(fault).name if fault else ""))


def test_numbers_that_are_none_become_null(pipe):
    read, write = pipe
    feed, state = LiveFeed(write), LiveState()
    period(feed, 1, position=math.nan, action=math.inf, flags=int(ObservationFlag.HELD | ObservationFlag.LIMITED))
    drained(read, state)
    shown = json.loads(log_topics.to_json(state.now(0)))
    assert (shown["position"], shown["action"], shown["held"], shown["limited"]) == (None, None, True, True)


@pytest.mark.parametrize(("plant", "rod_m", "arm_m"), [(CART_RAIL, 0.190, 0.0), (EDUKIT, 0.253, 0.151)])
def test_pictures_have_the_size_of_the_plant(plant, rod_m, arm_m):
    picture = picture_of(plant.observation_names)
    assert (picture["rod_m"], picture["arm_m"]) == (rod_m, arm_m)
    assert (picture["axis_limit"], picture["action_limit"]) == (plant.axis_limit, plant.acceleration_limit)
    assert picture_of(("something", "else")) is None
