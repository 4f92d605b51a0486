"""An actor as it stands in a file, and the limits that every reader of a file keeps."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DistillError
from ..network import Array, Chain

LARGEST_FILE = 256 * 2**20  # bytes; a policy is a few megabytes, a zip bomb is not


@dataclass(frozen=True)
class Actor:
    """What a reader found: the chain, its kind in words, and the action bounds where the file states them."""

    chain: Chain
    kind: str
    parameters: int  # weights and biases as stored
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None  # each (actions,)
    notes: tuple[str, ...] = ()


def member(archive: zipfile.ZipFile, path: Path, name: str, expected: str) -> bytes:
    """One file out of a zip.

    Raises:
        DistillError: missing, or larger than a policy can be.
    """
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise DistillError(f"teacher {path}: {name!r} is missing, expected {expected}; save it again") from error
    if info.file_size > LARGEST_FILE:
        raise DistillError(
            f"teacher {path}: {name!r} unpacks to {info.file_size} bytes, expected at most {LARGEST_FILE}; "
            "save the policy without its replay buffer"
        )
    return archive.read(info)


def linear(path: Path, name: str, weight: NDArray[np.generic], bias: NDArray[np.generic] | None) -> tuple[Array, Array]:
    """A checked layer: weight (out, in) and bias (out,), zeros where the file has none, both float32.

    Raises:
        DistillError: other shapes, no numbers, NaN or infinity.
    """
    if weight.ndim != 2 or 0 in weight.shape:
        raise DistillError(
            f"teacher {path}: {name!r} has shape {weight.shape}, expected a linear layer's (outputs, inputs); "
            "use a policy that is a plain perceptron"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise DistillError(
            f"teacher {path}: the bias of {name!r} has shape {bias.shape}, expected {weight.shape[:1]}; save it again"
        )
    if any(array.dtype.kind != "f" for array in (weight, bias) if array is not None):
        raise DistillError(f"teacher {path}: {name!r} holds {weight.dtype}, expected floating-point numbers")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity, which the next check names
        pair = (
            np.ascontiguousarray(weight, dtype=np.float32),
            np.zeros(len(weight), np.float32) if bias is None else bias.astype(np.float32),
        )
    if not all(np.all(np.isfinite(array)) for array in pair):
        raise DistillError(f"teacher {path}: {name!r} holds NaN or infinity, expected finite weights; train it again")
    return pair
