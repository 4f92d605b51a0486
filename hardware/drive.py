"""What the drive will accept, in float32 as `firmware/drive.c` computes it.

`DriveLimit` is for drives that follow an acceleration: acceleration, speed and room to brake. They integrate it into a
velocity set-point v. One period of length T after latching acceleration a the set-point is v' = v + a T and the axis
has moved (v + v') T / 2. From there it must be able to stop at the brake acceleration B before the soft limit L:
x + (v + v') T / 2 + v'^2 / (2 B) <= L.  With h = T / 2 and room d = L - x - h v this gives
v' <= B (sqrt(h^2 + 2 d / B) - h),  and its mirror image to the left. Within the last period the set-point falls to zero
linearly and not at B, so the axis may pass L by at most B h^2 / 2 (cart: 0.75 mm, EDUKIT: 2.5 mrad).

`VoltageLimit` is for a motor at a voltage; the firmware has no twin of it.
"""

from __future__ import annotations

import numpy as np

from .plants.cart_rail import CART_RAIL
from .plants.pendulum import AcceleratedPendulum, VoltagePendulum

_F = np.float32
_ZERO = _F(0.0)


class DriveLimit:
    """Holds the velocity set-point and limits each acceleration before it is latched; lengths in the axis's unit."""

    def __init__(self, constants: AcceleratedPendulum = CART_RAIL) -> None:
        self._acceleration = _F(constants.acceleration_limit)
        self._speed = _F(constants.speed_limit)
        self._soft = _F(constants.axis_soft_limit)
        self._brake = _F(constants.brake_acceleration)
        self._two_over_brake = _F(2.0 / constants.brake_acceleration)
        self._period = _F(constants.period_s)
        self._per_period = _F(1.0 / constants.period_s)
        self._half = _F(0.5 * constants.period_s)
        self._half_square = _F((0.5 * constants.period_s) ** 2)
        self.velocity_setpoint = _ZERO

    def reset(self) -> None:
        """Start from standstill."""
        self.velocity_setpoint = _ZERO

    def _fastest(self, room: np.float32) -> np.float32:
        """Largest speed towards an end that is `room` away from which the axis still stops in time."""
        if room <= _ZERO:
            return _ZERO
        root: np.float32 = np.sqrt(self._half_square + room * self._two_over_brake)
        return self._brake * (root - self._half)

    def latch(self, action: np.float32, axis_position: np.float32) -> np.float32:
        """Limit one acceleration at the boundary where it takes effect, and advance the velocity set-point."""
        setpoint = self.velocity_setpoint
        acceleration = min(max(_F(action), -self._acceleration), self._acceleration)
        target = setpoint + acceleration * self._period
        target = min(max(target, -self._speed), self._speed)
        moved = self._half * setpoint
        target = min(target, self._fastest((self._soft - axis_position) - moved))
        target = max(target, -self._fastest((self._soft + axis_position) + moved))
        acceleration = (target - setpoint) * self._per_period
        acceleration = min(max(acceleration, -self._acceleration), self._acceleration)
        self.velocity_setpoint = setpoint + acceleration * self._period
        return acceleration


class VoltageLimit:
    """Clips the voltage, and beyond the soft limit lets only voltages through that drive back to the middle.

    What a voltage brakes with depends on the load, so there is no envelope here that guarantees room to stop: a policy
    must learn to stay away from the ends, and an episode ends where it does not.
    """

    def __init__(self, constants: VoltagePendulum) -> None:
        self._limit = _F(constants.voltage_limit_v)
        self._soft = _F(constants.axis_soft_limit)

    def reset(self) -> None:
        """Nothing is remembered from period to period."""

    def latch(self, action: np.float32, axis_position: np.float32) -> np.float32:
        """Limit one voltage at the boundary where it takes effect."""
        voltage = min(max(_F(action), -self._limit), self._limit)
        if axis_position > self._soft:
            return min(voltage, _ZERO)
        if axis_position < -self._soft:
            return max(voltage, _ZERO)
        return voltage
