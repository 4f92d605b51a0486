"""Read a Stable-Baselines3 or sb3-contrib zip: weights with `weights_only=True`, settings from its readable JSON.

The JSON also carries pickles (":serialized:"); they are never decoded. What the actor computes follows from the policy
class, its options and the names of its tensors; whatever these leave open is refused.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import DistillError
from ..network import Array, Chain
from .actor import LARGEST_FILE, Actor, linear, member
from .zip_settings import action_bounds, algorithm, clip_mean, hidden_activation, notes_of, squash

_EXPECTED = "a zip saved by Stable-Baselines3's model.save()"
_ALGORITHMS = "SAC, TQC, TD3, DDPG, PPO, A2C, TRPO or ARS with MlpPolicy (ARS: also LinearPolicy)"
# the class that owns the policy's __init__, and where its actor's layers are: trunks, then the head
_ACTORS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "SACPolicy": ("SAC", ("actor.latent_pi",), ("actor.mu", "actor.mu.0")),
    "TQCPolicy": ("TQC", ("actor.latent_pi",), ("actor.mu", "actor.mu.0")),
    "TD3Policy": ("TD3/DDPG", ("actor.mu",), ()),
    "ActorCriticPolicy": (
        "PPO/A2C/TRPO",
        ("mlp_extractor.shared_net", "mlp_extractor.policy_net"),
        ("action_net",),
    ),
    "ARSPolicy": ("ARS", ("action_net",), ()),
    "ARSLinearPolicy": ("ARS linear", ("action_net",), ()),
}
_UNSUPPORTED = (
    # part of the class's name, what to call it
    ("Cnn", "an image policy (CnnPolicy)"),
    ("MultiInput", "a policy of Dict observations (MultiInputPolicy)"),
    ("Recurrent", "a recurrent policy (MlpLstmPolicy)"),
    ("Lstm", "a recurrent policy (MlpLstmPolicy)"),
    ("DQN", "a policy of discrete actions (DQN)"),
    ("Maskable", "a policy of masked discrete actions (MaskablePPO)"),
)
_SPACES = (
    ("observation_space", "Box", "observations"),
    ("action_space", "Box", "actions"),
)


def read_stable_baselines(path: Path, file: bytes, activation: str | None) -> Actor:
    """The actor of a zip; `activation` overrides what the zip says about its hidden layers.

    Raises:
        DistillError: damaged, too large, or a policy other than a perceptron with continuous actions.
    """
    data, weights = contents(path, file)
    owner = policy_class(path, data)
    _check_spaces(path, data)
    kind, trunks, heads = _ACTORS[owner]
    options = data.get("policy_kwargs", "none")
    if options is None:
        options = {}
    if not isinstance(options, dict):
        raise DistillError(
            f"teacher {path}: got policy options (policy_kwargs) {str(options)[:60]!r}, expected a table; save it again"
        )
    layers, parameters = named_layers(path, weights, trunks, heads)
    extractor = str(options.get("features_extractor_class", "FlattenExtractor"))
    if "FlattenExtractor" not in extractor or any("features_extractor." in name for name in weights):
        raise DistillError(
            f"teacher {path}: got features extractor {extractor[:100]} with weights of its own, expected none "
            "(FlattenExtractor); export the whole actor to ONNX if it is a plain perceptron"
        )
    chosen, said = hidden_activation(path, options, kind, activation)
    chain = Chain(
        layers=tuple(layers),
        activations=(chosen,) * (len(layers) - 1),
        clip=clip_mean(path, options, owner, weights),
        squash=squash(path, options, owner),
    )
    if len(layers) == 1:
        said = () if activation is None else ("--activation changes nothing: the policy has no hidden layer",)
    notes = (*notes_of(data), *said)
    return Actor(chain, f"Stable-Baselines3 {algorithm(kind, data)}", parameters, action_bounds(data), notes)


def contents(path: Path, file: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a zip and its tensors by name; nothing in it is run. Raises DistillError: damaged."""
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            if "parameter_list" in archive.namelist():
                raise DistillError(
                    f"teacher {path}: got a zip of Stable-Baselines 2 (TensorFlow), expected {_EXPECTED}; "
                    "put its matrices into an .npz (docs/formats.md)"
                )
            data = json.loads(member(archive, path, "data", _EXPECTED))
            stored = member(archive, path, "policy.pth", _EXPECTED)
        if zipfile.is_zipfile(io.BytesIO(stored)):
            with zipfile.ZipFile(io.BytesIO(stored)) as inner:
                size = sum(info.file_size for info in inner.infolist())
            if size > LARGEST_FILE:
                raise DistillError(
                    f"teacher {path}: 'policy.pth' unpacks to {size} bytes, expected at most {LARGEST_FILE}; "
                    "save it again"
                )
        weights = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
    except DistillError:
        raise
    except Exception as error:  # torch, zipfile and json each raise their own; a damaged file is one case for the user
        raise DistillError(
            f"teacher {path}: cannot be read ({_reason(error)}), expected {_EXPECTED}; nothing in it was run, save "
            "it again"
        ) from error
    if not isinstance(data, dict) or not isinstance(weights, dict) or not all(isinstance(key, str) for key in weights):
        raise DistillError(
            f"teacher {path}: 'data' or 'policy.pth' is not a table, expected {_EXPECTED}; save it again"
        )
    return data, weights


