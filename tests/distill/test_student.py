"""Local reparameterisation, hand-written gradients, masks and losses, against independent formulas."""

import numpy as np
import pytest
import torch

from distill.critic import TwinCritic, follow
from distill.objective import Batch, annealed, critic_loss, student_step
from distill.priors import log_uniform_kl
from distill.replay import Normaliser, Replay
from distill.rollout import Transitions
from distill.student import BayesianStudent
from distill.train import Hyperparameters, fine_tune


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def batch_of(size: int, inputs: int, generator: torch.Generator, actions: int = 1) -> Batch:
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return Batch(
        observations=draw(size, inputs),
        executed_actions=torch.tanh(draw(size, actions)),
        teacher_actions=torch.tanh(draw(size, actions)),
        rewards=draw(size),
        next_observations=draw(size, inputs),
        terminated=(torch.arange(size) % 3 == 0).float(),
    )


def reference_actions(student: BayesianStudent, observations: torch.Tensor, noises: list[torch.Tensor]) -> torch.Tensor:
    """The forward pass as a formula, for autograd to differentiate."""
    hidden = observations
    last = len(noises) - 1
    for index, noise in enumerate(noises):
        variance = hidden**2 @ torch.exp(2 * student.layer_log_sigma[index]).T
        hidden = hidden @ student.layer_mean[index].T + student.layer_bias[index] + torch.sqrt(variance + 1e-8) * noise
        hidden = torch.tanh(hidden) if index == last else torch.relu(hidden)
    return hidden


def replayed_noise(student: BayesianStudent, rows: int, generator: torch.Generator) -> list[torch.Tensor]:
    return [torch.randn(rows, outputs, generator=generator) for outputs in student.sizes[1:]]


def spread(student: BayesianStudent, generator: torch.Generator) -> BayesianStudent:
    """Log sigmas all over the place, so that some weights are prunable and some clipped."""
    student.log_sigma.uniform_(-6, 2, generator=generator)
    student.bias.normal_(0, 0.1, generator=generator)
    return student


def test_noise_has_the_moments_of_sampled_weights(generator: torch.Generator) -> None:
    student = BayesianStudent((4, 1), generator, initial_log_sigma=-1.0)
    inputs = torch.tensor([[0.05, -0.2, 0.1, 0.01]])
    outputs = torch.atanh(student.act(inputs.expand(200_000, 4), generator).double())
    sigma = torch.exp(student.layer_log_sigma[0])
    weights = student.layer_mean[0] + sigma * torch.randn(200_000, 1, 4, generator=generator)
    sampled = (weights * inputs).sum(-1)
    assert torch.allclose(outputs.mean(0), sampled.mean(0).double(), atol=2e-3)
    assert torch.allclose(outputs.std(0), sampled.std(0).double(), rtol=0.02)


@pytest.mark.parametrize("with_critic", [False, True])
def test_gradients_are_autograds(generator: torch.Generator, with_critic: bool) -> None:
    student = spread(BayesianStudent((4, 7, 6, 2), generator), generator)
    batch = batch_of(32, 4, generator, actions=2)
    critic = TwinCritic(6, generator, hidden=(8, 8)) if with_critic else None
    state = generator.get_state()
    error = student_step(student, batch, generator, kl_weight=0.01, critic=critic, value_weight=0.5)
    written = [tensor.grad.clone() for tensor in student.parameters()]
    generator.set_state(state)
    noises = replayed_noise(student, 32, generator)
    for tensor in student.parameters():
        tensor.grad = None
        tensor.requires_grad_()
    actions = reference_actions(Views(student), batch.observations, noises)
    squared = ((actions - batch.teacher_actions) ** 2).mean()
    loss = squared + 0.01 * log_uniform_kl(student.mean, student.log_sigma)
    if critic is not None:
        values = critic(batch.observations, actions)[0]
        loss = loss - 0.5 / values.detach().abs().mean() * values.mean()
    expected = torch.autograd.grad(loss, student.parameters())
    assert error == pytest.approx(float(squared.detach()), rel=1e-5)
    for name, ours, theirs in zip(("mean", "log_sigma", "bias"), written, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6), name
    if critic is not None:
        assert all(parameter.grad is None for parameter in critic.parameters()), "the actor's step trains no critic"


