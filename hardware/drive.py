"""What the drive will accept: acceleration, speed and room to brake, in float32 as `firmware/drive.c` computes it.

The drive integrates accelerations into a velocity set-point v. One period of length T after latching acceleration a
the set-point is v' = v + a T and the cart has moved (v + v') T / 2. From there it must be able to stop at the brake
acceleration B before the soft limit L:  x + (v + v') T / 2 + v'^2 / (2 B) <= L.  With h = T / 2 and room
d = L - x - h v this gives  v' <= B (sqrt(h^2 + 2 d / B) - h),  and its mirror image to the left. Within the last
period the set-point falls to zero linearly and not at B, so the cart may pass L by at most B h^2 / 2 = 0.75 mm.
"""

from __future__ import annotations

import numpy as np

from .plants.cart_rail import CART_RAIL, CartRail

_F = np.float32
_ZERO = _F(0.0)


class DriveLimit:
    """Holds the velocity set-point and limits each acceleration before it is latched."""

    def __init__(self, constants: CartRail = CART_RAIL) -> None:
        self._acceleration = _F(constants.acceleration_limit_m_s2)
        self._speed = _F(constants.speed_limit_m_s)
        self._soft = _F(constants.rail_soft_limit_m)
        self._brake = _F(constants.brake_acceleration_m_s2)
        self._two_over_brake = _F(2.0 / constants.brake_acceleration_m_s2)
        self._period = _F(constants.period_s)
        self._per_period = _F(1.0 / constants.period_s)
        self._half = _F(0.5 * constants.period_s)
        self._half_square = _F((0.5 * constants.period_s) ** 2)
        self.velocity_setpoint_m_s = _ZERO

    def reset(self, velocity_setpoint_m_s: float = 0.0) -> None:
        """Start from this velocity set-point."""
        self.velocity_setpoint_m_s = _F(velocity_setpoint_m_s)

    def _fastest(self, room: np.float32) -> np.float32:
        """Largest speed towards an end that is `room` metres away from which the cart still stops in time."""
        if room <= _ZERO:
            return _ZERO
        root: np.float32 = np.sqrt(self._half_square + room * self._two_over_brake)
        return self._brake * (root - self._half)

    def latch(self, acceleration_m_s2: np.float32, cart_position_m: np.float32) -> np.float32:
        """Limit one acceleration at the boundary where it takes effect, and advance the velocity set-point."""
        setpoint = self.velocity_setpoint_m_s
        acceleration = min(max(_F(acceleration_m_s2), -self._acceleration), self._acceleration)
        target = setpoint + acceleration * self._period
        target = min(max(target, -self._speed), self._speed)
        moved = self._half * setpoint
        target = min(target, self._fastest((self._soft - cart_position_m) - moved))
        target = max(target, -self._fastest((self._soft + cart_position_m) + moved))
        acceleration = (target - setpoint) * self._per_period
        acceleration = min(max(acceleration, -self._acceleration), self._acceleration)
        self.velocity_setpoint_m_s = setpoint + acceleration * self._period
        return acceleration
