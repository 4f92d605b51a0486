"""The ablations: what their arms are, that each reaches the densities asked for, and when the dataset is made anew."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from distill.ablate import _UNCUT, DENSITIES, LETTERS, _folder, ablate, variants
from distill.ablate_config import AblateConfig
from distill.commit import own_code
from distill.config import TrainConfig
from distill.errors import DistillError
from distill.online import _CRITIC_WIDTHS, _train, _Work
from distill.train_options import check_config
from export.student_file import read_student, write_student
from tests.distill.test_distillation import PENDULUM, little_teacher
from tests.distill.test_study import SHORT, one_by_one

BASE = TrainConfig(states="dataset", value_weight=0.0, critic=False, threshold=_UNCUT, kept_weights=(100, 50))


def tiny(folder: Path, **changes: object) -> AblateConfig:
    config = AblateConfig(
        teacher=little_teacher(folder),
        env=PENDULUM,
        env_kwargs=SHORT,
        out=folder / "ablations",
        hidden=(8, 8),
        iterations=40,
        fine_tune_iterations=10,
        episodes=2,
        seeds=1,
        online_steps=0,
    )
    return dataclasses.replace(config, **changes)


def test_every_arm_is_a_valid_set_of_options_in_a_folder_of_its_own() -> None:
    found = list(variants(BASE, 4.0))
    assert {letter for letter, _, _ in found} == set("abcdfg")
    names = {options: name for _, name, options in found}
    assert len({_folder(name) for name in names.values()}) == len(names) == len(found) - 5
    for options in names:
        check_config(options)
    letters = {name: options for _, name, options in found}
    for name in ("no critic", "Bayesian, the posterior's ranks", "correct", "annealing: linear"):
        assert letters[name] == letters["log-uniform"], "one training for all"
    official = letters["official: noise, initial means N(0, 0.02^2), raw actions"]
    assert official.data_weight == BASE.data_weight / 4.0


def test_every_arm_reaches_the_densities_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.study.run_all", one_by_one)
    monkeypatch.setattr("distill.study._scored", lambda student, *_: (build(student), np.zeros(20)))
    from export.compile import build_policy as build

    result = ablate(tiny(tmp_path))
    weights = 3 * 8 + 8 * 8 + 8
    assert result["dense_weights"] == weights
    sizes = [round(density * weights) for density in DENSITIES]
    arms: dict[tuple[str, str], list[int]] = {}
    for row in result["rows"]:
        if row["ablation"] != "e":
            arms.setdefault((row["ablation"], row["method"]), []).append(row["pruned_to"])
            assert row["steps"] >= 40
    assert len(arms) == len(list(variants(BASE, 4.0)))
    for arm, found in arms.items():
        assert found == sizes, arm
    own = [row for row in result["rows"] if row["ablation"] == "e"]
    reference = [row["pruned_to"] for row in own if row["method"] == "log-uniform"]
    assert reference == sizes, "the students that (e) cuts stand beside the thresholds"
    cut = [row for row in own if row["threshold"] is not None]
    assert len(own) == len(sizes) + len(cut)
    assert [row["threshold"] for row in cut] == [1.0, 2.0, 3.0, 4.0]
    kept = [row["pruned_to"] for row in cut]
    assert kept == sorted(kept)
    trained = sorted(path.parent.name for path in (tmp_path / "ablations" / "arms").glob("*/seed0"))
    assert len(trained) == len(arms) - 5, "references and thresholds need no training of their own"


def test_the_dataset_is_collected_again_for_another_teacher_or_number_of_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.study.run_all", one_by_one)
    config = tiny(tmp_path, letters="b", out=tmp_path / "out")
    monkeypatch.setattr("distill.ablate.variants", lambda base, _: iter([("b", "no critic", base)]))

    def dataset() -> bytes:
        return (config.out / "dataset.safetensors").read_bytes()

    first = ablate(config)
    before = dataset()
    monkeypatch.setattr("distill.ablate.collect", None)  # the same command collects and trains nothing
    monkeypatch.setattr("distill.study._run", None)
    assert ablate(config) == first
    monkeypatch.undo()
    monkeypatch.setattr("distill.study.run_all", one_by_one)
    monkeypatch.setattr("distill.ablate.variants", lambda base, _: iter([("b", "no critic", base)]))
    more = ablate(dataclasses.replace(config, episodes=3))
    longer = dataset()
    assert len(longer) > len(before)
    assert more["rows"][0]["returns"] != first["rows"][0]["returns"]
    student = read_student(config.teacher)
    layers = tuple(dataclasses.replace(layer, weight=-layer.weight) for layer in student.layers)
    write_student(config.teacher, dataclasses.replace(student, layers=layers))
    other = ablate(dataclasses.replace(config, episodes=3))
    assert dataset() != longer
    assert other["teacher_returns"] != first["teacher_returns"]


@pytest.mark.parametrize("letters", ["xa", "", "a z"])
def test_unknown_letters_are_refused_with_the_valid_ones(tmp_path: Path, letters: str) -> None:
    with pytest.raises(DistillError, match=", ".join(LETTERS)):
        ablate(tiny(tmp_path, letters=letters))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"episodes": 0}, "--episodes: got 0, expected 1 to 10000"),
        ({"episodes": 100_000}, "--episodes: got 100000, expected 1 to 10000"),
        ({"exploration_noise": float("nan")}, "--exploration-noise: got nan, expected 0 to 10"),
        ({"exploration_noise": float("inf")}, "--exploration-noise: got inf"),
        ({"exploration_noise": -1.0}, "--exploration-noise: got -1.0"),
        ({"exploration_noise": 1e30}, "--exploration-noise: got 1e[+]30"),
        ({"episodes": 1, "iterations": -5}, "--iterations: got -5, expected 1 to"),
        ({"data_weight": float("nan"), "letters": "h"}, "--data-weight: got nan"),
        ({"letters": "h"}, "--online-steps: got 0 with --letters h, expected at least 1"),
        ({"fine_tune_iterations": 0}, "--fine-tune-iterations: got 0, expected 1 to"),
        ({"hidden": ()}, "--hidden: got .., which makes 3 weights and sizes of 2, 1, 0, .* expected 7 different ones"),
    ],
)
def test_bad_options_are_refused_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], words: str
) -> None:
    monkeypatch.setattr("distill.ablate.collect", None)
    config = tiny(tmp_path, **({"online_steps": 5} if "data_weight" in changes else {}))
    config.out.mkdir()
    for name in ("dataset.json", "dataset.safetensors"):
        (config.out / name).write_bytes(b"of an earlier run")
    before = {path: path.read_bytes() for path in config.out.iterdir()}
    with pytest.raises(DistillError, match=words):
        ablate(dataclasses.replace(config, **changes))
    assert {path: path.read_bytes() for path in config.out.iterdir()} == before


def test_a_collection_that_fails_leaves_the_earlier_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise DistillError("half way")

    config = tiny(tmp_path)
    config.out.mkdir()
    (config.out / "dataset.json").write_text("{}")
    monkeypatch.setattr("distill.ablate.collect", fails)
    with pytest.raises(DistillError, match="half way"):
        ablate(config)
    assert (config.out / "dataset.json").read_text() == "{}"


def test_a_damaged_record_of_the_dataset_is_refused(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    config.out.mkdir()
    (config.out / "dataset.safetensors").write_bytes(b"")
    (config.out / "dataset.json").write_text('{"teacher": ')
    with pytest.raises(DistillError, match=r"dataset\.json: got a damaged file"):
        ablate(config)


def test_only_the_actor_of_an_online_student_is_small(tmp_path: Path) -> None:
    from distill.source import read_source

    spec, _, teacher = read_source(tiny(tmp_path))
    del teacher
    work = _Work(spec, (8, 4), 120, 0, tmp_path)
    row = _train(work)
    assert row["dense_bytes"] == 4 * (3 * 8 + 8 + 8 * 4 + 4 + 4 + 1) == 4 * row["kept_parameters"]
    assert row["kept_weights"] == 3 * 8 + 8 * 4 + 4
    assert row["bytes"] > row["dense_bytes"], "indices cost more than they save where nothing is pruned"
    from stable_baselines3 import SAC

    critic = SAC.load(work.path.with_suffix(".zip")).critic.q_networks[0]
    assert tuple(layer.out_features for layer in critic if hasattr(layer, "out_features")) == (*_CRITIC_WIDTHS, 1)
    assert work.stored() == json.loads(json.dumps(row))
    assert dataclasses.replace(work, seed=1).stored() is None
    path = dataclasses.replace(work, seed=1).path
    path.write_bytes(work.path.read_bytes())
    assert dataclasses.replace(work, seed=1).stored() is None, "a row of another seed is not taken"
    path.write_bytes(b"{")
    with pytest.raises(DistillError, match="got a damaged file"):
        dataclasses.replace(work, seed=1).stored()


def test_what_needs_no_dataset_collects_none(tmp_path: Path) -> None:
    config = tiny(tmp_path, letters="h", online_steps=110)
    (row,) = ablate(config)["rows"]
    assert (row["ablation"], row["commit"], row["sources"]) == ("h", *own_code().values())
    assert sorted(path.name for path in config.out.iterdir()) == ["ablations.json", "arms"]
