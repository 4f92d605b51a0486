"""Objective, critics and whole training steps: against formulas, alone and stacked, compiled and not."""

import dataclasses
import shutil

import pytest
import torch

from distill.errors import DistillError
from distill.priors import prior
from distill.training.accelerator import DeviceBits
from distill.training.adam import Tracked, adam_step, corrections
from distill.training.annealing import annealed
from distill.training.bayesian_training import BayesianTraining, Hyperparameters
from distill.training.compiled import Compiled
from distill.training.critic import CriticForm, critic_backward, critic_forward, first_by_action
from distill.training.noise import RandomBits, normals
from distill.training.objective import Batch, Objective, critic_gradient, student_gradient
from distill.training.student import BayesianStudent, Form, forward
from distill.training.update import CriticUpdate, StudentUpdate

SIZES = (4, 7, 6, 2)
NUMBERS = Hyperparameters(
    hidden=(7, 6),
    iterations=40,
    batch=16,
    learning_rate=1e-2,
    data_weight=1e3,
    value_weight=0.0,
    gamma=0.9,
    tau=0.1,
    observation_noise=0.05,
)


class Rows:
    """As much of a replay as a training step asks for."""

    def __init__(self, rows: int = 64, inputs: int = 4, actions: int = 2) -> None:
        generator = torch.Generator().manual_seed(11)
        draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
        observations = draw(rows, inputs)
        self.batch = Batch(
            observations=observations,
            executed_actions=torch.tanh(draw(rows, actions)),
            teacher_actions=torch.tanh(observations[:, :actions]),
            rewards=draw(rows),
            next_observations=draw(rows, inputs),
            terminated=(torch.arange(rows) % 3 == 0).float(),
            error_weights=torch.rand(rows, actions, generator=generator),
        )

    def sample(self, size: int, generator: torch.Generator, *, transitions: bool) -> Batch:
        index = torch.randint(len(self.batch.rewards), (size,), generator=generator)
        labelled = "observations", "teacher_actions", "error_weights"
        drawn = {name: getattr(self.batch, name)[index] for name in labelled}
        if not transitions:
            empty = torch.empty(0)
            return Batch(**drawn, executed_actions=empty, rewards=empty, next_observations=empty, terminated=empty)
        return Batch(**{field.name: getattr(self.batch, field.name)[index] for field in dataclasses.fields(Batch)})


def trained(seed, steps: int = 12, **changes) -> BayesianTraining:
    training = BayesianTraining(SIZES, dataclasses.replace(NUMBERS, **changes), seed)
    rows = Rows()
    for _ in range(steps):
        training.step(rows)
    return training


