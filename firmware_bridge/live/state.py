"""What the live page shows, put together from the records of `feed` in the process that serves the page."""

import json
import math
from collections import deque
from typing import Any

from firmware_bridge.latency.stage_histograms import DurationHistogram
from firmware_bridge.live.feed import (
    COUNTS,
    COUNTS_LAYOUT,
    RECORD_BYTES,
    TEXT,
    TEXT_LAYOUT,
    TICK,
    TICK_LAYOUT,
    Counts,
)
from firmware_bridge.live.picture import picture_of
from hardware.codec import name_of
from hardware.protocol import Fault, ObservationFlag, State

HISTORY_S = 10.0
_BUCKET_NS = 10_000_000  # of the strips: 100 points a second however fast the loop
_RECENT_NS = 1_000_000_000
_SINCE_START_NS = 1_000_000_000  # how often: its percentiles take 10 ms
_EVENTS = 20
_HOST_STATES: dict[int, str] = {
    State.UNHOMED: "HOMING",
    State.IDLE: "IDLE",
    State.ARMED: "RUN",
    State.BRAKING: "BRAKING",
    State.OFF: "OFF",
}
_NO_LATENCY = {"n": 0, "p50": None, "p99": None, "max": None, "duration_s": 0.0}


class LiveState:
    """Takes bytes of the pipe, gives JSON objects. Times are CLOCK_MONOTONIC, which both processes share.

    A point of the strips is [time [s], rod angle [rad], axis position, smallest action, largest action] of 10 ms;
    `points` counts those that were ever made, of which the last 10 s are kept.
    """

    def __init__(self) -> None:
        self.points = 0
        self.ended = False
        self._rest = b""
        self._text = b""
        self._tick: tuple[Any, ...] | None = None
        self._counts = Counts(0, 0, 0, 0, 0, 0)
        self._not_shown = 0
        self._awaiting_arm = False
        self._history: deque[list[float]] = deque(maxlen=round(HISTORY_S * 1e9 / _BUCKET_NS))
        self._bucket = -1
        self._recent: deque[tuple[int, int]] = deque()
        self._histogram = DurationHistogram()
        self._first_ns = self._last_ns = self._summed_ns = 0
        self._since_start: dict[str, Any] = dict(_NO_LATENCY)
        self._run: dict[str, Any] = {}
        self._host_state: str | None = None
        self._events: deque[dict[str, str]] = deque(maxlen=_EVENTS)
        self._result: dict[str, Any] | None = None

    def take(self, data: bytes) -> None:
        """Bytes as they came from the pipe; b"" is its end: the run is over, or its process is gone."""
        if not data:
            self.ended = True
        data = self._rest + data
        whole = len(data) - len(data) % RECORD_BYTES
        self._rest = data[whole:]
        for start in range(0, whole, RECORD_BYTES):
            kind = data[start]
            if kind == TICK:
                self._take_tick(TICK_LAYOUT.unpack_from(data, start))
            elif kind == COUNTS:
                _, awaiting, *counts, self._not_shown = COUNTS_LAYOUT.unpack_from(data, start)
                self._awaiting_arm, self._counts = bool(awaiting), Counts(*counts)
            elif kind == TEXT:
                _, last, used, piece = TEXT_LAYOUT.unpack_from(data, start)
                self._text += piece[:used]
                if last:
                    text, self._text = self._text, b""
                    self._take_text(json.loads(text))

    def about(self) -> dict[str, Any]:
        """What does not change while the run goes on, with every point of the strips: for a page that has just come."""
        return {"run": self._run, "points": list(self._history), "history_s": HISTORY_S}

    def points_since(self, count: int) -> list[list[float]]:
        """The points made after the first `count` of them, as far as they are kept; the newest may still change."""
        new = min(self.points - count, len(self._history))
        return [self._history[index] for index in range(len(self._history) - new, len(self._history))]

    def now(self, time_ns: int) -> dict[str, Any]:
        """What changes: 20 times a second. `age_s` is the age of the newest observation, None before the first."""
        shown: dict[str, Any] = {
            "time_s": time_ns / 1e9,
            "age_s": None,
            "state": self._host_state or "IDLE",
            "awaiting_arm": self._awaiting_arm,
            "latency": {"last_second": self._last_second(time_ns), "since_start": self._whole(time_ns)},
            "counts": {**self._counts._asdict(), "not_shown": self._not_shown},
            "events": list(self._events),
            "ended": self.ended,
            "result": self._result,
        }
        if self._tick is not None:
            _, state, fault, flags, tick, observed_ns, *numbers, _, age_us = self._tick
            position, speed, sine, cosine, rod_speed, action = numbers
            device_state = name_of(State, state)
            shown.update(
                age_s=max(0.0, (time_ns - observed_ns) / 1e9),
                state=self._state(state, fault),
                device_state=device_state,
                fault=name_of(Fault, fault) if fault else "",
                tick=tick,
                position=position,
                speed=speed,
                angle_rad=math.atan2(sine, cosine),
                rod_speed_rad_s=rod_speed,
                action=action,
                held=bool(flags & ObservationFlag.HELD),
                limited=bool(flags & ObservationFlag.LIMITED),
                action_age_us=age_us or None,
            )
        return shown

    def _state(self, state: int, fault: int) -> str:
        """The host's state where it told it, but a device that stops or has a fault is shown whatever the host says."""
        if fault:
            return "FAULT"
        if state == State.BRAKING or self._host_state is None:
            return _HOST_STATES.get(state, "UNKNOWN")
        return self._host_state

    def _take_tick(self, fields: tuple[Any, ...]) -> None:
        self._tick = fields
        observed_ns, latency_ns = fields[5], fields[12]
        angle, position, action = math.atan2(fields[8], fields[9]), fields[6], fields[11]
        bucket = observed_ns // _BUCKET_NS
        if bucket != self._bucket or not self._history:
            self._bucket = bucket
            self.points += 1
            self._history.append([round(observed_ns / 1e9, 3), angle, position, action, action])
        else:
            point = self._history[-1]
            point[1], point[2] = angle, position
            point[3], point[4] = min(point[3], action), max(point[4], action)
        if latency_ns:
            self._first_ns = self._first_ns or observed_ns
            self._last_ns = observed_ns
            self._histogram.record(latency_ns)
            self._recent.append((observed_ns, latency_ns))
            self._forget_before(observed_ns - _RECENT_NS)  # here, too: `now` is asked only while somebody watches

    def _take_text(self, value: dict[str, Any]) -> None:
        if "session" in value:
            session = value["session"]
            self._run = {**session, "plant": picture_of(session.get("observation_names", ()))}
        elif "event" in value:
            event = value["event"]
            if event["kind"] == "state":
                self._host_state = event["text"].partition(" ")[0].strip(":;,")
            self._events.append(event)
        elif "result" in value:
            self._result = value["result"]

    def _last_second(self, time_ns: int) -> dict[str, Any]:
        self._forget_before(time_ns - _RECENT_NS)
        values = sorted(latency for _, latency in self._recent)
        if not values:
            return dict(_NO_LATENCY, duration_s=1.0)
        p50, p99 = (values[math.ceil(len(values) * share) - 1] / 1e3 for share in (0.5, 0.99))
        return {"n": len(values), "p50": p50, "p99": p99, "max": values[-1] / 1e3, "duration_s": 1.0}

    def _forget_before(self, time_ns: int) -> None:
        while self._recent and self._recent[0][0] < time_ns:
            self._recent.popleft()

    def _whole(self, time_ns: int) -> dict[str, Any]:
        if time_ns - self._summed_ns >= _SINCE_START_NS or self.ended:
            self._summed_ns = time_ns
            found = self._histogram.percentiles((self._last_ns - self._first_ns) / 1e9)
            if found.n:
                self._since_start = {
                    **{"n": found.n, "p50": found.p50, "p99": found.p99},
                    **{"max": found.max, "duration_s": found.duration_s},
                }
        return self._since_start
