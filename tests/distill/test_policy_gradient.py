"""The ascent of the return: its gradient and advantages against plain definitions, and that it climbs, repeatably."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch

from distill.environment import EnvironmentSpec
from distill.network import network_policy
from distill.refinement import policy_gradient
from distill.refinement.policy_gradient import LOOKS, GradientNumbers, PolicyGradient, _Episode
from distill.rollout import play
from distill.training.sparse_network import forward
from export.compile import build_policy
from export.student_file import Student
from tests.distill.test_search import pruned_student


class Follows(gymnasium.Env):
    """The action should be what the first observation says; observations are drawn anew at every step."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.seen = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        return self.seen, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = -float((action[0] - self.seen[0]) ** 2)
        self.seen = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        return self.seen, reward, False, False, {}


gymnasium.register("Follows-v0", Follows, max_episode_steps=40)
FOLLOWS = EnvironmentSpec("Follows-v0", {"disable_env_checker": True})
NUMBERS = GradientNumbers(episodes=4 * 40, spread=0.2, gamma=0.9)


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_gradient, "_ROUND_STEPS", 160)


def ascent(numbers: GradientNumbers = NUMBERS, student: Student | None = None) -> PolicyGradient:
    return PolicyGradient(FOLLOWS, student or pruned_student(), numbers, seed=3, first_seed=1_000_000)


def same(one: Student, other: Student) -> bool:
    pairs = zip(one.layers, other.layers, strict=True)
    return all(np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias) for a, b in pairs)


def test_a_step_follows_the_clipped_objective() -> None:
    generator = torch.Generator().manual_seed(0)
    run = ascent()
    network = run._network
    observations = torch.randn(400, 3, generator=generator)
    means = network.act(observations)
    actions = means + 0.2 * torch.randn(means.shape, generator=generator)
    before = run._log_probability(actions, means) + 0.5 * torch.randn(400, generator=generator)  # some ratios are out
    advantages = torch.randn(400, generator=generator)
    values = network.values.clone().requires_grad_()
    ratio = (run._log_probability(actions, forward(network.form, values, observations)[-1]) - before).exp()
    loss = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    (expected,) = torch.autograd.grad(loss, values)
    assert ((ratio < 0.8) | (ratio > 1.2)).float().mean() > 0.3
    run._climb(observations, actions, advantages, before, 1e-4)
    lives = torch.cat((network.mask, (torch.cat([torch.from_numpy(x.bias) for x in pruned_student().layers]) != 0.0)))
    torch.testing.assert_close(run._policy.first * 10.0, expected * lives)  # Adam's first moment: a tenth of it


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_actions_that_became_certain_overflow_nothing(sign: float) -> None:
    run = ascent(dataclasses.replace(NUMBERS, spread=1e-3))
    observations = torch.zeros(4, 3)
    actions = run._network.act(observations)
    before = run._log_probability(actions + 1.0, actions)  # half a million nats less than now
    run._climb(observations, actions, torch.full((4,), sign), before, 1e-4)
    assert bool(torch.isfinite(run._network.values).all())


@pytest.mark.parametrize("terminated", [True, False])
def test_advantages_are_discounted_surprises(terminated: bool) -> None:
    generator = np.random.default_rng(1)
    run = ascent()
    run._scale.fill_(0.5)
    places = generator.standard_normal((8, 3)).astype(np.float32)
    rewards = generator.standard_normal(7)
    episode = _Episode(places[:-1], np.zeros((7, 1), np.float32), rewards, places[-1], terminated)
    values = run._values(run._normalised(places)).numpy().astype(float)
    following = np.append(values[1:-1], 0.0 if terminated else values[-1])
    surprises = 0.5 * rewards + 0.9 * following - values[:-1]
    advantages, targets = run._advantages(episode)
    for row in range(7):
        expected = sum((0.9 * 0.95) ** ahead * surprises[row + ahead] for ahead in range(7 - row))
        assert advantages[row] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(targets, advantages + values[:-1])


def test_it_climbs_at_the_mask_and_a_stopped_one_goes_on_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_gradient, "_LEARNING_RATE", 3e-3)
    run = ascent()
    saved: list[dict[str, torch.Tensor]] = []

    def save() -> None:
        saved.append({name: tensor.clone() for name, tensor in run.state().items()})

    found = list(run.run(save, [], 0))
    assert len(found) == LOOKS
    assert len(run.returns) == run.generations == 40
    start = pruned_student()
    seeds = range(2_000_000, 2_000_010)
    before = play(FOLLOWS, network_policy(start), seeds).returns.mean()
    assert play(FOLLOWS, network_policy(found[-1]), seeds).returns.mean() > before + 5.0
    for layer, earlier in zip(found[-1].layers, start.layers, strict=True):
        assert not layer.weight[earlier.weight == 0.0].any()
        assert not layer.bias[earlier.bias == 0.0].any()
    assert build_policy(found[-1]).kept_parameters <= build_policy(start).kept_parameters
    for rounds, looked in ((13, 2), (15, 2), (15, 3)):  # the second was stopped between a round and its look
        again = ascent()
        again.restore(saved[rounds - 1])
        rest = list(again.run(lambda: None, run.returns[:rounds], looked))
        assert again.returns == run.returns
        assert len(rest) == LOOKS - looked
        assert all(same(one, other) for one, other in zip(rest, found[looked:], strict=True))


def test_what_ends_early_and_what_earns_nothing_can_be_climbed_on() -> None:
    run = ascent(dataclasses.replace(NUMBERS, episodes=8))
    episode = _Episode(np.zeros((1, 3), np.float32), np.ones((1, 1), np.float32), np.zeros(1), np.zeros(3), True)
    run._play = lambda *_: [episode]  # type: ignore[method-assign]
    (*_, last) = run.run(lambda: None, [], 0)
    assert all(np.isfinite(layer.weight).all() for layer in last.layers)
