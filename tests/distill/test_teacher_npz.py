"""Plain matrices in an .npz: the documented layout, and what is refused."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.environment import EnvironmentFacts
from distill.errors import DistillError
from distill.teachers import read_teacher

LOW, HIGH = np.array([-1.0, -2.0], np.float32), np.array([1.0, 4.0], np.float32)
FACTS = EnvironmentFacts(3, 1, LOW, HIGH, 0.02, ("a", "b", "c"), ("u", "v"))
OBSERVATIONS = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)


def arrays(**changes: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    layout: dict[str, Any] = {
        "W0": generator.normal(size=(5, 3)).astype(np.float32),
        "b0": generator.normal(size=5).astype(np.float32),
        "W1": generator.normal(size=(2, 5)).astype(np.float32),
        "b1": generator.normal(size=2).astype(np.float32),
        "n_layers": np.array(2),
        "hidden_act": np.array("relu"),
        "out_act": np.array("tanh"),
        "action_low": LOW,
        "action_high": HIGH,
        "obs_mean": np.array([0.0, 1.0, -2.0]),
        "obs_var": np.array([1.0, 0.25, 4.0]),
        "obs_eps": np.array(1e-8),
        "obs_clip": np.array(1.0),
    }
    return {name: value for name, value in (layout | changes).items() if value is not None}


@pytest.mark.parametrize("hidden", ["relu", "tanh"])
@pytest.mark.parametrize("output", ["tanh", "clip"])
@pytest.mark.parametrize("normalised", [True, False])
def test_the_layout_is_the_documented_formula(tmp_path: Path, hidden: str, output: str, normalised: bool) -> None:
    none = {} if normalised else {"obs_mean": None, "obs_var": None, "obs_eps": None, "obs_clip": None}
    layout = arrays(hidden_act=np.array(hidden), out_act=np.array(output), **none)
    np.savez(tmp_path / "plain.npz", **layout)
    teacher = read_teacher(tmp_path / "plain.npz", FACTS)
    x = OBSERVATIONS.astype(np.float64)
    if normalised:
        x = np.clip((x - layout["obs_mean"]) / np.sqrt(layout["obs_var"] + 1e-8), -1, 1)
    x = x @ layout["W0"].T + layout["b0"]
    x = (np.tanh(x) if hidden == "tanh" else np.maximum(x, 0)) @ layout["W1"].T + layout["b1"]
    expected = (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * np.tanh(x) if output == "tanh" else np.clip(x, LOW, HIGH)
    assert np.allclose(teacher.policy(OBSERVATIONS), expected, atol=1e-5)
    assert (teacher.parameters, teacher.sizes) == (3 * 5 + 5 + 5 * 2 + 2, (3, 5, 2))


class Malicious:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    evil = np.array([Malicious(trap)], dtype=object)
    np.savez(tmp_path / "evil.npz", **arrays(obs_mean=evil))
    with pytest.raises(DistillError, match=r"cannot be read \(Object arrays.*nothing in it was run") as caught:
        read_teacher(tmp_path / "evil.npz", FACTS)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": None}, "'n_layers' is missing"),
        ({"n_layers": np.array(3)}, "'W2' is missing"),
        ({"n_layers": np.array(0)}, "n_layers 0, expected 1 to 16"),
        ({"n_layers": np.array([2, 2])}, r"'n_layers' is int64 of shape \(2,\)"),
        ({"n_layers": np.array(2.0)}, "'n_layers' is float64"),
        ({"b1": None}, "'b1' is missing"),
        ({"hidden_act": np.array("elu")}, "hidden_act 'elu', expected relu or tanh"),
        ({"out_act": np.array("softmax")}, "out_act 'softmax', expected tanh or clip"),
        ({"W0": np.zeros((5, 3, 1), np.float32)}, r"shape \(5, 3, 1\)"),
        ({"W0": np.zeros((5, 3), np.int32)}, "expected floating-point"),
        ({"W0": np.full((5, 3), np.inf, np.float32)}, "NaN or infinity"),
        ({"W0": np.full((5, 3), 1e300)}, "NaN or infinity"),
        ({"b0": np.zeros(4, np.float32)}, r"bias of 'W0' has shape \(4,\)"),
        ({"W1": np.zeros((2, 4), np.float32)}, "do not chain"),
        ({"W0": np.zeros((5, 4), np.float32)}, "got 3 input statistics, expected 4"),
        ({"obs_var": None}, "'obs_var' is missing"),
        ({"obs_var": np.array([1.0, np.nan, 1.0])}, "statistics with NaN"),
        ({"obs_var": np.array([1.0, -1.0, 1.0])}, "no spread"),
        ({"obs_var": np.array([1.0, 1.0])}, r"mean \(3,\) and variance \(2,\)"),
        ({"obs_clip": np.array(0.0)}, r"clip of 0\.0"),
        ({"action_high": None}, "'action_high' is missing"),
        ({"action_low": LOW - 1}, "action bounds low"),
    ],
)
def test_other_layouts_are_refused_in_one_line(tmp_path: Path, changes: dict, message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays(**changes))
    with pytest.raises(DistillError, match=message) as caught:
        read_teacher(tmp_path / "bad.npz", FACTS)
    assert "\n" not in str(caught.value)


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    layout = arrays(b1=None)
    np.savez(tmp_path / "odd.npz", **layout)
    with zipfile.ZipFile(tmp_path / "odd.npz", "a") as archive:
        archive.writestr("b1.npy", b"not an array")
    with pytest.raises(DistillError, match="'b1' holds no array"):
        read_teacher(tmp_path / "odd.npz", FACTS)


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("W0.npy", b"\0" * (257 * 2**20))
    with pytest.raises(DistillError, match="unpacks to 2694"):
        read_teacher(tmp_path / "bomb.npz", FACTS)
