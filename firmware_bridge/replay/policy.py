"""Replay of the policy: the observations of a log through it again, against the actions that were logged."""

import math
from collections import OrderedDict
from typing import Any

from firmware_bridge.device.observation_order import ObservationOrder
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.read_log import Record, number
from firmware_bridge.loop.history import History
from firmware_bridge.loop.host_policy import Backend
from firmware_bridge.replay.frames import Difference
from hardware.protocol import Action, Observation, State

_OBSERVATION = log_topics.MESSAGE_TOPICS[Observation].name
_DEVICE_ACTION = log_topics.MESSAGE_TOPICS[Action].name
_HOST_ACTION = log_topics.HOST_ACTION.name
_REMEMBERED = 1024  # ticks; an action is logged within a few periods of its observation


class PolicyReplay:
    """Feed it the records of a log in order; `add` gives the first difference, None while there is none.

    Host actions may differ by `host_tolerance`, the device's by `device_tolerance` [m/s^2]; 0 asks for the same bits.
    `compared` and `largest` (difference so far) are by topic. Actions whose history is not in the log (its first files
    are gone, or records were dropped) are `skipped`.
    """

    def __init__(
        self, backend: Backend, frames: int, host_tolerance: float, device_tolerance: float, from_start: bool
    ) -> None:
        self.compared = {_HOST_ACTION: 0, _DEVICE_ACTION: 0}
        self.largest = {_HOST_ACTION: 0.0, _DEVICE_ACTION: 0.0}
        self.skipped = 0
        self._tolerances = {_HOST_ACTION: host_tolerance, _DEVICE_ACTION: device_tolerance}
        self._backend = backend
        self._frames = frames
        self._history = History(backend, frames)
        self._order = ObservationOrder()
        self._answers: OrderedDict[int, list[float | None]] = OrderedDict()
        self._idle_tick: int | None = None
        self._armed = False
        self._whole = from_start

    def add(self, record: Record) -> Difference | None:
        """Take one record of any topic."""
        if record.topic == _OBSERVATION:
            self._observe(record.value)
        elif record.topic in self._tolerances:
            return self._compare(record.topic, record.value)
        elif record.topic == log_topics.DROPPED.name:
            self._whole = self._armed = False
            self._idle_tick = None
            self._answers.clear()
        return None

    def _observe(self, value: dict[str, Any]) -> None:
        tick = value["tick"]
        if not self._order.take(tick, value["state"]):
            return  # the run passed it over, too
        if value["state"] != State.ARMED:
            self._armed, self._idle_tick, self._whole = False, tick, True
            return
        if not self._armed:
            self._armed = True
            self._history.restart(self._idle_tick if self._whole else (tick - 2) & 0xFFFF_FFFF)
        current = tuple(number(item) for item in value["current"])
        previous = tuple(number(item) for item in value["previous"])
        answer = self._history.step(tick, current, previous)
        if answer is not None:
            self._whole = True  # the ring is full of frames that are in the log
        self._answers.setdefault(tick, []).append(answer)
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)

    def _compare(self, topic: str, value: dict[str, Any]) -> Difference | None:
        tick, expected = value["observation_tick"], value["action"]
        answers = self._answers.get(tick)
        if answers is None:
            if not self._whole or topic == _DEVICE_ACTION:
                self.skipped += 1  # its OBSERVATION was lost on the way
                return None
            return Difference(topic, tick, "observation", "not in the log", "an ARMED observation of this tick")
        if not self._whole or (topic == _DEVICE_ACTION and answers[0] is None):
            # The device never has a hole in its history; where the host's had one there is nothing to compare.
            self.skipped += 1
            return None
        self.compared[topic] += 1
        differences = [_difference(answer, expected) for answer in answers]
        smallest = min(differences)
        self.largest[topic] = max(self.largest[topic], smallest)
        if smallest <= self._tolerances[topic]:
            return None
        return Difference(topic, tick, "action", answers[differences.index(smallest)], expected)


def _difference(got: float | None, expected: float | None) -> float:
    """How far two actions are apart; null (not finite, or withheld) equals only itself."""
    got = None if got is not None and not math.isfinite(got) else got
    if got is None or expected is None:
        return 0.0 if got is expected else math.inf
    return abs(got - expected)
