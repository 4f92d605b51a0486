"""student.safetensors: a dense network left of pruning, with everything needed to run it."""

import json
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import FileFormatError
from export.replace_files import replace_files
from export.squash import Float32, Float64, activate, squash
from export.tensor_file import TensorFile, encode_tensors, file_digest

ACTIVATIONS = ("relu", "tanh", "identity")
LAYER_LIMIT = 16
WIDTH_LIMIT = 65536
_NEXT_STEP = "write it with `python -m distill train` or `export.student_file.write_student`"


@dataclass(frozen=True)
class Layer:
    """One dense layer: `activation(weight @ x + bias)`.

    weight (out, in) float32, 0 where pruned; bias (out,) float32; mean and log_alpha (out, in) float32 or None:
    the variational posterior before fine-tuning.
    """

    weight: Float32
    bias: Float32
    activation: str
    mean: Float32 | None = None
    log_alpha: Float32 | None = None


@dataclass(frozen=True)
class Student:
    """A policy network with its normaliser, limits and provenance.

    observation_mean, observation_scale: (base,) float32, tied over the `history` stacked frames (oldest first);
    action_low, action_high: (action,) float32 in physical units.
    """

    layers: tuple[Layer, ...]
    observation_mean: Float32
    observation_scale: Float32
    action_low: Float32
    action_high: Float32
    history: int
    environment: str
    control_period_s: float
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    role: str = "student"
    threshold: float | None = None
    config: dict[str, Any] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    evaluation: dict[str, Any] = field(default_factory=dict)

    @property
    def widths(self) -> tuple[int, ...]:
        """Input size, then every layer's output size."""
        return (self.layers[0].weight.shape[1], *(layer.weight.shape[0] for layer in self.layers))

    def evaluate(self, observations: Float64) -> Float64:
        """Return actions (n, action) in physical units for stacked observations (n, history*base), in float64."""
        mean = np.tile(self.observation_mean.astype(np.float64), self.history)
        scale = np.tile(self.observation_scale.astype(np.float64), self.history)
        values = (np.asarray(observations, dtype=np.float64) - mean) / scale
        for layer in self.layers[:-1]:
            values = activate(layer.activation, values @ layer.weight.astype(np.float64).T + layer.bias)
        last = self.layers[-1]
        outputs = values @ last.weight.astype(np.float64).T + last.bias
        return squash(last.activation, outputs, self.action_low, self.action_high)


def package_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("bayesian-policy-distillation")
    except PackageNotFoundError:
        return "unknown"


def student_digest(path: Path | str) -> str:
    """Return the sha256 of the student file as 64 hexadecimal digits."""
    return file_digest(Path(path))


def common_metadata(source: Any) -> dict[str, str]:
    """Return the metadata that student and policy files have in common, as strings."""
    return {
        "activations": json.dumps([layer.activation for layer in source.layers]),
        "history": str(source.history),
        "environment": source.environment,
        "control_period_s": repr(float(source.control_period_s)),
        "observation_names": json.dumps(list(source.observation_names)),
        "action_names": json.dumps(list(source.action_names)),
        "role": source.role,
        "threshold": "" if source.threshold is None else repr(float(source.threshold)),
        "config": json.dumps(source.config, sort_keys=True),
        "parents": json.dumps(source.parents, sort_keys=True),
        "seed": str(source.seed),
        "evaluation": json.dumps(source.evaluation, sort_keys=True),
        "package_version": package_version(),
    }


def read_common(file: TensorFile, base_size: int, action_size: int) -> dict[str, Any]:
    """Return the keyword arguments that `Student` and `SparsePolicy` share, checked."""
    role = file.metadata.get("role", "student")
    if role not in ("teacher", "student"):
        raise file.complain(f"metadata 'role' is {role!r}, expected 'teacher' or 'student'")
    low = file.array("action_low", (action_size,))
    high = file.array("action_high", (action_size,))
    for index in np.flatnonzero(~(low < high)):
        raise file.complain(f"action_low[{index}] = {low[index]} is not below action_high[{index}] = {high[index]}")
    return {
        "action_low": low,
        "action_high": high,
        "history": file.integer("history", 1, 255),
        "environment": file.text("environment"),
        "control_period_s": file.number("control_period_s", 1e-6, 3600.0),
        "observation_names": file.names("observation_names", base_size),
        "action_names": file.names("action_names", action_size),
        "role": role,
        "threshold": None if not file.metadata.get("threshold") else file.number("threshold", -1e6, 1e6),
        "config": file.json("config", dict, "{}"),
        "parents": file.json("parents", dict, "{}"),
        "seed": file.integer("seed", -(2**63), 2**63) if "seed" in file.metadata else 0,
        "evaluation": file.json("evaluation", dict, "{}"),
    }


