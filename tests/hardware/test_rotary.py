"""The rotary plants: what mechanics says of them, limits, delay, and the environments on top."""

import math
import os
import warnings

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.drive import DriveLimit, VoltageLimit
from hardware.environment import EdukitEnvironment, QubeEnvironment
from hardware.errors import HardwareError
from hardware.plants.by_name import plant_named
from hardware.plants.cart_rail import CartRailPlant
from hardware.plants.edukit import EDUKIT, EdukitPlant
from hardware.plants.parameters import PlantParameters
from hardware.plants.qube import AMPLIFIER_DEAD_BAND_V, MODELS, QUBE, QubePlant

GRAVITY = 9.81


def inertia_matrix(plant) -> np.ndarray:
    """Inertia (2, 2) of arm and rod where the plant stands, from what MuJoCo accelerates a torque with."""
    inverse = np.zeros((2, 2))
    mujoco.mj_solveM(plant.model, plant.data, inverse, np.eye(2))
    return np.linalg.inv(inverse)


def held(plant):
    """The plant with an arm that no motion of the rod can turn."""
    plant.model.dof_armature[0] = 1e3
    mujoco.mj_setConst(plant.model, plant.data)
    return plant


def falling_time_s(plant) -> float:
    """Time in which a small angle from upright grows by e, once only the growing part is left."""
    plant.reset(rod_angle_rad=1e-5)
    angles = []
    mass, centre, inertia = rod_of(plant)
    for _ in range(round(7.0 * math.sqrt(inertia / (mass * GRAVITY * centre)) / plant.constants.period_s)):
        plant.step(0.0)
        angles.append(plant.rod_angle_rad)
    growth = np.diff(np.log(angles))[-5:].mean()
    return plant.constants.period_s / growth


def swinging_time_s(plant) -> float:
    """Period of small swings about hanging."""
    plant.reset(rod_angle_rad=math.pi - 0.05)
    period = plant.constants.period_s
    crossings, before = [], -0.05
    for step in range(round(8.0 / period)):
        plant.step(0.0)
        now = plant.rod_angle_rad - math.pi
        if before * now < 0.0:
            crossings.append((step - now / (now - before)) * period)
        before = now
    return 2.0 * float(np.diff(crossings).mean())


def rod_of(plant) -> tuple[float, float, float]:
    """Analytic mass [kg], distance of its centre [m] and inertia about the pivot [kg m^2]."""
    if isinstance(plant, EdukitPlant):
        return 0.0126, 0.253, 0.0126 * 0.253**2
    model = plant.device
    centre = model.rod_length_m / 2.0
    return model.rod_mass_kg, centre, model.rod_inertia_kg_m2 + model.rod_mass_kg * centre**2


ROTARY = [EdukitPlant, *(lambda name=name: QubePlant(name) for name in MODELS)]
NAMES = ["edukit", *MODELS]


@pytest.mark.parametrize("make", ROTARY, ids=NAMES)
def test_rod_falls_and_swings_as_mechanics_says(make) -> None:
    mass, centre, inertia = rod_of(make())
    slow = math.sqrt(inertia / (mass * GRAVITY * centre))
    assert falling_time_s(held(make())) == pytest.approx(slow, rel=0.004)  # damping makes it 0.3 % slower
    assert swinging_time_s(held(make())) == pytest.approx(2.0 * math.pi * slow, rel=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_falling_times_are_the_published_ones(name) -> None:
    make = ROTARY[NAMES.index(name)]
    seconds = {"edukit": 0.161, "servo2": 0.094, "servo3": 0.094, "identified": 0.092}[name]
    assert falling_time_s(held(make())) == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize("make", ROTARY, ids=NAMES)
def test_inertia_about_the_pivot_and_the_coupling(make) -> None:
    plant = make()
    mass, centre, inertia = rod_of(plant)
    arm = 0.151 if isinstance(plant, EdukitPlant) else plant.device.arm_length_m
    arm_inertia = 3e-4 if isinstance(plant, EdukitPlant) else plant.device.arm_inertia_kg_m2
    for angle, coupling in ((0.0, mass * arm * centre), (math.pi, -mass * arm * centre), (math.pi / 2, 0.0)):
        plant.reset(rod_angle_rad=angle)
        matrix = inertia_matrix(plant)
        assert matrix[1, 1] == pytest.approx(inertia, rel=1e-4)
        assert matrix[0, 1] == pytest.approx(coupling, rel=1e-4, abs=1e-9)
        lying = inertia * math.sin(angle) ** 2  # a lying rod turns with the arm
        assert matrix[0, 0] == pytest.approx(arm_inertia + mass * arm**2 + lying, rel=1e-3)


def test_a_uniform_rod_is_a_third_about_its_end_and_a_twelfth_about_its_centre() -> None:
    for name in ("servo2", "servo3"):
        plant = QubePlant(name)
        assert plant.device.rod_inertia_kg_m2 == pytest.approx(0.024 * 0.129**2 / 12.0)
        assert inertia_matrix(plant)[1, 1] == pytest.approx(0.024 * 0.129**2 / 3.0, rel=1e-6)


@pytest.mark.parametrize("make", [EdukitPlant, CartRailPlant], ids=["edukit", "cart_rail"])
def test_a_push_leaves_the_rod_behind(make) -> None:
    plant = make()
    plant.reset(rod_angle_rad=0.0)
    plant.step(10.0)
    assert plant.axis_position > 0.0
    assert plant.rod_angle_rad < 0.0, "upright, the rod leans back"
    plant.reset()
    plant.step(10.0)
    assert math.sin(plant.rod_angle_rad) < 0.0, "hanging, its tip lags behind"


def test_stepper_follows_its_set_point() -> None:
    plant, drive = EdukitPlant(), DriveLimit(EDUKIT)
    for step in range(60):
        wanted = np.float32(60.0 * math.sin(step / 4.0))
        plant.step(float(drive.latch(wanted, np.float32(plant.axis_position))))
        assert plant.axis_speed == pytest.approx(float(drive.velocity_setpoint), abs=0.35)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["constant", "random", "bang"]))
