"""What one run adds up to, counted while it runs and without keeping the observations."""

import math

from firmware_bridge.latency.stage_histograms import DeviceTimes, StageHistograms
from firmware_bridge.loop.clock_sync import ClockSync
from hardware.plants.cart_rail import UPRIGHT_RAD, UPRIGHT_WINDOW_S
from hardware.protocol import Action, Mode, Observation, Timing

_TICKS = 0xFFFF_FFFF
_COMPARED_TICKS = 256  # a device's ACTION comes within its period; older host actions are forgotten


class Tally:
    """Counts over the ARMED observations of one run.

    `deadline_misses` is the number of ARMED ticks k whose answer (COMMAND in host mode, HEARTBEAT otherwise) did not
    count: either it was not written before OBSERVATION k + 1 had arrived (`unanswered`: the two were read together and
    only the newer one was answered), or it was written and the device reported it stale (LINK_STATISTICS). A tick whose
    OBSERVATION never arrived is `lost`, not a miss.

    `own_misses` are those of them that the bridge did itself, see `loop.answers`.

    `clock` is None where the device's time is not a clock's (lock-step).

    `shadow_difference` is the largest |host - device| action [m/s^2] over `shadow_compared` ticks.
    """

    def __init__(self, period_us: int, clock: ClockSync | None = None) -> None:
        self.period_us = period_us
        self.clock = clock
        self.own_misses = 0
        self.histograms = StageHistograms()
        self.steps = 0
        self.unanswered = 0
        self.first_ns = 0
        self.last_ns = 0
        self.shadow_difference = 0.0
        self.shadow_compared = 0
        self.device_times = DeviceTimes()
        self._first_tick = self._last_tick = 0
        self._upright = bytearray(max(1, round(UPRIGHT_WINDOW_S * 1e6 / period_us)))
        self._host_ticks = [-1] * _COMPARED_TICKS
        self._host_actions = [0.0] * _COMPARED_TICKS

    def observe(self, observation: Observation, time_ns: int) -> None:
        """Count one ARMED observation received at `time_ns`."""
        if self.steps == 0:
            self.first_ns = time_ns
            self._first_tick = observation.tick
        self.last_ns = time_ns
        self._last_tick = observation.tick
        angle_rad = math.atan2(observation.current[2], observation.current[3])
        self._upright[self.steps % len(self._upright)] = abs(angle_rad) < UPRIGHT_RAD
        self.steps += 1

    def host_action(self, tick: int, action: float) -> None:
        """Remember what the host computed for `tick`, for comparison in shadow mode."""
        self._host_ticks[tick % _COMPARED_TICKS] = tick
        self._host_actions[tick % _COMPARED_TICKS] = action

    def device_action(self, message: Action) -> None:
        """Compare what the device computed; ticks that the host withheld are skipped."""
        slot = message.observation_tick % _COMPARED_TICKS
        if self._host_ticks[slot] == message.observation_tick:
            self.shadow_compared += 1
            difference = abs(self._host_actions[slot] - message.action)
            # A NaN counts as the largest difference and stays: max() would lose it.
            if difference > self.shadow_difference or math.isnan(difference):
                self.shadow_difference = difference

    def device_timing(self, message: Timing, mode: Mode) -> None:
        """Record what the device measured in the periods behind the first ARMED observation up to the newest one."""
        newest = (self._last_tick - self._first_tick) & _TICKS
        if self.steps and 0 < (message.tick - self._first_tick) & _TICKS <= newest:
            self.device_times.record(message, policy_ran=mode != Mode.HOST)

    @property
    def duration_s(self) -> float:
        """Wall-clock time from the first to the last ARMED observation."""
        return (self.last_ns - self.first_ns) / 1e9

    @property
    def upright_fraction(self) -> float:
        """Share of the last 3 s with |theta| < 0.2 rad; of the whole run when it was shorter; 0 without any."""
        seen = min(self.steps, len(self._upright))
        return sum(self._upright[:seen]) / seen if seen else 0.0
