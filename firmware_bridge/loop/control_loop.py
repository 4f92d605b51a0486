"""The control loop: one OBSERVATION in, one COMMAND (host mode) or HEARTBEAT (device, shadow mode) out.

The device owns time: there is no pace of the host's own, an answer is due when an observation has come. The loop sleeps
in select(), takes from the newest observation what the policy needs, answers, and only then decodes the rest, does its
accounting, and hands what is to be logged to another process. Nothing is printed; the garbage collector is off; what
must be allocated per period (messages, frames, log tuples) is small and freed by reference counting.
"""

import contextlib
import dataclasses
import gc
import math
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from firmware_bridge.device.conversation import Conversation
from firmware_bridge.device.handshake import Armed, silence_error
from firmware_bridge.device.stopped_device import ask_who_is_there, stopped_error
from firmware_bridge.errors import HostPolicyError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.loop.answers import Answers
from firmware_bridge.loop.history import History
from firmware_bridge.loop.tally import Tally
from firmware_bridge.safety.action_limits import ActionLimits
from firmware_bridge.safety.sensor_watch import SensorWatch
from hardware.codec import picker
from hardware.protocol import Action, Mode, Observation, State, Timing

_SWITCH_INTERVAL_S = 50e-6  # the threads of keyboard and page give the interpreter back this fast
_TICKS = 0xFFFF_FFFF
_OBSERVATION_BYTES, _PICK = picker(Observation, "tick", "current", "previous", "state")


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """`periods` control periods in `mode`; no observation for `silence_s` seconds ends the run with an error.

    After half of that the device is asked who is there, again and again: one that started anew tells so. `limits` holds
    for what a COMMAND asks; the log and shadow mode have the policy's own action. `constant_action`, where it is given,
    is sent instead, limited like it.
    """

    mode: Mode
    periods: int
    silence_s: float
    limits: ActionLimits
    constant_action: float | None = None


def control_loop(
    conversation: Conversation,
    armed: Armed,
    settings: LoopSettings,
    history: History | None,
    tally: Tally,
    *,
    watch: SensorWatch,
) -> None:
    """Run for `settings.periods` control periods from the first ARMED observation.

    Returns with the last observation unanswered: the caller brakes and answers. `history` is None in device mode.
    Raises DeviceFaultError (the device left ARMED), DeviceRestartedError, LinkLostError, RecorderError,
    HostPolicyError, SensorError, StopRequested.
    """
    loop = _Loop(conversation, settings, history, tally, watch)
    try:
        loop.run(armed)
    finally:
        loop.answers.close()


