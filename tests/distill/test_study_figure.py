"""The tabular laboratory: worlds, sampled updates against exact expectations, intervals, and the `study` command."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.errors import DistillError
from distill.policy_distillation import study_figure as study_module
from distill.policy_distillation.arms import Arm, Measured, by_direction, checkpoints_up_to, run_arms
from distill.policy_distillation.expected_update import expected_update, softmax
from distill.policy_distillation.figures import ACTIONS, CLONING, FIGURES, WITH_REWARD
from distill.policy_distillation.intervals import gained, iterations_needed, mean_interval, said_ratio
from distill.policy_distillation.objectives import OBJECTIVES
from distill.policy_distillation.q_learning import learn, policy_of, with_faulty_cells, with_noisy_actions
from distill.policy_distillation.sampled_update import STUDENT, Descent, Lanes, distil
from distill.policy_distillation.study_figure import study_figure
from distill.policy_distillation.verdicts import JUDGES, _peak
from distill.policy_distillation.worlds import Worlds, as_finite_mdp, corridors, grid_worlds, values
from distill.study_config import StudyConfig

ROOT = Path(__file__).resolve().parents[2]
GAMMA = 0.9


def one_after_another(
    function: Callable[[Any], Any], items: Sequence[Any], _: int, on_done: Callable[..., None]
) -> None:
    for item in items:
        on_done(item, function(item))


def small_world(count: int) -> Worlds:
    """Four cells in a ring with a terminal fifth: noisy, so that every transition happens."""
    following = np.array([[1, 3], [2, 0], [4, 1], [0, 2], [4, 4]])
    return Worlds(
        np.repeat(following[None], count, axis=0),
        np.repeat(np.array([[0.5, -1.0, 0.3, 1.0, 2.0]]), count, axis=0),
        np.repeat(np.array([[False, False, False, False, True]]), count, axis=0),
        np.zeros(count, dtype=np.int64),
        3,
        noise=0.3,
        death=0.1,
    )


def test_grid_worlds_are_those_of_the_paper() -> None:
    worlds = grid_worlds(range(100))
    following, start = worlds.next_cell, 10 * 20 + 10
    assert worlds.shape == (100, 400, 4)
    assert (worlds.start == start).all()
    assert (worlds.arrival_reward[:, start] == 0.0).all()
    rewards, counts = np.unique(worlds.arrival_reward, return_counts=True)
    shares = dict(zip(rewards.tolist(), (counts / 40_000).tolist(), strict=True))
    for reward, share in ((10.0, 0.008), (5.0, 0.005), (-10.0, 0.018), (-5.0, 0.01), (-1.0, 0.11)):
        assert shares[reward] == pytest.approx(share, abs=0.002)
    assert (worlds.terminal == (np.abs(worlds.arrival_reward) >= 5.0)).all()
    inner = np.array([row * 20 + column for row in range(1, 19) for column in range(1, 19)])
    stays = following[:, inner] == inner[None, :, None]
    assert stays.mean() == pytest.approx(0.09, abs=0.005), "walls"
    moved = np.broadcast_to(inner[None, :, None] + np.array([-1, 1, -20, 20]), stays.shape)
    assert (stays | (following[:, inner] == moved)).all()
    assert np.array_equal(grid_worlds([7]).next_cell[0], following[7]), "a world is its seed's, whoever is beside it"


def test_exact_values_are_those_of_the_full_tables() -> None:
    worlds = grid_worlds(range(2))
    policy = softmax(np.random.default_rng(0).normal(size=(400, 4)))
    mdp = as_finite_mdp(worlds, 1)
    found = values(worlds, 1, policy, 0.99)
    assert np.allclose(found, mdp.values(policy, 0.99), atol=1e-9)
    assert (found[worlds.terminal[1]] == 0.0).all()


def test_sampled_returns_have_the_exact_mean() -> None:
    agents = 20_000
    worlds = small_world(1)
    rng = np.random.default_rng(1)
    world, cell, going = np.zeros(agents, dtype=np.int64), np.zeros(agents, dtype=np.int64), np.ones(agents)
    total = np.zeros(agents)
    for step in range(150):
        cell, reward, over = worlds.move(world, cell, rng.integers(2, size=agents), rng)
        total += GAMMA**step * going * reward
        going = going * ~over
    exact = values(worlds, 0, np.full((5, 2), 0.5), GAMMA)[0]
    assert total.mean() == pytest.approx(exact, abs=4.0 * total.std() / np.sqrt(agents))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_sampled_update_has_the_expectation_of_equation_1(name: str) -> None:
    """Against the exact update, whose steps weigh discount**t where those of an episode weigh 1: gamma is 1 here."""
    count, objective = 12_000, OBJECTIVES[name]
    worlds = small_world(count)
    rng = np.random.default_rng(3)
    teacher = softmax(rng.normal(size=(5, 2)))
    mdp = as_finite_mdp(worlds, 0)
    lanes = Lanes(
        worlds,
        np.arange(count),
        teacher[None],
        np.zeros(count, dtype=np.int64),
        mdp.values(teacher)[None],
        np.full(count, STUDENT if objective.control == "student" else 0),
    )
    shown = np.zeros((count, 5, 2))

    def show(lane: int, _: int, logits: np.ndarray) -> None:
        shown[lane] = logits

    rate = 1e-3
    distil(lanes, objective, Descent(1, rate, 1.0, 0), [1], show)
    if objective.needs_student_value:  # V_th is still 0 before its first update
        better = mdp.values(teacher) > 0.0
        assert better[:4].all(), "or the test would need both branches"
        expected = expected_update(mdp, OBJECTIVES["on-policy+r"], teacher, np.zeros((5, 2)))
        reward_only = expected - expected_update(mdp, OBJECTIVES["on-policy"], teacher, np.zeros((5, 2)))
        expected = np.where(better[:, None], expected, reward_only)
    else:
        expected = expected_update(mdp, objective, teacher, np.zeros((5, 2)))
    found = -shown / rate
    error = found.std(axis=0) / np.sqrt(count)
    assert np.abs(expected[:4]).max() > 0.02
    assert (np.abs(found.mean(axis=0) - expected) <= 4.5 * error + 1e-12).all()
    assert np.abs(expected[:4]).max() > 5.0 * error[:4].max(), "the test could not tell"


def test_with_a_critic_pseudo_rewards_reach_the_teacher_and_without_they_end_the_episode() -> None:
    worlds = corridors(20, 11, -10.0, 10.0)
    right = np.broadcast_to(np.eye(2)[1], (20, 11, 2)).copy()
    arms = [Arm("p", "m", "expected-entropy", "student", right)]
    plain, helped = (
        run_arms(worlds, arms, Descent(200, 0.1, 0.99, 0, critic), [200]).curves["p", "m"]["return"][:, 0]
        for critic in (False, True)
    )
    taught = values(worlds, 0, right[0], 0.99)[5]
    assert helped.min() > 0.95 * taught
    assert plain.mean() < 0.8 * taught


def test_a_student_driven_by_its_teacher_learns_only_where_the_teacher_goes() -> None:
    worlds = corridors(3, 7, -1.0, 1.0)
    right = np.broadcast_to(np.eye(2)[1], (3, 7, 2)).copy()
    shown: dict[int, np.ndarray] = {}

    def show(lane: int, _: int, logits: np.ndarray) -> None:
        shown[lane] = logits.copy()

    for driver, untouched in ((np.arange(3), [0, 1, 2, 6]), (np.full(3, STUDENT), [0, 6])):
        lanes = Lanes(worlds, np.arange(3), right, np.arange(3), np.zeros((3, 7)), driver)
        distil(lanes, OBJECTIVES["teacher"], Descent(200, 0.1, 0.99, 0), [200], show)
        logits = np.stack([shown[lane] for lane in range(3)])
        assert (logits[:, untouched] == 0.0).all()
        assert (softmax(logits)[:, 3:6, 1] > 0.9).all()


def test_lanes_of_one_world_do_not_depend_on_how_many_checkpoints_are_shown() -> None:
    worlds = small_world(4)
    teacher = softmax(np.random.default_rng(0).normal(size=(4, 5, 2)))
    arms = [Arm("p", "m", "n-distill+r", "student", teacher)]
    sparse, dense = (run_arms(worlds, arms, Descent(20, 0.05, GAMMA, 5), shown) for shown in ([0, 20], [0, 3, 9, 20]))
    few, many = (found.curves["p", "m"]["return"] for found in (sparse, dense))
    assert np.array_equal(few, many[:, [0, 3]])
    assert np.ptp(few[:, 1]) > 0.0


def test_q_learning_finds_the_way_and_imperfect_teachers_are_worse() -> None:
    worlds = corridors(40, 5, -1.0, 1.0)
    learned = policy_of(learn(worlds, 0.99, 0, steps=3_000), 0.0)
    assert learned[:, 1:-1, 1].mean() > 0.9, "a recent death can make a step to the right look worse"
    policy = np.broadcast_to(np.eye(2)[1], learned.shape)
    noisy, faulty = with_noisy_actions(policy, 0.25), with_faulty_cells(policy, 0.25, 0)
    assert np.allclose(noisy[:, 1:-1], [0.125, 0.875])
    assert 0.02 < (faulty[:, 1:-1, 1] == 0.0).mean() < 0.3, "half of a quarter"
    assert np.allclose(policy_of(np.array([[0.0, 0.1]]), 0.1), softmax(np.array([[0.0, 1.0]])))


def test_more_actions_than_directions() -> None:
    policy = np.arange(8.0)[None] / 28.0
    assert np.allclose(by_direction(policy, 4), np.array([[4.0, 6.0, 8.0, 10.0]]) / 28.0)
    assert np.allclose(by_direction(policy, 4).sum(), 1.0)


def test_iterations_needed_lie_between_checkpoints() -> None:
    checkpoints = np.array([0, 10, 100])
    returns = np.array([[0.0, 5.0, 10.0], [0.0, 9.5, 10.0], [0.0, 1.0, 2.0], [0.0, 0.1, 0.2]])
    share = gained(returns, np.array([10.0, 10.0, 10.0, 0.5]))
    assert share.shape == (3, 3), "a teacher that gains nothing says nothing"
    needed, never = iterations_needed(share, checkpoints)
    assert needed.tolist() == pytest.approx([10.0 + 90.0 * 0.8, 10.0 * 9.0 / 9.5, 100.0])
    assert never == 1


def test_intervals() -> None:
    mean, low, high = mean_interval(np.array([[1.0], [2.0], [3.0]]))
    assert (mean[0], high[0] - mean[0]) == pytest.approx((2.0, 4.302653 / np.sqrt(3.0)), abs=1e-6)
    assert mean[0] - low[0] == pytest.approx(high[0] - mean[0])
    same = said_ratio(np.array([3.0, 6.0, 12.0]), np.array([1.0, 2.0, 4.0]))
    assert same == pytest.approx({"mean": 3.0, "low": 3.0, "high": 3.0})
    assert said_ratio(np.array([3.0]), np.array([1.0]))["low"] is None


def test_a_claim_that_does_not_hold_is_said_not_to() -> None:
    checkpoints = np.array(checkpoints_up_to(100))
    rng = np.random.default_rng(0)
    slow, fast = (
        10.0 * np.minimum(1.0, checkpoints / (ends * rng.uniform(0.9, 1.1, size=(8, 1)))) for ends in (90.0, 30.0)
    )
    for student, reproduced in ((fast, True), (slow, False)):
        curves = {
            ("p", "student-driven"): {"return": student},
            ("p", "teacher-driven"): {"return": slow if student is fast else fast},
            ("p", "uniform"): {"return": slow},
        }
        claims = JUDGES["fig3"](Measured(curves, {"p": np.full(8, 10.0)}), checkpoints)
        assert [claim.reproduced for claim in claims[:2]] == [reproduced, reproduced]
    assert claims[2].reproduced is True, "three times as slow as the teacher"


def curves_ending(ends: float, spread: float, peak: float | None = None) -> dict[str, Any]:
    """Eight worlds from 0 over `peak` to `ends`, which differs by +-`spread` from world to world."""
    last = ends + spread * np.array([1, 1, -1, -1, 1, 1, -1, -1])[:, None]
    middle = last if peak is None else np.full((8, 1), peak)
    return {"return": np.concatenate([np.zeros((8, 1)), middle, last], axis=1)}


def verdict(figure: str, measured: Measured, words: str) -> bool | None:
    """Of the one claim that has these words."""
    (claim,) = (claim for claim in JUDGES[figure](measured, np.array([0, 50, 100])) if words in claim.claim)
    return claim.reproduced


@pytest.mark.parametrize(("ratio", "reproduced"), [(3.0, True), (1.5, False), (5.0, False), (3.95, None)])
def test_a_ratio_is_two_to_four_only_with_its_whole_interval(ratio: float, reproduced: bool | None) -> None:
    checkpoints = np.array(checkpoints_up_to(10_000))
    noise = np.random.default_rng(0).uniform(0.9, 1.1, size=(8, 1))
    student, teacher = (10.0 * np.minimum(1.0, checkpoints / ends) for ends in (1000.0 * noise, 1000.0 * ratio))
    curves = {
        ("p", "student-driven"): {"return": student},
        ("p", "teacher-driven"): {"return": np.broadcast_to(teacher, student.shape)},
        ("p", "uniform"): {"return": student},
    }
    claims = JUDGES["fig3"](Measured(curves, {"p": np.full(8, 10.0)}), checkpoints)
    assert claims[1].reproduced is reproduced


@pytest.mark.parametrize(
    ("plain", "expected", "spread", "half", "keeps"),
    [(2.0, 9.9, 0.1, True, True), (8.0, 6.0, 0.1, False, False), (4.9, 9.0, 1.0, None, None)],
)
def test_figure_4_judges_by_intervals(
    plain: float, expected: float, spread: float, half: bool | None, keeps: bool | None
) -> None:
    curves = {}
    for actions in ACTIONS:
        few = actions == ACTIONS[0]
        curves[f"{actions} actions", "entropy-regularised"] = curves_ending(10.0 if few else plain, spread)
        curves[f"{actions} actions", "expected-entropy"] = curves_ending(
            10.0 if few else expected, 0.0 if few else spread
        )
    measured = Measured(curves, {f"{actions} actions": np.full(8, 10.0) for actions in ACTIONS})
    assert verdict("fig4", measured, "400 actions: entropy regularised has less") is half
    assert verdict("fig4", measured, "400 actions: expected entropy keeps") is keeps


@pytest.mark.parametrize(
    ("last", "spread", "degrades"), [(1.0, 0.1, True), (2.95, 0.01, False), (3.0, 0.0, False), (2.9, 0.3, None)]
)
def test_figure_5_wants_the_same_evidence_of_degrading_and_of_not_degrading(
    last: float, spread: float, degrades: bool | None
) -> None:
    curves = {("p", method): curves_ending(last, spread, peak=3.0) for method in (*CLONING, *WITH_REWARD)}
    measured = Measured(curves, {"p": np.full(8, 3.0)})
    assert verdict("fig5", measured, "a clone (on-policy) peaks") is degrades
    assert verdict("fig5", measured, "on-policy+r does not degrade") is (None if degrades is None else not degrades)


def test_the_peak_of_curves_that_only_differ_by_luck_is_no_peak() -> None:
    rng = np.random.default_rng(0)
    lost = []
    for _ in range(200):
        curve = rng.normal(size=(10, 40))
        lost.append(float((_peak(curve) - curve[:, -1]).mean()))
        assert curve.mean(axis=0).max() > curve[:, -1].mean() - 1e-12, (
            "read where it was chosen it always seems to fall"
        )
    assert abs(np.mean(lost)) < 3 * np.std(lost) / np.sqrt(len(lost))


@pytest.mark.parametrize(("clones", "spread", "reproduced"), [(-9.9, 0.1, True), (2.0, 0.1, False), (-0.1, 3.0, None)])
def test_figure_6_asks_all_clones(clones: float, spread: float, reproduced: bool | None) -> None:
    curves = {}
    for method in (*CLONING, *WITH_REWARD):
        curves["optimal teacher", method] = curves_ending(10.0, 0.0)
        curves["adversarial teacher", method] = curves_ending(-10.0, 0.0)
    curves["adversarial teacher", CLONING[-1]] = curves_ending(clones, spread)
    measured = Measured(curves, {"optimal teacher": np.full(8, 10.0), "adversarial teacher": np.full(8, -10.0)})
    assert verdict("fig6", measured, "clones learn its failure") is reproduced
    assert verdict("fig6", measured, "clones reach its return") is True
    curves["optimal teacher", CLONING[0]] = curves_ending(9.0, 0.1)
    assert verdict("fig6", measured, "clones reach its return") is False


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of two worlds, a part each, without processes."""
    monkeypatch.setattr(study_module, "run_all", one_after_another)
    monkeypatch.setattr("distill.policy_distillation.figures.learn", functools.partial(learn, steps=300))
    for name, figure in FIGURES.items():
        monkeypatch.setitem(FIGURES, name, dataclasses.replace(figure, worlds=2, worlds_per_unit=1, iterations=3))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_made_of_its_parts_and_goes_on_where_it_was(
    tmp_path: Path, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StudyConfig(name, out=tmp_path)
    told = study_figure(config)
    written = {path: path.read_bytes() for path in tmp_path.glob(f"{name}.*")}
    assert sorted(path.suffix for path in written) == [".json", ".svg"]
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert record["checkpoints"] == [0, 1, 2, 3]
    assert {claim["claim"] for claim in record["verdicts"]} == set(told["reproduced"])
    assert all(claim["reproduced"] in (True, False, None) for claim in record["verdicts"])
    for panel in record["panels"].values():
        for method, measures in panel.items():
            if method != "teacher_return":
                curve = measures["return"]
                assert len(curve["mean"]) == 4
                assert all(low <= high for low, high in zip(curve["low"], curve["high"], strict=True))
    units = sorted((tmp_path / "units").glob("*.json"))
    assert len(units) == 2
    units[1].unlink()
    ran = []
    monkeypatch.setattr(
        study_module,
        "run_all",
        lambda function, items, *rest: ran.extend(items) or one_after_another(function, items, *rest),
    )
    study_figure(config)
    assert [unit.path for unit in ran] == [units[1]]
    again = {path: path.read_bytes() for path in written}
    svg, (first, second) = (
        tmp_path / f"{name}.svg",
        (json.loads(each[tmp_path / f"{name}.json"]) for each in (written, again)),
    )
    assert again[svg] == written[svg]
    assert first | {"core_seconds": 0} == second | {"core_seconds": 0}
    study_figure(dataclasses.replace(config, iterations=2))
    assert len(list((tmp_path / "units").glob("*.json"))) == 4, "other options are other parts"


@pytest.mark.usefixtures("small")
def test_a_part_is_taken_only_if_it_is_whole_and_of_these_options(tmp_path: Path) -> None:
    config = StudyConfig("fig6", out=tmp_path)
    study_figure(config)
    path = min((tmp_path / "units").glob("*.json"))
    kept = json.loads(path.read_text())
    for damaged in ("", path.read_text()[:-9], "{}"):
        path.write_text(damaged)
        with pytest.raises(DistillError, match=f"{path.name}: got a damaged file .*; remove it"):
            study_figure(config)
    path.write_text(json.dumps({**kept, "identity": {"figure": "fig3"}, "core_seconds": -1.0}))
    study_figure(config)
    again = json.loads(path.read_text())
    assert again["identity"] == kept["identity"]
    assert again["core_seconds"] >= 0.0, "it was measured again"


@pytest.mark.usefixtures("small")
def test_what_was_there_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StudyConfig("fig6", out=tmp_path)
    study_figure(config)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fails(*_: object) -> None:
        raise RuntimeError("half way")

    monkeypatch.setattr(study_module, "curves_svg", fails)
    with pytest.raises(RuntimeError, match="half way"):
        study_figure(config)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"figure": "fig2", "grids": 3}, "--grids: got 3, expected no such option with fig2; leave it out"),
        ({"figure": "fields", "iterations": 3}, "--iterations: got 3, expected no such option with fields"),
        ({"figure": "fig2", "learning_rate": 0.1}, "--learning-rate: got 0.1, expected no such option with fig2"),
        ({"figure": "fig2", "seed": 5}, "--seed: got 5, expected no such option with fig2; leave it out"),
        ({"figure": "fields", "seed": 7}, "--seed: got 7, expected no such option with fields"),
        ({"figure": "fig3", "learning_rate": 0.0}, "--learning-rate: got 0.0, expected 1e-09 to 1000"),
        ({"figure": "fig3", "grids": 0}, "--grids: got 0, expected 1 to"),
        ({"figure": "fig3", "jobs": 0}, "--jobs: got 0"),
        ({"figure": "fig3", "seed": -1}, "--seed: got -1"),
    ],
)
def test_options_out_of_place_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DistillError, match=words):
        study_figure(StudyConfig(out=tmp_path, **options))
    assert not list(tmp_path.iterdir())


def test_figure_2_on_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distill", "study", "fig2", "--out", str(tmp_path), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["on_policy_plus_r"]["min"] == pytest.approx(0.07, abs=0.005)
    assert told["on_policy_plus_r"]["max"] == pytest.approx(0.93, abs=0.005)
    assert "last" in told["on_policy_plus_r"]
    assert told["n_distill_plus_r"]["last"] >= 0.99
    assert list(told["reproduced"].values()) == [True, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fig2.json", "fig2.svg"]


def test_the_fields_are_a_table(tmp_path: Path) -> None:
    told = study_figure(StudyConfig("fields", out=tmp_path, grids=1))
    assert told["objectives"]["kl-regularised"]["fixed_point"] == "the teacher"
    assert told["objectives"]["on-policy"]["is_field"] is False
    assert set(OBJECTIVES) < set(told["objectives"])
    assert json.loads((tmp_path / "fields.json").read_text())["objectives"] == told["objectives"]
