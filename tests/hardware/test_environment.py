"""hardware:CartRail-v0: Gymnasium's checker, timing of the action, limits, randomisation, repeatability."""

import math
import os
import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.drive import DriveLimit
from hardware.environment import CartRailEnvironment, wrap_angle
from hardware.errors import HardwareError
from hardware.observe import Observer, rod_sin_cos
from hardware.plants.cart_rail import CART_RAIL, CartRailParameters, CartRailPlant


@pytest.mark.parametrize("randomise", [False, True])
def test_passes_gymnasiums_checker(randomise: bool) -> None:
    environment = gymnasium.make("hardware:CartRail-v0", randomise=randomise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # physical units on purpose: the advice to use [-1, 1] does not apply to a device's interface
        warnings.filterwarnings("ignore", message=".*normalized space.*")
        check_env(environment.unwrapped, skip_render_check=True)
    assert environment.observation_space.shape == (25,)
    assert environment.spec is not None
    assert environment.spec.max_episode_steps == 500


def test_action_takes_effect_one_period_later() -> None:
    environment = CartRailEnvironment(start="rest")
    environment.reset(seed=0)
    push, still = np.float32([10.0]), np.float32([0.0])
    environment.step(push)
    assert abs(environment.plant.cart_speed_m_s) < 1e-9, "the first period still runs under the action before it"
    environment.step(still)
    moved = environment.plant.cart_speed_m_s
    assert moved == pytest.approx(10.0 * CART_RAIL.period_s, rel=0.4)  # the drive lags by 5 ms
    environment.step(still)
    assert environment.plant.cart_speed_m_s == pytest.approx(10.0 * CART_RAIL.period_s, rel=0.1)


def test_history_is_oldest_first_and_filled_at_reset() -> None:
    environment = CartRailEnvironment(start="rest")
    first, _ = environment.reset(seed=0)
    assert np.array_equal(first, np.tile(first[:5], 5))
    second, *_ = environment.step(np.float32([5.0]))
    third, *_ = environment.step(np.float32([5.0]))
    fourth, *_ = environment.step(np.float32([5.0]))
    assert np.array_equal(fourth[:20], third[5:])
    assert fourth[20] > third[20] >= second[20]


def test_same_seed_same_bits_and_other_seed_other_start() -> None:
    def run(seed: int) -> np.ndarray:
        environment = CartRailEnvironment(randomise=True, start="random")
        rows = [environment.reset(seed=seed)[0]]
        for step in range(50):
            rows.append(environment.step(np.float32([15.0 * math.sin(step / 5)]))[0])
        return np.stack(rows)

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["constant", "random", "bang"]))
def test_no_policy_drives_the_cart_off_the_rail(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    environment = CartRailEnvironment(randomise=True)
    environment.reset(seed=seed)
    sign = 20.0 if generator.random() < 0.5 else -20.0
    for step in range(150):
        if kind == "random":
            sign = float(generator.uniform(-100, 100))
        elif kind == "bang" and step % int(generator.integers(5, 40)) == 0:
            sign = -sign
        environment.step(np.float32([sign]))
        assert abs(environment.plant.cart_position_m) < CART_RAIL.rail_limit_m


def test_drive_limit_keeps_acceleration_speed_and_room_to_brake() -> None:
    drive = DriveLimit()
    generator = np.random.default_rng(0)
    position = np.float32(0.0)
    for _ in range(5_000):
        before = drive.velocity_setpoint
        applied = drive.latch(np.float32(generator.uniform(-60, 60)), position)
        after = drive.velocity_setpoint
        assert abs(applied) <= CART_RAIL.acceleration_limit_m_s2
        assert abs(after) <= CART_RAIL.speed_limit_m_s * 1.000001
        position = np.float32(position + 0.5 * (before + after) * CART_RAIL.period_s)
        stopping = float(after) ** 2 / (2 * CART_RAIL.brake_acceleration_m_s2)
        overshoot = CART_RAIL.brake_acceleration_m_s2 * (CART_RAIL.period_s / 2) ** 2 / 2
        reach = abs(float(position)) + (stopping if after * position > 0 else 0.0)
        assert reach <= CART_RAIL.rail_soft_limit_m + overshoot + 1e-6


@pytest.mark.parametrize("action", [np.array([np.nan]), np.array([np.inf]), np.zeros(2)])
def test_bad_actions_are_refused(action: np.ndarray) -> None:
    environment = CartRailEnvironment()
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="expected one finite cart acceleration"):
        environment.step(action)


def test_sine_and_cosine_of_every_count() -> None:
    counts = np.arange(-9_000, 9_000, 7)
    angles = (counts / CART_RAIL.rod_counts_per_revolution + 0.5) * 2 * np.pi
    pairs = np.array([rod_sin_cos(int(count), CART_RAIL.rod_counts_per_revolution) for count in counts])
    assert np.abs(pairs[:, 0] - np.sin(angles)).max() < 1.2e-7
    assert np.abs(pairs[:, 1] - np.cos(angles)).max() < 1.2e-7


def test_filtered_speed_follows_the_true_speed() -> None:
    observer = Observer()
    observer.reset(0, 0)
    for step in range(1, 30):
        frame = observer.observe(step * 200, -step * 30)
    assert frame[1] == pytest.approx(200 / CART_RAIL.cart_counts_per_metre / CART_RAIL.period_s, rel=1e-5)
    assert frame[4] == pytest.approx(-30 / 4096 * 2 * np.pi / CART_RAIL.period_s, rel=1e-5)


