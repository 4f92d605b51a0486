"""Weights of squared errors by the teacher's critics: what they say, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from distill.config import TrainConfig
from distill.distillation import Distillation, distil
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.progress import TrainingProgress
from distill.refine_config import RefineConfig
from distill.refinement.refinement import refine
from distill.source import read_error_costs
from distill.teachers.critics import FrozenCritics
from distill.teachers.error_costs import ErrorCosts

PRICES = np.float32([3.0, 1.0, 0.0])
LOW, HIGH = np.float32([-2, -1, 0]), np.float32([2, 3, 1])


def roof(prices: np.ndarray, wanted: np.ndarray) -> FrozenCritics:
    """Q(s, a) = s_0 - sum_k prices_k |a_k - wanted_k|, as a network of ReLU units: what an error costs is known."""
    actions = len(prices)
    inner = torch.zeros(2 * actions + 2, 1 + actions)
    bias = torch.zeros(2 * actions + 2)
    outer = torch.zeros(1, 2 * actions + 2)
    for index, (price, place) in enumerate(zip(prices.tolist(), wanted.tolist(), strict=True)):
        for unit, sign in ((2 * index, 1.0), (2 * index + 1, -1.0)):
            inner[unit, 1 + index], bias[unit], outer[0, unit] = sign, -sign * place, -price
    inner[-2, 0], inner[-1, 0], outer[0, -2], outer[0, -1] = 1.0, -1.0, 1.0, -1.0
    return FrozenCritics((((inner, bias), (outer, torch.zeros(1))),), "relu")


def physical(shares: np.ndarray) -> np.ndarray:
    return (LOW + HIGH) / 2 + shares * (HIGH - LOW) / 2


def test_an_error_weighs_what_it_costs() -> None:
    wanted = np.float32([0.2, -0.5, 0.0])
    costs = ErrorCosts(roof(PRICES, wanted), LOW, HIGH)
    observations = np.random.default_rng(0).standard_normal((10_000, 1)).astype(np.float32)
    weights = costs(observations, np.tile(physical(wanted), (10_000, 1)).astype(np.float32))
    # the fall of Q is price * move both ways, the squared distance move^2: cost = price / move, the mean is 4 / 3 of it
    np.testing.assert_allclose(weights, np.tile(0.2 + 0.8 * PRICES / (4 / 3), (10_000, 1)), rtol=1e-4)
    assert weights.dtype == np.float32


def test_the_scale_stays_and_a_bound_holds() -> None:
    costs = ErrorCosts(roof(PRICES, np.zeros(3)), LOW, HIGH)
    observation, at_best = np.zeros((1, 1), np.float32), physical(np.zeros((1, 3))).astype(np.float32)
    first = costs(observation, at_best)
    off = physical(np.float32([[0.6, 0.0, 0.0]])).astype(
        np.float32
    )  # better towards 0, worse away from it: no curvature
    np.testing.assert_allclose(costs(observation, off)[0, 1:], first[0, 1:], rtol=1e-5)
    assert costs(observation, off)[0, 0] == pytest.approx(0.2, abs=1e-5), "errors both ways cancel: only the floor"
    steep = ErrorCosts(
        roof(np.float32([1000.0] + 29 * [1.0]), np.zeros(30)), -np.ones(30, np.float32), np.ones(30, np.float32)
    )
    weights = steep(observation, np.zeros((1, 30), np.float32))
    assert weights[0, 0] == pytest.approx(0.2 + 0.8 * 10.0), "no label drowns all others"


def test_an_action_at_its_bound_moves_one_way_only() -> None:
    costs = ErrorCosts(
        roof(np.float32([1.0, 1.0]), np.float32([1.0, 0.0])), -np.ones(2, np.float32), np.ones(2, np.float32)
    )
    weights = costs(np.zeros((1, 1), np.float32), np.float32([[1.0, 0.0]]))
    assert weights[0, 0] == pytest.approx(weights[0, 1], rel=1e-4)


@pytest.mark.parametrize(("prices", "words"), [([0.0, 0.0, 0.0], "between 0 and 0"), ([np.nan, 1.0, 1.0], "nan")])
def test_critics_that_say_nothing_are_refused(prices: list[float], words: str) -> None:
    costs = ErrorCosts(roof(np.float32(prices), np.zeros(3)), LOW, HIGH)
    with pytest.raises(DistillError, match=f"got costs of errors.*{words}.*--cost-sensitive False"):
        costs(np.zeros((5, 1), np.float32), np.zeros((5, 3), np.float32))


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    import stable_baselines3

    folder = tmp_path_factory.mktemp("pendulum")
    model = stable_baselines3.SAC(
        "MlpPolicy", gymnasium.make("Pendulum-v1"), policy_kwargs={"net_arch": [16, 8]}, seed=1, device="cpu"
    )
    model.save(folder / "SAC.zip")
    return TrainConfig(
        teacher=folder / "SAC.zip",
        env="Pendulum-v1",
        hidden=(8,),
        iterations=60,
        round_iterations=30,
        round_steps=200,
        episodes=2,
        fine_tune_iterations=30,
        fine_tune_doublings=0,
        kept_weights=(16,),
        selection_episodes=2,
        evaluation_episodes=2,
        compiled=False,
    )


def test_a_run_with_critics_weighs_errors_unless_told_not_to(pendulum: TrainConfig, tmp_path: Path) -> None:
    files = {}
    for name, wish in (("default", None), ("asked", True), ("not", False)):
        result = distil(dataclasses.replace(pendulum, cost_sensitive=wish, out=tmp_path / name))
        assert result["cost_sensitive"] is (name != "not")
        layers = Path(result["student"]).read_bytes()
        files[name] = layers[-600:]
    assert files["default"] == files["asked"] != files["not"]


def test_a_resumed_run_weighs_the_same(pendulum: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = distil(dataclasses.replace(pendulum, out=tmp_path / "whole"))
    save, saved = Distillation.save, 0

    def stop(run: Distillation) -> None:
        nonlocal saved
        save(run)
        saved += 1
        if saved == 2:
            raise KeyboardInterrupt

    cut = dataclasses.replace(pendulum, out=tmp_path / "cut")
    monkeypatch.setattr(Distillation, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        distil(cut)
    monkeypatch.setattr(Distillation, "save", save)
    went_on = distil(dataclasses.replace(cut, resume=True))
    assert Path(went_on["student"]).read_bytes() == Path(whole["student"]).read_bytes()


def test_what_cannot_be_weighed_is_refused(pendulum: TrainConfig, tmp_path: Path) -> None:
    spec = EnvironmentSpec("hardware:CartRail-v0", {})
    without = TrainConfig(cost_sensitive=True)
    with pytest.raises(DistillError, match=r"^--cost-sensitive: .*got cart_rail\.safetensors, expected a SAC, TQC"):
        read_error_costs(without, spec.facts())
    assert read_error_costs(TrainConfig(), spec.facts()) is None
    official = dataclasses.replace(pendulum, noise="official", out=tmp_path / "official")
    with TrainingProgress() as progress:
        assert Distillation(official, progress).told == {"cost_sensitive": False}
    student = Path(distil(dataclasses.replace(pendulum, out=tmp_path / "begun"))["student"])
    ask: Any = functools.partial(
        RefineConfig,
        student=student,
        teacher=pendulum.teacher,
        env=pendulum.env,
        out=tmp_path / "refined",
        cost_sensitive=True,
    )
    with pytest.raises(
        DistillError, match="--cost-sensitive: got objective expected-entropy, which is no squared error"
    ):
        refine(ask(objective="expected-entropy"))
