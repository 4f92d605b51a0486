"""Stable-Baselines3 and sb3-contrib zips: the actor answers as the library's own; nothing in the file is executed."""

import base64
import hashlib
import io
import json
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch

from distill.environment import EnvironmentFacts, EnvironmentSpec
from distill.errors import DistillError
from distill.teachers import Teacher, read_teacher

sb3_contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
PENDULUM = EnvironmentSpec("Pendulum-v1", {})
SHARED = Path(__file__).resolve().parents[3] / "shared" / "teachers"
needs_teachers = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the folder of foreign teachers (../shared/teachers) is missing"
)
RELU, TANH = torch.nn.ReLU, torch.nn.Tanh


def kwargs(**policy: Any) -> dict[str, Any]:
    return {"policy_kwargs": policy}


def library_model(algorithm: str, policy: str = "MlpPolicy", environment: str = "Pendulum-v1", **options: Any) -> Any:
    make = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(policy, environment, seed=1, device="cpu", **options)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # the library starts heads and biases near 0: nothing would clip, nothing would show
        for name, tensor in model.policy.named_parameters():
            if "log_std" not in name:
                size = 0.1 if tensor.ndim == 1 else tensor.shape[-1] ** -0.5
                tensor.add_(size * torch.randn(tensor.shape, generator=generator))
    return model


@pytest.mark.parametrize(
    ("algorithm", "policy", "options", "kind"),
    [
        ("SAC", "MlpPolicy", {}, "SAC"),
        ("SAC", "MlpPolicy", {"use_sde": True}, "SAC"),
        ("SAC", "MlpPolicy", {"use_sde": True, **kwargs(clip_mean=0.5, net_arch=[8])}, "SAC"),
        ("SAC", "MlpPolicy", {"use_sde": True, **kwargs(clip_mean=0.0)}, "SAC"),
        ("SAC", "MlpPolicy", kwargs(net_arch=[]), "SAC"),
        ("SAC", "MlpPolicy", kwargs(net_arch={"pi": [16, 8], "qf": [4]}, activation_fn=TANH), "SAC"),
        ("TQC", "MlpPolicy", {"use_sde": True, **kwargs(net_arch=[16, 16, 16])}, "TQC"),
        ("TD3", "MlpPolicy", kwargs(net_arch=[16, 16]), "TD3/DDPG"),
        ("DDPG", "MlpPolicy", kwargs(net_arch=[]), "TD3/DDPG"),
        ("PPO", "MlpPolicy", {}, "PPO"),
        ("PPO", "MlpPolicy", {"use_sde": True}, "PPO"),
        ("PPO", "MlpPolicy", {"use_sde": True, **kwargs(squash_output=True, activation_fn=RELU)}, "PPO"),
        (
            "PPO",
            "MlpPolicy",
            kwargs(net_arch=[{"pi": [32, 16], "vf": [8]}], activation_fn=RELU, ortho_init=False),
            "PPO",
        ),
        ("PPO", "MlpPolicy", kwargs(net_arch={"vf": [8]}, share_features_extractor=False), "PPO"),
        ("A2C", "MlpPolicy", kwargs(net_arch=[16]), "A2C"),
        ("TRPO", "MlpPolicy", {}, "TRPO"),
        ("ARS", "LinearPolicy", {}, "ARS linear"),
        ("ARS", "LinearPolicy", kwargs(with_bias=True, squash_output=True), "ARS linear"),
        ("ARS", "MlpPolicy", {}, "ARS"),
        ("ARS", "MlpPolicy", kwargs(net_arch=[8], with_bias=False, squash_output=False, activation_fn=TANH), "ARS"),
    ],
)
def test_the_actor_answers_as_the_library(
    tmp_path: Path, algorithm: str, policy: str, options: dict, kind: str
) -> None:
    model = library_model(algorithm, policy, **options)
    model.save(tmp_path / "model.zip")
    teacher = read_teacher(tmp_path / "model.zip", PENDULUM.facts())
    observations = (np.random.default_rng(0).uniform(-1, 1, (200, 3)) * [1, 1, 8]).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    assert np.ptp(expected) > 0.1
    assert np.allclose(teacher.policy(observations), expected, atol=1e-5)
    assert teacher.kind == f"Stable-Baselines3 {kind}"
    stated = "activation_fn" in options.get("policy_kwargs", {})
    assert len(teacher.notes) == (0 if stated or len(teacher.sizes) == 2 else 1)
    assert all("hidden activation" in note for note in teacher.notes)