def test_rod_falls_with_the_pendulums_period_and_energy_decays() -> None:
    plant = CartRailPlant()
    plant.reset(rod_angle_rad=math.pi - 0.1)
    crossings = []
    before = plant.rod_angle_rad
    for step in range(400):
        plant.step(0.0)
        if (before - math.pi) * (plant.rod_angle_rad - math.pi) < 0:
            crossings.append(step)
        before = plant.rod_angle_rad
    inertia = 0.0024 + 0.5 * 0.12**2
    expected = 2 * math.pi * math.sqrt(inertia / (0.5 * 9.81 * 0.12))
    measured = 2 * np.diff(crossings).mean() * CART_RAIL.period_s
    assert measured == pytest.approx(expected, rel=0.03)
    assert abs(before - math.pi) < 0.1


def test_disabled_drive_coasts_and_comes_back_at_standstill() -> None:
    plant = CartRailPlant()
    for _ in range(10):
        plant.step(5.0)
    speed = plant.cart_speed_m_s
    plant.step(0.0, enable=False)
    assert 0.0 < plant.cart_speed_m_s < speed, "friction alone slows a disabled drive"
    for _ in range(100):
        plant.step(0.0, enable=False)
    assert abs(plant.cart_speed_m_s) < 0.05
    assert float(plant.data.act[0]) == 0.0


def test_parameters_change_the_plant_and_nominal_restores_it() -> None:
    plant = CartRailPlant()
    nominal = plant.model.body_mass.copy()
    plant.set_parameters(CartRailParameters(rod_mass_factor=1.2, rod_length_factor=0.8, rod_homing_error_counts=2))
    plant.reset()
    assert plant.rod_count == 2
    assert plant.model.body_mass[2] == pytest.approx(1.2 * nominal[2])
    plant.set_parameters(CartRailParameters())
    assert np.array_equal(plant.model.body_mass, nominal)


@pytest.mark.parametrize("options", [{"render_mode": "human"}, {"history": 0}, {"start": "up"}])
def test_unknown_options_list_the_valid_ones(options: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        CartRailEnvironment(**options)


def test_angles_wrap() -> None:
    assert wrap_angle(3 * math.pi) == pytest.approx(-math.pi)
    assert wrap_angle(0.5) == pytest.approx(0.5)


def test_renders_a_picture() -> None:
    environment = CartRailEnvironment(render_mode="rgb_array", start="rest")
    environment.reset(seed=0)
    try:
        picture = environment.render()
    except HardwareError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no EGL here: {error}")
    assert picture is not None
    assert picture.shape == (480, 1280, 3)
    assert picture.std() > 10, "an empty picture"
    environment.close()


def test_an_extra_delay_moves_the_motion_by_whole_periods() -> None:
    """The same actions, two periods later: the cart's positions are the same ones, two periods later."""
    actions = np.random.default_rng(0).uniform(-5.0, 5.0, 12).astype(np.float32)
    positions = {}
    for delay in (0, 2):
        environment = CartRailEnvironment(start="rest", extra_delay_periods=delay)
        environment.reset(seed=0)
        moved = [environment.step(np.array([action]))[4]["cart_position_m"] for action in (*actions, 0.0, 0.0)]
        positions[delay] = np.array(moved)
    assert np.abs(positions[0]).max() > 1e-3
    np.testing.assert_allclose(positions[2][2:], positions[0][:-2], rtol=1e-9, atol=1e-12)


def test_a_random_plant_draws_its_delay_and_no_delay_changes_no_draw() -> None:
    delays, masses = set(), []
    for limit in (0, 2):
        environment = CartRailEnvironment(randomise=True, extra_delay_periods=limit)
        environment.reset(seed=0)
        masses.append(environment.plant.parameters.rod_mass_factor)
    for _ in range(40):
        environment.reset()
        delays.add(len(environment._waiting) - 1)
    assert masses[0] == masses[1]
    assert delays == {0, 1, 2}


def test_parameters_hold_in_every_episode_and_bad_ones_are_refused() -> None:
    environment = CartRailEnvironment(parameters={"rod_length_factor": 0.8, "rod_homing_error_counts": 2})
    for seed in (0, 1):
        environment.reset(seed=seed)
        assert environment.plant.parameters == CartRailParameters(rod_length_factor=0.8, rod_homing_error_counts=2)
    for options, message in (
        ({"parameters": {"colour": 1.0}}, "got 'colour', expected some of rod_mass_factor"),
        ({"parameters": {"rod_mass_factor": -1.0}}, "rod_mass_factor = -1.0, expected a positive number"),
        ({"parameters": {"rod_mass_factor": "1"}}, "rod_mass_factor = '1', expected a positive number"),
        ({"parameters": {"rod_homing_error_counts": 1.5}}, "= 1.5, expected a whole number"),
        ({"parameters": {}, "randomise": True}, "whose parameters are random"),
        ({"extra_delay_periods": 11}, "extra_delay_periods: got 11, expected 0 to 10"),
        ({"extra_delay_periods": 0.5}, "extra_delay_periods: got 0.5"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            CartRailEnvironment(**options)
