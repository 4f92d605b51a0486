"""The control loop: one OBSERVATION in, one COMMAND (host mode) or HEARTBEAT (device, shadow mode) out.

The device owns time. The loop sleeps in select(), decodes what came, answers the newest observation, and only then does
its accounting and wakes the log writer. Nothing is printed; the garbage collector is off; what must be allocated per
period (messages, frames, log tuples) is small and freed by reference counting.
"""

import contextlib
import dataclasses
import gc
import math
import sys
import time
from collections.abc import Iterator

from firmware_bridge import log_topics
from firmware_bridge.conversation import Conversation
from firmware_bridge.errors import HostPolicyError
from firmware_bridge.handshake import Armed, silence_error
from firmware_bridge.history import History
from firmware_bridge.sensor_watch import SensorWatch
from firmware_bridge.stopped_device import ask_who_is_there, stopped_error
from firmware_bridge.tally import Tally
from hardware.protocol import Action, Command, Heartbeat, Message, Mode, Observation, State, Timing

_SWITCH_INTERVAL_S = 50e-6  # the writer thread gives the interpreter back this fast when an observation arrives


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """`periods` control periods in `mode`; no observation for `silence_s` seconds ends the run with an error.

    After half of that the device is asked who is there, again and again: one that started anew tells so.
    """

    mode: Mode
    periods: int
    silence_s: float


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
    messages, observations = armed.messages, armed.observations
    first_tick = observations[0].tick
    if history is not None:
        history.restart(armed.idle_tick)
    last_seen, last_tick, asked = time.monotonic(), first_tick, 0
    ended = False
    while True:
        if observations:
            last_seen, asked = time.monotonic(), 0
            for older in observations[:-1]:
                _pass_over(older, conversation, history, tally)
                watch.check(older)
            newest = observations[-1]
            error = stopped_error(conversation, newest, last_tick)
            if error is not None:
                raise error
            last_tick = newest.tick
            ended = (newest.tick - first_tick) & 0xFFFF_FFFF >= settings.periods
            if not ended:
                _answer(newest, conversation, settings.mode, history, tally)
                # After the answer: a stop still reaches the device before that answer is latched.
                watch.check(newest)
        elif time.monotonic() - last_seen > settings.silence_s:
            raise silence_error(conversation, settings.silence_s)
        elif time.monotonic() - last_seen > (0.5 + 0.1 * asked) * settings.silence_s:
            ask_who_is_there(conversation)
            asked += 1
        # The device's ACTION often comes in the same read as its OBSERVATION: compared once ours is computed.
        for message in messages:
            if isinstance(message, Action):
                tally.device_action(message)
            elif isinstance(message, Timing):
                tally.device_timing(message, settings.mode)
        if ended:
            return
        conversation.recorder.check()
        messages = conversation.receive(0.05)
        observations = [message for message in messages if isinstance(message, Observation)]


def _pass_over(observation: Observation, conversation: Conversation, history: History | None, tally: Tally) -> None:
    """An observation that was overtaken by a newer one in the same read: it feeds the ring and counts as missed."""
    if observation.state == State.ARMED:
        tally.observe(observation, conversation.last_ns)
        tally.unanswered += 1
        if history is not None:
            history.observe(observation.tick, observation.current, observation.previous)


def _answer(
    observation: Observation, conversation: Conversation, mode: Mode, history: History | None, tally: Tally
) -> None:
    tick = observation.tick
    action: float | None = None
    if history is not None:
        action = history.step(tick, observation.current, observation.previous)
        if action is not None and not math.isfinite(action):
            raise HostPolicyError(
                f"the policy answered {action} to observation {tick}, expected a finite acceleration; "
                "check the observation in the log and `python -m export verify`"
            )
    inferred_ns = time.monotonic_ns() if history is not None else conversation.decoded_ns
    message: Message
    if mode == Mode.HOST and action is not None:
        message = Command(conversation.session, tick, action)
    else:
        message = Heartbeat(conversation.session, tick)
    frame = conversation.encode(message)
    encoded_ns = time.monotonic_ns()
    conversation.unanswered = False
    written_ns = conversation.write(message, frame)

    first_ns, last_ns, decoded_ns = conversation.first_ns, conversation.last_ns, conversation.decoded_ns
    tally.observe(observation, last_ns)
    tally.histograms.record(
        first=first_ns,
        last=last_ns,
        decoded=decoded_ns,
        inferred=inferred_ns,
        encoded=encoded_ns,
        written=written_ns,
    )
    stages = (
        tick,
        last_ns - first_ns,
        decoded_ns - last_ns,
        inferred_ns - decoded_ns,
        encoded_ns - inferred_ns,
        written_ns - encoded_ns,
        written_ns - last_ns,
    )
    conversation.recorder.put(log_topics.LATENCY, written_ns, stages)
    if history is not None:
        if action is not None:
            tally.host_action(tick, action)
        conversation.recorder.put(log_topics.HOST_ACTION, inferred_ns, (tick, math.nan if action is None else action))
    conversation.recorder.wake()


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
