"""The whole distillation, small: repeatable bytes, both settings of --states, and refusals."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from distill.checkpoint import Checkpoint
from distill.config import TrainConfig
from distill.distillation import distil
from distill.errors import DistillError
from distill.folder_lock import FolderLock
from distill.network import network_policy
from distill.select import Candidate, Selection
from distill.several_seeds import distil_seeds, train_together
from distill.train_options import check_config
from export.compile import build_policy
from export.student_file import Layer, Student, read_student, write_student

ROOT = Path(__file__).resolve().parents[2]
PENDULUM = "Pendulum-v1"


def little_teacher(folder: Path) -> Path:
    """An energy-blind but reacting Pendulum policy in the project's own format: 3-8-1."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((8, 3)).astype(np.float32)
    second = generator.standard_normal((1, 8)).astype(np.float32) * 0.5
    student = Student(
        layers=(
            Layer(first, np.zeros(8, np.float32), "relu"),
            Layer(second, np.zeros(1, np.float32), "tanh"),
        ),
        observation_mean=np.zeros(3, np.float32),
        observation_scale=np.float32([1, 1, 8]),
        action_low=np.float32([-2]),
        action_high=np.float32([2]),
        history=1,
        environment=PENDULUM,
        control_period_s=0.05,
        observation_names=("cos", "sin", "speed"),
        action_names=("torque",),
        role="teacher",
    )
    path = folder / "teacher.safetensors"
    write_student(path, student)
    return path