def test_statistics_beside_the_zip_belong_to_the_actor(tmp_path: Path) -> None:
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    behind = VecNormalize(DummyVecEnv([PENDULUM.make]), clip_obs=1.2, epsilon=1e-3)
    model = library_model("PPO", environment=behind, n_steps=64)
    model.learn(128)
    model.save(tmp_path / "model.zip")
    behind.save(tmp_path / "statistics.pkl")
    teacher = read_teacher(tmp_path / "model.zip", PENDULUM.facts(), vecnormalize=tmp_path / "statistics.pkl")
    observations = (np.random.default_rng(0).uniform(-1, 1, (200, 3)) * [1, 1, 8]).astype(np.float32)
    expected, _ = model.predict(behind.normalize_obs(observations), deterministic=True)
    assert np.allclose(teacher.policy(observations), expected, atol=1e-5)
    assert teacher.notes[-1] == "observations normalised by statistics.pkl"
    assert "tanh is assumed" in teacher.notes[0]
    both = (tmp_path / "model.zip").read_bytes() + (tmp_path / "statistics.pkl").read_bytes()
    assert teacher.sha256 == hashlib.sha256(both).hexdigest()
    alone = read_teacher(tmp_path / "model.zip", PENDULUM.facts())
    assert alone.sha256 == hashlib.sha256(both[: (tmp_path / "model.zip").stat().st_size]).hexdigest()
    assert "no --vecnormalize FILE.pkl is given" in alone.notes[-1]
    assert not np.allclose(alone.policy(observations), expected, atol=1e-2)


PAIRS = {
    "Hopper-TQC": ("tqc-Hopper-v3", "Hopper-v5", {}),
    "Walker2d-TQC": ("tqc-Walker2d-v3", "Walker2d-v5", {}),
    "HalfCheetah-TQC": ("tqc-HalfCheetah-v3", "HalfCheetah-v5", {}),
    "Pendulum-TQC": ("tqc-Pendulum-v1", "Pendulum-v1", {}),
    "Ant-TRPO": ("trpo-Ant-v3", "Ant-v5", {"include_cfrc_ext_in_observation": False}),
}


@needs_teachers
@pytest.mark.parametrize("name", PAIRS)
def test_zips_nobody_here_made_agree_with_their_plain_matrices(name: str) -> None:
    archive, environment, arguments = PAIRS[name]
    spec = EnvironmentSpec(environment, arguments)
    facts = spec.facts()
    statistics = SHARED / "zoo" / f"{archive}-vecnormalize.pkl"
    teacher = read_teacher(
        SHARED / "zoo" / f"{archive}.zip", facts, vecnormalize=statistics if statistics.exists() else None
    )
    plain = read_teacher(SHARED / f"{name}.npz", facts)
    observations = plausible(spec, teacher)
    answers, expected = teacher.policy(observations), plain.policy(observations)
    if teacher.chain.clip is not None:  # the .npz has no place for the Hardtanh behind a gSDE mean
        ceiling = facts.action_high * np.tanh(teacher.chain.clip)
        assert np.any(np.abs(expected) > ceiling)
        expected = np.clip(expected, -ceiling, ceiling)
    assert np.allclose(answers, expected, atol=1e-5)
    assert teacher.sizes == plain.sizes
    notes = [note for note in teacher.notes if "hidden activation" not in note]
    assert len(notes) == (2 if name == "Ant-TRPO" else 0)


def plausible(spec: EnvironmentSpec, teacher: Teacher) -> np.ndarray:
    """Observations of a noisy episode, and the same blurred."""
    environment = spec.make()
    generator = np.random.default_rng(0)
    rows = [environment.reset(seed=0)[0]]
    space = environment.action_space
    for _ in range(100):
        action = teacher.policy(rows[-1][None].astype(np.float32))[0] + 0.3 * generator.normal(size=space.shape)
        rows.append(environment.step(np.clip(action, space.low, space.high).astype(np.float32))[0])
    seen = np.stack(rows)
    return np.concatenate([seen, seen + generator.normal(size=seen.shape) * seen.std(axis=0)]).astype(np.float32)