class _Loop:
    """What one tick needs, at hand."""

    def __init__(
        self,
        conversation: Conversation,
        settings: LoopSettings,
        history: History | None,
        tally: Tally,
        watch: SensorWatch,
    ) -> None:
        self.watch = watch
        self.conversation = conversation
        self.settings = settings
        self.history = history
        self.tally = tally
        self.answers = Answers(tally, conversation.recorder)
        self.hosted = settings.mode == Mode.HOST
        self.first_tick = self.next_tick = self.end_tick = 0

    def run(self, armed: Armed) -> None:
        conversation, settings = self.conversation, self.settings
        messages, observations = armed.messages, armed.observations
        first_tick = last_tick = self.first_tick = observations[0].tick
        self.end_tick = (first_tick + settings.periods) & _TICKS
        if self.history is not None:
            self.history.restart(armed.idle_tick)
        last_seen, asked = time.monotonic(), 0
        answer: _Answer | None = None
        ended = False
        while True:
            if observations:
                last_seen, asked = time.monotonic(), 0
                newest = observations[-1]
                if answer is None:
                    if len(observations) > 1:
                        self.pass_over(observations[:-1])
                    error = stopped_error(conversation, newest, last_tick)
                    if error is not None:
                        raise error
                    ended = (newest.tick - first_tick) & _TICKS >= settings.periods
                    if not ended:
                        answer = self.answer(newest.tick, newest.current, newest.previous)
                last_tick = newest.tick
                self.next_tick = (last_tick + 1) & _TICKS
                if answer is not None:
                    self.account(newest, answer)
                    # After the answer: a stop still reaches the device before that answer is latched.
                    self.watch.check(newest)
            elif time.monotonic() - last_seen > settings.silence_s:
                raise silence_error(conversation, settings.silence_s)
            elif time.monotonic() - last_seen > (0.5 + 0.1 * asked) * settings.silence_s:
                ask_who_is_there(conversation)
                asked += 1
            # The device's ACTION often comes in the same read as its OBSERVATION: compared once ours is computed.
            for message in messages:
                if isinstance(message, Timing):
                    self.tally.device_timing(message, settings.mode)
                    self.answers.timing(message)
                elif isinstance(message, Action):
                    self.tally.device_action(message)
            if ended:
                return
            answer = self.answer_at_once() if conversation.take(0.05) else None
            messages = conversation.settle()
            observations = [message for message in messages if isinstance(message, Observation)]

    def answer_at_once(self) -> "_Answer | None":
        """The usual case, before anything else is looked at: one OBSERVATION, armed, the next in order."""
        body = self.conversation.only(Observation)
        if body is None or len(body) != _OBSERVATION_BYTES:
            return None
        tick, current, previous, state = _PICK(body)
        if tick != self.next_tick or state != State.ARMED or tick == self.end_tick:
            return None
        self.conversation.decoded_ns = time.monotonic_ns()
        return self.answer(tick, current, previous)

    def pass_over(self, older: list[Observation]) -> None:
        """Observations that were overtaken by a newer one in the same read: they feed the ring and count as missed.

        Not those behind the end of the run, which a stall at its end brings, too.
        """
        missed = [
            observation
            for observation in older
            if observation.state == State.ARMED
            and (observation.tick - self.first_tick) & _TICKS < self.settings.periods
        ]
        self.answers.passed_over(len(missed))
        for observation in missed:
            self.tally.observe(observation, self.conversation.last_ns)
            self.tally.unanswered += 1
            if self.history is not None:
                self.history.observe(observation.tick, observation.current, observation.previous)
            self.watch.check(observation)

    def answer(self, tick: int, current: tuple[float, ...], previous: tuple[float, ...]) -> "_Answer":
        action: float | None = None
        sent: float | None = None
        inferred_ns = self.conversation.decoded_ns
        if self.history is not None:
            action = self.history.step(tick, current, previous)
            if action is not None:
                if not math.isfinite(action):
                    raise _not_finite(action, tick)
                if self.hosted:
                    constant = self.settings.constant_action
                    sent = self.settings.limits.limit(action if constant is None else constant)
            inferred_ns = time.monotonic_ns()
        return _Answer(action, sent, inferred_ns, *self.conversation.answer_tick(tick, sent))

    def account(self, observation: Observation, answer: "_Answer") -> None:
        conversation, tally, tick = self.conversation, self.tally, observation.tick
        tally.observe(observation, conversation.last_ns)
        if self.hosted:
            self.answers.held(observation)
        self.answers.written(
            observation,
            answer.sent is not None,
            conversation.read_ns,
            first=conversation.first_ns,
            last=conversation.last_ns,
            decoded=conversation.decoded_ns,
            inferred=answer.inferred_ns,
            encoded=answer.encoded_ns,
            written=answer.written_ns,
        )
        if self.history is not None:
            if answer.action is not None:
                tally.host_action(tick, answer.action)
            record = (tick, math.nan if answer.action is None else answer.action)
            conversation.recorder.put(log_topics.HOST_ACTION, answer.inferred_ns, record)


class _Answer(NamedTuple):
    """What the policy asked for, what was sent of it, and when; actions in m/s^2, None where there was none."""

    action: float | None
    sent: float | None
    inferred_ns: int
    encoded_ns: int
    written_ns: int


def _not_finite(action: float, tick: int) -> HostPolicyError:
    return HostPolicyError(
        f"the policy answered {action} to observation {tick}, expected a finite acceleration; "
        "check the observation in the log and `python -m export verify`"
    )


@contextlib.contextmanager
def quiet_interpreter() -> Iterator[None]:
    """No garbage collection, and a fast hand-over between threads; both are put back on leaving.

    Enter it before arming: the collection on the way in took 44 ms here, two control periods.
    """
    interval = sys.getswitchinterval()
    collecting = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if collecting:
            gc.enable()