def test_no_policy_drives_the_steppers_arm_off_its_travel(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    environment = EdukitEnvironment(randomise=True)
    environment.reset(seed=seed)
    sign = 64.0 if generator.random() < 0.5 else -64.0
    for step in range(150):
        if kind == "random":
            sign = float(generator.uniform(-200, 200))
        elif kind == "bang" and step % int(generator.integers(5, 40)) == 0:
            sign = -sign
        _, _, terminated, _, info = environment.step(np.float32([sign]))
        assert abs(info["arm_angle_rad"]) < EDUKIT.axis_limit
        if terminated:
            assert abs(environment.plant.rod_speed_rad_s) > EDUKIT.rod_speed_limit_rad_s
            break


@pytest.mark.parametrize("name", MODELS)
def test_motor_has_the_stall_torque_and_the_free_speed_of_its_numbers(name) -> None:
    plant = QubePlant(name)
    device = plant.device
    plant.model.jnt_limited[:] = 0
    plant.model.dof_damping[1] = 1.0  # a rod that hangs on stiffly, so that only the arm turns
    plant.reset()
    plant.data.ctrl[0] = 10.0
    mujoco.mj_forward(plant.model, plant.data)
    assert plant.data.actuator_force[0] == pytest.approx(10.0 * device.motor_constant_n_m_a / device.resistance_ohm)
    for _ in range(3_000):
        plant.step(1.0)
    gain = device.motor_constant_n_m_a / device.resistance_ohm
    free = gain / (gain * device.motor_constant_n_m_a + device.arm_damping_n_m_s)
    assert plant.axis_speed == pytest.approx(free, rel=0.02)


def test_amplifier_has_a_dead_band() -> None:
    plant = QubePlant()
    for sign in (-1.0, 1.0):
        plant.reset()
        plant.step(sign * (AMPLIFIER_DEAD_BAND_V - 0.01))
        assert abs(plant.axis_speed) < 1e-12
        plant.step(sign * AMPLIFIER_DEAD_BAND_V)
        assert sign * plant.axis_speed > 0.01


def test_voltage_limit_clips_and_turns_back_at_the_ends() -> None:
    limit = VoltageLimit(QUBE)
    inside, outside = np.float32(0.5), np.float32(QUBE.axis_soft_limit + 0.01)
    assert limit.latch(np.float32(12.0), inside) == 10.0
    assert limit.latch(np.float32(-12.0), inside) == -10.0
    assert limit.latch(np.float32(3.0), inside) == 3.0
    assert limit.latch(np.float32(3.0), outside) == 0.0
    assert limit.latch(np.float32(-3.0), outside) == -3.0
    assert limit.latch(np.float32(3.0), -outside) == 3.0
    assert limit.latch(np.float32(-3.0), -outside) == 0.0


def test_a_switched_off_motor_is_an_open_circuit() -> None:
    coasting, braked = QubePlant(), QubePlant()
    for plant in (coasting, braked):
        plant.reset(axis_position=-1.0, axis_speed=5.0)
    coasting.step(0.0, enable=False)
    braked.step(0.0)
    assert coasting.axis_speed > braked.axis_speed, "at 0 V its own voltage brakes it"
    coasting.step(5.0, enable=True)
    assert coasting.data.ctrl[0] == 5.0


def test_unknown_devices_and_plants_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="expected one of servo2, servo3, identified"):
        QubePlant("servo4")
    with pytest.raises(HardwareError, match="expected one of cart_rail, edukit, qube"):
        plant_named("acrobot")
    assert plant_named("edukit").constants is EDUKIT


