"""student.safetensors: a dense network left of pruning, with everything needed to run it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.errors import FileFormatError
from export.interface import Interface, interface_metadata, read_interface
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
class Student(Interface):
    """A policy network with its normaliser.

    observation_mean, observation_scale: (base,) float32, tied over the `history` stacked frames.
    """

    layers: tuple[Layer, ...]
    observation_mean: Float32
    observation_scale: Float32

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


def student_digest(path: Path | str) -> str:
    """Return the sha256 of the student file as 64 hexadecimal digits."""
    return file_digest(Path(path))


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
    common = read_interface(file, mean.shape[0], layers[-1].weight.shape[0])
    if layers[0].weight.shape[1] != common.history * mean.shape[0]:
        raise file.complain(
            f"layer 0 takes {layers[0].weight.shape[1]} inputs, expected history {common.history} x {mean.shape[0]} "
            f"observations = {common.history * mean.shape[0]}"
        )
    return Student(layers=tuple(layers), observation_mean=mean, observation_scale=scale, **common.interface())


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
    metadata = {
        "format": "bpd-student",
        "format_version": "1",
        "activations": json.dumps([layer.activation for layer in student.layers]),
        **interface_metadata(student),
    }
    replace_files(path.parent, {path.name: encode_tensors(tensors, metadata)})