def reference_values(form: CriticForm, values: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Both critics' values (2, batch), one critic after the other."""
    answers = []
    for critic in range(2):
        hidden = pairs
        layers = form.layers(values)
        for index, (weight, bias) in enumerate(layers):
            hidden = hidden @ weight[critic] + bias[critic]
            hidden = torch.relu(hidden) if index < len(layers) - 1 else hidden
        answers.append(hidden[:, 0])
    return torch.stack(answers)


def test_critics_differ_and_their_gradients_are_autograds() -> None:
    form, generator = CriticForm((6, 8, 9, 1)), torch.Generator().manual_seed(0)
    values, pairs = form.fresh(generator), torch.randn(12, 6, generator=generator)
    for _, bias in form.layers(values):
        bias.normal_(0, 0.1, generator=generator)
    steps = critic_forward(form, values, pairs, slice(0, 2))
    expected = reference_values(form, values, pairs)
    assert not torch.allclose(expected[0], expected[1])
    assert torch.allclose(steps[-1].squeeze(-1), expected, atol=1e-6)
    upstream = torch.randn(2, 12, 1, generator=generator)
    wanted = values.clone().requires_grad_()
    (by_values,) = torch.autograd.grad((reference_values(form, wanted, pairs) * upstream.squeeze(-1)).sum(), wanted)
    assert torch.allclose(critic_backward(form, values, steps, upstream), by_values, rtol=1e-4, atol=1e-6)
    probed = pairs.clone().requires_grad_()
    (by_pairs,) = torch.autograd.grad(reference_values(form, values, probed)[0].sum(), probed)
    value, by_action = first_by_action(form, values, pairs, 2)
    assert torch.allclose(value, expected[0], atol=1e-6)
    assert torch.allclose(by_action, by_pairs[:, -2:], rtol=1e-4, atol=1e-6)


def test_critic_gradient_is_autograds_and_its_target_stops_at_termination() -> None:
    generator = torch.Generator().manual_seed(1)
    objective = Objective(Form(SIZES), prior("ard"), CriticForm((6, 8, 8, 1)), gamma=0.9)
    student = BayesianStudent.fresh(objective.student, generator)
    values, target = (objective.critic.fresh(generator) for _ in range(2))
    batch, bits = Rows(9).batch, RandomBits(0).draw(objective.target_bits(9))
    written = critic_gradient(objective, values, target, student.values, batch, bits=bits)
    noise = normals(bits)[: 9 * objective.student.units]
    actions = forward(objective.student, student.values, batch.next_observations, noise)[-1].output
    following = reference_values(objective.critic, target, torch.cat((batch.next_observations, actions), 1))
    goal = batch.rewards + 0.9 * (1 - batch.terminated) * following.min(0).values
    assert torch.equal(goal[batch.terminated == 1], batch.rewards[batch.terminated == 1])
    wanted = values.clone().requires_grad_()
    seen = reference_values(objective.critic, wanted, torch.cat((batch.observations, batch.executed_actions), 1))
    (expected,) = torch.autograd.grad(((seen - goal) ** 2).mean(1).sum(), wanted)
    assert torch.allclose(written, expected, rtol=1e-4, atol=1e-6)


def test_value_term_is_autograds() -> None:
    generator = torch.Generator().manual_seed(2)
    form = Form(SIZES)
    objective = Objective(form, prior("ard"), CriticForm((6, 8, 8, 1)), value_weight=0.5)
    values, critic = BayesianStudent.fresh(form, generator, -2.0).values, objective.critic.fresh(generator)
    batch, bits = Rows(32).batch, RandomBits(0).draw(objective.bits(32))
    weight = torch.tensor(0.01)
    labelled = batch.observations, batch.teacher_actions, torch.ones(32, 2)
    written, error = student_gradient(objective, values, *labelled, bits=bits, kl_weight=weight, critic_values=critic)
    plain = dataclasses.replace(objective, value_weight=0.0)
    without, same = student_gradient(plain, values, *labelled, bits=bits, kl_weight=weight)
    steps = forward(form, values, batch.observations, normals(bits)[: 32 * form.units])
    actions = steps[-1].output.clone().requires_grad_()
    worth = reference_values(objective.critic, critic, torch.cat((batch.observations, actions), 1))[0]
    (by_action,) = torch.autograd.grad(-0.5 / worth.detach().abs().mean() * worth.mean(), actions)
    through = student_gradient(
        plain,
        values,
        batch.observations,
        actions.detach() - by_action * actions.numel() / 2,
        torch.ones(32, 2),
        bits=bits,
        kl_weight=weight * 0,
    )[0]
    squared = ((steps[-1].output - batch.teacher_actions) ** 2).mean()
    assert float(error) == float(same) == pytest.approx(float(squared), rel=1e-5)
    # labels shifted so that the squared error's slope is the value term's: what is added must be that
    assert torch.allclose(written - without, through, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"value_weight": 0.5}, {"noise": "official", "value_weight": 0.5}])
