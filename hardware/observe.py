"""From encoder counts to the base observation, in float32, operation by operation as `firmware/observe.c` does it.

Every step is one IEEE single-precision operation in a fixed order and the angle is reduced in integers, so Python and
C (compiled with `-ffp-contract=off`) agree to the bit; tests/hardware holds them to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .plants.cart_rail import CART_RAIL
from .plants.pendulum import Pendulum

BASE_OBSERVATION_SIZE = 5

_F = np.float32
# Taylor coefficients suffice on [-pi/4, pi/4]: the first omitted terms are below 3e-8, half a unit in the last place.
_S1, _S2, _S3, _S4 = _F(-1.0 / 6.0), _F(1.0 / 120.0), _F(-1.0 / 5040.0), _F(1.0 / 362880.0)
_C1, _C2, _C3, _C4 = _F(-0.5), _F(1.0 / 24.0), _F(-1.0 / 720.0), _F(1.0 / 40320.0)
_ONE = _F(1.0)


def rod_sin_cos(rod_count: int, counts_per_revolution: int) -> tuple[np.float32, np.float32]:
    """Sine and cosine of the rod angle (0 upright) from the encoder count (0 hanging).

    `counts_per_revolution` is divisible by 8. The count is reduced to the nearest quarter turn exactly, in integers; a
    polynomial in the remainder, |phi| <= pi/4, does the rest. Error below 1.2e-7.
    """
    quarter = counts_per_revolution // 4
    upright = (rod_count + 2 * quarter) % counts_per_revolution
    quadrant = (upright + quarter // 2) // quarter
    phi = _F(upright - quadrant * quarter) * _F(2.0 * np.pi / counts_per_revolution)
    square = phi * phi
    sine = phi + phi * (square * (_S1 + square * (_S2 + square * (_S3 + square * _S4))))
    cosine = _ONE + square * (_C1 + square * (_C2 + square * (_C3 + square * _C4)))
    match quadrant & 3:
        case 0:
            return sine, cosine
        case 1:
            return cosine, -sine
        case 2:
            return -sine, -cosine
        case _:
            return -cosine, sine


class Observer:
    """Keeps the previous counts and the filtered speeds between periods."""

    def __init__(self, constants: Pendulum = CART_RAIL) -> None:
        self._counts_per_revolution = constants.rod_counts_per_revolution
        self._axis_per_count = _F(1.0 / constants.axis_counts_per_unit)
        self._axis_speed_per_count = _F(1.0 / (constants.axis_counts_per_unit * constants.period_s))
        self._rod_speed_per_count = _F(2.0 * np.pi / (constants.rod_counts_per_revolution * constants.period_s))
        self._filter = _F(constants.velocity_filter)
        self.reset(0, 0)

    def reset(self, axis_count: int, rod_count: int) -> None:
        """Start at standstill at these counts."""
        self._axis_count = axis_count
        self._rod_count = rod_count
        self._axis_speed = _F(0.0)
        self._rod_speed = _F(0.0)

    def observe(self, axis_count: int, rod_count: int) -> NDArray[np.float32]:
        """Base observation (5,): axis position [m or rad] and speed, sine, cosine, rod speed [rad/s]."""
        axis_raw = _F(axis_count - self._axis_count) * self._axis_speed_per_count
        rod_raw = _F(rod_count - self._rod_count) * self._rod_speed_per_count
        self._axis_speed = self._axis_speed + self._filter * (axis_raw - self._axis_speed)
        self._rod_speed = self._rod_speed + self._filter * (rod_raw - self._rod_speed)
        self._axis_count = axis_count
        self._rod_count = rod_count
        sine, cosine = rod_sin_cos(rod_count, self._counts_per_revolution)
        position = _F(axis_count) * self._axis_per_count
        return np.array((position, self._axis_speed, sine, cosine, self._rod_speed), dtype=np.float32)
