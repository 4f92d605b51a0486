"""Local reparameterisation, hand-written gradients and masks, against independent formulas."""

import numpy as np
import pytest
import torch

from distill.priors import prior
from distill.training.noise import RandomBits, normals
from distill.training.objective import Objective, student_gradient
from distill.training.student import BayesianStudent, Form, backward, forward, prior_gradient


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def spread(student: BayesianStudent, generator: torch.Generator) -> BayesianStudent:
    """Log sigmas all over the place, so that some weights are prunable and some clipped."""
    student.log_sigma.uniform_(-6, 2, generator=generator)
    student.bias.normal_(0, 0.1, generator=generator)
    return student


def reference_actions(form: Form, values: torch.Tensor, observations: torch.Tensor, noise: torch.Tensor):
    """The forward pass as a formula, for autograd to differentiate; one student."""
    mean, log_sigma, bias = form.parts(values)
    means, sigmas, biases = form.matrices(mean), form.matrices(torch.exp(log_sigma)), form.rows(bias)
    hidden, start = observations, 0
    for index, (outputs, _) in enumerate(form.shapes):
        stop = start + len(observations) * outputs
        drawn, start = noise[start:stop].view(-1, outputs), stop
        deviation = torch.sqrt(hidden**2 @ (sigmas[index] ** 2).T + 1e-8)
        hidden = hidden @ means[index].T + biases[index] + deviation * drawn
        hidden = torch.tanh(hidden) if index == len(means) - 1 else torch.relu(hidden)
    return hidden


def test_normal_numbers_are_standard_normal_and_uncorrelated() -> None:
    drawn = normals(RandomBits(1).draw(1_000_000)).double()
    assert float(drawn.mean()) == pytest.approx(0.0, abs=4e-3)
    assert float(drawn.var()) == pytest.approx(1.0, abs=6e-3)
    assert float((drawn**4).mean()) == pytest.approx(3.0, abs=0.04)
    assert float((drawn[:500_000] * drawn[500_000:]).mean()) == pytest.approx(0.0, abs=6e-3)
    for edge, share in ((-1.0, 0.158655), (2.0, 0.977250), (3.0, 0.998650)):
        assert float((drawn < edge).double().mean()) == pytest.approx(share, abs=2e-3)


def test_normal_numbers_survive_the_extreme_bits() -> None:
    extremes = torch.tensor([0, -(2**31), 2**31 - 1, 1, 0, -(2**31), 2**31 - 1, -1], dtype=torch.int32)
    drawn = normals(extremes)
    assert torch.isfinite(drawn).all()
    assert float(drawn.abs().max()) == pytest.approx(6.66, abs=0.01)


def test_random_bits_go_on_where_their_state_was_taken() -> None:
    stream, other = RandomBits(5), RandomBits(6)
    stream.draw(10)
    state = stream.state()
    expected = stream.draw(64)
    other.restore(state)
    assert torch.equal(other.draw(64), expected)
    assert not torch.equal(stream.draw(64), expected)


def test_noise_has_the_moments_of_sampled_weights(generator: torch.Generator) -> None:
    form = Form((4, 1))
    student = BayesianStudent.fresh(form, generator, initial_log_sigma=-1.0)
    inputs = torch.tensor([[0.05, -0.2, 0.1, 0.01]]).expand(200_000, 4)
    noise = normals(RandomBits(0).draw(200_000))
    outputs = torch.atanh(forward(form, student.values, inputs, noise)[-1].output.double())
    sigma = torch.exp(student.layer_log_sigma[0])
    weights = student.layer_mean[0] + sigma * torch.randn(200_000, 1, 4, generator=generator)
    sampled = (weights * inputs[:1]).sum(-1)
    assert torch.allclose(outputs.mean(0), sampled.mean(0).double(), atol=2e-3)
    assert torch.allclose(outputs.std(0), sampled.std(0).double(), rtol=0.02)