class Views:
    """A student's layers as views that autograd can follow back to the flat tensors."""

    def __init__(self, student: BayesianStudent) -> None:
        self.layer_mean = student._matrices(student.mean)
        self.layer_log_sigma = student._matrices(student.log_sigma)
        self.layer_bias = student._units(student.bias)


def test_mask_keeps_strictly_below_the_threshold(generator: torch.Generator) -> None:
    student = BayesianStudent((3, 1), generator)
    student.mean[:] = 1.0
    student.log_sigma[:] = torch.tensor([0.5, 1.0, 1.5])  # log alpha 1, 2, 3
    assert student.masked(2.0).masks[0].tolist() == [[1.0, 0.0, 0.0]]
    assert student.masked(3.0).masks[0].tolist() == [[1.0, 1.0, 0.0]]


def test_masked_student_is_the_mean_network_without_pruned_weights(generator: torch.Generator) -> None:
    masked = spread(BayesianStudent((5, 8, 1), generator), generator).masked(1.0)
    inputs = torch.randn(7, 5, generator=generator)
    hidden = inputs.double().numpy()
    for index, (weight, bias) in enumerate(masked.chain()):
        assert (weight == 0).any()
        hidden = hidden @ weight.double().numpy().T + bias.double().numpy()
        hidden = np.maximum(hidden, 0) if index == 0 else np.tanh(hidden)
    assert np.allclose(masked(inputs).detach().numpy(), hidden, atol=1e-6)


def test_fine_tuning_never_revives_a_pruned_weight(generator: torch.Generator) -> None:
    student = spread(BayesianStudent((5, 8, 1), generator), generator)
    masked = student.masked(1.0)
    before = [weight.clone() for weight, _ in masked.chain()]
    replay = Replay(
        Normaliser(np.zeros(5, np.float32), np.ones(5, np.float32)), 1, np.float32([-1]), np.float32([1]), 64
    )
    rows = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    label = np.tanh(rows[:, :1])
    flags = np.zeros(64, np.uint8)
    replay.extend(Transitions(rows, label, label, label[:, 0], rows, flags, flags))
    numbers = Hyperparameters((8,), 1, 16, 1e-3, 1e5, 0.0, 0.99, 0.005, 20, 0.05, 0.0)
    fine_tune(masked, replay, numbers, seed=0)
    for (weight, _), old, mask in zip(masked.chain(), before, masked.masks, strict=True):
        assert torch.all(weight[mask == 0] == 0)
        assert not torch.equal(weight[mask == 1], old[mask == 1])


def test_critic_target_stops_at_termination(generator: torch.Generator) -> None:
    student = BayesianStudent((4, 6, 1), generator)
    critic = TwinCritic(5, generator, hidden=(8, 8))
    batch = batch_of(9, 4, generator)
    state = generator.get_state()
    loss = critic_loss(critic, critic, student, batch, generator, gamma=0.9)
    generator.set_state(state)
    with torch.no_grad():
        following = critic(batch.next_observations, student.act(batch.next_observations, generator)).min(0).values
        target = batch.rewards + 0.9 * (1 - batch.terminated) * following
        assert torch.equal(target[batch.terminated == 1], batch.rewards[batch.terminated == 1])
        values = critic(batch.observations, batch.executed_actions)
        expected = ((values - target) ** 2).mean(dim=1).sum()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_twin_critics_differ_and_batched_equals_single(generator: torch.Generator) -> None:
    critic = TwinCritic(5, generator, hidden=(8, 8))
    batch = batch_of(6, 4, generator)
    both = critic(batch.observations, batch.executed_actions)
    assert not torch.allclose(both[0], both[1])
    assert torch.allclose(critic.first(batch.observations, batch.executed_actions), both[0], atol=1e-6)


def test_follow_moves_the_target_by_tau(generator: torch.Generator) -> None:
    student = BayesianStudent((3, 4, 1), generator)
    target = student.copy()
    student.mean += 1.0
    before = target.mean.clone()
    follow(target.parameters(), student.parameters(), 0.25)
    assert torch.allclose(target.mean, before + 0.25)
    assert torch.equal(target.bias, student.bias)


def test_annealing_starts_at_zero_and_ends_at_two() -> None:
    assert annealed(0, 100) == 0.0
    assert annealed(25, 100) == 1.0
    assert annealed(50, 100) == annealed(100, 100) == 2.0