def read_activations(file: TensorFile) -> list[str]:
    """Return the activation of every layer, checked."""
    activations: list[str] = file.json("activations", list)
    if not 1 <= len(activations) <= LAYER_LIMIT:
        raise file.complain(f"{len(activations)} layers, expected 1 to {LAYER_LIMIT}")
    for index, name in enumerate(activations):
        allowed = ACTIVATIONS if index + 1 < len(activations) else ("tanh", "identity")
        if name not in allowed:
            raise file.complain(f"activation of layer {index} is {str(name)[:40]!r}, expected {' or '.join(allowed)}")
    return activations


def read_student(path: Path | str) -> Student:
    """Read and check a student file.

    Raises:
        FileFormatError: the file is missing, damaged, or inconsistent; the message names file, tensor and index.
    """
    file = TensorFile(Path(path), "bpd-student", _NEXT_STEP)
    layers: list[Layer] = []
    inputs: int | None = None
    for index, activation in enumerate(read_activations(file)):
        weight = file.array(f"layer{index}.weight", (None, inputs))
        if max(weight.shape) > WIDTH_LIMIT:
            raise file.complain(
                f"tensor 'layer{index}.weight' has shape {weight.shape}, expected widths up to {WIDTH_LIMIT}"
            )
        bias = file.array(f"layer{index}.bias", (weight.shape[0],))
        posterior = [
            file.array(name, weight.shape) if name in file.tensors else None
            for name in (f"layer{index}.mean", f"layer{index}.log_alpha")
        ]
        if (posterior[0] is None) != (posterior[1] is None):
            raise file.complain(f"layer {index} has only one of 'mean' and 'log_alpha', expected both or neither")
        layers.append(Layer(weight, bias, activation, posterior[0], posterior[1]))
        inputs = weight.shape[0]
    mean = file.array("observation_mean", (None,))
    scale = file.array("observation_scale", mean.shape)
    for position in np.flatnonzero(~(scale > 0)):
        raise file.complain(f"observation_scale[{position}] is {scale[position]}, expected a number above 0")
    common = read_common(file, mean.shape[0], layers[-1].weight.shape[0])
    if layers[0].weight.shape[1] != common["history"] * mean.shape[0]:
        raise file.complain(
            f"layer 0 takes {layers[0].weight.shape[1]} inputs, expected history {common['history']} x {mean.shape[0]} "
            f"observations = {common['history'] * mean.shape[0]}"
        )
    return Student(layers=tuple(layers), observation_mean=mean, observation_scale=scale, **common)


def write_student(path: Path | str, student: Student) -> None:
    """Write a student file (temporary name, then rename); equal students give equal bytes.

    Raises:
        FileFormatError: a tensor holds NaN or infinity (the file could not be read back).
    """
    path = Path(path)
    tensors: dict[str, Float32] = {
        "observation_mean": student.observation_mean,
        "observation_scale": student.observation_scale,
        "action_low": student.action_low,
        "action_high": student.action_high,
    }
    for index, layer in enumerate(student.layers):
        for name in ("weight", "bias", "mean", "log_alpha"):
            if getattr(layer, name) is not None:
                tensors[f"layer{index}.{name}"] = getattr(layer, name)
    tensors = {name: np.asarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise FileFormatError(
                f"{path}: tensor {name!r} holds NaN or infinity, expected finite numbers; not written"
            )
    metadata = {"format": "bpd-student", "format_version": "1", **common_metadata(student)}
    replace_files(path.parent, {path.name: encode_tensors(tensors, metadata)})
