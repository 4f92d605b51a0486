"""What became of each answer: when the device took and applied it, and if it came too late, whose doing that was.

The device tells in the next period: TIMING k + 1 says when the answer to observation k was accepted, COMMAND or
HEARTBEAT (a sample for `clock_sync` in every mode), and how old the observation was when its action was applied;
OBSERVATION k + 1 says HELD when no command had come. Only a COMMAND is applied: what a device applies in modes device
and shadow is its own action, which no answer brought.

A miss is of the bridge's own doing when its process (together with the log's writer where the two share the only
processor) used the whole time there was, one control period less the link's smallest round trip, in processor time
since the answer before. With less of it the answer would have come in time had nobody else wanted the processor: then
the bridge was kept waiting, by the scheduler, the kernel or the wire.
"""

import dataclasses
import math
import time

from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.loop.tally import Tally
from hardware.protocol import NO_TIME_US, Observation, ObservationFlag, Timing

_TICKS = 0xFFFF_FFFF
_LEAST_SHARE = 0.5  # of a control period: how small a slow link may make the time there is


class Answers:
    """Remembers the two newest answers. `processor_ns` is asked once a tick, after the answer."""

    def __init__(self, tally: Tally, recorder: Recorder) -> None:
        self._tally = tally
        self._recorder = recorder
        self._clock = tally.clock
        self._period_ns = tally.period_us * 1000
        self._clock_ticks = max(1, 1_000_000 // tally.period_us)
        self._processor_ns = self._spent_ns()
        self._older: _Answer | None = None
        self._newer: _Answer | None = None

    def passed_over(self, count: int) -> None:
        """`count` observations were overtaken before they could be answered."""
        self._tally.own_misses += min(count, (self._spent_ns() - self._processor_ns) // self._time_there_is_ns())

    def held(self, observation: Observation) -> None:
        """An ARMED observation of mode host: was the answer before it too late?"""
        answer = self._newer
        if (
            observation.flags & ObservationFlag.HELD
            and answer is not None
            and answer.commanded
            and (observation.tick - answer.tick) & _TICKS == 1
            and answer.processor_ns >= self._time_there_is_ns()
        ):
            self._tally.own_misses += 1

    def written(
        self,
        observation: Observation,
        commanded: bool,
        read_ns: int,
        *,
        first: int,
        last: int,
        decoded: int,
        inferred: int,
        encoded: int,
        written: int,
    ) -> None:
        """An answer is on its way; the six stamps [ns], and that of the read that brought the observation.

        The clock takes the second: a read may bring what came only after select() had returned.
        """
        self._tally.histograms.record(
            first=first, last=last, decoded=decoded, inferred=inferred, encoded=encoded, written=written
        )
        spent_ns = self._spent_ns()
        if self._older is not None:
            self._put(self._older, None, None)
        self._older = self._newer
        stages = (last - first, decoded - last, inferred - decoded, encoded - inferred, written - encoded)
        self._newer = _Answer(
            *(observation.tick, observation.time_us, commanded, read_ns, encoded, written),
            *(spent_ns - self._processor_ns, (*stages, written - last)),
        )
        self._processor_ns = spent_ns
        if self._clock is not None and observation.tick % self._clock_ticks == 0:
            self._put_clock(written)

    def timing(self, timing: Timing) -> None:
        """What the device measured about the answer to the tick before `timing.tick`."""
        answer = self._older
        if answer is None or (timing.tick - answer.tick) & _TICKS != 1:
            answer = self._newer
            if answer is None or (timing.tick - answer.tick) & _TICKS != 1:
                return
            # TIMING k + 1 without OBSERVATION k + 1: nothing newer than answer k is there.
            if self._older is not None:
                self._put(self._older, None, None)
            self._newer = None
        self._older = None
        if self._clock is None or timing.response_us == NO_TIME_US:
            self._put(answer, None, None)
            return
        self._clock.add(answer.time_us, answer.read_ns, answer.encoded_ns, answer.time_us + timing.response_us)
        applied = None
        if answer.commanded and timing.action_age_us != NO_TIME_US:
            applied = self._clock.host_ns((answer.time_us + timing.action_age_us) & _TICKS)
        if applied is None:
            self._put(answer, None, None)
            return
        apply_ns = applied[0] - answer.written_ns
        self._tally.histograms.record_applied(apply_ns)
        self._put(answer, apply_ns, applied[1])

    def close(self) -> None:
        """Log the answers of which the device has not told, and the last state of the clock."""
        for answer in (self._older, self._newer):
            if answer is not None:
                self._put(answer, None, None)
        self._older = self._newer = None
        if self._clock is not None:
            self._put_clock(time.monotonic_ns())

    def _spent_ns(self) -> int:
        return time.process_time_ns() + self._recorder.processor_ns()

    def _time_there_is_ns(self) -> int:
        round_trip_ns = self._clock.round_trip_ns if self._clock is not None else 0
        return round(max(_LEAST_SHARE * self._period_ns, self._period_ns - round_trip_ns))

    def _put(self, answer: "_Answer", apply_ns: int | None, uncertainty_ns: int | None) -> None:
        told = (math.nan, math.nan) if apply_ns is None or uncertainty_ns is None else (apply_ns, uncertainty_ns)
        self._recorder.put(log_topics.LATENCY, answer.written_ns, (answer.tick, *answer.stages, *told))

    def _put_clock(self, now_ns: int) -> None:
        estimate = self._clock.estimate(now_ns) if self._clock is not None else None
        if estimate is not None:
            self._recorder.put(log_topics.CLOCK, now_ns, tuple(vars(estimate).values()))


@dataclasses.dataclass(slots=True)
class _Answer:
    """One answer, until the device tells of it; `stages` as in the topic /latency."""

    tick: int
    time_us: int
    commanded: bool
    read_ns: int
    encoded_ns: int
    written_ns: int
    processor_ns: int
    stages: tuple[int, ...]
