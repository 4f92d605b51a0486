"""Environments as options describe them: ids, arguments, wrappers, stacked frames, and what cannot be made."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from distill.config import environment_spec
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.time_limit import time_limit

ANT = "Ant-v5"
WRAPPERS = """
import gymnasium

class Doubled(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return observation * 2

class Shifted(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return observation + 1

class Leaves(gymnasium.Wrapper):
    def close(self):
        raise OSError("port\\nlost")

def Timeless(environment):
    environment.unwrapped.dt = None
    environment.unwrapped.metadata = {"render_fps": 0}
    return environment

def limited(environment):
    return gymnasium.wrappers.TimeLimit(environment, 12)

def nothing(environment):
    return None

def broken(environment):
    raise RuntimeError("two\\nlines")

class Fails(gymnasium.Env):
    def __init__(self):
        raise RuntimeError("no\\nhardware")

gymnasium.register("Fails-v0", Fails)
gymnasium.register("Mine-v0", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=7)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_wrappers.py").write_text(WRAPPERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_wrappers"
    sys.modules.pop("my_wrappers", None)
    for name in ("Mine-v0", "Fails-v0"):
        gymnasium.registry.pop(name, None)


def test_a_module_registers_its_own_environment(own_module: str) -> None:
    spec = EnvironmentSpec(f"{own_module}:Mine-v0", {"g": 1.0})
    assert spec.facts().observation_size == 3
    made = spec.make()
    assert made.unwrapped.g == 1.0
    assert made.spec.max_episode_steps == 7


def test_an_environment_that_fails_is_refused_in_one_line(own_module: str) -> None:
    with pytest.raises(DistillError, match="cannot make \\(no hardware\\)") as caught:
        EnvironmentSpec(f"{own_module}:Fails-v0", {}).make()
    assert "\n" not in str(caught.value)


def test_wrappers_are_applied_in_order(own_module: str) -> None:
    plain = EnvironmentSpec("Pendulum-v1", {}).make().reset(seed=3)[0]
    for order, expected in ((("Doubled", "Shifted"), plain * 2 + 1), (("Shifted", "Doubled"), (plain + 1) * 2)):
        wrappers = tuple(f"{own_module}:{name}" for name in order)
        observation = environment_spec("Pendulum-v1", "{}", wrappers).make().reset(seed=3)[0]
        assert np.allclose(observation, expected)


def test_a_wrapper_may_make_the_space_flat() -> None:
    spec = EnvironmentSpec(
        "Pendulum-v1", {}, ("gymnasium.wrappers:FlattenObservation", "gymnasium.wrappers:ClipAction")
    )
    with pytest.raises(DistillError, match="action bounds"):  # ClipAction opens the action space
        spec.facts()
    assert EnvironmentSpec("Pendulum-v1", {}, ("gymnasium.wrappers:FlattenObservation",)).facts().history == 1


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("my_wrappers:nothing", "gave NoneType, expected a Gymnasium environment"),
        ("my_wrappers:broken", "RuntimeError: two lines"),
        ("my_wrappers:absent", "AttributeError"),
        ("no_such_module:Thing", "ModuleNotFoundError"),
    ],
)
def test_wrappers_that_do_not_wrap(own_module: str, wrapper: str, message: str) -> None:
    with pytest.raises(DistillError, match=message) as caught:
        EnvironmentSpec("Pendulum-v1", {}, (wrapper,)).make()
    assert "\n" not in str(caught.value)


def test_frames_are_stacked_oldest_first_and_reset_fills_them() -> None:
    plain, stacked = EnvironmentSpec("Pendulum-v1", {}).make(), EnvironmentSpec("Pendulum-v1", {}, (), 3).make()
    frames = [plain.reset(seed=5)[0]] * 3
    assert np.array_equal(stacked.reset(seed=5)[0], np.concatenate(frames))
    for value in (1.0, -2.0, 0.5, 2.0):
        action = np.array([value], np.float32)
        frames = [*frames[1:], plain.step(action)[0]]
        observation, reward, *_ = stacked.step(action)
        assert np.array_equal(observation, np.concatenate(frames))
        assert observation.dtype == np.float32
        assert isinstance(reward, float)
    assert np.array_equal(stacked.reset(seed=6)[0], np.tile(plain.reset(seed=6)[0], 3))
    assert stacked.observation_space.contains(stacked.reset(seed=7)[0])


def test_facts_of_stacked_frames_name_one_frame() -> None:
    facts = EnvironmentSpec("Pendulum-v1", {}, (), 4).facts()
    assert (facts.observation_size, facts.history, len(facts.observation_names)) == (12, 4, 3)
    cart = EnvironmentSpec("hardware:CartRail-v0", {}).facts()
    assert (cart.observation_size, cart.history, len(cart.observation_names)) == (25, 5, 5)