def small(folder: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        teacher=little_teacher(folder),
        env=PENDULUM,
        out=folder / "out",
        hidden=(8,),
        iterations=300,
        fine_tune_iterations=50,
        fine_tune_doublings=1,
        episodes=2,
        round_iterations=100,
        round_steps=200,
        batch=32,
        selection_episodes=3,
        evaluation_episodes=2,
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize("states", ["student", "dataset"])
def test_same_seed_same_student_bytes(tmp_path: Path, states: str) -> None:
    files = []
    for name in ("a", "b"):
        result = distil(small(tmp_path, out=tmp_path / name, states=states))
        files.append(Path(result["student"]).read_bytes())
        assert (result["rows"] == 400) == (states == "dataset")
    assert files[0] == files[1]
    other = distil(small(tmp_path, out=tmp_path / "c", states=states, seed=1))
    assert Path(other["student"]).read_bytes() != files[0]


def test_result_agrees_with_the_files(tmp_path: Path) -> None:
    result = distil(small(tmp_path, threshold=2.5))
    student = read_student(Path(result["student"]))
    assert student.threshold == result["threshold"] == 2.5
    policy = build_policy(student)
    assert (policy.kept_weights, policy.kept_parameters) == (result["kept_weights"], result["kept_parameters"])
    assert policy.byte_count.total == result["bytes"]
    assert result["teacher_parameters"] == 3 * 8 + 8 + 8 + 1
    assert {row["fine_tuned"] for row in result["candidates"]} == {True, False}
    assert json.loads((tmp_path / "out" / "distill.json").read_text()) == json.loads(json.dumps(result))
    assert student.evaluation["student"]["iqm"] == result["return_iqm"]
    for layer in student.layers:
        assert np.array_equal(layer.weight != 0.0, layer.log_alpha < 2.5)


def test_the_posterior_ranks_weights_far_below_the_priors_clip_by_their_alpha(tmp_path: Path) -> None:
    """Log alpha of important weights goes far below -8; were it clipped, they would tie and rank by their place."""
    import torch

    from distill.environment import EnvironmentSpec
    from distill.shrink import importance
    from distill.training.learner import BayesianLearner, make_learner

    learner = make_learner(small(tmp_path), EnvironmentSpec(PENDULUM, {}).facts())
    assert isinstance(learner, BayesianLearner)
    student = learner._training.student
    student.log_sigma[:] = -20.0
    network, ranked = learner.pruned(20.0)
    assert ranked is not None
    assert network.kept == network.form.weights
    order = torch.argsort(importance(network, ranked, "posterior", torch.zeros(1, 3)))
    assert torch.equal(order, torch.argsort(student.mean.abs()))


def test_every_size_tried_is_kept_as_a_student(tmp_path: Path) -> None:
    result = distil(small(tmp_path, kept_weights=(20, 8), hidden=(8, 8)))
    sizes = [row["kept_weights"] for row in result["candidates"]]
    for row in result["candidates"]:
        student = read_student(tmp_path / "out" / "sizes" / row["name"])
        assert build_policy(student).kept_weights == row["kept_weights"]
        assert all(np.array_equal(layer.weight != 0.0, layer.log_alpha < student.threshold) for layer in student.layers)
    asked = {row["asked"]: row for row in result["sizes"]}
    assert list(asked) == [20, 8]
    assert 3 <= len(sizes) <= 5  # as trained, then the two asked for, each tried again where it missed the target
    assert all(row["size"] == size and row["kept_weights"] <= size for size, row in asked.items())
    assert result["chosen"]["name"] == asked[8]["name"]
    assert not (tmp_path / "out" / "checkpoint").exists()


@pytest.mark.parametrize(("method", "hidden"), [("l1", (8,)), ("magnitude", (8,)), ("dense", (8,)), ("dense", ())])
def test_rivals_train_by_the_same_road(tmp_path: Path, method: str, hidden: tuple[int, ...]) -> None:
    weight = {"data_weight": 3.0} if method == "l1" else {}
    result = distil(small(tmp_path, method=method, hidden=hidden, **weight))
    student = read_student(Path(result["student"]))
    assert student.layers[0].log_alpha is None
    assert len(student.layers) == len(hidden) + 1
    zeros = sum(int((layer.weight == 0.0).sum()) for layer in student.layers)
    first = result["candidates"][0]
    dense = sum(layer.weight.size for layer in student.layers)
    assert (first["kept_weights"] < dense) == (method != "dense")
    assert zeros == 0 or first["kept_weights"] <= dense


class CutError(Exception):
    """Stands for the power failing."""


@contextlib.contextmanager
def cut_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What runs inside is cut off once it has saved so often."""
    save, calls = Checkpoint.save, 0

    def failing(self: Checkpoint, *arguments: object) -> None:
        nonlocal calls
        save(self, *arguments)
        calls += 1
        if calls == saves:
            raise CutError

    monkeypatch.setattr(Checkpoint, "save", failing)
    with pytest.raises(CutError):
        yield
    monkeypatch.setattr(Checkpoint, "save", save)


@pytest.mark.parametrize(("states", "saves"), [("student", 1), ("student", 4), ("dataset", 2), ("dataset", 6)])
def test_a_resumed_run_gives_the_same_bytes(
    tmp_path: Path, states: str, saves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"states": states, "target_return": 0.5, "fine_tune_iterations": 200, "hidden": (6,)}
    whole = Path(distil(small(tmp_path, out=tmp_path / "whole", **options))["student"]).read_bytes()
    config = small(tmp_path, out=tmp_path / "cut", **options)
    with cut_after(saves, monkeypatch):
        distil(config)
    assert not (config.out / "student.safetensors").exists()
    result = distil(dataclasses.replace(config, resume=True))
    assert Path(result["student"]).read_bytes() == whole
    again = distil(dataclasses.replace(config, resume=True))
    assert again == json.loads(json.dumps(result)), "a run that is over is not made again"
    with pytest.raises(DistillError, match=r"--resume: .*distill\.json is the result of other options"):
        distil(dataclasses.replace(config, resume=True, batch=16))


def test_a_cut_while_results_are_written_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path(distil(small(tmp_path, out=tmp_path / "whole"))["student"]).read_bytes()
    config = small(tmp_path, out=tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr("distill.report.write_json", lambda *_: (_ for _ in ()).throw(CutError()))
        with pytest.raises(CutError):
            distil(config)
    result = distil(dataclasses.replace(config, resume=True))
    assert Path(result["student"]).read_bytes() == whole
    assert (config.out / "dataset.safetensors").is_file()
    assert (config.out / "sizes" / result["chosen"]["name"]).is_file()


def test_resuming_on_other_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = []
    for seed in (0, 1):
        out = tmp_path / f"rows{seed}"
        distil(small(tmp_path, out=out, seed=seed, iterations=10, fine_tune_iterations=0))
        datasets.append(out / "dataset.safetensors")
    config = small(tmp_path, dataset=datasets[0], states="dataset")
    with monkeypatch.context() as patch:
        patch.setattr("distill.distillation.Distillation._shrink", lambda self: (_ for _ in ()).throw(CutError()))
        with pytest.raises(CutError):
            distil(config)
    with pytest.raises(DistillError, match=r"--resume: .* trained on other rows"):
        distil(dataclasses.replace(config, dataset=datasets[1], resume=True))


def test_resuming_with_other_options_or_damaged_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("distill.distillation.Distillation._shrink", lambda self: (_ for _ in ()).throw(CutError()))
        with pytest.raises(CutError):
            distil(config)
    with pytest.raises(DistillError, match=r"--resume: .* has batch = 32, got 16; give the same options"):
        distil(dataclasses.replace(config, batch=16, resume=True))
    state = config.out / "checkpoint" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(DistillError, match=r"--resume: .*state\.safetensors: not a readable.*without --resume"):
        distil(dataclasses.replace(config, resume=True))


@pytest.fixture
def cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A run that was cut off while it shrank, with two candidates on disk."""
    config = small(tmp_path, kept_weights=(16, 8))
    with monkeypatch.context() as patch, contextlib.suppress(CutError):
        save, saves = Checkpoint.save, 0

        def stop(self: Checkpoint, tensors: Any, figures: dict[str, Any]) -> None:
            nonlocal saves
            save(self, tensors, figures)
            saves += len(figures.get("shrinking", {}).get("candidates", ())) > 1
            if saves:
                raise CutError

        patch.setattr(Checkpoint, "save", stop)
        distil(config)
    assert Checkpoint(config.out / "checkpoint", {}).exists()
    return config


def test_what_refuses_a_new_run_leaves_the_unfinished_one(cut_off: TrainConfig, tmp_path: Path) -> None:
    theirs = cut_off.out / "checkpoint" / "thesis.pt"
    theirs.write_bytes(b"x")
    before = {path: path.read_bytes() for path in cut_off.out.rglob("*") if path.is_file()}
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    for changes in ({"dataset": empty}, {"dataset": cut_off.out / "checkpoint" / "dataset.safetensors"}):
        with pytest.raises(DistillError):
            distil(dataclasses.replace(cut_off, **changes))
        assert {path: path.read_bytes() for path in cut_off.out.rglob("*") if path.is_file()} == before
    distil(dataclasses.replace(cut_off, resume=True))
    assert [path.name for path in (cut_off.out / "checkpoint").iterdir()] == ["thesis.pt"], "not ours to remove"


def test_a_new_run_says_that_it_replaces_an_unfinished_one(
    cut_off: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    distil(cut_off)
    assert "note: this run takes the place of the unfinished one in" in capsys.readouterr().err


def test_a_kill_while_a_checkpoint_is_removed_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path)
    unlink, gone = Path.unlink, []

    def killed(path: Path, *arguments: Any, **options: Any) -> None:
        if (config.out / "distill.json").is_file() and "checkpoint" in path.parts and path.is_file():
            if gone:
                raise CutError
            gone.append(path.name)
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(CutError):
        distil(config)
    assert gone == ["state.safetensors"]
    monkeypatch.undo()
    assert distil(dataclasses.replace(config, resume=True)) == json.loads((config.out / "distill.json").read_text())


@pytest.mark.parametrize(
    "damage",
    [
        lambda figures, tensors: figures.pop("next_seed"),
        lambda figures, tensors: figures.update(rounds="x"),
        lambda figures, tensors: figures["shrinking"].update(rung={"keep": 3}),
        lambda figures, tensors: tensors.pop("network.values"),
        lambda figures, tensors: tensors.update({"network.values": torch.zeros(3)}),
        lambda figures, tensors: tensors["network.values"].fill_(torch.nan),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_in_one_line(cut_off: TrainConfig, damage: Any) -> None:
    state = cut_off.out / "checkpoint" / "state.safetensors"
    with safe_open(state, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    figures = json.loads(metadata["figures"])
    damage(figures, tensors)
    save_file(tensors, state, metadata | {"figures": json.dumps(figures)})
    with pytest.raises(
        DistillError, match=r"^--resume: .*state\.safetensors: got .*start over without --resume$"
    ) as error:
        distil(dataclasses.replace(cut_off, resume=True))
    assert "\n" not in str(error.value)


def test_what_is_lost_of_a_run_is_missed_when_it_is_resumed(cut_off: TrainConfig) -> None:
    (cut_off.out / "checkpoint" / "sizes" / "00.safetensors").unlink()
    with pytest.raises(DistillError, match=r"00\.safetensors: no such file, expected the student that the run kept"):
        distil(dataclasses.replace(cut_off, resume=True))
    distil(cut_off)
    (cut_off.out / "student.safetensors").unlink()
    with pytest.raises(
        DistillError, match=r"student\.safetensors: no such file, expected the student of the run that is"
    ):
        distil(dataclasses.replace(cut_off, resume=True))


def test_inputs_and_obstacles_in_the_runs_own_folder_are_refused(tmp_path: Path) -> None:
    config = small(tmp_path)
    inside = config.out / "sizes" / "teacher.safetensors"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(config.teacher.read_bytes())
    with pytest.raises(DistillError, match=r"^--out: got .*where --teacher .* lies and would be replaced"):
        distil(dataclasses.replace(config, teacher=inside))
    assert inside.is_file()
    (tmp_path / "other" / "distill.json").mkdir(parents=True)
    with pytest.raises(DistillError, match=r"where distill\.json is a folder"):
        distil(dataclasses.replace(config, out=tmp_path / "other"))
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "sizes").symlink_to(tmp_path)
    with pytest.raises(DistillError, match="where sizes is no folder"):
        distil(dataclasses.replace(config, out=tmp_path / "third"))


def test_seeds_do_not_depend_on_jobs(tmp_path: Path) -> None:
    teacher = little_teacher(tmp_path)
    files = []
    for jobs in (1, 2):
        out = tmp_path / f"jobs{jobs}"
        result = distil_seeds(small(tmp_path, teacher=teacher, out=out, seeds=2, jobs=jobs))
        files.append([(out / f"seed{seed}" / "student.safetensors").read_bytes() for seed in (0, 1)])
        assert [row["seed"] for row in result["seeds"]] == [0, 1]
        best = out / f"seed{result['best_seed']}" / "student.safetensors"
        assert (out / "student.safetensors").read_bytes() == best.read_bytes()
    assert files[0] == files[1]
    assert files[0][0] != files[0][1]


def test_students_trained_together_are_those_trained_alone(tmp_path: Path) -> None:
    teacher = little_teacher(tmp_path)
    config = small(tmp_path, teacher=teacher, out=tmp_path / "together", states="dataset", iterations=60, seeds=2)
    config = dataclasses.replace(config, round_iterations=50, critic=False, fine_tune_iterations=0)
    train_together(config, "cpu")
    for seed in (0, 1):
        options = dataclasses.replace(config, seed=seed, seeds=1)
        alone = read_student(Path(distil(dataclasses.replace(options, out=tmp_path / f"alone{seed}"))["student"]))
        continued = dataclasses.replace(options, out=config.out / f"seed{seed}", resume=True)
        together = read_student(Path(distil(continued)["student"]))
        for one, other in zip(alone.layers, together.layers, strict=True):
            assert np.allclose(one.mean, other.mean, atol=1e-4)
            assert np.allclose(one.log_alpha, other.log_alpha, atol=1e-2)


def test_seeds_on_an_accelerator_go_on_from_the_end_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is played by the processor: everything but the device's own arithmetic."""
    together = train_together
    monkeypatch.setattr("distill.several_seeds.train_together", lambda config, device: together(config, "cpu"))
    config = small(tmp_path, device="cuda", seeds=2, iterations=250)  # no multiple of the rounds
    result = distil_seeds(config)
    assert [row["seed"] for row in result["seeds"]] == [0, 1]
    assert all(row["cpu_seconds"] > 0.0 for row in result["seeds"])


def test_seeds_that_were_finished_are_not_made_again(tmp_path: Path) -> None:
    config = small(tmp_path, seeds=1, iterations=50, fine_tune_iterations=0)
    distil_seeds(config)
    first = (config.out / "seed0" / "student.safetensors").stat().st_mtime_ns
    result = distil_seeds(dataclasses.replace(config, seeds=2, resume=True))
    assert [row["seed"] for row in result["seeds"]] == [0, 1]
    assert (config.out / "seed0" / "student.safetensors").stat().st_mtime_ns == first


def test_an_accelerator_that_is_not_there_is_refused(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(DistillError, match=r"--device cuda: found no accelerator"):
        distil_seeds(small(tmp_path, device="cuda"))
    with pytest.raises(DistillError, match=r"--device cuda: got --resume"):
        distil_seeds(small(tmp_path, device="cuda", resume=True))


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    config = small(tmp_path)
    config.out.mkdir()
    with FolderLock(config.out), pytest.raises(DistillError, match="another process is training into it"):
        distil(config)
    distil(config)
    assert not (config.out / ".lock").exists()


def test_sizes_beyond_the_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"--kept-weights: got 99, the student has 32 weights"):
        distil(small(tmp_path, kept_weights=(99, 8)))


def test_scalars_for_tensorboard(tmp_path: Path) -> None:
    distil(small(tmp_path, tensorboard=True))
    assert list((tmp_path / "out" / "tensorboard").glob("events.out.tfevents.*"))


def test_dataset_is_reused_and_checked(tmp_path: Path) -> None:
    distil(small(tmp_path, states="dataset"))
    dataset = tmp_path / "out" / "dataset.safetensors"
    again = distil(small(tmp_path, states="dataset", dataset=dataset, out=tmp_path / "again"))
    assert again["rows"] == 400
    with pytest.raises(DistillError, match=r"was collected in 'Pendulum-v1'"):
        distil(
            small(
                tmp_path,
                dataset=dataset,
                env="hardware:CartRail-v0",
                teacher=ROOT / "teachers" / "cart_rail.safetensors",
            )
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "--iterations: got 0"),
        ({"data_weight": -1.0}, "--data-weight"),
        ({"data_weight": float("nan")}, "--data-weight"),
        ({"kept_weights": (0,)}, "--kept-weights"),
        ({"shrink": 1.0}, "--shrink"),
        ({"method": "l1", "ranking": "posterior"}, "--ranking"),
        ({"method": "l1", "critic": True}, "--method l1"),
        ({"method": "l1", "prior": "ard"}, "--prior: got ard with --method l1"),
        ({"method": "dense", "threshold": 1.0}, "--threshold"),
        ({"seed": 10_000, "seeds": 2}, r"--seed \+ --seeds"),
        ({"hidden": (70_000,)}, "--hidden"),
        ({"target_return": 0.0}, "--target-return"),
        ({"threshold": float("nan")}, "--threshold: got nan"),
        ({"seed": -1}, "--seed: got -1"),
        ({"batch": 10**17}, "--batch"),
        ({"observation_noise": float("inf")}, "--observation-noise"),
        ({"learning_rate": 1e30}, "--learning-rate"),
        ({"selection_episodes": 10_001}, "--selection-episodes"),
        ({"gamma": 1.0}, "--gamma"),
        ({"exploration_noise": -0.1}, "--exploration-noise"),
    ],
)
def test_impossible_numbers_are_refused(change: dict, message: str) -> None:
    with pytest.raises(DistillError, match=message):
        check_config(dataclasses.replace(TrainConfig(), **change))


def candidate(parameters: int, iqm: float, falls: float = 0.0, rounding: float = 1e-7) -> Candidate:
    summary = {"iqm": iqm, "share_below_90_percent": falls}
    return Candidate("x", parameters, parameters, parameters, 6 * parameters, rounding, 0.0, False, 1, 1.0, summary)


def test_smallest_that_holds_is_chosen_and_falls_disqualify() -> None:
    selection = Selection.__new__(Selection)
    selection.teacher = {"iqm": 100.0, "share_below_90_percent": 0.0}
    small_bad, small_falling, small_rough, holding, large = (
        candidate(50, 90.0),
        candidate(60, 100.0, falls=0.1),
        candidate(70, 100.0, rounding=2e-5),
        candidate(80, 99.5),
        candidate(200, 101.0),
    )
    assert selection.choose([large, small_bad, small_falling, small_rough, holding], 0.99) is holding
    assert selection.choose([small_bad, candidate(10, 20.0)], 0.99) is small_bad
    assert selection.loses(small_rough, 0.99) == []
    assert "rounding" in selection.shortcomings(small_rough, 0.99)[0]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "distill", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "--teacher", "nowhere.zip"), 1, "error: teacher nowhere.zip: no such file"),
        (("evaluate", "--student", "nowhere.safetensors"), 1, "error: nowhere.safetensors: no such file"),
        (("teacher", "--env", "NoSuch-v0"), 1, "error: environment: got 'NoSuch-v0'"),
        (("teacher", "--env", "Pendulum-v1"), 1, "the environment has 3 and 1"),
        (("teacher", "--env-kwargs", "[1]"), 1, "expected a JSON object"),
        (("train", "--states", "moon"), 2, "moon"),
        (("train", "--out", "/proc/none"), 1, "error: cannot write into /proc/none"),
        (("teach", "--out", "/proc/none"), 1, "error: cannot write into /proc/none"),
        (("teacher", "--episodes", "99999999999999999999"), 1, "--episodes: got"),
    ],
)
def test_command_line_refuses_in_one_line(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if code == 1:
        assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1


def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    teacher = little_teacher(tmp_path)
    done = run("teacher", str(teacher), "--env", PENDULUM, "--episodes", "2", "--json")
    answer = json.loads(done.stdout)
    assert answer["observation_size"] == 3
    assert answer["parameters"] == 41
    assert {"action_size", "sizes", "return_mean", "return_iqm", "episodes", "seconds"} <= answer.keys()


def test_network_policy_scales_and_clips(tmp_path: Path) -> None:
    student = read_student(little_teacher(tmp_path))
    observations = np.random.default_rng(1).uniform(-8, 8, (100, 3)).astype(np.float32)
    assert np.allclose(network_policy(student)(observations), student.evaluate(observations.astype(float)), atol=1e-5)
    extreme = network_policy(student)(observations * 1e6)
    assert np.abs(extreme).max() <= 2.0
