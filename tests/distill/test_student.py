"""Local reparameterisation, masks, and the losses, against independent formulas."""

import numpy as np
import pytest
import torch

from distill.critic import TwinCritic, follow, target_copy
from distill.objective import Batch, annealed, critic_loss, student_loss
from distill.sparse_linear import SparseLinear
from distill.student import BayesianStudent


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def batch_of(size: int, inputs: int, generator: torch.Generator) -> Batch:
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return Batch(
        observations=draw(size, inputs),
        executed_actions=torch.tanh(draw(size, 1)),
        teacher_actions=torch.tanh(draw(size, 1)),
        rewards=draw(size),
        next_observations=draw(size, inputs),
        terminated=(torch.arange(size) % 3 == 0).float(),
    )


def test_noise_has_the_moments_of_sampled_weights(generator: torch.Generator) -> None:
    layer = SparseLinear(4, 2, generator, initial_log_sigma=-1.0)
    inputs = torch.tensor([[0.5, -2.0, 1.0, 0.1]])
    outputs = layer(inputs.expand(200_000, 4), generator).detach()
    sigma = torch.exp(layer.log_sigma.detach())
    weights = layer.mean.detach() + sigma * torch.randn(200_000, 2, 4, generator=generator)
    sampled = (weights * inputs).sum(-1) + layer.bias.detach()
    assert torch.allclose(outputs.mean(0), sampled.mean(0), atol=0.02)
    assert torch.allclose(outputs.std(0), sampled.std(0), rtol=0.02)
    expected = torch.sqrt((inputs**2 @ (sigma**2).T)[0] + 1e-8)
    assert torch.allclose(outputs.std(0), expected, rtol=0.02)


def test_mask_keeps_strictly_below_the_threshold(generator: torch.Generator) -> None:
    layer = SparseLinear(3, 1, generator)
    with torch.no_grad():
        layer.mean[:] = 1.0
        layer.log_sigma[:] = torch.tensor([[0.5, 1.0, 1.5]])  # log alpha 1, 2, 3
    assert layer.mask(2.0).tolist() == [[1.0, 0.0, 0.0]]
    assert layer.mask(3.0).tolist() == [[1.0, 1.0, 0.0]]


def test_masked_student_is_the_mean_network_without_pruned_weights(generator: torch.Generator) -> None:
    student = BayesianStudent((5, 8, 1), generator)
    with torch.no_grad():
        for layer in student.sparse_layers():
            layer.log_sigma.uniform_(-4, 2, generator=generator)
    masked = student.masked(1.0)
    inputs = torch.randn(7, 5, generator=generator)
    hidden = inputs.double().numpy()
    for index, (weight, bias) in enumerate(masked.chain()):
        assert (weight == 0).any()
        hidden = hidden @ weight.double().numpy().T + bias.double().numpy()
        hidden = np.maximum(hidden, 0) if index == 0 else np.tanh(hidden)
    assert np.allclose(masked(inputs).detach().numpy(), hidden, atol=1e-6)


def test_fine_tuning_gradient_never_revives_a_pruned_weight(generator: torch.Generator) -> None:
    student = BayesianStudent((5, 8, 1), generator)
    with torch.no_grad():
        for layer in student.sparse_layers():
            layer.log_sigma.uniform_(-4, 2, generator=generator)
    masked = student.masked(1.0)
    optimiser = torch.optim.Adam(masked.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        masked(torch.randn(16, 5, generator=generator)).square().mean().backward()
        optimiser.step()
    for (weight, _), mask in zip(masked.chain(), masked.masks, strict=True):
        assert torch.all(weight[mask == 0] == 0)


def test_loss_is_the_stated_formula(generator: torch.Generator) -> None:
    student = BayesianStudent((4, 6, 1), generator)
    critic = TwinCritic(5, generator, hidden=(8, 8))
    batch = batch_of(32, 4, generator)
    state = generator.get_state()
    loss = student_loss(student, batch, generator, kl_weight=0.01, critic=critic, value_weight=0.5)
    generator.set_state(state)
    actions = student(batch.observations, generator)
    values = critic(batch.observations, actions)[0]
    kl = sum(float(layer.kl().detach()) for layer in student.sparse_layers())
    expected = (
        float(((actions - batch.teacher_actions) ** 2).mean())
        + 0.01 * kl
        - 0.5 / float(values.abs().mean()) * float(values.mean())
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(parameter.grad is None for parameter in critic.parameters()), "the actor's step must not train critics"


def test_critic_target_stops_at_termination(generator: torch.Generator) -> None:
    student = BayesianStudent((4, 6, 1), generator)
    critic = TwinCritic(5, generator, hidden=(8, 8))
    batch = batch_of(9, 4, generator)
    state = generator.get_state()
    loss = critic_loss(critic, critic, student, batch, generator, gamma=0.9)
    generator.set_state(state)
    with torch.no_grad():
        following = critic(batch.next_observations, student(batch.next_observations, generator)).min(0).values
        target = batch.rewards + 0.9 * (1 - batch.terminated) * following
        assert torch.equal(target[batch.terminated == 1], batch.rewards[batch.terminated == 1])
        values = critic(batch.observations, batch.executed_actions)
        expected = ((values - target) ** 2).mean(dim=1).sum()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_twin_critics_differ_and_batched_equals_single(generator: torch.Generator) -> None:
    critic = TwinCritic(5, generator, hidden=(8, 8))
    batch = batch_of(6, 4, generator)
    both = critic(batch.observations, batch.executed_actions)
    assert not torch.allclose(both[0], both[1])
    assert torch.allclose(critic.first(batch.observations, batch.executed_actions), both[0], atol=1e-6)


def test_follow_moves_the_target_by_tau(generator: torch.Generator) -> None:
    critic = TwinCritic(3, generator, hidden=(4,))
    target = target_copy(critic)
    before = [parameter.clone() for parameter in target.parameters()]
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter += 1.0
    follow(target, critic, 0.25)
    for old, new in zip(before, target.parameters(), strict=True):
        assert torch.allclose(new, old + 0.25)
        assert not new.requires_grad


def test_annealing_starts_at_zero_and_ends_at_two() -> None:
    assert annealed(0, 100) == 0.0
    assert annealed(25, 100) == 1.0
    assert annealed(50, 100) == annealed(100, 100) == 2.0
