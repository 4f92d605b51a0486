"""Refining: densities, guided descent against autograd, and the whole verb: repeatable, resumable, refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.datasets.dataset import read_dataset, write_dataset
from distill.datasets.replay import Normaliser, Replay
from distill.datasets.transitions import reserve
from distill.distillation import distil
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.policy_distillation.objectives import objective_named
from distill.refine_config import RefineConfig
from distill.refinement.gaussian import Gaussian, quantities
from distill.refinement.guided_step import Guidance, GuidedStep
from distill.refinement.pseudo_critic import PseudoCritic
from distill.refinement.refinement import refine
from distill.source import check_fits
from distill.teachers.critics import FrozenCritics
from distill.training.descent import Descent, Streams
from distill.training.objective import FollowedBatch
from distill.training.sparse_network import SparseNetwork
from distill.training.student import Form
from export.student_file import Layer, read_student, write_student
from tests.distill.test_distillation import PENDULUM, cut_after, little_teacher, small


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


def little_student(folder: Path) -> Path:
    """The teacher of `little_teacher` with an eighth of its weights cut and the others moved a little."""
    student = read_student(little_teacher(folder))
    generator = np.random.default_rng(7)
    layers = []
    for layer in student.layers:
        weight = layer.weight * (1.0 + 0.1 * generator.standard_normal(layer.weight.shape)).astype(np.float32)
        weight.flat[::8] = 0.0
        layers.append(dataclasses.replace(layer, weight=weight))
    path = folder / "begin.safetensors"
    write_student(path, dataclasses.replace(student, layers=tuple(layers), role="student"))
    return path


def little(folder: Path, **changes: object) -> RefineConfig:
    config = RefineConfig(
        student=little_student(folder),
        teacher=little_teacher(folder),
        env=PENDULUM,
        out=folder / "refined",
        fine_tune_iterations=60,
        fine_tune_doublings=1,
        episodes=2,
        round_iterations=30,
        round_steps=200,
        batch=32,
        selection_episodes=3,
        evaluation_episodes=2,
        search_episodes=40 * 5,
        search_episodes_each=1,
    )
    return dataclasses.replace(config, **changes)


def kept(path: str | Path) -> list[np.ndarray]:
    return [layer.weight != 0.0 for layer in read_student(path).layers]


@pytest.mark.parametrize("objective", ["teacher", "on-policy", "expected-entropy"])
def test_a_fixed_mask_stays_and_the_same_seed_gives_the_same_bytes(tmp_path: Path, objective: str) -> None:
    files = []
    for name in ("a", "b"):
        config = little(tmp_path, out=tmp_path / name, mask="fixed", objective=objective)
        result = refine(config)
        files.append(Path(result["student"]).read_bytes())
        assert (result["rows"] == 400) == (objective == "teacher")
        for now, before in zip(kept(result["student"]), kept(config.student), strict=True):
            assert not np.any(now & ~before)
        assert {candidate["size"] for candidate in result["candidates"]} == {28}
    assert files[0] == files[1]
    student = read_student(result["student"])
    assert student.config["objective"] == objective
    assert set(student.parents) == {"teacher", "dataset", "student"}
    np.testing.assert_array_equal(student.observation_scale, read_student(config.student).observation_scale)


def test_a_mask_shrinks_while_the_target_holds(tmp_path: Path) -> None:
    result = refine(little(tmp_path, target_return=0.2, objective="n-distill"))
    sizes = [candidate["size"] for candidate in result["candidates"]]
    assert sizes[0] == 28
    assert min(sizes) < 20
    assert result["kept_weights"] <= 28
    result = refine(little(tmp_path, kept_weights=(10,)))
    assert result["kept_weights"] <= 10


@pytest.mark.parametrize("saves", [2, 6])
def test_a_resumed_refinement_gives_the_same_bytes(tmp_path: Path, saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"mask": "fixed", "search": "cma-es", "target_return": 1.5}
    whole = Path(refine(little(tmp_path, out=tmp_path / "whole", **options))["student"]).read_bytes()
    config = little(tmp_path, out=tmp_path / "cut", **options)
    with cut_after(saves, monkeypatch):
        refine(config)
    assert not (config.out / "student.safetensors").exists()
    result = refine(dataclasses.replace(config, resume=True))
    assert Path(result["student"]).read_bytes() == whole
    again = refine(dataclasses.replace(config, resume=True))
    assert again == json.loads(json.dumps(result)), "a run that is over is not made again"
    with pytest.raises(DistillError, match=r"--resume: .*distill\.json is the result of other options"):
        refine(dataclasses.replace(config, resume=True, spread=0.2))


def test_the_search_does_not_depend_on_jobs_and_never_ships_what_is_worse(tmp_path: Path) -> None:
    files = []
    for jobs in (1, 2):
        options = {"mask": "fixed", "search": "ars", "target_return": 2.0}  # nobody holds it: the best mean ships
        result = refine(little(tmp_path, out=tmp_path / f"{jobs}", jobs=jobs, **options))
        files.append(Path(result["student"]).read_bytes())
        assert len(result["search"]["mean_returns"]) == result["search"]["generations"]
    assert files[0] == files[1]
    best = max(candidate["selection"]["mean"] for candidate in result["candidates"])
    assert not result["target_held"]
    assert result["chosen"]["selection"]["mean"] == best


@pytest.mark.parametrize("saves", [1, 3, 5])
def test_a_resumed_ascent_gives_the_same_bytes(tmp_path: Path, saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.refinement.policy_gradient._ROUND_STEPS", 400)
    options = {"mask": "fixed", "search": "policy-gradient", "fine_tune_iterations": 0, "search_episodes": 4 * 24}
    whole = refine(little(tmp_path, out=tmp_path / "whole", **options))
    assert whole["search"]["generations"] == len(whole["search"]["mean_returns"]) == 24
    assert len(whole["candidates"]) == 9
    config = little(tmp_path, out=tmp_path / "cut", **options)
    with cut_after(saves, monkeypatch):
        refine(config)
    result = refine(dataclasses.replace(config, resume=True))
    assert Path(result["student"]).read_bytes() == Path(whole["student"]).read_bytes()
    with pytest.raises(DistillError, match="--search-episodes: got 3, expected at least 4, one generation"):
        refine(little(tmp_path, **{**options, "search_episodes": 3}))


def test_a_search_needs_no_fine_tuning_before_it(tmp_path: Path) -> None:
    result = refine(little(tmp_path, mask="fixed", fine_tune_iterations=0, search="ars"))
    assert result["kept_weights"] <= 28
    assert result["search"]["generations"] > 0


def test_sizes_beyond_the_student_and_other_discounts_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DistillError, match=r"^--kept-weights: got 300, the student .* has 28 weights"):
        refine(little(tmp_path, kept_weights=(300, 5)))
    critics = FrozenCritics((((torch.ones(1, 4), torch.zeros(1)),),), "relu", gamma=0.98)
    monkeypatch.setattr("distill.refinement.refinement.read_critics", lambda *_: critics)
    with pytest.raises(DistillError, match=r"^--gamma: got 0\.99, expected 0\.98, by which the critics of"):
        refine(little(tmp_path, objective="td+v", cost_sensitive=False))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"history": 3, "base": 1}, "got inputs of 3 frames, the environment stacks 1"),
        ({"bound": 5.0}, r"got actions within \[-5\.0\] and \[5\.0\], the environment takes \[-2\.0\] to \[2\.0\]"),
    ],
)
def test_students_of_other_frames_and_bounds_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    student = read_student(little_student(tmp_path))
    bound, base = changes.get("bound", 2.0), changes.get("base", 3)
    other = dataclasses.replace(
        student,
        history=changes.get("history", 1),
        observation_mean=student.observation_mean[:base],
        observation_scale=student.observation_scale[:base],
        observation_names=student.observation_names[:base],
        action_low=np.float32([-bound]),
        action_high=np.float32([bound]),
    )
    write_student(tmp_path / "other.safetensors", other)
    with pytest.raises(DistillError, match=words):
        refine(little(tmp_path, student=tmp_path / "other.safetensors"))


def test_a_student_that_was_made_for_another_environment_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = little_student(tmp_path)
    student, facts = read_student(path), EnvironmentSpec(PENDULUM, {}).facts()
    check_fits(path, student, PENDULUM, facts)
    check_fits(path, student, f"gymnasium:{PENDULUM}", facts)
    assert capsys.readouterr().err == ""
    check_fits(path, dataclasses.replace(student, environment="Elsewhere-v1"), PENDULUM, facts)
    assert capsys.readouterr().err == f"note: student {path} was made for Elsewhere-v1, it plays in {PENDULUM}\n"


def test_what_a_student_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="--mask fixed: got --kept-weights as well"):
        refine(little(tmp_path, mask="fixed", kept_weights=(5,)))
    with pytest.raises(DistillError, match=r"--spread: got nan"):
        refine(little(tmp_path, spread=math.nan))
    with pytest.raises(DistillError, match="--ranking: got posterior"):
        refine(little(tmp_path, ranking="posterior"))
    student = read_student(little_student(tmp_path))
    other = Layer(student.layers[0].weight, student.layers[0].bias, "tanh")
    path = tmp_path / "tanh.safetensors"
    write_student(path, dataclasses.replace(student, layers=(other, student.layers[1])))
    narrow = Layer(student.layers[0].weight[:, :2].copy(), student.layers[0].bias, "relu")
    write_student(
        tmp_path / "narrow.safetensors",
        dataclasses.replace(
            student,
            layers=(narrow, student.layers[1]),
            observation_mean=student.observation_mean[:2],
            observation_scale=student.observation_scale[:2],
            observation_names=("cos", "sin"),
        ),
    )
    with pytest.raises(DistillError, match=r"narrow\.safetensors: got 2 inputs and 1 actions, the environment has 3"):
        refine(little(tmp_path, student=tmp_path / "narrow.safetensors"))
    with pytest.raises(DistillError, match="got layers of tanh, tanh, expected relu, tanh"):
        refine(little(tmp_path, student=path))
    with pytest.raises(DistillError, match=r"--search-episodes: got 3, expected at least \d+, one generation"):
        refine(little(tmp_path, search="ars", search_episodes=3, mask="fixed"))
    for out, name in (("run", "run/student.safetensors"), ("run", "run/sizes/00.safetensors")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_student(tmp_path / name, student)
        with pytest.raises(DistillError, match=r"--out: got .*run, where --student .* lies and would be replaced"):
            refine(little(tmp_path, student=tmp_path / name, out=tmp_path / out))


def test_rewards_that_are_all_nothing_are_refused_where_they_count(tmp_path: Path) -> None:
    dataset = Path(refine(little(tmp_path, mask="fixed"))["dataset"])
    stored = read_dataset(dataset)
    without = dataclasses.replace(stored.transitions, rewards=0.0 * stored.transitions.rewards)
    write_dataset(tmp_path / "nothing.safetensors", dataclasses.replace(stored, transitions=without))
    options = {"dataset": tmp_path / "nothing.safetensors", "mask": "fixed"}
    with pytest.raises(DistillError, match=r"--objective on-policy\+r: got 4\d\d rewards .* that are all 0"):
        refine(little(tmp_path, objective="on-policy+r", **options))
    assert refine(little(tmp_path, objective="n-distill", **options))["kept_weights"]


def test_a_student_of_one_number_is_not_searched_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = read_student(little_student(tmp_path))
    layers = [Layer(0.0 * layer.weight, 0.0 * layer.bias, layer.activation) for layer in student.layers]
    options = {"student": tmp_path / "empty.safetensors", "mask": "fixed", "search": "cma-es"}
    write_student(options["student"], dataclasses.replace(student, layers=tuple(layers)))
    with pytest.raises(DistillError, match=r"empty\.safetensors: all weights are 0, expected some"):
        refine(little(tmp_path, **options))
    layers[-1].weight[0, 0] = 0.5  # of a unit whose output is always 0
    write_student(options["student"], dataclasses.replace(student, layers=tuple(layers)))
    refine(little(tmp_path, **options))
    assert "no search" in capsys.readouterr().err


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


def test_critics_of_the_teacher_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    reason = r"teacher's critics: got teacher\.safetensors, expected a SAC"
    with pytest.raises(DistillError, match=f"^{reason}"):
        refine(little(tmp_path, objective="on-policy+r", critic="teacher"))
    with pytest.raises(
        DistillError, match=rf"^--objective: objective td\+v: .*or one of teacher, on-policy, .*{reason}"
    ):
        refine(little(tmp_path, objective="td+v"))
    with pytest.raises(DistillError, match="--critic teacher: got objective on-policy, which does not follow"):
        refine(little(tmp_path, objective="on-policy", critic="teacher"))


def test_a_trained_student_can_be_refined(tmp_path: Path) -> None:
    trained = distil(small(tmp_path))
    result = refine(little(tmp_path, student=Path(trained["student"]), mask="fixed", objective="on-policy"))
    assert result["kept_weights"] <= trained["kept_weights"]