def test_forward_and_backward_are_autograds(generator: torch.Generator) -> None:
    form = Form((4, 7, 6, 2))
    student = spread(BayesianStudent.fresh(form, generator), generator)
    observations = torch.randn(32, 4, generator=generator)
    noise = normals(RandomBits(0).draw(32 * form.units + 32 * form.units % 2))[: 32 * form.units]
    upstream = torch.randn(32, 2, generator=generator)
    steps = forward(form, student.values, observations, noise)
    written = torch.cat(backward(form, student.values, steps, upstream))
    values = student.values.double().requires_grad_()
    actions = reference_actions(form, values, observations.double(), noise.double())
    assert torch.allclose(steps[-1].output.double(), actions, atol=1e-6)
    (expected,) = torch.autograd.grad((actions * upstream.double()).sum(), values)
    assert torch.allclose(written.double(), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["log-uniform", "group-ard"])
def test_prior_gradient_is_autograds_layer_by_layer(generator: torch.Generator, name: str) -> None:
    form, kl = Form((4, 7, 2)), prior(name)
    values = spread(BayesianStudent.fresh(form, generator), generator).values.double().requires_grad_()
    mean, log_sigma, _ = form.parts(values)
    pairs = zip(form.matrices(mean), form.matrices(log_sigma), strict=True)
    (expected,) = torch.autograd.grad(sum(kl.value(*pair) for pair in pairs), values)
    assert torch.allclose(torch.cat(prior_gradient(form, kl, values.detach())), expected[: 2 * form.weights], rtol=1e-9)
    assert torch.all(expected[2 * form.weights :] == 0), "biases have no prior"


def test_stacked_students_are_separate_students(generator: torch.Generator) -> None:
    form = Form((5, 8, 6, 2))
    objective = Objective(form, prior("group-ard"), observation_noise=0.1)
    values = torch.stack([spread(BayesianStudent.fresh(form, generator), generator).values for _ in range(3)])
    observations = torch.randn(3, 16, 5, generator=generator)
    labels = torch.randn(3, 16, 2, generator=generator)
    weights = torch.rand(3, 16, 2, generator=generator)
    bits = torch.stack([RandomBits(seed).draw(objective.bits(16)) for seed in range(3)])
    weight = torch.tensor(1e-3)
    together, errors = student_gradient(objective, values, observations, labels, weights, bits=bits, kl_weight=weight)
    for index in range(3):
        alone, error = student_gradient(
            objective,
            *(each[index] for each in (values, observations, labels, weights)),
            bits=bits[index],
            kl_weight=weight,
        )
        assert torch.allclose(together[index], alone, rtol=1e-4, atol=1e-6)
        assert torch.allclose(errors[index], error)


def test_bfloat16_products_stay_close(generator: torch.Generator) -> None:
    values = spread(BayesianStudent.fresh(Form((5, 16, 2)), generator), generator).values
    observations, labels = torch.randn(64, 5, generator=generator), torch.randn(64, 2, generator=generator)
    gradients = []
    for precision in ("float32", "bfloat16"):
        objective = Objective(Form((5, 16, 2), precision=precision), prior("ard"))
        bits = RandomBits(0).draw(objective.bits(64))
        gradients.append(
            student_gradient(
                objective, values, observations, labels, torch.ones(64, 2), bits=bits, kl_weight=torch.tensor(0.0)
            )[0]
        )
    difference = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert 1e-5 < float(difference) < 0.05, "rounded, and no more than rounded"


def test_views_share_the_values(generator: torch.Generator) -> None:
    stack = BayesianStudent(Form((3, 4, 1)), torch.zeros(2, 2 * 16 + 5))
    stack.layer_mean[0][1] += 1.0
    assert float(stack.values.sum()) == 12.0
    picked = stack.pick(1)
    assert torch.equal(picked.layer_mean[0], torch.ones(4, 3))
    kept = picked.copy()
    picked.bias += 1.0
    assert float(stack.values.sum()) == 17.0
    assert float(kept.values.sum()) == 12.0
    assert np.shares_memory(picked.values.numpy(), stack.values.numpy())