def entry(package: str, owner: str) -> dict:
    return {
        ":type:": "<class 'abc.ABCMeta'>",
        "__module__": package,
        "__init__": f"<function {owner}.__init__ at 0x7f>",
    }


BOX = {":type:": "<class 'gym.spaces.box.Box'>", "shape": [3], "dtype": "float32", "low": "[-2.]", "high": "[2.]"}
TD3 = {
    "policy_class": entry("stable_baselines3.td3.policies", "TD3Policy"),
    "observation_space": BOX,
    "action_space": BOX,
    "policy_kwargs": {},
}
LINEAR = {"actor.mu.0.weight": torch.zeros(1, 3), "actor.mu.0.bias": torch.zeros(1)}


def write_zip(path: Path, data: Any, policy: Any) -> Path:
    stream = io.BytesIO()
    torch.save(policy, stream)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", data if isinstance(data, bytes) else json.dumps(data))
        archive.writestr("policy.pth", policy if isinstance(policy, bytes) else stream.getvalue())
    return path


class Malicious:
    """Unpickling this would create a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_pickles_in_the_settings_are_never_opened(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    bomb = {":serialized:": base64.b64encode(pickle.dumps(Malicious(trap))).decode()}
    data = {key: value | bomb for key, value in TD3.items()} | {"learning_rate": bomb, "lr_schedule": bomb}
    path = write_zip(tmp_path / "evil.zip", data, LINEAR)
    assert read_teacher(path, PENDULUM.facts()).sizes == (3, 1)
    assert not trap.exists()
    pickle.loads(base64.b64decode(bomb[":serialized:"]))
    assert trap.exists()  # the trap does work


def test_a_malicious_policy_executes_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    path = write_zip(tmp_path / "evil.zip", TD3, LINEAR | {"actor.mu.0.weight": Malicious(trap)})
    with pytest.raises(DistillError, match=r"evil\.zip: cannot be read.*nothing in it was run") as caught:
        read_teacher(path, PENDULUM.facts())
    assert "\n" not in str(caught.value)
    assert re.search(r"'policy\.pth' names [\w.]+, no tensor", str(caught.value))
    assert "weights_only" not in str(caught.value)  # torch advises to load it unsafely
    assert not trap.exists()


def test_shared_layers_of_old_zips_come_first(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "mlp_extractor.shared_net.0": (7, 3),
        "mlp_extractor.policy_net.0": (5, 7),
        "mlp_extractor.value_net.0": (6, 7),
        "action_net": (1, 5),
        "value_net": (1, 6),
    }
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator)
        weights[f"{name}.bias"] = torch.randn(shape[0], generator=generator)
    data = TD3 | {
        "policy_class": entry("stable_baselines3.common.policies", "ActorCriticPolicy"),
        "policy_kwargs": {":type:": "<class 'dict'>", "net_arch": [7, {"pi": [5], "vf": [6]}]},
    }
    teacher = read_teacher(write_zip(tmp_path / "shared.zip", data, weights), PENDULUM.facts())
    inputs = torch.randn(40, 3, generator=generator)
    hidden = inputs
    for name in ("mlp_extractor.shared_net.0", "mlp_extractor.policy_net.0"):
        hidden = torch.tanh(torch.nn.functional.linear(hidden, weights[f"{name}.weight"], weights[f"{name}.bias"]))
    expected = torch.nn.functional.linear(hidden, weights["action_net.weight"], weights["action_net.bias"]).clamp(-2, 2)
    assert np.allclose(teacher.policy(inputs.numpy()), expected.numpy(), atol=1e-5)
    assert teacher.sizes == (3, 7, 5, 1)


@pytest.mark.parametrize(
    ("algorithm", "policy", "environment", "message"),
    [
        ("RecurrentPPO", "MlpLstmPolicy", "Pendulum-v1", "recurrent policy"),
        ("DQN", "MlpPolicy", "CartPole-v1", "discrete actions"),
        ("PPO", "MlpPolicy", "CartPole-v1", "got Discrete actions, expected a Box"),
        ("CrossQ", "MlpPolicy", "Pendulum-v1", r"crossq\.policies\.CrossQPolicy"),
    ],
)
def test_other_policies_are_refused_by_name(
    tmp_path: Path, algorithm: str, policy: str, environment: str, message: str
) -> None:
    library_model(algorithm, policy, environment).save(tmp_path / "other.zip")
    with pytest.raises(DistillError, match=message):
        read_teacher(tmp_path / "other.zip", PENDULUM.facts())


def with_kwargs(**options: Any) -> dict:
    return TD3 | {"policy_kwargs": {":type:": "<class 'dict'>", **options}}


def with_class(package: str, owner: str) -> dict:
    return TD3 | {"policy_class": entry(package, owner)}


@pytest.mark.parametrize(
    ("data", "policy", "message"),
    [
        (TD3, b"", "cannot be read"),
        (b"not json", LINEAR, "cannot be read"),
        (b"[" * 100_000, LINEAR, "cannot be read"),
        (b"[]", LINEAR, "is not a table"),
        ({}, LINEAR, "does not name its policy class"),
        (TD3 | {"policy_kwargs": "text"}, LINEAR, "policy options"),
        ({key: value for key, value in TD3.items() if key != "policy_kwargs"}, LINEAR, "policy options"),
        (
            with_class("stable_baselines3.common.policies", "ActorCriticCnnPolicy"),
            LINEAR,
            r"image policy \(CnnPolicy\)",
        ),
        (with_class("stable_baselines3.sac.policies", "MultiInputPolicy"), LINEAR, "Dict observations"),
        (with_class("my_code.policies", "TD3Policy"), LINEAR, r"my_code\.policies\.TD3Policy"),
        (
            TD3 | {"observation_space": {":type:": "<class 'gymnasium.spaces.dict.Dict'>"}},
            LINEAR,
            "got Dict observations",
        ),
        (TD3 | {"observation_space": BOX | {"shape": [4, 4, 3], "dtype": "uint8"}}, LINEAR, "got image observations"),
        (
            with_kwargs(features_extractor_class="<class 'mine.Extractor'>"),
            LINEAR,
            r"features extractor.*mine\.Extractor",
        ),
        (TD3, LINEAR | {"actor.features_extractor.cnn.0.weight": torch.zeros(1)}, "features extractor"),
        (TD3, {}, "found no actor"),
        (TD3, LINEAR | {"actor.mu.0.weight": torch.full((1, 3), torch.nan)}, "NaN or infinity"),
        (TD3, {"actor.mu.0.weight": torch.zeros(1, 3)}, r"actor\.mu\.0\.bias.*missing"),
        (TD3, LINEAR | {"actor.mu.0.weight": "text"}, "is no tensor"),
        (TD3, LINEAR | {"actor.mu.0.weight": torch.zeros(3)}, r"shape \(3,\)"),
        (TD3, LINEAR | {"actor.mu.0.bias": torch.zeros(2)}, r"bias.*shape \(2,\)"),
        (TD3, LINEAR | {"actor.mu.3.weight": torch.zeros(1, 1), "actor.mu.3.bias": torch.zeros(1)}, r"actor\.mu\.3"),
        (TD3, LINEAR | {"actor.mu.0.running_mean": torch.zeros(1)}, "running_mean"),
        (
            TD3,
            LINEAR | {"actor.mu.2.weight": torch.zeros(1, 5), "actor.mu.2.bias": torch.zeros(1)},
            r"\(1, 3\) and \(1, 5\) do not chain",
        ),
        (
            TD3,
            {"actor.mu.0.weight": torch.zeros(1, 5), "actor.mu.0.bias": torch.zeros(1)},
            "got 5 inputs and 1 actions, the environment has 3 and 1",
        ),
        (with_kwargs(activation_fn="<class 'torch.nn.modules.activation.ELU'>"), LINEAR, "expected ReLU or Tanh"),
        (with_kwargs(activation_fn="<class 'mine.ReLU'>"), LINEAR, "expected ReLU or Tanh"),
        (TD3 | {"action_space": BOX | {"low": "[-1.]", "high": "[1.]"}}, LINEAR, "action bounds low"),
    ],
)
def test_bad_zips_are_refused_in_one_line(tmp_path: Path, data: Any, policy: Any, message: str) -> None:
    path = write_zip(tmp_path / "bad.zip", data, policy)
    with pytest.raises(DistillError, match=message) as caught:
        read_teacher(path, PENDULUM.facts())
    assert "\n" not in str(caught.value)


def test_an_unknown_activation_can_be_overridden(tmp_path: Path) -> None:
    weights = {
        "actor.mu.0.weight": torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]),
        "actor.mu.0.bias": torch.zeros(2),
        "actor.mu.2.weight": torch.tensor([[1.0, -0.5]]),
        "actor.mu.2.bias": torch.zeros(1),
    }
    data = with_kwargs(activation_fn="<class 'torch.nn.modules.activation.ELU'>")
    path = write_zip(tmp_path / "elu.zip", data, weights)
    observations = np.array([[0.7, 0.0, 0.0]], np.float32)
    for name, value in (("relu", 0.7), ("tanh", 1.5 * np.tanh(0.7))):
        assert np.allclose(
            read_teacher(path, PENDULUM.facts(), name).policy(observations), 2 * np.tanh(value), atol=1e-6
        )


@pytest.mark.parametrize(
    ("stated", "asked", "notes"),
    [
        ("", None, ("the zip names no hidden activation, relu is assumed, the default of TD3/DDPG",)),
        ("", "relu", ()),
        ("", "tanh", ("--activation tanh overrides the default of TD3/DDPG: relu",)),
        ("Tanh", None, ()),
        ("Tanh", "tanh", ()),
        ("Tanh", "relu", (r"--activation relu overrides what the zip states (tanh)",)),
        ("ELU", "relu", ("--activation relu overrides what the zip states (\"<class 'torch.nn",)),
    ],
)
def test_where_the_activation_comes_from_is_said(
    tmp_path: Path, stated: str, asked: str | None, notes: tuple[str, ...]
) -> None:
    data = with_kwargs(activation_fn=f"<class 'torch.nn.modules.activation.{stated}'>") if stated else TD3
    weights = {
        "actor.mu.0.weight": torch.eye(3),
        "actor.mu.0.bias": torch.zeros(3),
        "actor.mu.2.weight": torch.ones(1, 3),
        "actor.mu.2.bias": torch.zeros(1),
    }
    teacher = read_teacher(write_zip(tmp_path / "said.zip", data, weights), PENDULUM.facts(), asked)
    said = [note for note in teacher.notes if "activation" in note]
    assert len(said) == len(notes)
    assert all(note.startswith(start) for note, start in zip(said, notes, strict=True))


def test_an_activation_without_hidden_layers_is_said_to_change_nothing(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "linear.zip", TD3, LINEAR)
    assert not any("activation" in note for note in read_teacher(path, PENDULUM.facts()).notes)
    assert any("changes nothing" in note for note in read_teacher(path, PENDULUM.facts(), "tanh").notes)


def test_bombs_are_refused_before_they_unpack(tmp_path: Path) -> None:
    zeros = b"\0" * (300 * 2**20)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", zeros)
    for data, policy in ((TD3, inner.getvalue()), (zeros, LINEAR)):
        path = write_zip(tmp_path / "bomb.zip", data, policy)
        assert path.stat().st_size < 2**22
        with pytest.raises(DistillError, match="unpacks to 3145"):
            read_teacher(path, PENDULUM.facts())


def test_zips_of_the_tensorflow_days_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        for name in ("data", "parameter_list", "parameters"):
            archive.writestr(name, b"{}")
    with pytest.raises(DistillError, match="Stable-Baselines 2"):
        read_teacher(tmp_path / "old.zip", PENDULUM.facts())


def test_bounds_that_the_json_cuts_short_are_taken_from_the_environment(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "cut.zip", TD3 | {"action_space": BOX | {"low": "[-1. ... -1.]"}}, LINEAR)
    facts: EnvironmentFacts = PENDULUM.facts()
    assert read_teacher(path, facts).notes == ("the zip's action bounds cannot be read: the environment's are used",)
