"""Braking: the one way out of a run, whether it ended, was interrupted, or failed."""

import dataclasses
import time

from firmware_bridge.device.conversation import Conversation
from firmware_bridge.errors import LinkLostError
from hardware.codec import name_of
from hardware.protocol import Disarm, State

_RESEND_PERIODS = 5
_STOP_PERIODS = 250
_STATISTICS_PERIODS = 60  # the device sends them once a second


@dataclasses.dataclass(frozen=True)
class Stop:
    """How braking went: `confirmed` when the device said it left ARMED, `state` the last one it reported."""

    confirmed: bool
    state: str
    periods: int


def brake(conversation: Conversation, silence_s: float) -> Stop:
    """Send DISARM and stay until the device is at rest and has sent its final statistics.

    Bounded by `_STOP_PERIODS` and by `silence_s` without an observation. Never raises for a lost link: the device's
    own watchdog brakes then, and the result says that nobody confirmed it.
    """
    conversation.ignore_signals()
    # Session 0 is answered in every state, also when an ARM was refused and the device knows no session of ours.
    conversation.session = 0
    confirmed = False
    periods = at_rest = 0
    statistics = conversation.statistics_count
    deadline = time.monotonic() + silence_s
    try:
        # Before the pending answer: in lock-step the answer ends the period, and DISARM must belong to it.
        conversation.send(Disarm(0))
        conversation.answer()
        while periods < _STOP_PERIODS and time.monotonic() < deadline:
            conversation.receive(0.05)
            if not conversation.unanswered or conversation.observation is None:
                continue
            periods += 1
            deadline = time.monotonic() + silence_s
            state = conversation.observation.state
            confirmed = confirmed or state != State.ARMED
            if state == State.ARMED and periods % _RESEND_PERIODS == 0:
                conversation.send(Disarm(0))
            conversation.answer()
            if state not in (State.ARMED, State.BRAKING):
                at_rest += 1
                if conversation.statistics_count >= statistics + 1 or at_rest > _STATISTICS_PERIODS:
                    break
    except LinkLostError:
        confirmed = False
    last = conversation.observation
    return Stop(confirmed, name_of(State, last.state) if last is not None else "unknown", periods)
