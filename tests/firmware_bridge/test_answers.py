"""What the device tells of an answer one period later, and whose doing a late one was."""

import math

import pytest

from firmware_bridge.logs import topics as log_topics
from firmware_bridge.loop import answers as answers_module
from firmware_bridge.loop.answers import Answers
from firmware_bridge.loop.clock_sync import ClockSync
from firmware_bridge.loop.tally import Tally
from hardware.protocol import NO_TIME_US, Observation, ObservationFlag, State, Timing

PERIOD_US = 1_000
BEGIN_NS = 10**12


class Log:
    """Stands for the recorder; keeps what was put."""

    def __init__(self):
        self.records = []
        self.writer_ns = 0

    def processor_ns(self):
        return self.writer_ns

    def put(self, topic, time_ns, payload):
        self.records.append((topic.name, payload))

    def of(self, topic):
        return [payload for name, payload in self.records if name == topic.name]


class Processor:
    """Stands for the process's clock of processor time."""

    def __init__(self, monkeypatch):
        self.now_ns = 0
        monkeypatch.setattr(answers_module.time, "process_time_ns", lambda: self.now_ns)


@pytest.fixture
def processor(monkeypatch):
    return Processor(monkeypatch)


def observation(tick, held=False):
    flags = int(ObservationFlag.HOMED) | (int(ObservationFlag.HELD) if held else 0)
    return Observation(tick, tick * PERIOD_US, (0.0,) * 5, (0.0,) * 5, 0.0, State.ARMED, 0, flags)


def answer(answers, tick, commanded=True):
    """Sampled on the tick, readable 30 us later, encoded after another 20, written after another 5."""
    last = BEGIN_NS + tick * PERIOD_US * 1000 + 30_000
    stamps = {"first": last, "last": last, "decoded": last + 5_000, "inferred": last + 15_000}
    answers.written(observation(tick), commanded, last, **stamps, encoded=last + 20_000, written=last + 25_000)


def test_answer_is_logged_with_the_moment_it_was_applied(processor):
    log, tally = Log(), Tally(PERIOD_US, ClockSync())
    answers = Answers(tally, log)
    for tick in range(1, 5):
        answer(answers, tick)
        answers.timing(Timing(tick, 1_005, 80, 0))
    answers.close()
    latency = log.of(log_topics.LATENCY)
    assert [record[0] for record in latency] == [1, 2, 3, 4]
    assert latency[0][1:7] == (0, 5_000, 10_000, 5_000, 5_000, 25_000)
    # Applied 1005 us after the sampling, written 55 us after it; the last answer is one nobody told of.
    for record in latency[:3]:
        assert abs(record[7] - 950_000) <= record[8] < 40_000
    assert all(math.isnan(value) for value in latency[3][7:])
    assert tally.histograms.percentiles("apply", 1.0).n == 3
    assert tally.clock.samples == 3


def test_clock_trusts_the_read_not_the_select_before_it(processor):
    """Preempted between the two, the read brings an observation that was sampled after select() had returned."""
    tally = Tally(PERIOD_US, ClockSync())
    answers = Answers(tally, Log())
    last = BEGIN_NS - 900_000
    stamps = {"first": last, "last": last, "decoded": BEGIN_NS + 40_000, "inferred": BEGIN_NS + 45_000}
    answers.written(
        observation(0), True, BEGIN_NS + 30_000, **stamps, encoded=BEGIN_NS + 50_000, written=BEGIN_NS + 55_000
    )
    answers.timing(Timing(1, 1_005, 80, 0))
    assert (tally.clock.samples, tally.clock.rejected) == (1, 0)
    estimate = tally.clock.estimate(BEGIN_NS)
    assert abs(estimate.offset_ns - BEGIN_NS) <= estimate.uncertainty_ns < 40_000


def test_heartbeats_are_samples_of_the_clock_but_are_not_applied(processor):
    """Modes device and shadow: the device reads them when its policy, here 40 us, has run."""
    log, tally = Log(), Tally(PERIOD_US, ClockSync())
    answers = Answers(tally, log)
    for tick in range(1, 2_001):
        answer(answers, tick, commanded=False)
        answers.timing(Timing(tick, 1_005, 120, 40))
    answers.close()
    assert (tally.clock.samples, tally.clock.restarts, tally.clock.rejected) == (1_999, 0, 0)
    estimate = tally.clock.estimate(BEGIN_NS + 2_000 * PERIOD_US * 1000)
    assert estimate.round_trip_ns == 102_000  # 120 us without the 20 from read to encoded, both stamps rounded
    assert abs(estimate.offset_ns - BEGIN_NS) <= estimate.uncertainty_ns < 60_000
    assert len(log.of(log_topics.CLOCK)) == 3
    latency = log.of(log_topics.LATENCY)
    assert [record[0] for record in latency] == list(range(1, 2_001))
    assert all(math.isnan(value) for record in latency for value in record[7:])
    assert tally.histograms.percentiles("apply", 1.0).n == 0


