"""Episodes side by side: order, labels, noise, repeatability, and environments that cannot be made."""

import numpy as np
import pytest

from distill.collect import collect
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.evaluate import interquartile_mean, return_bar, summarise
from distill.rollout import Episodes, play

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
    assert np.array_equal(first.transitions.observations, again.transitions.observations)
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
    assert np.array_equal(rows.observations[1 : clean.stop], rows.next_observations[: clean.stop - 1])


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
        ("CartPole-v1", {}, "expected a one-dimensional Box"),
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
        collect(CART, still, episodes=1, first_seed=0, noise=0.0)


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
