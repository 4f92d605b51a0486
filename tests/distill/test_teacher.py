"""Teachers from Stable-Baselines3 zips and from network files; nothing in them is ever executed."""

import io
import json
import os
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.teacher import read_teacher

PENDULUM = EnvironmentSpec("Pendulum-v1", {})
SHARED = Path(__file__).resolve().parents[3] / "shared" / "teachers"


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("SAC", {}),
        ("SAC", {"use_sde": True}),
        ("TD3", {"policy_kwargs": {"net_arch": [16, 16]}}),
        ("PPO", {"policy_kwargs": {"net_arch": [16, 16]}, "n_steps": 64}),
        ("PPO", {"policy_kwargs": {"net_arch": [16], "activation_fn": torch.nn.ReLU}, "n_steps": 64}),
    ],
)
def test_zip_agrees_with_the_library(tmp_path: Path, algorithm: str, options: dict) -> None:
    import stable_baselines3

    model = getattr(stable_baselines3, algorithm)("MlpPolicy", "Pendulum-v1", seed=1, device="cpu", **options)
    if options.get("use_sde"):  # make the hidden Hardtanh bite
        with torch.no_grad():
            model.policy.actor.mu[0].bias += 2.5
    model.save(tmp_path / "model.zip")
    teacher = read_teacher(tmp_path / "model.zip", PENDULUM.facts())
    generator = np.random.default_rng(0)
    observations = generator.uniform(-1, 1, (64, 3)).astype(np.float32) * np.float32([1, 1, 8])
    expected, _ = model.predict(observations, deterministic=True)
    assert np.allclose(teacher.policy(observations), expected, atol=1e-5)
    assert teacher.sizes[0] == 3
    assert teacher.sizes[-1] == 1


def write_zip(path: Path, data: bytes, policy: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", data)
        archive.writestr("policy.pth", policy)
    return path


class Malicious:
    """Unpickling this would create a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


def test_malicious_zip_executes_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    stream = io.BytesIO()
    torch.save({"actor.mu.0.weight": Malicious(str(trap))}, stream)
    path = write_zip(tmp_path / "evil.zip", json.dumps({"policy_kwargs": {}}).encode(), stream.getvalue())
    with pytest.raises(DistillError, match=r"evil\.zip: cannot be read"):
        read_teacher(path, PENDULUM.facts())
    assert not trap.exists()


def stored(tensors: dict[str, torch.Tensor]) -> bytes:
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "policy", "message"),
    [
        (b"{}", b"", "cannot be read"),
        (b"not json", stored({}), "cannot be read"),
        (b"[]", stored({}), "is not a table"),
        (b"{}", stored({"features_extractor.cnn.0.weight": torch.zeros(1)}), "no actor made of linear layers"),
        (
            b"{}",
            stored({"actor.mu.0.weight": torch.full((1, 3), torch.nan), "actor.mu.0.bias": torch.zeros(1)}),
            "NaN or infinity",
        ),
        (b"{}", stored({"actor.mu.0.weight": torch.zeros(1, 3)}), r"actor\.mu\.0\.bias.*missing"),
        (b"{}", stored({"actor.mu.0.weight": "text", "actor.mu.0.bias": torch.zeros(1)}), "is no tensor"),
        (
            b"{}",
            stored({"actor.mu.0.weight": torch.zeros(1, 5), "actor.mu.0.bias": torch.zeros(1)}),
            "got 5 inputs and 1 actions, the environment has 3 and 1",
        ),
        (
            json.dumps({"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.ELU'>"}}).encode(),
            stored({"actor.mu.0.weight": torch.zeros(1, 3), "actor.mu.0.bias": torch.zeros(1)}),
            "expected ReLU or Tanh",
        ),
    ],
)
def test_bad_zips_are_refused_in_one_line(tmp_path: Path, data: bytes, policy: bytes, message: str) -> None:
    path = write_zip(tmp_path / "bad.zip", data, policy)
    with pytest.raises(DistillError, match=message) as caught:
        read_teacher(path, PENDULUM.facts())
    assert "\n" not in str(caught.value)


def test_missing_unknown_and_truncated_files(tmp_path: Path) -> None:
    facts = PENDULUM.facts()
    with pytest.raises(DistillError, match="no such file"):
        read_teacher(tmp_path / "none.zip", facts)
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(DistillError, match=r"suffix '\.pkl'"):
        read_teacher(tmp_path / "model.pkl", facts)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(DistillError, match=r"cut\.safetensors"):
        read_teacher(tmp_path / "cut.safetensors", facts)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of foreign teachers (../shared/teachers) is missing")
def test_a_zip_nobody_here_made_agrees_with_its_plain_matrices() -> None:
    teacher = read_teacher(SHARED / "zoo" / "tqc-Pendulum-v1.zip", PENDULUM.facts())
    with np.load(SHARED / "Pendulum-TQC.npz") as plain:
        hidden = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
        expected = hidden
        count = int(plain["n_layers"])
        for index in range(count):
            expected = expected @ plain[f"W{index}"].T + plain[f"b{index}"]
            if index < count - 1:
                expected = np.maximum(expected, 0)
        clipped = np.clip(expected, -2, 2)  # its gSDE actor hides a Hardtanh
    env = gymnasium.make("Pendulum-v1")
    assert np.allclose(teacher.policy(hidden), np.tanh(clipped) * env.action_space.high, atol=1e-5)