def test_frames_are_not_stacked_twice() -> None:
    with pytest.raises(DistillError, match="stacks 5 frames itself"):
        EnvironmentSpec("hardware:CartRail-v0", {}, (), 2).make()
    single = EnvironmentSpec("hardware:CartRail-v0", {"history": 1}, (), 2).facts()
    assert (single.observation_size, single.history) == (10, 2)


@pytest.mark.parametrize(
    ("arguments", "wrappers", "frames", "message"),
    [
        ("[1]", (), 1, "--env-kwargs"),
        ("{", (), 1, "--env-kwargs"),
        ("{}", ("gymnasium.wrappers",), 1, "--wrapper.*module:callable"),
        ("{}", (":x",), 1, "--wrapper.*module:callable"),
        ("{}", (), 0, "--frame-stack: got 0"),
        ("{}", (), 65, "--frame-stack: got 65"),
    ],
)
def test_options_that_make_no_environment(arguments: str, wrappers: tuple, frames: int, message: str) -> None:
    with pytest.raises(DistillError, match=message):
        environment_spec("Pendulum-v1", arguments, wrappers, frames)


def test_a_spec_travels_to_other_processes_and_into_files() -> None:
    spec = EnvironmentSpec("Pendulum-v1", {"g": 9.0}, ("gymnasium.wrappers:FlattenObservation",), 2)
    assert pickle.loads(pickle.dumps(spec)) == spec
    record = json.loads(json.dumps(spec.record()))
    again = environment_spec(
        record["env"], json.dumps(record["env_kwargs"]), tuple(record["wrappers"]), record["frame_stack"]
    )
    assert again == spec


def test_the_argument_that_makes_a_size_is_found() -> None:
    found = EnvironmentSpec(ANT, {"max_episode_steps": 10}).argument_for((111, 27))
    assert json.loads(found) == {"max_episode_steps": 10, "include_cfrc_ext_in_observation": False}
    assert json.loads(EnvironmentSpec(ANT, {}).argument_for((107,))) == {
        "exclude_current_positions_from_observation": False
    }
    assert EnvironmentSpec(ANT, {}).argument_for((5,)) is None
    assert EnvironmentSpec("Pendulum-v1", {}).argument_for((5,)) is None


def test_an_environment_without_a_time_limit_is_refused() -> None:
    with pytest.raises(DistillError, match=r"no time limit.*--env-kwargs '\{\"max_episode_steps\": 1000\}'"):
        EnvironmentSpec("Pendulum-v1", {"max_episode_steps": -1}).facts()


def test_a_time_limit_counts_wherever_it_stands(own_module: str) -> None:
    inner = f"{own_module}:Doubled"
    assert time_limit(EnvironmentSpec("Pendulum-v1", {}, (inner,), 3).make()) == 200
    unlimited = EnvironmentSpec("Pendulum-v1", {"max_episode_steps": -1}, (f"{own_module}:limited", inner))
    assert time_limit(unlimited.make()) == 12
    assert unlimited.facts().observation_size == 3


@pytest.mark.parametrize("wrapper", ["Leaves", "Timeless"])
def test_metadata_and_a_close_that_fail_are_refused_in_one_line(own_module: str, wrapper: str) -> None:
    with pytest.raises(DistillError, match="from its metadata or its close") as caught:
        EnvironmentSpec("Pendulum-v1", {}, (f"{own_module}:{wrapper}",)).facts()
    assert "\n" not in str(caught.value)


def test_what_the_simulator_repeats_is_said_once_and_leaves_no_file(tmp_path: Path) -> None:
    """By itself MuJoCo prints a warning for every model that it compiles, and logs it into the working folder."""
    program = (
        "from distill.environment import EnvironmentSpec\n"
        "for _ in range(3):\n"
        "    EnvironmentSpec('HalfCheetah-v5', {}).make()\n"
        "import mujoco\n"
        "for second in (0.1, 0.25):\n"
        "    mujoco.get_mju_user_warning()(f'the simulation is unstable. Time = {second}')\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
    )
    said = done.stderr.decode().splitlines()
    assert done.returncode == 0, said
    assert sum("settotalmass" in line for line in said) <= 1  # some versions of MuJoCo do not say it
    assert [line for line in said if "unstable" in line] == [
        "note: MuJoCo: the simulation is unstable. Time = 0.1 (said once)"
    ]
    assert not any(tmp_path.iterdir())
