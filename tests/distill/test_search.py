"""The search on the return: vectors and networks, episodes side by side, both strategies, and the whole of it."""

from __future__ import annotations

import numpy as np
import pytest

from distill.environment import EnvironmentSpec
from distill.network import network_policy
from distill.refinement.arena import Arena
from distill.refinement.search import SNAPSHOTS, ReturnSearch, SearchNumbers
from distill.refinement.strategies import AugmentedRandomSearch, CovarianceMatrixAdaptation
from distill.refinement.variables import Variables
from distill.rollout import play
from export.compile import build_policy
from export.student_file import Layer, Student

PENDULUM = EnvironmentSpec("Pendulum-v1", {})


def pruned_student(seed: int = 0) -> Student:
    """3-6-5-1 with holes: a unit that reaches no output, one without inputs, and biases that are 0."""
    generator = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        weight = generator.standard_normal((rows, columns)).astype(np.float32)
        return weight * (generator.random((rows, columns)) < 0.6)

    first, second, last = matrix(6, 3), matrix(5, 6), matrix(1, 5) * 0.3
    last[0, :3] = [0.4, 0.0, -0.3]  # the second layer's unit 1 reaches nothing
    second[0] = 0.0  # its unit 0 is a constant
    biases = [generator.standard_normal(count).astype(np.float32) * 0.2 for count in (6, 5, 1)]
    biases[0][2] = 0.0
    return Student(
        layers=(
            Layer(first, biases[0], "relu"),
            Layer(second, biases[1], "relu"),
            Layer(last, biases[2], "tanh"),
        ),
        observation_mean=np.float32([0.1, -0.2, 0.3]),
        observation_scale=np.float32([1, 1, 8]),
        action_low=np.float32([-2]),
        action_high=np.float32([2]),
        history=1,
        environment="Pendulum-v1",
        control_period_s=0.05,
        observation_names=("cos", "sin", "speed"),
        action_names=("torque",),
    )


def test_variables_are_what_reaches_an_output() -> None:
    student = pruned_student()
    variables = Variables(student)
    policy = build_policy(student)
    assert policy.kept_parameters <= len(variables) < sum(layer.weight.size for layer in student.layers)
    changed = variables.with_values(variables.values + 1.0)
    for layer, before in zip(changed.layers, student.layers, strict=True):
        assert not np.any(layer.weight[before.weight == 0.0])
        assert not np.any(layer.bias[before.bias == 0.0])
    assert not np.any(changed.layers[1].weight[1]), "a unit that reaches nothing is left out"
    assert changed.layers[0].weight.max() == pytest.approx(student.layers[0].weight.max() + 1.0)
    observations = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float32)
    same = variables.with_values(variables.values)
    np.testing.assert_array_equal(network_policy(same)(observations), network_policy(student)(observations))


def test_networks_act_as_their_students() -> None:
    variables = Variables(pruned_student())
    generator = np.random.default_rng(2)
    values = variables.values + 0.3 * generator.standard_normal((4, len(variables)))
    observations = generator.standard_normal((4, 7, 3)).astype(np.float32)
    actions = variables.networks(values).act(observations)
    for index in range(4):
        expected = network_policy(variables.with_values(values[index]))(observations[index])
        np.testing.assert_allclose(actions[index], expected, atol=2e-6)


def test_an_arena_plays_what_play_plays_and_students_do_not_touch_each_other() -> None:
    student = pruned_student()
    variables = Variables(student)
    arena = Arena(PENDULUM, student)
    values = variables.values + 0.3 * np.random.default_rng(3).standard_normal((3, len(variables)))
    seeds = [5, 6]
    together = arena.returns(values, seeds)
    for index in range(3):
        np.testing.assert_array_equal(arena.returns(values[index : index + 1], seeds)[0], together[index])
        played = play(PENDULUM, network_policy(variables.with_values(values[index])), seeds).returns
        np.testing.assert_allclose(together[index], played, rtol=1e-3)
    np.testing.assert_array_equal(arena.returns(values, seeds), together)
    arena.close()


@pytest.mark.parametrize("kind", [CovarianceMatrixAdaptation, AugmentedRandomSearch])
def test_a_strategy_climbs_and_repeats_itself(kind: type) -> None:
    start, scales = np.array([3.0, -40.0, 0.2]), np.array([1.0, 20.0, 0.1])
    goal = start + scales * np.array([0.5, -0.7, 0.9])

    def search(generations: int) -> np.ndarray:
        strategy = kind(start, scales, step=0.1, population=12, seed=4)
        for _ in range(generations):
            values = strategy.ask()
            assert values.shape == (12, 3)
            strategy.tell(values, -np.square((values - goal) / scales).sum(axis=1))
        return strategy.mean

    assert np.abs((search(0) - start) / scales).max() == 0.0
    assert np.abs((search(150) - goal) / scales).max() < 0.15
    np.testing.assert_array_equal(search(20), search(20))


def test_the_search_improves_the_return_and_goes_on_from_what_was_played() -> None:
    student = pruned_student()
    numbers = SearchNumbers("cma-es", episodes=12 * 2 * 12, episodes_each=2, step=0.3)

    def search(played: list[list[float]], jobs: int = 1) -> tuple[list[Student], ReturnSearch]:
        run = ReturnSearch(PENDULUM, student, numbers, seed=1, first_seed=1_000_000)
        return list(run.run(jobs, lambda: None, played)), run

    found, run = search([])
    assert len(found) == SNAPSHOTS
    assert len(run.returns) == run.generations >= SNAPSHOTS
    seeds = range(2_000_000, 2_000_010)
    before = play(PENDULUM, network_policy(student), seeds).returns.mean()
    after = play(PENDULUM, network_policy(found[-1]), seeds).returns.mean()
    assert after > before + 50.0
    again, second = search(run.returns[:5], jobs=2)
    assert second.returns == run.returns
    for one, other in zip(found, again, strict=True):
        for layer, same in zip(one.layers, other.layers, strict=True):
            np.testing.assert_array_equal(layer.weight, same.weight)
            np.testing.assert_array_equal(layer.bias, same.bias)
