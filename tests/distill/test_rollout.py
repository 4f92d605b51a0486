"""Episodes side by side: order, labels, noise, repeatability, and environments that cannot be made or fail."""

from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest

from distill.datasets.collect import collect
from distill.datasets.transitions import FIELDS
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.evaluate import interquartile_mean, return_bar, summarise
from distill.rollout import Episodes, longest_episode, play

CART = EnvironmentSpec("hardware:CartRail-v0", {})


def pump(observations: np.ndarray) -> np.ndarray:
    """Push in the direction in which the rod swings."""
    return 8.0 * np.sign(observations[:, -1:] * observations[:, -2:-1]).astype(np.float32)


def test_same_seeds_same_bytes_and_width_does_not_reorder() -> None:
    first = play(CART, pump, range(5), label=pump, noise=[0.0, 0.3, 0.3, 0.0, 0.1], width=2)
    again = play(CART, pump, range(5), label=pump, noise=[0.0, 0.3, 0.3, 0.0, 0.1], width=5)
    assert np.array_equal(first.returns, again.returns)
    assert first.transitions is not None
    assert again.transitions is not None
    for name in FIELDS:
        assert np.array_equal(getattr(first.transitions, name), getattr(again.transitions, name))
    assert len(first.transitions) == first.lengths.sum()


def test_labels_are_clean_and_executed_actions_noisy_and_bounded() -> None:
    played = play(CART, pump, range(2), label=pump, noise=[0.0, 3.0], width=2)
    rows = played.transitions
    assert rows is not None
    clean = slice(0, int(played.lengths[0]))
    assert np.array_equal(rows.executed_actions[clean], rows.teacher_actions[clean])
    noisy = rows.executed_actions[played.lengths[0] :]
    assert not np.array_equal(noisy, rows.teacher_actions[played.lengths[0] :])
    assert np.abs(noisy).max() <= 20.0
    assert np.array_equal(rows.teacher_actions, pump(rows.observations))
    assert all(getattr(rows, name).dtype == np.float32 for name in FIELDS if name.endswith(("observations", "actions")))


