"""Read a teacher: the project's own network file, or a Stable-Baselines3 zip, without executing anything in it."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .environment import EnvironmentFacts
from .errors import DistillError
from .network import Chain, chain_policy, network_policy, parameter_count
from .rollout import Policy

_LARGEST_MEMBER = 256 * 2**20  # bytes; a policy is a few megabytes, a zip bomb is not
_ACTOR_PATTERNS = {
    # prefix of the hidden layers, of the head: SAC and TQC, then TD3 and DDPG, then PPO and A2C and TRPO
    "SAC/TQC": (r"actor\.latent_pi\.(\d+)\.weight", r"actor\.mu(?:\.0)?\.weight"),
    "TD3/DDPG": (r"actor\.mu\.(\d+)\.weight", None),
    "PPO/A2C/TRPO": (r"mlp_extractor\.policy_net\.(\d+)\.weight", r"action_net\.weight"),
}


@dataclass(frozen=True)
class Teacher:
    """A policy to imitate, its size and the digest of its file."""

    policy: Policy
    parameters: int
    sizes: tuple[int, ...]
    kind: str
    sha256: str


def read_teacher(path: Path, facts: EnvironmentFacts, activation: str | None = None) -> Teacher:
    """Read `path` for an environment.

    Raises:
        DistillError: unreadable file, unknown kind, or sizes that disagree with the environment's.
    """
    if not path.is_file():
        raise DistillError(
            f"teacher {path}: no such file, expected a .safetensors network or a Stable-Baselines3 .zip; "
            "train one with: python -m distill teach"
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix == ".safetensors":
        teacher = _read_own(path, sha256)
    elif path.suffix == ".zip":
        teacher = _read_zip(path, facts, activation, sha256)
    else:
        raise DistillError(
            f"teacher {path}: got suffix {path.suffix!r}, expected .safetensors (this project) or .zip "
            "(Stable-Baselines3)"
        )
    got, expected = (teacher.sizes[0], teacher.sizes[-1]), (facts.observation_size, len(facts.action_low))
    if got != expected:
        raise DistillError(
            f"teacher {path}: got {got[0]} inputs and {got[1]} actions, the environment has {expected[0]} and "
            f"{expected[1]}; choose the environment it was trained in (--env, --env-kwargs)"
        )
    return teacher


def _read_own(path: Path, sha256: str) -> Teacher:
    from export.errors import ExportError
    from export.student_file import read_student

    try:
        student = read_student(path)
    except ExportError as error:
        raise DistillError(f"teacher {error}") from error
    sizes = (student.layers[0].weight.shape[1], *(layer.weight.shape[0] for layer in student.layers))
    return Teacher(network_policy(student), parameter_count(student), sizes, "network file", sha256)


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise DistillError(
            f"teacher {path}: {name!r} is missing, expected a zip saved by Stable-Baselines3's model.save()"
        ) from error
    if info.file_size > _LARGEST_MEMBER:
        raise DistillError(
            f"teacher {path}: {name!r} unpacks to {info.file_size} bytes, expected at most {_LARGEST_MEMBER}"
        )
    return archive.read(info)


def _read_zip(path: Path, facts: EnvironmentFacts, activation: str | None, sha256: str) -> Teacher:
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(_member(archive, path, "data"))
            weights: dict[str, Any] = torch.load(
                io.BytesIO(_member(archive, path, "policy.pth")), map_location="cpu", weights_only=True
            )
    except DistillError:
        raise
    except Exception as error:  # torch, zipfile and json each raise their own; a damaged file is one case for the user
        raise DistillError(
            f"teacher {path}: cannot be read ({' '.join(str(error).split())[:200]}), expected a zip saved by "
            "Stable-Baselines3's model.save(); save it again"
        ) from error
    if not isinstance(data, dict) or not isinstance(weights, dict):
        raise DistillError(f"teacher {path}: 'data' or 'policy.pth' is not a table, expected a Stable-Baselines3 zip")
    kind, layers = _layers(path, weights)
    options = data.get("policy_kwargs") or {}
    chosen = activation or _activation(path, options, kind)
    clip = None
    if kind == "SAC/TQC" and data.get("use_sde"):
        clip = float(options.get("clip_mean", 2.0)) or None  # SB3 hides a Hardtanh behind gSDE's mean
    squash = kind != "PPO/A2C/TRPO"
    chain = Chain(layers, chosen, clip, squash)
    policy = chain_policy(chain, facts.action_low, facts.action_high)
    sizes = (layers[0][0].shape[1], *(weight.shape[0] for weight, _ in layers))
    return Teacher(policy, sum(w.size + b.size for w, b in layers), sizes, f"Stable-Baselines3 {kind}", sha256)


def _activation(path: Path, options: dict[str, Any], kind: str) -> str:
    stated = str(options.get("activation_fn", ""))
    if not stated:
        return "tanh" if kind == "PPO/A2C/TRPO" else "relu"  # the library's defaults
    for name in ("ReLU", "Tanh"):
        if f".{name}'" in stated:
            return name.lower()
    raise DistillError(f"teacher {path}: got activation {stated}, expected ReLU or Tanh; override with --activation")


def _layers(path: Path, weights: dict[str, Any]) -> tuple[str, list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    import torch

    for kind, (hidden_pattern, head_pattern) in _ACTOR_PATTERNS.items():
        hidden = sorted(
            (int(found.group(1)), name)
            for name in weights
            if isinstance(name, str) and (found := re.fullmatch(hidden_pattern, name))
        )
        names = [name for _, name in hidden]
        if head_pattern is not None:
            heads = [name for name in weights if isinstance(name, str) and re.fullmatch(head_pattern, name)]
            # without hidden layers "actor.mu.0" alone would also look like TD3
            if not heads or not hidden:
                continue
            names.append(heads[0])
        if not names:
            continue
        layers = []
        for name in names:
            bias = name.removesuffix("weight") + "bias"
            if bias not in weights:
                raise DistillError(f"teacher {path}: {bias!r} is missing, expected a bias beside {name!r}")
            if not all(isinstance(weights[key], torch.Tensor) for key in (name, bias)):
                raise DistillError(f"teacher {path}: {name!r} or its bias is no tensor, expected a linear layer")
            pair = (weights[name].float().numpy(), weights[bias].float().numpy())
            if pair[0].ndim != 2 or pair[1].shape != pair[0].shape[:1]:
                raise DistillError(f"teacher {path}: {name!r} has shape {pair[0].shape}, expected a linear layer")
            if not all(np.all(np.isfinite(array)) for array in pair):
                raise DistillError(f"teacher {path}: {name!r} holds NaN or infinity, expected finite weights")
            layers.append(pair)
        for (weight, _), (following, _) in itertools.pairwise(layers):
            if following.shape[1] != weight.shape[0]:
                raise DistillError(f"teacher {path}: layer widths {weight.shape} and {following.shape} do not chain")
        return kind, layers
    raise DistillError(
        f"teacher {path}: found no actor made of linear layers among {len(weights)} tensors, expected SAC, TQC, TD3, "
        "DDPG, PPO, A2C or TRPO with an MLP policy; image, recurrent and discrete policies are not supported"
    )
