"""The task of every plant: swing the rod up and hold it. Where episodes start, and what a period is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .plants.pendulum import Pendulum

STARTS = ("rest", "random", "mixed")
FAILURE_REWARD = -10.0  # once, when the axis leaves its travel or the rod spins too fast

State = tuple[float, float, float, float]  # axis position, rod angle, axis speed, rod speed


def wrap_angle(angle_rad: float) -> float:
    """Map an angle to [-pi, pi)."""
    return (angle_rad + math.pi) % (2.0 * math.pi) - math.pi


@dataclass(frozen=True, kw_only=True)
class Task:
    """Scales of one plant; lengths in the axis's unit."""

    near_axis: float
    """Distance from the middle at which the bonus for standing there has fallen to 1/e."""
    near_rod_speed_rad_s: float
    """Rod speed at which it has."""
    start_upright_axis: float
    """Largest position of a start near upright."""
    start_random_axis: float
    """Largest position of a random start."""
    start_random_rod_speed_rad_s: float
    """Largest rod speed of a random start."""
    frame_bound: tuple[float, float, float, float, float]
    """Generous physical bounds of one frame; measured values stay inside until the episode has ended."""
    observation_scale: tuple[float, float, float, float, float]
    """Typical sizes of the base observation: what training divides it by."""

    def initial_state(self, generator: np.random.Generator, start: str, near_upright_share: float) -> State:
        """Draw a start. The axis starts at standstill, as every drive does."""
        if generator.random() < near_upright_share:
            reach = self.start_upright_axis
            return float(generator.uniform(-reach, reach)), float(generator.uniform(-0.3, 0.3)), 0.0, 0.0
        rest = start == "rest" or (start == "mixed" and generator.random() < 0.5)
        if rest:
            return 0.0, math.pi, 0.0, 0.0
        position = float(generator.uniform(-self.start_random_axis, self.start_random_axis))
        angle = float(generator.uniform(-math.pi, math.pi))
        speed = self.start_random_rod_speed_rad_s
        return position, angle, 0.0, float(generator.uniform(-speed, speed))

    def reward(self, constants: Pendulum, position: float, angle_rad: float, rod_speed: float, change: float) -> float:
        """One period: high, near the standing state, away from the ends, with a calm action.

        `change` is the change of the action as a share of full scale.
        """
        reward = 0.25 * (1.0 + math.cos(angle_rad))
        away = (angle_rad / 0.3) ** 2, (rod_speed / self.near_rod_speed_rad_s) ** 2, (position / self.near_axis) ** 2
        reward += 0.5 * math.exp(-away[0] - away[1] - away[2])
        reward -= 0.1 * (position / constants.axis_limit) ** 2 + 0.08 * change**2
        return reward


CART_RAIL_TASK = Task(
    near_axis=0.4,
    near_rod_speed_rad_s=6.0,
    start_upright_axis=0.3,
    start_random_axis=0.5,
    start_random_rod_speed_rad_s=8.0,
    frame_bound=(1.0, 20.0, 1.01, 1.01, 150.0),
    observation_scale=(0.5, 2.0, 1.0, 1.0, 8.0),
)
EDUKIT_TASK = Task(
    near_axis=0.8,
    near_rod_speed_rad_s=5.0,
    start_upright_axis=0.6,
    start_random_axis=1.2,
    start_random_rod_speed_rad_s=6.0,
    frame_bound=(4.0, 60.0, 1.01, 1.01, 150.0),
    observation_scale=(1.0, 6.0, 1.0, 1.0, 6.0),
)
QUBE_TASK = Task(
    near_axis=0.6,
    near_rod_speed_rad_s=8.0,
    start_upright_axis=0.4,
    start_random_axis=0.8,
    start_random_rod_speed_rad_s=10.0,
    frame_bound=(4.0, 400.0, 1.01, 1.01, 400.0),
    observation_scale=(1.0, 10.0, 1.0, 1.0, 12.0),
)
