"""`noise="official"` against the published code's formulas, written again in float64 numpy."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from distill.training.bayesian_training import BayesianTraining, Hyperparameters, objective_of
from distill.training.noise import RandomBits, normals
from distill.training.objective import Batch, Objective, critic_gradient, student_gradient
from distill.training.student import BayesianStudent, Form, forward

SIZES = (4, 7, 6, 2)
LOW, HIGH = np.array([-2.0, -1.0]), np.array([1.0, 3.0])  # lopsided, so that a forgotten middle shows
NUMBERS = Hyperparameters(
    hidden=(7, 6),
    iterations=100,
    batch=16,
    learning_rate=3e-4,
    data_weight=1e3,
    value_weight=0.5,
    gamma=0.9,
    tau=0.005,
    noise="official",
    action_range=(tuple(LOW), tuple(HIGH)),
)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def layers_of(flat: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(mean, log sigma, bias) of every layer."""
    shapes = [(b, a) for a, b in itertools.pairwise(SIZES)]
    count = sum(a * b for a, b in shapes)
    answer, weight, bias = [], 0, 2 * count
    for outputs, inputs in shapes:
        stop = weight + outputs * inputs
        matrices = [flat[shift + weight : shift + stop].reshape(outputs, inputs) for shift in (0, count)]
        answer.append((*matrices, flat[bias : bias + outputs]))
        weight, bias = stop, bias + outputs
    return answer


