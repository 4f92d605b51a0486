"""What the proxy knows of a device in lock-step: whose answer ends a period, and which it must end itself."""

import pytest

from firmware_bridge.faults.connection import Connection, DeviceClock, LockStep
from hardware.codec import decode_body
from hardware.framing import FrameDecoder
from hardware.protocol import Acknowledge, Arm, Command, Heartbeat, HelloReply, Observation, Result, State

FRAME = (0.0,) * 5


def observation(tick, time_us=0, state=State.IDLE):
    return Observation(tick, time_us, FRAME, FRAME, 0.0, state, 0, 0)


def said(data):
    return [decode_body(body) for body in FrameDecoder().feed(data)]


def armed(session=0x30, sequence=5):
    lockstep = LockStep()
    lockstep.arrived(((sequence, Arm(0x10, 0x10 ^ session)),))
    lockstep.said(Acknowledge(Arm.TYPE, sequence, Result.OK), 0.0)
    return lockstep


@pytest.mark.parametrize("answer", [Command(0x30, 7, 1.0), Heartbeat(0x30, 7), Heartbeat(0, 7)])
def test_an_answer_of_the_session_ends_the_period(answer):
    lockstep = armed()
    lockstep.said(observation(7), 0.0)
    lockstep.arrived(((9, answer),))
    assert lockstep.release() == b""
    assert lockstep.released == 0


@pytest.mark.parametrize("answer", [Command(0x31, 7, 1.0), Heartbeat(0x30, 6), Arm(1, 2)])
def test_anything_else_does_not_and_the_proxy_ends_it_once(answer):
    lockstep = armed()
    lockstep.said(observation(7), 0.0)
    lockstep.arrived(((9, answer),))
    # Its sequence is the last that arrived: to the device no frame is missing. A delimiter ends what was cut.
    data = lockstep.release()
    assert data[0] == 0
    assert said(b"\x05\x01" + data) == [(9, Heartbeat(0, 7))]
    assert lockstep.release() == b""
    assert lockstep.released == 1


@pytest.mark.parametrize("result", [Result.INPUT_OPEN, Result.BAD_NONCE])
def test_a_session_that_was_refused_is_none(result):
    """A bridge answers in its new session at once; a device that has refused it goes on waiting."""
    lockstep = LockStep()
    lockstep.said(observation(7), 0.0)
    lockstep.arrived(((5, Arm(0x10, 0x20)), (6, Heartbeat(0x30, 7))))
    lockstep.said(Acknowledge(Arm.TYPE, 5, result), 0.0)
    assert said(lockstep.release()) == [(6, Heartbeat(0, 7))]


def test_an_old_arm_that_comes_again_takes_no_session_away():
    lockstep = armed()
    lockstep.arrived(((2, Arm(0x77, 0x01)),))
    lockstep.said(Acknowledge(Arm.TYPE, 2, Result.BAD_NONCE), 0.0)
    lockstep.said(observation(7), 0.0)
    lockstep.arrived(((9, Command(0x30, 7, 1.0)),))
    assert lockstep.release() == b""


def test_delays_are_added_up():
    lockstep = armed()
    lockstep.said(observation(7), 0.012)
    answer = Command(0x30, 7, 1.0)
    assert not lockstep.is_late(answer, 0.007, 0.02)
    assert lockstep.is_late(answer, 0.008, 0.02)
    assert not lockstep.is_late(Command(0x30, 6, 1.0), 0.02, 0.02)


def test_device_time_wraps_and_periods_count_from_the_first_armed_observation():
    clock, connection = DeviceClock(), Connection(0)
    assert not clock.running
    clock.observe(HelloReply(2, 1, 2, 3, 10_000, 5, 5, bytes(32), "b", 20.0, 1, 1))
    assert clock.period_s == 0.01
    for tick, time_us, state in ((5, 2**32 - 10_000, State.IDLE), (6, 10_000, State.ARMED), (7, 30_000, State.ARMED)):
        clock.observe(observation(tick, time_us, state))
        connection.observe(observation(tick, time_us, state))
    assert (clock.seconds, clock.tick, clock.running) == (pytest.approx(0.04), 7, True)
    assert connection.period(9) == 3
    assert Connection(1).period(9) is None
