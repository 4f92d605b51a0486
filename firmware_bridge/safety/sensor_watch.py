"""What an observation cannot say while the drive is on: the host's own copy of the device's checks.

The device checks its encoder counts before it drives (`hardware/firmware/counts.c`, `safety_period.c`) and stops by
itself. The host computes the same from what it receives, with the same bounds from the plant's file, so that firmware
of somebody else, or a check that was lost there, still ends in a stop. It checks what is ARMED only, after the answer
has left: the DISARM that follows still arrives in the same period, before that answer is latched.

The counts come back exactly: the position is count / counts_per_unit, the angle a multiple of 1 / counts_per_revolution
turn, both far above float32's rounding. The velocity set-point is the sum of the applied accelerations since ARM, where
the drive starts from standstill. An OBSERVATION that was lost took its acceleration with it: the set-point is then only
known to lie between two bounds, which come together again as far as the encoder, while it counts, tells the speed; the
check takes the speed that accuses least. It finds a frozen axis later then, never wrongly.
"""

import math

from firmware_bridge.errors import SensorError
from hardware.plant_header import FIRMWARE_PLANTS
from hardware.plants.pendulum import AcceleratedPendulum
from hardware.protocol import Observation

_CIRCLE_TOLERANCE = 1e-3  # of sin^2 + cos^2; float32 gives 1e-6


def plant_constants(environment: str) -> AcceleratedPendulum | None:
    """The plant that a policy of `environment` drives; None for one whose numbers are not known here."""
    return next((plant for plant in FIRMWARE_PLANTS if plant.environment == environment), None)


class _Encoder:
    """One encoder's count from period to period; None where it is not known."""

    def __init__(self, jump_counts: int, modulus: int) -> None:
        self.difference: int | None = None
        self.jumped = False
        self.unseen = 0.0
        self._count: int | None = None
        self._jump_counts = jump_counts
        self._modulus = modulus

    def follow(self, count: int) -> None:
        """Take the next period's count."""
        earlier, before = self.difference, self._count
        self._count = count
        self.difference = None if before is None else self._wrapped(count - before)
        self.jumped = False
        if earlier is not None and self.difference is not None:
            self.jumped = abs(self._wrapped(self.difference - earlier)) > self._jump_counts

    def forget(self) -> None:
        """Periods are missing: start again with the next count."""
        self._count = self.difference = None
        self.unseen = 0.0

    def _wrapped(self, counts: int) -> int:
        half = self._modulus // 2
        return (counts + half) % self._modulus - half if self._modulus else counts


class SensorWatch:
    """Checks the ARMED observations of one arming, in order. `plant` None: only what holds for every plant."""

    def __init__(self, plant: AcceleratedPendulum | None) -> None:
        self._plant = plant
        self._last_tick: int | None = None
        self._low = self._high = 0.0  # bounds of the set-point at the end of the last period, [unit/s]
        self._earlier_low = self._earlier_high = 0.0
        self._change = 0.0  # of the set-point in the last period; the smallest it can have been
        if plant is not None:
            axis_jump = round(plant.axis_jump * plant.period_s * plant.axis_counts_per_unit)
            turn = plant.rod_counts_per_revolution
            self._axis = _Encoder(axis_jump, 0)
            self._rod = _Encoder(round(plant.rod_jump_rad_s * plant.period_s * turn / math.tau), turn)

    def check(self, observation: Observation) -> None:
        """Raise SensorError for an observation that cannot be true, or that no run may go on with."""
        position, speed, sine, cosine, rod_speed = observation.current
        if not math.isfinite(position + speed + sine + cosine + rod_speed + observation.applied_action):
            raise _error(observation, f"it holds a number that is not finite: {observation.current}")
        if abs(sine * sine + cosine * cosine - 1.0) > _CIRCLE_TOLERANCE:
            raise _error(observation, f"sine {sine:g} and cosine {cosine:g} belong to no angle")
        plant = self._plant
        if plant is None:
            return
        if abs(position) > plant.axis_limit:
            raise _error(observation, f"the axis is at {position:g} {plant.axis_unit}, beyond +-{plant.axis_limit:g}")
        if abs(rod_speed) > plant.rod_speed_limit_rad_s:
            raise _error(observation, f"the rod turns at {rod_speed:g} rad/s, beyond +-{plant.rod_speed_limit_rad_s:g}")
        self._follow(observation, plant)

    def _follow(self, observation: Observation, plant: AcceleratedPendulum) -> None:
        last, self._last_tick = self._last_tick, observation.tick
        ahead = 1 if last is None else (observation.tick - last) & 0xFFFF_FFFF
        if ahead == 0:
            return
        if ahead > 2:
            self._axis.forget()
            self._rod.forget()
            self._advance(-plant.acceleration_limit, plant.acceleration_limit, plant, ahead - 2)
        if last is None or ahead > 1:
            self._step(observation, observation.previous, plant)
        if ahead > 1:
            self._advance(-plant.acceleration_limit, plant.acceleration_limit, plant)
        self._step(observation, observation.current, plant)
        self._advance(observation.applied_action, observation.applied_action, plant)

    def _advance(self, low: float, high: float, plant: AcceleratedPendulum, periods: int = 1) -> None:
        """The set-point after `periods` with an acceleration between two bounds."""
        seconds = plant.period_s * periods
        self._earlier_low, self._earlier_high = self._low, self._high
        self._low = max(self._low + low * seconds, -plant.speed_limit)
        self._high = min(self._high + high * seconds, plant.speed_limit)
        self._change = _least(low, high) * seconds

    def _step(self, observation: Observation, frame: tuple[float, ...], plant: AcceleratedPendulum) -> None:
        axis, rod = self._axis, self._rod
        turn = plant.rod_counts_per_revolution
        axis.follow(round(frame[0] * plant.axis_counts_per_unit))
        rod.follow(round(math.atan2(frame[2], frame[3]) * turn / math.tau) % turn)
        speed = _least(0.5 * (self._earlier_low + self._low), 0.5 * (self._earlier_high + self._high))
        if axis.difference and self._low < self._high:
            # What drive and axis can be apart: the bound of a jump has it, with a margin.
            seen = axis.difference / (plant.axis_counts_per_unit * plant.period_s)
            low, high = max(self._low, seen - plant.axis_jump), min(self._high, seen + plant.axis_jump)
            if low <= high:
                self._low, self._high = low, high
        if axis.difference != 0:
            axis.unseen = 0.0
        elif abs(speed) > plant.axis_dead_speed:
            axis.unseen += speed * plant.period_s  # with its sign: an axis that is shaken comes back to the same count
        if rod.difference != 0:
            rod.unseen = 0.0
        elif abs(self._change) > plant.rod_dead_change:
            rod.unseen += abs(self._change)
        for name, encoder, frozen in (("axis", axis, plant.axis_frozen), ("rod", rod, plant.rod_frozen)):
            if abs(encoder.unseen) > frozen or (encoder.jumped and encoder.difference == 0):
                raise _error(observation, f"the encoder of the {name} stands still while the motor moves")
            if encoder.jumped:
                raise _error(observation, f"the encoder of the {name} jumped by {encoder.difference} counts")


def _least(low: float, high: float) -> float:
    """The number between the bounds that is nearest to zero."""
    return max(low, 0.0) if low > 0.0 else min(high, 0.0)


def _error(observation: Observation, what: str) -> SensorError:
    return SensorError(
        f"observation {observation.tick} cannot be true: {what}; the cart was stopped; look at encoders, couplings and "
        "cables, and at the log around this tick"
    )
