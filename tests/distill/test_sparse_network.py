"""Hand-written gradients and curvature against autograd; masks; shrinking; descents."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from distill.datasets.replay import Normaliser, Replay
from distill.rollout import Transitions
from distill.shrink import Ranked, importance, shrink
from distill.training.adam import Tracked
from distill.training.bayesian_training import Hyperparameters
from distill.training.descent import Descent, Step, Streams
from distill.training.plain_training import Penalty, PlainTraining, largest, magnitude_density
from distill.training.sparse_network import SparseNetwork, SparseUpdate
from distill.training.student import Form

SIZES = (5, 7, 6, 2)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def network_of(generator: torch.Generator, density: float = 0.6) -> SparseNetwork:
    form = Form(SIZES)
    weight = torch.randn(form.weights, generator=generator) * 0.5
    mask = (torch.rand(form.weights, generator=generator) < density).float()
    return SparseNetwork(form, weight, torch.randn(form.units, generator=generator) * 0.1, mask)


def formula(form: Form, weight: torch.Tensor, bias: torch.Tensor, observations: torch.Tensor) -> torch.Tensor:
    """The network as a plain formula, for autograd to differentiate."""
    hidden, last = observations, len(form.shapes) - 1
    for index, (matrix, offset) in enumerate(zip(form.matrices(weight), form.rows(bias), strict=True)):
        hidden = hidden @ matrix.T + offset
        hidden = torch.tanh(hidden) if index == last else torch.relu(hidden)
    return hidden


def test_a_step_is_autograds_gradient_through_adam_and_none_where_pruned(generator: torch.Generator) -> None:
    network = network_of(generator)
    observations = torch.randn(32, 5, generator=generator)
    target = torch.tanh(torch.randn(32, 2, generator=generator))
    weight, bias = network.weight.clone().requires_grad_(), network.bias.clone().requires_grad_()
    error_weights = torch.rand(32, 2, generator=generator)
    squares = (formula(network.form, weight, bias, observations) - target) ** 2
    loss = (error_weights * squares).mean()
    by_weight, by_bias = torch.autograd.grad(loss, (weight, bias))
    assert torch.any(by_weight[network.mask == 0] != 0), "the mask must have something to stop"
    tracked = Tracked.start(network.values)
    none = torch.zeros(0, dtype=torch.int32)
    rates = torch.tensor([0.0, 1.0, 0.0])  # no step: only the moments move
    batch = observations, target, error_weights
    error = SparseUpdate(network.form, 0.0)(*tracked.tensors(), network.mask, *batch, none, rates)
    assert float(error) == pytest.approx(float(squares.detach().mean()), rel=1e-5), "what is told is not weighed"
    expected = torch.cat((by_weight * network.mask, by_bias))
    assert torch.allclose(tracked.first, 0.1 * expected, rtol=1e-4, atol=1e-7)
    assert torch.allclose(tracked.second, 0.001 * expected**2, rtol=1e-3, atol=1e-9)


def test_the_l1_step_is_proximal_in_adams_metric(generator: torch.Generator) -> None:
    network = network_of(generator, density=1.0)
    before = network.weight.clone()
    tracked = Tracked.start(network.values)
    tracked.second.copy_(torch.rand(tracked.second.shape, generator=generator))
    root = tracked.second[: network.form.weights].mul(0.999).sqrt() * 2.0 + 1e-8
    zeros, none = torch.zeros(4, 5), torch.zeros(0, dtype=torch.int32)
    network.bias.zero_()
    bias = network.bias.clone()
    rates = torch.tensor([0.0, 2.0, 0.3])  # no step of Adam's, and zero inputs: no gradient of the weights
    batch = zeros, torch.zeros(4, 2), torch.ones(4, 2)
    SparseUpdate(network.form, 0.0)(*tracked.tensors(), network.mask, *batch, none, rates)
    assert torch.allclose(network.weight, before.sign() * (before.abs() - 0.3 / root).clamp_min(0.0), atol=1e-6)
    assert torch.all(network.weight[before.abs() < 0.29 / root] == 0.0)
    assert torch.any(network.weight != 0.0)
    assert torch.equal(network.bias, bias)


def test_curvature_is_the_mean_squared_derivative(generator: torch.Generator) -> None:
    network = network_of(generator)
    observations = torch.randn(6, 5, generator=generator)

    def actions(weight: torch.Tensor) -> torch.Tensor:
        return formula(network.form, weight, network.bias, observations)

    jacobian = torch.autograd.functional.jacobian(actions, network.weight.clone())  # (rows, actions, weights)
    for weights in (torch.ones(6, 2), torch.rand(6, 2, generator=generator)):
        expected = (weights[:, :, None] * jacobian**2).mean(dim=(0, 1))
        assert torch.allclose(network.curvature(observations, weights), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("ranking", ["saliency", "magnitude", "posterior"])
def test_shrinking_keeps_the_most_important_and_records_it(generator: torch.Generator, ranking: str) -> None:
    network = network_of(generator)
    before, alive = network.weight.clone(), network.mask > 0
    posterior = torch.where(alive, torch.randn(before.shape, generator=generator), torch.tensor(5.0))
    ranked = Ranked(before.clone(), posterior)
    batch = replay_of(64, 0).sample(64, generator, transitions=False)
    scores = {
        "saliency": before**2 * network.curvature(batch.observations, batch.error_weights),
        "magnitude": before.abs(),
        "posterior": -posterior,
    }[ranking]
    keep = network.kept // 2
    record = shrink(network, ranked, importance(network, ranked, ranking, batch), keep=keep, threshold=2.0)
    assert network.kept == keep
    kept = network.mask > 0
    assert not torch.any(kept & ~alive), "nothing comes back to life"
    assert scores[kept].min() >= scores[alive & ~kept].max()
    assert torch.equal(network.weight[kept], before[kept])
    assert torch.equal(record.log_alpha < 2.0, kept), "the file's threshold must cut where the mask does"
    assert torch.equal(record.mean[alive], before[alive])
    assert torch.isfinite(record.log_alpha).all()


def test_shrinking_to_everything_changes_nothing(generator: torch.Generator) -> None:
    network = network_of(generator)
    mask, ranked = network.mask.clone(), Ranked(network.weight.clone(), torch.zeros_like(network.weight))
    score = importance(network, ranked, "magnitude", replay_of(1, 0).sample(1, generator, transitions=False))
    shrink(network, ranked, score, keep=network.kept, threshold=2.0)
    assert torch.equal(network.mask, mask)


def replay_of(rows: int, seed: int) -> Replay:
    observations = np.random.default_rng(seed).standard_normal((rows, 5)).astype(np.float32)
    actions = np.tanh(observations[:, :2])
    flags = np.zeros(rows, np.uint8)
    replay = Replay(
        Normaliser(np.zeros(5, np.float32), np.ones(5, np.float32)), 1, np.float32([-1, -1]), np.float32([1, 1])
    )
    lengths = np.array([rows], np.uint32)
    replay.extend(Transitions(observations, actions, actions, actions[:, 0], flags, flags, observations[:1], lengths))
    return replay


def descent_of(network: SparseNetwork, streams: Streams) -> Descent:
    step = Step(network.form, batch=32, observation_noise=0.01, compiled=False)
    return Descent(network, step, streams, iterations=300, learning_rate=1e-2)


def test_a_descent_learns_and_never_revives_a_pruned_weight(generator: torch.Generator) -> None:
    network, replay = network_of(generator), replay_of(500, 0)
    descent = descent_of(network, Streams(1))
    batch = replay.sample(500, torch.Generator().manual_seed(2), transitions=False)
    before = ((network.act(batch.observations) - batch.teacher_actions) ** 2).mean()
    for _ in range(300):
        descent.step(replay)
    after = ((network.act(batch.observations) - batch.teacher_actions) ** 2).mean()
    assert after < 0.3 * before
    assert torch.all(network.weight[network.mask == 0] == 0)


def test_a_descent_goes_on_from_its_state(generator: torch.Generator) -> None:
    replay = replay_of(500, 0)
    start = network_of(generator)
    networks = [SparseNetwork(start.form, start.weight, start.bias, start.mask) for _ in range(2)]
    whole = descent_of(networks[0], Streams(1))
    for _ in range(120):
        whole.step(replay)
    streams = Streams(1)
    first = descent_of(networks[1], streams)
    for _ in range(50):
        first.step(replay)
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    other = Streams(99)
    resumed = descent_of(SparseNetwork(start.form, start.weight, start.bias, start.mask), other)
    resumed.restore(state, first.iteration, first.error)
    other.restore(streams.state())
    for _ in range(70):
        resumed.step(replay)
    assert torch.equal(resumed.network.weight, networks[0].weight)
    assert resumed.error == whole.error


def test_cubic_schedule_and_largest() -> None:
    assert magnitude_density(0.0, 0.1) == magnitude_density(0.1, 0.1) == 1.0
    assert magnitude_density(0.7, 0.1) == magnitude_density(1.0, 0.1) == pytest.approx(0.1)
    assert magnitude_density(0.4, 0.1) == pytest.approx(0.1 + 0.9 * 0.5**3)
    assert largest(torch.tensor([1.0, -3.0, 2.0, -2.0]), 2).tolist() == [0.0, 1.0, 1.0, 0.0]


def plain(penalty: Penalty, iterations: int, data_weight: float = 1e3) -> PlainTraining:
    numbers = Hyperparameters(
        hidden=SIZES[1:-1],
        iterations=iterations,
        batch=32,
        learning_rate=1e-2,
        data_weight=data_weight,
        value_weight=0.0,
        gamma=0.99,
        tau=0.005,
    )
    return PlainTraining(SIZES, numbers, 0, penalty=penalty, final_density=0.2)


def test_magnitude_training_never_revives_a_weight_and_ends_at_its_density() -> None:
    training, replay = plain("magnitude", 450), replay_of(500, 0)  # no multiple of the iterations between two prunings
    masks = []
    for _ in range(450):
        training.step(replay)
        masks.append(training.mask().clone())
        assert torch.all(training.network.weight[masks[-1] == 0] == 0.0)
    assert all(torch.all(later <= earlier) for earlier, later in pairwise(masks))
    assert masks[0].mean() == 1.0
    assert int(masks[-1].sum()) == round(0.2 * training.network.form.weights)
    assert masks[-2].sum() >= masks[-1].sum()
    short = plain("magnitude", 50)
    for _ in range(50):
        short.step(replay)
    assert int(short.mask().sum()) == round(0.2 * short.network.form.weights), "pruned at the last iteration"


def test_l1_training_reaches_exact_zeros_and_a_larger_penalty_keeps_fewer() -> None:
    replay, kept, errors = replay_of(500, 0), [], []
    batch = replay.sample(500, torch.Generator().manual_seed(2), transitions=False)
    for data_weight in (1e1, 1e2, 1e4):
        training = plain("l1", 600, data_weight)
        for _ in range(600):
            training.step(replay)
        kept.append(int((training.network.weight != 0.0).sum()))
        assert int(training.mask().sum()) == kept[-1]
        errors.append(float(((training.network.act(batch.observations) - batch.teacher_actions) ** 2).mean()))
    weights = training.network.form.weights
    assert kept[0] < kept[1] < kept[2]
    assert kept[1] < 0.7 * weights
    assert errors[0] > errors[1] > errors[2]


def test_dense_training_keeps_every_weight() -> None:
    training, replay = plain("dense", 50), replay_of(500, 0)
    for _ in range(50):
        training.step(replay)
    assert torch.all(training.mask() == 1.0)
