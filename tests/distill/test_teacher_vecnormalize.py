"""VecNormalize files: read to the last bit, old and new, and never executed."""

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.teachers import read_teacher
from distill.teachers.vecnormalize import read_vecnormalize

SHARED = Path(__file__).resolve().parents[3] / "shared" / "teachers" / "zoo"


def statistics(**options: Any) -> VecNormalize:
    made = VecNormalize(DummyVecEnv([lambda: FlattenObservation(EnvironmentSpec("Pendulum-v1", {}).make())]), **options)
    made.seed(3)
    made.reset()
    for _ in range(50):
        made.step([made.action_space.sample()])
    return made


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_statistics_are_read_to_the_bit(tmp_path: Path, protocol: int) -> None:
    made = statistics(clip_obs=3.5, epsilon=1e-4)
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(made, protocol=protocol))
    if protocol == 2:  # bytes as text through a codec: a name outside the list, so it is refused, not guessed
        with pytest.raises(DistillError, match=r"_codecs\.encode"):
            read_vecnormalize(tmp_path / "v.pkl")
        return
    normaliser, note = read_vecnormalize(tmp_path / "v.pkl")
    assert normaliser is not None
    assert np.array_equal(normaliser.mean, made.obs_rms.mean)
    assert np.array_equal(normaliser.variance, made.obs_rms.var)
    assert (normaliser.epsilon, normaliser.clip) == (1e-4, 3.5)
    assert note == "observations normalised by v.pkl"
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * 5
    assert np.array_equal(normaliser(observations), made.normalize_obs(observations))


def test_statistics_serve_every_kind_that_has_none(tmp_path: Path) -> None:
    made = statistics(clip_obs=1.5)
    made.save(str(tmp_path / "v.pkl"))
    generator = np.random.default_rng(0)
    layers = {
        "W0": generator.normal(size=(1, 3)),
        "b0": np.zeros(1),
        "n_layers": np.array(1),
        "hidden_act": np.array("relu"),
        "out_act": np.array("clip"),
    }
    np.savez(tmp_path / "plain.npz", **layers)
    facts = EnvironmentSpec("Pendulum-v1", {}).facts()
    teacher = read_teacher(tmp_path / "plain.npz", facts, vecnormalize=tmp_path / "v.pkl")
    observations = (generator.normal(size=(50, 3)) * 2).astype(np.float32)
    expected = np.clip(made.normalize_obs(observations) @ layers["W0"].T, -2, 2)
    assert np.allclose(teacher.policy(observations), expected, atol=1e-5)
    np.savez(tmp_path / "two.npz", **(layers | {"W0": np.zeros((1, 2))}))
    with pytest.raises(DistillError, match=r"vecnormalize .*got 3 inputs, two\.npz takes 2"):
        read_teacher(tmp_path / "two.npz", facts, vecnormalize=tmp_path / "v.pkl")


def test_normalising_switched_off_is_said(tmp_path: Path) -> None:
    statistics(norm_obs=False).save(str(tmp_path / "off.pkl"))
    normaliser, note = read_vecnormalize(tmp_path / "off.pkl")
    assert normaliser is None
    assert "norm_obs is off" in note


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of foreign teachers (../shared/teachers) is missing")
def test_files_of_the_gym_days_are_read() -> None:
    ant, _ = read_vecnormalize(SHARED / "trpo-Ant-v3-vecnormalize.pkl")
    assert ant is not None
    assert ant.mean.shape == (111,)
    assert int(ant.constant().sum()) == 84
    assert not ant.constant()[:27].any()
    with np.load(SHARED.parent / "Ant-TRPO.npz") as plain:
        assert np.array_equal(ant.mean[:27], plain["obs_mean"])
        assert np.array_equal(ant.variance[:27], plain["obs_var"])
    cheetah, _ = read_vecnormalize(SHARED / "ppo-HalfCheetah-v3-vecnormalize.pkl")
    assert cheetah is not None
    assert not cheetah.constant().any()


class Malicious:
    """Unpickling this would create a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["whole", "epsilon", "obs_rms", "mean", "unused"])
def test_a_malicious_pickle_executes_nothing(tmp_path: Path, place: str) -> None:
    trap, made = tmp_path / "sprung", statistics()
    bomb = Malicious(trap)
    if place == "mean":
        made.obs_rms.mean = bomb
    elif place != "whole":
        setattr(made, place, bomb)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(bomb if place == "whole" else made))
    with pytest.raises(DistillError, match=r"it names '(os|posix)\.mkdir'.*nothing in it was run") as caught:
        read_vecnormalize(tmp_path / "evil.pkl")
    assert "\n" not in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"cgym.spaces\nBox\n(S'x'\ntR.",  # an allowed name becomes an empty class: nothing runs, no statistics
        b"cstable_baselines3.common.vec_env.vec_normalize\nVecNormalize\n.",
        b"\x82\x01.",  # a class from the interpreter's extension registry
        b"\x80\x04\x8a\xff.",
        b"(" * 5000 + b".",
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",  # announces 1 TiB
        b"\x80\x04r\xff\xff\xff\x7f.",  # a memo index that a table would need 16 GiB for
        b"",
    ],
)
def test_other_pickles_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pkl").write_bytes(content)
    with pytest.raises(DistillError, match=r"bad\.pkl: cannot be read") as caught:
        read_vecnormalize(tmp_path / "bad.pkl")
    assert "\n" not in str(caught.value)


def test_nothing_in_the_file_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics().save(str(tmp_path / "v.pkl"))

    def refuse(*_: Any) -> None:
        raise AssertionError("imported")

    monkeypatch.setattr("builtins.__import__", refuse)
    normaliser, _ = read_vecnormalize(tmp_path / "v.pkl")
    monkeypatch.undo()
    assert normaliser is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs_rms": {"camera": RunningMeanStd(shape=(3,))}}, "Dict observations"),
        ({"clip_obs": -1.0}, r"clip of -1\.0"),
        ({"epsilon": float("nan")}, "NaN"),
        ({"epsilon": "text"}, "cannot be read"),
        ({"obs_rms": None}, "no RunningMeanStd"),
    ],
)
def test_statistics_that_make_no_sense(tmp_path: Path, changes: dict, message: str) -> None:
    made = statistics()
    for name, value in changes.items():
        setattr(made, name, value)
    stream = io.BytesIO()
    pickle.dump(made, stream)
    (tmp_path / "odd.pkl").write_bytes(stream.getvalue())
    with pytest.raises(DistillError, match=message):
        read_vecnormalize(tmp_path / "odd.pkl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"no such file.*--vecnormalize"):
        read_vecnormalize(tmp_path / "none.pkl")
