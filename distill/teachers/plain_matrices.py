"""Read the documented .npz of plain matrices (docs/formats.md)."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DistillError
from ..network import Chain, InputNormaliser
from .actor import LARGEST_FILE, Actor, linear
from .vecnormalize import check_normaliser

_LAYERS = 16
_NEXT_STEP = "see docs/formats.md"


def read_plain_matrices(path: Path, file: bytes) -> Actor:
    """The actor of an .npz file.

    Raises:
        DistillError: damaged, pickled objects, a missing array, an unknown activation, NaN.
    """
    arrays = _arrays(path, file)
    count = int(_scalar(path, arrays, "n_layers", "iu"))
    if not 1 <= count <= _LAYERS:
        raise DistillError(f"teacher {path}: got n_layers {count}, expected 1 to {_LAYERS}; {_NEXT_STEP}")
    hidden = _choice(path, arrays, "hidden_act", ("relu", "tanh"))
    output = _choice(path, arrays, "out_act", ("tanh", "clip"))
    layers = tuple(
        linear(path, f"W{index}", _array(path, arrays, f"W{index}"), _array(path, arrays, f"b{index}"))
        for index in range(count)
    )
    normaliser = None
    given = [name for name in ("obs_mean", "obs_var", "obs_eps", "obs_clip") if name in arrays]
    if given:
        normaliser = InputNormaliser(
            mean=_array(path, arrays, "obs_mean").astype(np.float64),
            variance=_array(path, arrays, "obs_var").astype(np.float64),
            epsilon=float(_scalar(path, arrays, "obs_eps", "fiu")),
            clip=float(_scalar(path, arrays, "obs_clip", "fiu")),
        )
        check_normaliser(f"teacher {path}", normaliser)
        spread = normaliser.variance + normaliser.epsilon
        if np.all(normaliser.mean == 0.0) and np.all(spread == 1.0) and normaliser.clip == np.inf:
            normaliser = None  # it changes nothing
    bounds = None
    if "action_low" in arrays or "action_high" in arrays:
        bounds = (
            _array(path, arrays, "action_low").astype(np.float64),
            _array(path, arrays, "action_high").astype(np.float64),
        )
    chain = Chain(layers, (hidden,) * (count - 1), None, output == "tanh", normaliser)
    return Actor(chain, "plain matrices", sum(weight.size + bias.size for weight, bias in layers), bounds)


def _arrays(path: Path, file: bytes) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > LARGEST_FILE:
            raise DistillError(
                f"teacher {path}: unpacks to {size} bytes, expected at most {LARGEST_FILE}; write the actor's "
                "arrays only"
            )
        with np.load(io.BytesIO(file), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except DistillError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise DistillError(
            f"teacher {path}: cannot be read ({' '.join(str(error).split())[:200]}), expected an .npz of plain arrays; "
            f"nothing in it was run, {_NEXT_STEP}"
        ) from error


def _array(path: Path, arrays: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in arrays:
        raise DistillError(f"teacher {path}: {name!r} is missing, got {', '.join(sorted(arrays))[:200]}; {_NEXT_STEP}")
    value = arrays[name]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiuU":  # numpy gives what is no array as bytes
        found = getattr(value, "dtype", "no array")
        raise DistillError(f"teacher {path}: {name!r} holds {found}, expected numbers; {_NEXT_STEP}")
    return value


def _scalar(path: Path, arrays: dict[str, NDArray[Any]], name: str, kinds: str) -> Any:
    value = _array(path, arrays, name)
    if value.size != 1 or value.dtype.kind not in kinds:
        raise DistillError(
            f"teacher {path}: {name!r} is {value.dtype} of shape {value.shape}, expected one value; {_NEXT_STEP}"
        )
    return value.reshape(())[()]


def _choice(path: Path, arrays: dict[str, NDArray[Any]], name: str, choices: tuple[str, ...]) -> str:
    value = str(_scalar(path, arrays, name, "U"))
    if value not in choices:
        raise DistillError(f"teacher {path}: got {name} {value[:40]!r}, expected {' or '.join(choices)}; {_NEXT_STEP}")
    return value
