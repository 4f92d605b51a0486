"""What the device refuses: wrong, stale, foreign and replayed messages, and requests at the wrong moment."""

import pytest
from pendulum_host import SESSION, arm_message, disarm_message

from hardware.framing import encode_frame
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import (
    MAXIMUM_WATCHDOG_PERIODS,
    Command,
    Fault,
    Heartbeat,
    LinkStatistics,
    Mode,
    Observation,
    Result,
    State,
)

STATISTICS_TICKS = 1_000_000 // CART_RAIL.period_us


@pytest.mark.parametrize(
    ("wrong", "counter"),
    [
        (lambda tick: Command(SESSION, tick - 1, 1.0), "stale_commands"),
        (lambda tick: Command(SESSION, tick + 1, 1.0), "stale_commands"),
        (lambda tick: Command(SESSION + 1, tick, 1.0), "refused"),
        (lambda tick: Command(SESSION, tick, float("nan")), "refused"),
        (lambda tick: Command(SESSION, tick, float("inf")), "refused"),
        (lambda tick: Command(SESSION, tick, 20.001), "refused"),
        (lambda tick: Heartbeat(SESSION + 1, tick), "refused"),
    ],
    ids=["stale", "future", "session", "nan", "infinite", "range", "foreign heartbeat"],
)
def test_wrong_answers_are_refused_counted_and_starve_the_watchdog(host, wrong, counter):
    observation = host.arm(Mode.HOST)
    host.send(Command(SESSION, observation.tick, 2.0))
    observation = host.wait(Observation)
    for _ in range(2):
        host.send(wrong(observation.tick), Heartbeat(SESSION, observation.tick))
        observation = host.wait(Observation)
        assert observation.applied_action <= 2.001
    assert (observation.state, observation.fault) == (State.BRAKING, Fault.WATCHDOG)
    host.send(Heartbeat(SESSION, observation.tick))
    assert getattr(host.next_statistics(SESSION), counter) == 2


def test_second_answer_to_the_same_observation_is_refused(host):
    observation = host.arm(Mode.HOST)
    host.send(Command(SESSION, observation.tick, 2.0), Command(SESSION, observation.tick, -2.0))
    assert host.wait(Observation).applied_action == pytest.approx(2.0, abs=1e-4)


def test_replayed_arm_arms_nothing(host):
    reply = host.hello()
    assert host.configure(Mode.HOST) == Result.OK
    host.home()
    observation = host.wait(Observation)
    recorded = encode_frame(arm_message(reply), 5)
    host.write(recorded)
    host.send(Heartbeat(0, observation.tick))
    observation = host.wait(Observation)
    assert observation.state == State.ARMED
    host.disarm(observation)
    observation = host.wait(Observation)
    host.write(recorded)
    host.send(Heartbeat(SESSION, observation.tick))
    assert host.wait(Observation).state == State.IDLE
    assert host.acknowledgements[-1].result == Result.BAD_NONCE


def test_arm_is_refused_before_everything_is_ready(host):
    reply = host.hello()
    assert host.request(arm_message(reply)) == Result.NOT_CONFIGURED
    assert host.request(arm_message(reply)) == Result.BAD_NONCE  # used up by the first
    assert host.configure(Mode.HOST) == Result.BAD_NONCE
    host.hello()
    assert host.configure(Mode.HOST) == Result.OK
    assert host.request(arm_message(host.hello())) == Result.NOT_HOMED
    assert host.wait(Observation).state == State.UNHOMED


@pytest.mark.parametrize(
    "config",
    [(3, 2, 0), (0, 0, 0), (0, MAXIMUM_WATCHDOG_PERIODS + 1, 0), (0, 2, 1), (1, 2, 2)],
)
def test_bad_configuration_is_refused(host, config):
    reply = host.hello()
    assert host.configure(*config) == Result.OUT_OF_RANGE
    host.home()
    assert host.request(arm_message(reply)) == Result.NOT_CONFIGURED


def test_configuration_and_session_zero_are_refused_when_armed(host):
    observation = host.arm(Mode.DEVICE)
    host.hello()
    assert host.configure(Mode.HOST) == Result.WRONG_STATE
    assert host.request(arm_message(host.hello())) == Result.WRONG_STATE
    assert host.request(disarm_message(SESSION + 1)) == Result.WRONG_SESSION
    for _ in range(3):
        host.send(Heartbeat(SESSION, observation.tick))
        observation = host.wait(Observation)
    assert observation.state == State.ARMED


def test_a_replayed_heartbeat_feeds_nothing(host):
    observation = host.arm(Mode.DEVICE)
    old = Heartbeat(SESSION, observation.tick)
    for _ in range(2):
        host.send(old, Heartbeat(0, observation.tick))
        observation = host.wait(Observation)
    assert observation.state == State.ARMED  # the first was genuine: one period missed so far
    host.send(old, Heartbeat(0, observation.tick))
    observation = host.wait(Observation)
    assert observation.state == State.BRAKING
    host.send(Heartbeat(0, observation.tick))
    assert host.next_statistics().stale_commands == 2  # the two that were not about the running period


def test_a_late_heartbeat_feeds_by_its_age_and_is_counted(host):
    observation = host.arm(Mode.DEVICE, watchdog_periods=3)
    for _ in range(20):
        host.send(Heartbeat(SESSION, observation.tick - 1), Heartbeat(0, observation.tick))
        observation = host.wait(Observation)
    assert observation.state == State.ARMED
    host.send(Heartbeat(SESSION, observation.tick))
    assert host.next_statistics(SESSION).stale_commands == 19  # the first was about the last tick before ARM


def test_statistics_come_after_hello_reply_and_before_the_observation_of_their_tick(host):
    host.hello()
    order = []
    while order.count(LinkStatistics) < 2:
        message = host.receive()
        order.append(type(message))
        if isinstance(message, Observation):
            host.send(Heartbeat(0, message.tick))
    assert order.index(LinkStatistics) == 0
    assert order.count(Observation) == STATISTICS_TICKS - 1
