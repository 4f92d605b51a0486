"""ST STEVAL-EDUKIT01: a rod on an arm that a stepper turns, with the constants of its controller.

Mechanical numbers (edukit.xml): rod of 12.6 g, taken as a point 0.253 m from its pivot, arm 0.151 m, damping 1e-4 (arm)
and 3e-5 N m s/rad (rod), as published by users of the kit. The stepper saturates at 64.34 rad/s^2 and 19.63 rad/s. The
rod's encoder has 600 lines, 2400 counts a turn: no power of two. The arm has no encoder; its angle is the count of
microsteps that the driver made (1.8 degrees / 16, 3200 a turn). The simulation counts the arm's true angle: a stepper
that loses steps is not modelled.

Our choices, stated: brake acceleration 50 rad/s^2; travel +-2.0 rad (soft) and +-2.2 rad, because the rod's encoder
cable winds itself round the shaft; rod speed 30 rad/s, twice and a half what a fall from upright gives; and the control
period of 20 ms. The stock firmware runs a cascade of PIDs at 500 Hz. A policy that sees five frames needs no such rate:
upright the rod falls with sqrt(l / g) = 160 ms, eight periods (the cart: 128 ms, six periods), one count of the rod a
period is 0.13 rad/s at 20 ms but 1.3 rad/s at 2 ms, and the wire and the small chips keep the budget they have with
the cart. The arm's inertia and the detent torque of the stepper when it is off are assumptions.
"""

from __future__ import annotations

import math

from .pendulum import AcceleratedPendulum
from .simulation import PendulumPlant

EDUKIT = AcceleratedPendulum(
    name="edukit",
    environment="hardware:Edukit-v0",
    title="the ST STEVAL-EDUKIT01 rotary pendulum",
    axis_unit="rad",
    observation_names=(
        "arm angle [rad]",
        "arm speed [rad/s]",
        "sin of rod angle",
        "cos of rod angle",
        "rod speed [rad/s]",
    ),
    action_name="arm acceleration [rad/s^2]",
    period_us=20_000,
    axis_counts_per_unit=3_200 / (2.0 * math.pi),
    rod_counts_per_revolution=2_400,
    acceleration_limit=64.34,
    brake_acceleration=50.0,
    speed_limit=19.63,
    rest_speed=0.2,  # two microsteps a period: one is 0.098 rad/s
    axis_soft_limit=2.0,
    axis_limit=2.2,
    rod_speed_limit_rad_s=30.0,
    # What encoders may say while the drive is on, derived as for the cart (cart_rail.py) with rods from 0.8 to 1.2
    # times 0.253 m. The arm's angle is the count of steps that were made: 64.34 rad/s^2 change its speed by 1.29 rad/s.
    axis_jump=4.0,
    # g / l = 48 rad/s^2, the arm's 0.151 m x 64.34 rad/s^2 / l = 48, its turning 19.63^2 / 2 = 193: in 20 ms 5.8 rad/s.
    rod_jump_rad_s=9.0,
    # Half a period's way from 1.29 rad/s to standstill is 0.013 rad.
    axis_frozen=0.06,
    axis_dead_speed=0.1,  # a microstep a period
    # Twice 1.29 rad/s may be undone by gravity.
    rod_frozen=4.0,
    rod_dead_change=0.2,  # turns the shortest rod by half a count in a period
)


class EdukitPlant(PendulumPlant):
    """MuJoCo simulation of stepper, arm, rod and encoder (edukit.xml); the arm's angle in radians."""

    def __init__(self, constants: AcceleratedPendulum = EDUKIT) -> None:
        super().__init__(constants)
