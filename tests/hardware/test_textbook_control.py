"""The rotary tasks can be solved: a linear regulator holds the rod, pumping energy swings it up.

Both see what a policy sees: counted angles, filtered speeds, one period of delay, limited actions.
"""

import math
from functools import partial

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from hardware.environment import EdukitEnvironment, PendulumEnvironment, QubeEnvironment

# Largest push, and what pulls the arm back: action for each radian of position, and for each radian a second.
EDUKIT_PUMP = (20.0, 5.0, 5.0)
QUBE_PUMP = (3.0, 4.0, 0.1)
# How to make it, what the regulator may spend, rate [1/s] of the falling rod, pump.
CASES = {
    "edukit": (EdukitEnvironment, 1e-2, 1 / 0.161, EDUKIT_PUMP),
    "servo2": (partial(QubeEnvironment, device="servo2"), 1e-2, 1 / 0.094, QUBE_PUMP),
    "servo3": (partial(QubeEnvironment, device="servo3"), 1e-2, 1 / 0.094, QUBE_PUMP),
    "identified": (partial(QubeEnvironment, device="identified"), 1e-2, 1 / 0.092, QUBE_PUMP),
}


def regulator(environment: PendulumEnvironment, effort: float) -> np.ndarray:
    """Gains (5,) for axis, rod, their speeds and the action that is still to take effect."""
    plant = environment.plant

    def advance(state, action):
        plant.reset(*state)
        plant.step(action)
        return np.array([plant.axis_position, plant.rod_angle_rad, plant.axis_speed, plant.rod_speed_rad_s])

    # Steps beyond the friction of the axis and the amplifier's dead band, small against a radian.
    steps, push = np.diag([0.05, 0.05, 1.0, 1.0]), 2.0
    a = np.stack([(advance(row, 0.0) - advance(-row, 0.0)) / (2 * row.max()) for row in steps], 1)
    b = (advance(np.zeros(4), push) - advance(np.zeros(4), -push)) / (2 * push)
    a = np.block([[a, b[:, None]], [np.zeros((1, 5))]])  # one period of delay
    b = np.eye(5)[:, 4:]
    cost = solve_discrete_are(a, b, np.diag([1.0, 8.0, 0.01, 0.02, 1e-9]), np.array([[effort]]))
    return np.linalg.solve(effort + b.T @ cost @ b, b.T @ cost @ a)[0]


@pytest.mark.parametrize("name", CASES)
def test_a_linear_regulator_holds_the_rod(name) -> None:
    make, effort, _, _ = CASES[name]
    environment = make(near_upright_share=1.0)
    gains = regulator(environment, effort)
    limit = environment.constants.action_limit
    tried = 0
    for seed in range(50):
        observation, info = environment.reset(seed=seed)
        if abs(info["rod_angle_rad"]) > 0.1:  # a linear regulator's reach is smaller than a policy's
            continue
        tried, held, action = tried + 1, 0, 0.0
        for _ in range(round(10.0 / environment.constants.period_s)):
            position, speed, sine, cosine, rod_speed = observation[-5:]
            state = np.array([position, math.atan2(sine, cosine), speed, rod_speed, action])
            action = float(np.clip(-gains @ state, -limit, limit))
            observation, _, terminated, _, info = environment.step(np.float32([action]))
            assert not terminated
            held = held + 1 if info["upright"] else 0
        assert held * environment.constants.period_s > 9.0
    assert tried > 5


@pytest.mark.parametrize("name", CASES)
def test_pumping_energy_swings_the_rod_up(name) -> None:
    make, _, rate, (push, stiffness, damping) = CASES[name]
    environment = make(start="rest")
    observation, _ = environment.reset(seed=0)
    highest = -1.0
    for _ in range(round(10.0 / environment.constants.period_s)):
        position, speed, _, cosine, rod_speed = observation[-5:]
        missing = 1.0 - cosine - 0.5 * (rod_speed / rate) ** 2  # energy over m g l
        pump = -math.copysign(push, rod_speed * cosine) * max(-1.0, min(1.0, 2.0 * missing))
        action = pump - stiffness * position - damping * speed
        observation, _, terminated, _, info = environment.step(np.float32([action]))
        assert not terminated
        highest = max(highest, math.cos(info["rod_angle_rad"]))
        if highest > 0.9:
            return
    pytest.fail(f"the rod got no higher than {highest:.2f}")
