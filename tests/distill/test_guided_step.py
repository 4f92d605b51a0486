"""Guided descent: densities, critics of pseudo-rewards, and its step against autograd."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from distill.datasets.replay import Normaliser, Replay
from distill.datasets.transitions import reserve
from distill.policy_distillation.objectives import objective_named
from distill.refinement.gaussian import Gaussian, quantities
from distill.refinement.guided_step import Guidance, GuidedStep
from distill.refinement.pseudo_critic import PseudoCritic
from distill.training.descent import Descent, Streams
from distill.training.objective import FollowedBatch
from distill.training.sparse_network import SparseNetwork
from distill.training.student import Form


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.refinement.guided_step._WARM_UP", 20)


def filled_replay() -> Replay:
    """Two episodes of 3 and 2 rows (the first ends for good, the second by time), then a grown one of 2."""
    generator = np.random.default_rng(0)
    replay = Replay(Normaliser(np.zeros(2, np.float32), np.ones(2, np.float32)), 1, np.float32([-1]), np.float32([1]))
    for lengths in ((3, 2), (2,)):
        rows = reserve(sum(lengths), len(lengths), 2, 1)
        for name in ("observations", "executed_actions", "teacher_actions", "final_observations"):
            array = getattr(rows, name)
            array[:] = generator.standard_normal(array.shape) * 0.3
        rows.rewards[:] = generator.standard_normal(len(rows.rewards))
        rows.terminated[:] = 0
        rows.truncated[:] = 0
        rows.lengths[:] = lengths
        rows.terminated[2 if len(lengths) == 2 else 0 : 3 if len(lengths) == 2 else 0] = 1
        replay.extend(rows)
    return replay


def test_rows_know_what_the_teacher_does_next() -> None:
    replay = filled_replay()
    batch = replay.sample_followed(400, torch.Generator().manual_seed(0))
    plain = replay.sample(400, torch.Generator().manual_seed(0), transitions=True)
    for field in dataclasses.fields(plain):
        assert torch.equal(getattr(batch, field.name), getattr(plain, field.name))
    labels = {
        tuple(row.tolist()): action for row, action in zip(batch.observations, batch.teacher_actions, strict=True)
    }
    assert len(labels) == 7
    ends = 0
    for index in range(400):
        following = tuple(batch.next_observations[index].tolist())
        if batch.known[index]:
            assert torch.equal(batch.next_teacher_actions[index], labels[following])
        else:
            assert following not in labels
            assert batch.next_teacher_actions[index].item() == 0.0
            ends += 1
    assert 80 < ends < 280  # 3 of 7 rows are the last of their episode


def test_densities_are_those_of_a_gaussian() -> None:
    gaussian = Gaussian(0.2)
    difference = torch.tensor([[0.1, -0.3], [0.0, 0.0]], dtype=torch.float64)
    normal = torch.distributions.Normal(torch.zeros(2, dtype=torch.float64), 0.2)
    torch.testing.assert_close(gaussian.log_density(difference), normal.log_prob(difference).sum(-1))
    sampled = difference[:1] + 0.2 * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)).double()
    estimate = -normal.log_prob(sampled).sum(-1).mean()
    assert gaussian.cross_entropy(difference)[0].item() == pytest.approx(estimate.item(), abs=0.01)
    moved = difference.clone().requires_grad_()
    gaussian.cross_entropy(moved).sum().backward()
    torch.testing.assert_close(gaussian.cross_entropy_gradient(difference), moved.grad)
    far = gaussian.log_density(torch.tensor([[50.0]])) - gaussian.log_density(torch.tensor([[0.0]]))
    assert far.item() == pytest.approx(math.log(1e-4), abs=1e-5)


def test_nothing_is_asked_past_the_end_of_an_episode() -> None:
    one = torch.tensor([[0.5]])
    batch = FollowedBatch(one, one, one, torch.ones(1), one, torch.ones(1), one, 0 * one, torch.zeros(1))
    found = quantities(Gaussian(0.1), batch, one, one, gamma=0.9, reward_weight=2.0)
    assert found.next_teacher_log_probability.item() == 0.0
    assert found.next_forward_cross_entropy.item() == 0.0
    assert found.reward.item() == 2.0


def test_a_critic_learns_what_follows() -> None:
    """Two states in turn, reward 1 in the first only, gamma 0.5: values 4/3 and 2/3; an end behind the second: 1 and 0.

    Rows that are not known are wrong on purpose.
    """
    for terminated, values in ((0.0, (4 / 3, 2 / 3)), (1.0, (1.0, 0.0))):
        critic = PseudoCritic(2, 1, gamma=0.5, seed=0)
        first, second = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
        pairs, following = torch.stack([first, second, first]), torch.stack([second, first, first])
        for _ in range(1_200):
            ends = torch.tensor([0.0, terminated, 0.0])
            critic.step(pairs, following, torch.tensor([1.0, 0.0, 77.0]), ends, torch.tensor([1.0, 1.0, 0.0]))
        found = critic.values(pairs[:2])
        np.testing.assert_allclose(found.numpy(), values, atol=0.1)


def guided(objective: str, critic: PseudoCritic, network: SparseNetwork, **changes: object) -> Descent:
    numbers = {"gamma": 0.9, "reward_weight": 1.0, "batch": 64, "observation_noise": 0.0, **changes}
    guidance = Guidance(objective_named(objective), Gaussian(0.1), **numbers)
    return Descent(network, GuidedStep(guidance, critic), Streams(0), iterations=400, learning_rate=1e-2)


def network_of(form: Form, seed: int = 0) -> SparseNetwork:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(form.weights, generator=generator) * 0.5
    mask = (torch.rand(form.weights, generator=generator) < 0.7).float()
    return SparseNetwork(form, weight, torch.zeros(form.units), mask)


def test_a_guided_step_follows_the_gradient_of_loss_and_critic() -> None:
    """One step of Adam with moments of zero moves every living number by the sign of its gradient."""
    form = Form((2, 4, 1))
    network = network_of(form)
    critic = PseudoCritic(2, 1, gamma=0.9, seed=1)
    critic.steps = 10_000  # no warm-up
    before = network.values.clone()
    replay = filled_replay()
    descent = guided("expected-entropy", critic, network)
    batch = filled_replay().sample_followed(64, Streams(0).generator)
    descent.step(replay)
    values = before.clone().requires_grad_()
    weight, bias = values[: form.weights], values[form.weights :]
    first, last = form.matrices(weight)
    hidden = torch.relu(batch.observations @ first.T + bias[:4])
    action = torch.tanh(hidden @ last.T + bias[4:])
    cloning = ((action - batch.teacher_actions) ** 2).sum(-1) / (2 * 0.1**2)
    value = critic.values(torch.cat((batch.observations, action), dim=-1))
    (cloning - value).mean().backward()
    assert values.grad is not None
    living = torch.cat((network.mask, torch.ones(form.units))) * (values.grad.abs() > 1e-6)
    moved = network.values - before
    np.testing.assert_allclose(moved[living > 0], -0.01 * values.grad.sign()[living > 0], rtol=1e-3)
    assert not torch.any(network.weight[network.mask == 0])


@pytest.mark.parametrize("objective", ["n-distill", "expected-entropy", "on-policy+r", "kl-regularised"])
def test_every_objective_trains_to_finite_numbers(objective: str) -> None:
    network = network_of(Form((2, 4, 1)))
    descent = guided(objective, PseudoCritic(2, 1, gamma=0.9, seed=1), network)
    replay = filled_replay()
    with torch.no_grad():
        start = float((network.act(replay.sample(500, torch.Generator(), transitions=False).observations)).std())
    for _ in range(100):
        descent.step(replay)
    assert torch.isfinite(network.values).all()
    assert math.isfinite(descent.error)
    assert start > 0.0


class Judge:
    """Q(s, a) = 5 a: better the larger the action."""

    def values(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return 5.0 * actions.sum(dim=-1)

    def by_action(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return torch.full_like(actions, 5.0)


@pytest.mark.parametrize("objective", ["on-policy+r", "teacher-v-reward", "td+v", "on-policy+r+v-cond"])
def test_a_teacher_that_has_critics_pulls_towards_what_they_like(objective: str) -> None:
    judge = objective == "on-policy+r"
    network = network_of(Form((2, 4, 1)))
    critic = PseudoCritic(2, 1, gamma=0.9, seed=1)
    descent = guided(objective, critic, network, judge=Judge(), reward_by_judge=judge)
    replay = filled_replay()
    for _ in range(150):
        descent.step(replay)
    assert torch.isfinite(network.values).all()
    if judge:  # 5 nats a unit against 1 / (2 0.1^2) (a - label)^2: 0.05 above every label
        batch = replay.sample(500, torch.Generator().manual_seed(1), transitions=False)
        with torch.no_grad():
            difference = (network.act(batch.observations) - batch.teacher_actions).mean()
        assert float(difference) == pytest.approx(0.05, abs=0.02)
        assert critic.steps == 0, "nothing is left for critics to learn"