ENVIRONMENTS = {
    "hardware:Edukit-v0": (EdukitEnvironment, {}, 500),
    "hardware:Qube-v0": (QubeEnvironment, {"device": "identified"}, 1000),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments_pass_gymnasiums_checker(name) -> None:
    kind, options, steps = ENVIRONMENTS[name]
    environment = gymnasium.make(name, randomise=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # physical units on purpose: the advice to use [-1, 1] does not apply to a device's interface
        warnings.filterwarnings("ignore", message=".*normalized space.*")
        check_env(environment.unwrapped, skip_render_check=True)
    assert isinstance(environment.unwrapped, kind)
    assert environment.observation_space.shape == (25,)
    assert environment.spec is not None
    assert environment.spec.max_episode_steps == steps
    assert steps * environment.metadata["control_period_s"] == pytest.approx(10.0)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_action_takes_effect_one_period_later_and_frames_come_oldest_first(name) -> None:
    kind, options, _ = ENVIRONMENTS[name]
    environment = kind(start="rest", **options)
    first, _ = environment.reset(seed=0)
    assert np.array_equal(first, np.tile(first[:5], 5))
    push = np.float32([0.5 * kind.constants.action_limit])
    environment.step(push)
    assert abs(environment.plant.axis_speed) < 1e-9, "the first period still runs under the action before it"
    third, *_ = environment.step(push)
    assert environment.plant.axis_speed > 0.1
    fourth, *_ = environment.step(push)
    assert np.array_equal(fourth[:20], third[5:])
    assert fourth[20] > third[20]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_same_seed_same_bits_and_observations_stay_in_their_bounds(name) -> None:
    kind, options, _ = ENVIRONMENTS[name]

    def run(seed: int) -> np.ndarray:
        environment = kind(randomise=True, start="random", **options)
        rows = [environment.reset(seed=seed)[0]]
        for step in range(100):
            push = kind.constants.action_limit * math.sin(step / 5)
            observation, _, terminated, *_ = environment.step(np.float32([push]))
            assert environment.observation_space.contains(observation)
            rows.append(observation)
            if terminated:
                break
        return np.stack(rows)

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1)[0], run(2)[0])


@pytest.mark.parametrize("make", ROTARY, ids=NAMES)
def test_parameters_change_the_plant_and_nominal_restores_it(make) -> None:
    plant = make()
    names = ("body_mass", "body_ipos", "body_inertia", "dof_damping", "actuator_gainprm", "actuator_biasprm")
    nominal = {name: getattr(plant.model, name).copy() for name in names}
    changed = PlantParameters(rod_length_factor=1.2, rod_damping_factor=2.0, drive_stiffness_factor=0.6)
    plant.set_parameters(changed)
    _, _, inertia = rod_of(plant)
    assert inertia_matrix(plant)[1, 1] == pytest.approx(1.44 * inertia, rel=1e-4)
    assert plant.model.dof_damping[1] == pytest.approx(2.0 * nominal["dof_damping"][1])
    assert plant.model.actuator_biasprm[0, 2] == pytest.approx(0.6 * nominal["actuator_biasprm"][0, 2])
    plant.set_parameters(PlantParameters())
    for name, value in nominal.items():
        assert np.array_equal(getattr(plant.model, name), value)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_renders_a_picture(name) -> None:
    environment = ENVIRONMENTS[name][0](render_mode="rgb_array", start="rest")
    environment.reset(seed=0)
    try:
        hanging = environment.render()
    except HardwareError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no EGL here: {error}")
    assert hanging is not None
    assert hanging.shape == (480, 1280, 3)
    environment.plant.reset(rod_angle_rad=0.0)
    upright = environment.render()
    assert np.abs(hanging.astype(int) - upright).max(axis=2).astype(bool).sum() > 500, "the rod is in the picture"
    environment.close()