def test_time_limit_is_truncation_not_termination() -> None:
    rows = play(CART, lambda o: np.zeros((len(o), 1), np.float32), [0], label=pump).transitions
    assert rows is not None
    assert len(rows) == 500
    assert rows.truncated[-1] == 1
    assert rows.terminated.sum() == 0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("NoSuchThing-v0", {}, "cannot make"),
        ("no_such_module:Thing-v0", {}, "cannot make"),
        ("hardware:CartRail-v0", {"colour": 1}, "cannot make"),
        ("hardware:CartRail-v0", {"start": "sideways"}, "expected rest, random or mixed"),
        ("CartPole-v1", {}, "action space Discrete.*expected a one-dimensional Box; .*continuous control"),
    ],
)
def test_environments_that_cannot_serve(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(DistillError, match=message) as caught:
        EnvironmentSpec(name, arguments).make()
    assert "\n" not in str(caught.value)


def test_teacher_that_does_nothing_is_refused() -> None:
    def still(observations: np.ndarray) -> np.ndarray:
        return np.zeros((len(observations), 1), np.float32)

    with pytest.raises(DistillError, match="same action at every state"):
        collect(CART, still, episodes=1, first_seed=0, exploration_noise=0.0)


class Counting(gymnasium.Env):
    """Says how many steps were taken, in one buffer that it keeps changing; ends after as many as its seed says."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self.length, self.buffer = seed, np.zeros(1)
        return self.buffer, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.buffer = self.buffer + 1
        number = float(self.buffer[0])
        return (self.buffer if number < 5000 else self.buffer * 1e300), number, number == self.length, False, {}


def counted(*seeds: int) -> Episodes:
    gymnasium.register("Counting-v0", Counting)
    try:
        return play(
            EnvironmentSpec("Counting-v0", {"disable_env_checker": True}), sway, list(seeds), label=sway, width=2
        )
    finally:
        del gymnasium.registry["Counting-v0"]


def sway(observations: np.ndarray) -> np.ndarray:
    return np.sin(observations).astype(np.float32)


def test_episodes_of_any_length_are_kept_whole_and_in_order() -> None:
    played = counted(3, 2500, 1, 40)
    rows = played.transitions
    assert rows is not None
    assert rows.lengths.tolist() == played.lengths.tolist() == [3, 2500, 1, 40]
    expected = np.concatenate([np.arange(length) for length in (3, 2500, 1, 40)])
    assert np.array_equal(rows.observations[:, 0], expected)
    assert np.array_equal(rows.rewards, expected + 1)
    assert np.array_equal(rows.next_observations[:, 0], expected + 1)
    assert np.array_equal(np.flatnonzero(rows.terminated), rows.ends)


def test_what_does_not_fit_a_float32_is_refused() -> None:
    with pytest.raises(DistillError, match="non-finite observation or reward at step 4999 of seed 6000"):
        counted(6000)


def test_interquartile_mean_ignores_the_tails() -> None:
    values = np.array([-1e9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e9])
    assert interquartile_mean(values) == 3.5


def test_falls_are_counted_against_the_teacher() -> None:
    returns = np.array([100.0, 95.0, 89.0, 10.0])
    episodes = Episodes(returns, np.full(4, 500), np.array([True, True, True, False]), None)
    summary = summarise(episodes, teacher_median=100.0)
    assert summary["share_below_90_percent"] == 0.5
    assert summary["held_last_3s"] == 3
    assert summary["worst"] == 10.0


def test_bar_lies_below_the_teacher_also_for_negative_returns() -> None:
    assert return_bar(400.0, 0.99) == pytest.approx(396.0)
    assert return_bar(-100.0, 0.99) == pytest.approx(-101.0)


class Faulty(gymnasium.Env):
    """Goes wrong in the way it is told, at its third step or at its reset."""

    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> object:
        self.steps = 0
        if self.fault == "reset raises":
            raise RuntimeError("no\nmotor")
        return {
            "reset shape": (np.zeros(3, np.float32), {}),
            "reset nothing": None,
            "reset infinite": (np.full(2, np.inf), {}),
        }.get(self.fault, (np.zeros(2, np.float32), {}))

    def step(self, action: np.ndarray) -> object:
        self.steps += 1
        good = np.zeros(2, np.float32), 1.0, self.steps == 9, False, {}
        if self.steps < 3:
            return good
        if self.fault == "step raises":
            raise ZeroDivisionError("division by zero")
        if self.fault == "step exits":
            raise SystemExit(0)
        if self.fault == "step interrupted":
            raise KeyboardInterrupt
        return {
            "step shape": (np.zeros((1, 2), np.float32), *good[1:]),
            "step words": (["a", "b"], *good[1:]),
            "step four": good[:4],
            "step reward": (good[0], None, *good[2:]),
            "step info": (*good[:4], None),
        }[self.fault]


@pytest.fixture
def faulty() -> Iterator[str]:
    gymnasium.register("Faulty-v0", Faulty)
    yield "Faulty-v0"
    del gymnasium.registry["Faulty-v0"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("reset raises", r"got RuntimeError in reset\(\) at step 0 of seed 5 \(no motor\)"),
        ("reset shape", r"shape \(3,\) at step 0 of seed 5, expected \(2,\)"),
        ("reset nothing", r"got TypeError in reset\(\) at step 0 of seed 5 .*expected \(observation, info\)"),
        ("reset infinite", "non-finite observation or reward at step 0 of seed 5"),
        ("step raises", r"got ZeroDivisionError in step\(\) at step 2 of seed 5 \(division by zero\)"),
        ("step exits", r"got SystemExit in step\(\) at step 2 of seed 5"),
        ("step shape", r"shape \(1, 2\) at step 2 of seed 5, expected \(2,\)"),
        ("step words", r"no array of numbers .* at step 2 of seed 5"),
        ("step four", r"got ValueError in step\(\) at step 2 of seed 5"),
        ("step reward", r"got TypeError in step\(\) at step 2 of seed 5"),
        ("step info", r"info is NoneType, expected dict"),
    ],
)
def test_an_environment_that_fails_names_itself_step_and_seed(faulty: str, fault: str, message: str) -> None:
    spec = EnvironmentSpec(faulty, {"fault": fault, "disable_env_checker": True})
    with pytest.raises(DistillError, match=f"environment 'Faulty-v0': .*{message}") as caught:
        play(spec, lambda observations: np.zeros((len(observations), 1), np.float32), [5])
    assert "\n" not in str(caught.value)


def test_an_interrupt_in_an_environment_is_one(faulty: str) -> None:
    spec = EnvironmentSpec(faulty, {"fault": "step interrupted", "disable_env_checker": True})
    with pytest.raises(KeyboardInterrupt):
        play(spec, lambda observations: np.zeros((len(observations), 1), np.float32), [5])


def test_arguments_that_only_fail_when_it_is_played() -> None:
    with pytest.raises(DistillError, match=r"'Pendulum-v1': got \w+ in step\(\) at step 0 of seed 3"):
        play(EnvironmentSpec("Pendulum-v1", {"g": "x"}), sway_slowly, [3])


def sway_slowly(observations: np.ndarray) -> np.ndarray:
    return np.sin(observations[:, :1]).astype(np.float32)


def test_the_longest_episode_is_the_time_limit_in_force() -> None:
    assert longest_episode(EnvironmentSpec("Pendulum-v1", {}, (), 2)) == 200
    assert longest_episode(EnvironmentSpec("Pendulum-v1", {"max_episode_steps": 30})) == 30