def test_stacked_training_is_separate_trainings(changes) -> None:
    stack = trained([4, 9], **changes)
    for index, seed in enumerate((4, 9)):
        alone = trained(seed, **changes)
        assert torch.allclose(stack.student.values[index], alone.student.values, rtol=1e-4, atol=1e-6)
        assert float(stack.errors[index]) == pytest.approx(alone.error, rel=1e-4)
    assert not torch.allclose(stack.student.values[0], stack.student.values[1])
    assert stack.error == pytest.approx(float(stack.errors.mean()))


def test_same_seed_same_bytes_other_seed_others() -> None:
    one, same, other = trained(1), trained(1), trained(2)
    assert torch.equal(one.student.values, same.student.values)
    assert not torch.equal(one.student.values, other.student.values)


@pytest.mark.parametrize("changes", [{}, {"value_weight": 0.5}])
def test_a_restored_run_goes_on_to_the_same_bytes(changes) -> None:
    whole = trained(3, steps=13, **changes)
    state = {name: tensor.clone() for name, tensor in trained(3, steps=6, **changes).state().items()}
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.uint8}
    again = BayesianTraining(SIZES, dataclasses.replace(NUMBERS, **changes), 8)
    again.restore(state, 6)
    for _ in range(7):
        again.step(Rows())
    assert again.iteration == 13
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, again.state()[name]), name


def test_training_follows_the_teacher_and_forgets_what_it_can() -> None:
    early, late = trained(0, 5, iterations=400), trained(0, 400, iterations=400)
    assert late.error < 0.5 * early.error
    density = [
        float(torch.cat([(matrix < 3.0).flatten() for matrix in run.student.log_alphas()]).float().mean())
        for run in (early, late)
    ]
    assert density[1] < density[0]


def test_critics_without_a_say_are_trained_and_ignored() -> None:
    ignored = trained(5, critic=True)
    assert not torch.equal(ignored.critic, BayesianTraining(SIZES, ignored.numbers, 5).critic)
    # the student moves every second step and sees other minibatches, but no value: swapping the critic changes nothing
    other = BayesianTraining(SIZES, ignored.numbers, 5)
    other.critic.mul_(-3.0)
    for _ in range(12):
        other.step(Rows())
    assert torch.equal(other.student.values, ignored.student.values)
    assert trained(5).critic is None


class Told(BayesianTraining):
    """What the student's n-th step sees, rows and noise, is told by n alone."""

    def _sample(self, replays) -> Batch:
        generator = torch.Generator().manual_seed(self._of_the_student)
        return replays[0].sample(self.numbers.batch, generator, transitions=self.critic is not None)

    def _draw(self, count: int) -> torch.Tensor:
        return RandomBits(self._of_the_student).draw(count)

    @property
    def _of_the_student(self) -> int:
        return self.iteration if self.critic is None else self.iteration // 2


def test_beside_a_critic_without_a_say_the_student_is_the_one_of_half_the_iterations() -> None:
    """(b) of the ablations: its two arms differ by the luck of their streams alone."""
    alone = Told(SIZES, NUMBERS, 5)
    beside = Told(SIZES, dataclasses.replace(NUMBERS, critic=True, iterations=2 * NUMBERS.iterations), 5)
    for training in (alone, beside):
        for _ in range(training.numbers.iterations):
            training.step(Rows())
    assert torch.equal(alone.student.values, beside.student.values)


def test_targets_follow_by_tau() -> None:
    training = trained(0, 1, value_weight=0.5)
    before = training.student_target.values.clone(), training.critic_target.clone()
    training.step(Rows())
    for old, target, source in zip(
        before,
        (training.student_target.values, training.critic_target),
        (training.student.values, training.critic),
        strict=True,
    ):
        assert torch.allclose(target, old + 0.1 * (source - old), atol=1e-7)


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(capfd, monkeypatch) -> None:
    monkeypatch.setattr("distill.training.compiled._said", False)

    def refuse(*_):
        raise RuntimeError("no compiler\nand much more")

    monkeypatch.setattr("distill.training.compiled.compile_for", refuse)
    doubled, tripled = Compiled(lambda x: 2 * x), Compiled(lambda x: 3 * x)
    assert [int(doubled(torch.tensor(2))), int(doubled(torch.tensor(3))), int(tripled(torch.tensor(1)))] == [4, 6, 3]
    said = capfd.readouterr().err
    assert said == "note: the step could not be compiled, it runs slower without (no compiler)\n"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_compiled_step_is_the_step(capfd) -> None:
    plain, fast = (trained(6, 3, compiled=choice) for choice in (False, True))
    for name, tensor in plain.state().items():
        assert torch.allclose(tensor.double(), fast.state()[name].double(), rtol=1e-3, atol=1e-5), name
    assert "could not be compiled" not in capfd.readouterr().err


