"""`run --dry-run`: the policy computes and everything is logged, and nothing that could move the cart is ever sent.

HELLO and heartbeats of session 0 are all that leaves: no CONFIG, no DISARM, no ARM, no COMMAND. Whatever state the
device is in stays as it is; somebody may move cart and rod by hand and read in the log what the policy would have done.
"""

import math
import time

from firmware_bridge.device.conversation import Conversation
from firmware_bridge.device.handshake import silence_error
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.loop.history import History
from firmware_bridge.loop.tally import Tally
from hardware.protocol import Observation


def dry_run(conversation: Conversation, periods: int, silence_s: float, history: History | None, tally: Tally) -> None:
    """Watch for `periods` control periods from the first observation. `history` is None in device mode.

    Raises LinkLostError, RecorderError, StopRequested. An action that is not finite is logged as null.
    """
    if history is not None:
        history.restart()
    conversation.answer()  # the observation of before: in lock-step the device waits for it
    first_tick: int | None = None
    last_seen = time.monotonic()
    while True:
        messages = conversation.receive(0.05)
        observations = [message for message in messages if isinstance(message, Observation)]
        for observation in observations:
            last_seen = time.monotonic()
            first_tick = observation.tick if first_tick is None else first_tick
            if (observation.tick - first_tick) & 0xFFFF_FFFF >= periods:
                return
            _watch(observation, conversation, history, tally)
        if time.monotonic() - last_seen > silence_s:
            raise silence_error(conversation, silence_s)


def _watch(observation: Observation, conversation: Conversation, history: History | None, tally: Tally) -> None:
    tick = observation.tick
    action: float | None = None
    if history is not None:
        action = history.step(tick, observation.current, observation.previous)
    inferred_ns = time.monotonic_ns() if history is not None else conversation.decoded_ns
    # In lock-step the device waits for it. Nothing is armed: it carries session 0, which feeds no watchdog.
    encoded_ns, written_ns = conversation.answer_tick(tick, None)
    tally.observe(observation, conversation.last_ns)
    tally.histograms.record(
        first=conversation.first_ns,
        last=conversation.last_ns,
        decoded=conversation.decoded_ns,
        inferred=inferred_ns,
        encoded=encoded_ns,
        written=written_ns,
    )
    if history is not None:
        conversation.recorder.put(log_topics.HOST_ACTION, inferred_ns, (tick, math.nan if action is None else action))