def test_timing_in_the_read_of_its_observation_or_before_it_or_never(processor):
    log, tally = Log(), Tally(PERIOD_US, ClockSync())
    answers = Answers(tally, log)
    answer(answers, 1)
    answers.timing(Timing(2, 1_005, 80, 0))  # before observation 2 was answered
    answer(answers, 2)
    answer(answers, 3)
    answers.timing(Timing(3, 1_005, 80, 0))  # behind it
    answer(answers, 4)
    answer(answers, 5)  # TIMING 4 and 5 were lost
    answers.timing(Timing(9, 1_005, 80, 0))
    answers.close()
    latency = log.of(log_topics.LATENCY)
    assert [record[0] for record in latency] == [1, 2, 3, 4, 5]
    assert [math.isfinite(record[7]) for record in latency] == [True, True, False, False, False]


def test_device_that_tells_no_response_leaves_the_clock_alone(processor):
    log, tally = Log(), Tally(PERIOD_US, ClockSync())
    answers = Answers(tally, log)
    answer(answers, 1)
    answers.timing(Timing(2, 1_005, NO_TIME_US, 0))
    answers.close()
    assert tally.clock.samples == 0
    assert log.of(log_topics.CLOCK) == []
    assert len(log.of(log_topics.LATENCY)) == 1


def test_lock_step_has_no_clock(processor):
    log, tally = Log(), Tally(PERIOD_US)
    answers = Answers(tally, log)
    answer(answers, 1)
    answers.timing(Timing(2, 1_000, 80, 0))
    answers.close()
    assert all(math.isnan(value) for value in log.of(log_topics.LATENCY)[0][7:])
    assert log.of(log_topics.CLOCK) == []


def test_clock_is_logged_once_a_second(processor):
    log, tally = Log(), Tally(PERIOD_US, ClockSync())
    answers = Answers(tally, log)
    for tick in range(1, 3_501):
        answer(answers, tick)
        answers.timing(Timing(tick, 1_005, 80, 0))
    assert len(log.of(log_topics.CLOCK)) == 3
    answers.close()
    clock = log.of(log_topics.CLOCK)[-1]
    assert abs(clock[0] - BEGIN_NS) <= clock[2]


@pytest.mark.parametrize(
    ("used_us", "held", "commanded", "own"),
    [(990, True, True, 1), (900, True, True, 0), (2_000, False, True, 0), (2_000, True, False, 0)],
)
def test_late_command_is_our_doing_when_we_used_the_time_there_was(processor, used_us, held, commanded, own):
    tally = Tally(PERIOD_US, ClockSync())
    answers = Answers(tally, Log())
    answer(answers, 1)
    answers.timing(Timing(2, 1_005, 80, 0))  # a round trip of 60 us (and what the stamps' rounding may hide)
    processor.now_ns += used_us * 1000
    answer(answers, 2, commanded)
    answers.held(observation(3, held))
    assert tally.own_misses == own


def test_writer_that_shares_the_only_processor_is_ours_too(processor):
    tally, log = Tally(PERIOD_US), Log()
    answers = Answers(tally, log)
    answer(answers, 1)
    processor.now_ns += 500_000
    log.writer_ns += 600_000
    answer(answers, 2)
    answers.held(observation(3, held=True))
    assert tally.own_misses == 1


def test_held_action_of_an_older_tick_is_not_this_answers(processor):
    tally = Tally(PERIOD_US)
    answers = Answers(tally, Log())
    processor.now_ns += 5_000_000
    answer(answers, 2)
    answers.held(observation(4, held=True))
    assert tally.own_misses == 0


@pytest.mark.parametrize(("used_us", "own"), [(900, 0), (1_000, 1), (2_500, 2), (9_000, 3)])
def test_overtaken_observations_are_our_doing_as_far_as_we_used_their_periods(processor, used_us, own):
    tally = Tally(PERIOD_US)
    answers = Answers(tally, Log())
    answer(answers, 1)
    processor.now_ns += used_us * 1000
    answers.passed_over(3)
    assert tally.own_misses == own


def test_slow_link_leaves_at_least_half_a_period(processor):
    tally = Tally(PERIOD_US, ClockSync())
    answers = Answers(tally, Log())
    answer(answers, 1)
    answers.timing(Timing(2, 1_005, 940, 0))
    processor.now_ns += 400_000
    answer(answers, 2)
    answers.held(observation(3, held=True))
    assert tally.own_misses == 0
    processor.now_ns += 500_000
    answer(answers, 3)
    answers.held(observation(4, held=True))
    assert tally.own_misses == 1