def test_device_bits_fill_the_range_and_go_on_where_their_state_was_taken() -> None:
    stream, other = (DeviceBits(seed, torch.device("cpu")) for seed in (5, 6))
    drawn = stream.draw(100_000).double() / 2**31
    assert float(drawn.min()) < -0.999
    assert float(drawn.max()) > 0.999
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.01)
    state = stream.state()
    expected = stream.draw(64)
    other.restore(state)
    assert torch.equal(other.draw(64), expected)
    assert not torch.equal(stream.draw(64), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
@pytest.mark.parametrize("changes", [{"value_weight": 0.5}, {"noise": "official", "action_range": ((-2, -2), (1, 1))}])
def test_captured_steps_are_the_steps(changes) -> None:
    numbers, rows = dataclasses.replace(NUMBERS, **changes), Rows()
    captured, plain = (BayesianTraining(SIZES, numbers, [1, 2, 3], device="cuda") for _ in range(2))
    plain._update_student = StudentUpdate(plain.objective, numbers.tau)
    plain._update_critic = CriticUpdate(plain.objective)
    for _ in range(20):
        captured.step(rows)
        plain.step(rows)
    for name, tensor in plain.state().items():
        assert torch.allclose(tensor.double(), captured.state()[name].double(), rtol=1e-3, atol=1e-5), name


def test_adam_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    tracked = Tracked.start(torch.randn(50, generator=generator))
    theirs = tracked.values.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=1e-2)
    for step in range(1, 8):
        gradient = torch.randn(50, generator=generator) * 10.0 ** -(step % 4)
        adam_step(tracked, gradient, torch.tensor(corrections(step, 1e-2)))
        theirs.grad = gradient
        optimiser.step()
    assert torch.allclose(tracked.values, theirs, rtol=1e-5, atol=1e-7)


def test_schedules_end_at_two_and_say_when() -> None:
    for name, values in {
        "linear": [0.0, 1.0, 2.0, 2.0, 2.0],
        "constant": [2.0, 2.0, 2.0, 2.0, 2.0],
        "cosine": [0.0, 1.0, 2.0, 2.0, 2.0],
        "late": [0.0, 0.0, 0.0, 2.0, 2.0],
    }.items():
        assert [annealed(t, 100, name) for t in (0, 25, 50, 75, 100)] == pytest.approx(values), name
    assert annealed(12, 100) == 0.48
    assert annealed(5, 100, "cosine") < annealed(5, 100)
    assert annealed(55, 100, "late") == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": "loud"}, "noise: got 'loud', expected one of correct, official"),
        ({"precision": "float16"}, "precision: got 'float16', expected one of float32, bfloat16"),
        ({"annealing": "soon"}, "annealing: got 'soon', expected one of linear, constant, cosine, late"),
        ({"prior": "cauchy"}, "prior: got 'cauchy', expected one of log-uniform, log-uniform-exact"),
        ({"critic": False, "value_weight": 0.5}, "value weight: got 0.5 without a critic, expected 0"),
    ],
)
def test_impossible_numbers_are_refused(changes, message: str) -> None:
    with pytest.raises(DistillError, match=message):
        BayesianTraining(SIZES, dataclasses.replace(NUMBERS, **changes), 0)