def actions_of(flat: np.ndarray, states: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Raw actions: each unit's standard deviation is sum_i |x_i| sigma_i^2."""
    hidden, start = states, 0
    for index, (mean, log_sigma, bias) in enumerate(layers_of(flat)):
        stop = start + len(states) * len(bias)
        drawn, start = noise[start:stop].reshape(-1, len(bias)), stop
        hidden = hidden @ mean.T + bias + drawn * (np.abs(hidden) @ np.exp(2 * log_sigma).T)
        hidden = np.tanh(hidden) if index == len(SIZES) - 2 else np.maximum(hidden, 0)
    return (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * hidden


def values_of(critic, states: np.ndarray, actions: np.ndarray) -> list[np.ndarray]:
    """Both critics' values (batch,)."""
    answers = []
    for which in range(2):
        hidden = np.concatenate((states, actions), axis=1)
        for index, (weight, bias) in enumerate(critic):
            hidden = hidden @ weight[which] + bias[which]
            hidden = hidden if index == len(critic) - 1 else np.maximum(hidden, 0)
        answers.append(hidden[:, 0])
    return answers


def student_loss(flat, states, labels, noise, kl_weight, critic, scale) -> float:
    """-scale E[Q1] + mean squared error of raw actions + kl_weight * fitted KL."""
    actions = actions_of(flat, states, noise)
    kl = 0.0
    for mean, log_sigma, _ in layers_of(flat):
        x = np.clip(2 * log_sigma - np.log(mean**2), -8, 8)
        kl -= np.sum(0.63576 * sigmoid(1.87320 + 1.48695 * x) - 0.5 * np.log1p(np.exp(-x)) - 0.63576)
    return float(
        -scale * values_of(critic, states, actions)[0].mean() + np.mean((actions - labels) ** 2) + kl_weight * kl
    )


def slopes(loss, flat: np.ndarray, places: range) -> np.ndarray:
    """Central differences of `loss` at some of its coordinates."""
    answer = []
    for place in places:
        step = np.zeros_like(flat)
        step[place] = 1e-6
        answer.append((loss(flat + step) - loss(flat - step)) / 2e-6)
    return np.array(answer)


@pytest.fixture(scope="module")
def setting():
    objective = objective_of(SIZES, NUMBERS)
    generator = torch.Generator().manual_seed(2)
    student = BayesianStudent.fresh(objective.student, generator)
    student.mean.normal_(0, 0.5, generator=generator)
    student.log_sigma.uniform_(-3, 0.3, generator=generator)
    student.bias.normal_(0, 0.1, generator=generator)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    actions, ends = (torch.tanh(draw(16, 2)), torch.tanh(draw(16, 2))), (torch.arange(16) % 3 == 0).float()
    batch = Batch(draw(16, 4), *actions, draw(16), draw(16, 4), ends, torch.ones(16, 2))
    return objective, student, objective.critic.fresh(generator), objective.critic.fresh(generator), batch


def plain(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


def raw(shares: torch.Tensor) -> np.ndarray:
    return (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * plain(shares)


def noise_of(objective: Objective, bits: torch.Tensor) -> np.ndarray:
    return plain(normals(bits)[: 16 * objective.student.units])


def test_student_loss_and_gradient(setting) -> None:
    objective, student, critic, _, batch = setting
    bits = RandomBits(4).draw(objective.bits(16))
    written, error = student_gradient(
        objective,
        student.values,
        batch.observations,
        batch.teacher_actions,
        batch.error_weights,
        bits=bits,
        kl_weight=torch.tensor(1e-2),
        critic_values=critic,
    )
    states, labels, noise = plain(batch.observations), raw(batch.teacher_actions), noise_of(objective, bits)
    numbers = [(plain(weight), plain(bias)) for weight, bias in objective.critic.layers(critic)]
    flat = plain(student.values)
    actions = actions_of(flat, states, noise)
    assert float(error) == pytest.approx(np.mean((actions - labels) ** 2), rel=1e-4)
    scale = 0.5 / np.abs(values_of(numbers, states, actions)[0]).mean()
    places = range(0, len(flat), 3)
    expected = slopes(lambda at: student_loss(at, states, labels, noise, 1e-2, numbers, scale), flat, places)
    np.testing.assert_allclose(plain(written)[list(places)], expected, rtol=2e-3, atol=2e-5)


def test_critic_loss_gradient(setting) -> None:
    objective, student, critic, target, batch = setting
    bits = RandomBits(5).draw(objective.target_bits(16))
    written = plain(critic_gradient(objective, critic, target, student.values, batch, bits=bits))
    shapes = [(weight.shape, bias.shape) for weight, bias in objective.critic.layers(critic)]

    def unflat(flat: np.ndarray):
        start, answer = 0, []
        for pair in shapes:
            parts = []
            for shape in pair:
                parts.append(flat[start : start + np.prod(shape)].reshape(shape))
                start += np.prod(shape)
            answer.append(parts)
        return answer

    following = actions_of(plain(student.values), plain(batch.next_observations), noise_of(objective, bits))
    lesser = np.minimum(*values_of(unflat(plain(target)), plain(batch.next_observations), following))
    goal = plain(batch.rewards) + 0.9 * (1 - plain(batch.terminated)) * lesser

    def loss(flat: np.ndarray) -> float:
        seen = values_of(unflat(flat), plain(batch.observations), raw(batch.executed_actions))
        return float(sum(np.mean((value - goal) ** 2) for value in seen))

    places = range(7, critic.numel(), 2711)
    np.testing.assert_allclose(
        written[list(places)], slopes(loss, plain(critic), places), rtol=2e-3, atol=2e-5 * np.abs(written).max()
    )


def test_initial_numbers_are_the_published_ones() -> None:
    student = BayesianTraining((17, 128, 128, 6), dataclasses.replace(NUMBERS, action_range=None), 0).student
    assert float(student.mean.std()) == pytest.approx(0.02, rel=0.02)
    assert torch.all(student.log_sigma == -5.0)
    assert torch.all(student.bias == 0.0)


def test_bounds_of_one_are_raw_already(setting) -> None:
    _, student, _, _, batch = setting
    answers = []
    for bounds in (None, ((-1.0, -1.0), (1.0, 1.0))):
        objective = objective_of(SIZES, dataclasses.replace(NUMBERS, action_range=bounds, value_weight=0.0))
        bits = RandomBits(4).draw(objective.bits(16))
        answers.append(
            student_gradient(
                objective,
                student.values,
                batch.observations,
                batch.teacher_actions,
                batch.error_weights,
                bits=bits,
                kl_weight=torch.tensor(0.0),
            )[0]
        )
    assert torch.allclose(*answers)


def test_published_noise_is_far_too_small_at_the_start() -> None:
    inputs = torch.rand(200, 128, generator=torch.Generator().manual_seed(0))
    values = torch.cat((torch.zeros(128), torch.full((128,), -5.0), torch.zeros(1)))
    right, published = (
        forward(Form((128, 1), noise), values, inputs, torch.ones(200))[-1].deviation
        for noise in ("correct", "official")
    )
    # sqrt(sum x^2 sigma^2) / (sum x sigma^2) = sqrt(128 / 3) e^5 / (128 / 2) for x uniform on [0, 1]
    assert float((right / published).mean()) == pytest.approx((128 / 3) ** 0.5 * np.exp(5) / 64, rel=0.05)
