"""Observation and drive limit of every plant: Python and the C that is built with its header give the same bits."""

import ctypes
import struct
import subprocess

import numpy as np
import pytest

from hardware.board import BOARDS
from hardware.build import FIRMWARE_FOLDER, FLAGS, build, find_compiler
from hardware.drive import DriveLimit
from hardware.errors import BuildError, HardwareError
from hardware.image import identify
from hardware.observe import Observer, rod_sin_cos
from hardware.plant_header import FIRMWARE_PLANTS, header_flag, plant_of
from hardware.plants.cart_rail import CART_RAIL
from hardware.plants.qube import QUBE


class Observe(ctypes.Structure):
    _fields_ = (
        ("axis_count", ctypes.c_int32),
        ("rod_count", ctypes.c_int32),
        ("axis_speed", ctypes.c_float),
        ("rod_speed", ctypes.c_float),
    )


def bits(value) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


@pytest.fixture(scope="module", params=FIRMWARE_PLANTS, ids=lambda plant: plant.name)
def plant(request):
    return request.param


@pytest.fixture(scope="module")
def library(plant, tmp_path_factory) -> ctypes.CDLL:
    path = tmp_path_factory.mktemp(plant.name) / "plant.so"
    modules = [str(FIRMWARE_FOLDER / f"{name}.c") for name in ("observe", "drive")]
    command = [find_compiler(), *FLAGS, header_flag(plant), "-shared", "-fPIC", *modules, "-o", str(path), "-lm"]
    subprocess.run(command, check=True, timeout=120)
    library = ctypes.CDLL(str(path))
    library.drive_latch.restype = library.drive_brake.restype = ctypes.c_float
    return library


def test_sine_and_cosine_at_every_count(library, plant):
    sine, cosine = ctypes.c_float(), ctypes.c_float()
    turn = plant.rod_counts_per_revolution
    ends = (10**6 + 1, -(10**6) - 1, 2**31 - 1, -(2**31), 2**31 - turn, turn - 2**31)
    for count in [*range(-2 * turn, 2 * turn + 1), *ends]:
        library.observe_sin_cos(ctypes.c_int32(count), ctypes.byref(sine), ctypes.byref(cosine))
        python = rod_sin_cos(count, turn)
        assert tuple(map(bits, python)) == (bits(sine.value), bits(cosine.value)), count
        angle = ((count % turn) / turn + 0.5) * 2.0 * np.pi
        assert abs(python[0] - np.sin(angle)) < 1.2e-7
        assert abs(python[1] - np.cos(angle)) < 1.2e-7


def test_observations_on_random_walks(library, plant):
    generator = np.random.default_rng(1)
    observation = (ctypes.c_float * 5)()
    for _ in range(20):
        axis, rod = map(int, generator.integers(-20_000, 20_000, 2))
        python, c = Observer(plant), Observe()
        python.reset(axis, rod)
        library.observe_reset(ctypes.byref(c), axis, rod)
        for step in generator.integers(-1500, 1500, (500, 2)):
            axis, rod = axis + int(step[0]), rod + int(step[1])
            library.observe_step(ctypes.byref(c), axis, rod, observation)
            assert python.observe(axis, rod).tobytes() == bytes(observation)


def test_drive_limit_on_random_commands(library, plant):
    generator = np.random.default_rng(2)
    period = np.float32(plant.period_s)
    stopped_early = 0
    for _ in range(20):
        python, c = DriveLimit(plant), ctypes.c_float()
        library.drive_reset(ctypes.byref(c))
        position = np.float32(generator.uniform(-1.2, 1.2) * plant.axis_limit)
        for wanted in generator.normal(0.0, 0.75 * plant.acceleration_limit, 500).astype(np.float32):
            got = library.drive_latch(ctypes.byref(c), ctypes.c_float(wanted), ctypes.c_float(position))
            assert bits(python.latch(wanted, position)) == bits(got)
            assert bits(python.velocity_setpoint) == bits(c.value)
            stopped_early += abs(got - wanted) > 0.01 * plant.acceleration_limit
            brake = library.drive_brake(ctypes.byref(c))
            assert abs(brake) <= np.float32(plant.brake_acceleration)
            position += period * python.velocity_setpoint + np.float32(generator.normal(0, 1e-3))
    assert 500 < stopped_early < 9_500, "the limits were met, and not always"


def policy_for(environment, policy_folder, folder):
    """A policy.h that names its environment in its first comment, as the exporter writes it."""
    text = (policy_folder / "policy.h").read_text()
    folder.mkdir()
    (folder / "policy.h").write_text(f"/*\n * environment  {environment}, one action every 0.02 s\n */\n{text}")
    return folder


def test_the_firmware_is_built_for_the_plant_of_its_policy(policy_folder, plant, tmp_path):
    image = build(policy_for(plant.environment, policy_folder, tmp_path / "policy"), tmp_path / "image")
    assert identify(image.path).plant == plant.name
    assert identify(build(policy_folder, tmp_path / "unnamed").path).plant == CART_RAIL.name


def test_a_policys_environment_says_which_plant_it_is_for(plant):
    assert plant_of(plant.environment) is plant


def test_a_plant_at_a_voltage_has_no_firmware(policy_folder, tmp_path):
    with pytest.raises(HardwareError, match="expected one of hardware:CartRail-v0, hardware:Edukit-v0"):
        build(policy_for(QUBE.environment, policy_folder, tmp_path / "policy"), tmp_path / "image")
    assert not (tmp_path / "image" / "firmware").exists()


@pytest.mark.cross
@pytest.mark.parametrize("board", [board.name for board in BOARDS.values() if "real" in board.variants])
def test_a_real_image_is_for_the_plant_that_its_board_is_wired_to(plant, board, policy_folder, tmp_path):
    """Its pins make steps of one plant: with another plant's limits they would be wrong distances."""
    policy = policy_for(plant.environment, policy_folder, tmp_path / "policy")
    assert build(policy, tmp_path / "image", board, "hil").path.exists()
    if BOARDS[board].plant == plant.name:
        assert identify(build(policy, tmp_path / "image", board, "real").path).plant == plant.name
    else:
        with pytest.raises(BuildError, match=f"the real {board} is wired to the plant {BOARDS[board].plant}, got"):
            build(policy, tmp_path / "image", board, "real")