def _reason(error: Exception) -> str:
    """The error in one line, without torch's advice to load the file in the way that runs what is in it."""
    text = " ".join(str(error).split())
    if "weights_only" not in text:
        return text[:200] or type(error).__name__
    named = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", text)
    return f"'policy.pth' names {named[1][:100]}, no tensor" if named else "'policy.pth' holds more than tensors"


def policy_class(path: Path, data: dict[str, Any]) -> str:
    """The class whose __init__ built the policy: the JSON lists the functions of the class, with their owners.

    Raises:
        DistillError: none of those that can be read.
    """
    entry = data.get("policy_class")
    if not isinstance(entry, dict):
        raise DistillError(f"teacher {path}: does not name its policy class, expected {_EXPECTED}; save it again")
    package = str(entry.get("__module__", "")).partition(".")[0]
    found = re.match(r"<function (\w+)\.__init__ at", str(entry.get("__init__", "")))
    name = found.group(1) if found else "unknown"
    for part, words in _UNSUPPORTED:
        if part in name:
            raise DistillError(f"teacher {path}: got {words}, expected {_ALGORITHMS}; choose such a policy")
    if package not in ("stable_baselines3", "sb3_contrib") or name not in _ACTORS:
        raise DistillError(
            f"teacher {path}: got policy class {entry.get('__module__')}.{name}, expected {_ALGORITHMS}; what another "
            "class computes is not in the file: export its actor to ONNX"
        )
    return name


def _check_spaces(path: Path, data: dict[str, Any]) -> None:
    for key, expected, words in _SPACES:
        space = data.get(key)
        kind = str(space.get(":type:", "")) if isinstance(space, dict) else ""
        found = re.search(r"(\w+)'>$", kind)
        name = found.group(1) if found else "unknown"
        if name != expected:
            raise DistillError(
                f"teacher {path}: got {name} {words}, expected a {expected} space (discrete, Dict and other spaces are "
                "not supported); choose a policy with continuous values"
            )
        assert isinstance(space, dict)
        shape = space.get("_shape", space.get("shape"))
        if isinstance(shape, list) and len(shape) == 3 and space.get("dtype") == "uint8":
            raise DistillError(f"teacher {path}: got image {words} {shape}, expected a flat vector; use another policy")


def _sequence(path: Path, weights: dict[str, Any], prefix: str) -> list[str]:
    """Names of the linear layers of a torch Sequential, in order; every second entry is an activation."""
    found: dict[int, set[str]] = {}
    for name in weights:
        match = re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.(.+)", name)
        if match:
            found.setdefault(int(match.group(1)), set()).add(match.group(2))
    for position, index in enumerate(sorted(found)):
        if index != 2 * position or not found[index] <= {"weight", "bias"} or "weight" not in found[index]:
            raise DistillError(
                f"teacher {path}: '{prefix}.{index}' holds {', '.join(sorted(found[index]))[:80]}, expected "
                "linear layers "
                "alternating with activations; normalisation and dropout layers are not supported: export to ONNX"
            )
    return [f"{prefix}.{index}" for index in sorted(found)]


def named_layers(
    path: Path, weights: dict[str, Any], trunks: tuple[str, ...], heads: tuple[str, ...]
) -> tuple[list[tuple[Array, Array]], int]:
    """Layers (weight (out, in), bias (out,)) of torch Sequentials, then of the first head that is there; parameters.

    Raises:
        DistillError: missing, or something else than linear layers with an activation between two.
    """
    names = [name for trunk in trunks for name in _sequence(path, weights, trunk)]
    present = [head for head in heads if f"{head}.weight" in weights]
    names += present[:1]
    if not names or (heads and not present):
        raise DistillError(
            f"teacher {path}: found no actor among {len(weights)} tensors, expected layers under "
            f"{' and '.join((*trunks, *heads))}; save it again"
        )
    layers, parameters = [], 0
    for name in names:
        weight = _numbers(path, weights, f"{name}.weight")
        bias = _numbers(path, weights, f"{name}.bias") if f"{name}.bias" in weights else None
        parameters += weight.size + (0 if bias is None else bias.size)
        if bias is None and trunks != ("action_net",):  # only ARS has layers without
            raise DistillError(
                f"teacher {path}: '{name}.bias' is missing, expected a bias beside the weight; save it again"
            )
        layers.append(linear(path, name, weight, bias))
    return layers, parameters


def _numbers(path: Path, weights: dict[str, Any], name: str) -> NDArray[Any]:
    import torch

    tensor = weights[name]
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
        raise DistillError(
            f"teacher {path}: {name!r} is no tensor of numbers, expected a linear layer's; save it again"
        )
    return tensor.detach().to(torch.float32).numpy()
