"""Read Stable-Baselines3's VecNormalize statistics; its pickle is parsed, nothing in it is imported or run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DistillError
from ..network import InputNormaliser
from .actor import LARGEST_FILE
from .inert_pickle import Inert, inert_array, read_inert

_CLASSES = {
    "stable_baselines3.common.vec_env.vec_normalize.VecNormalize",
    "stable_baselines3.common.running_mean_std.RunningMeanStd",
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    ),
}
_PACKAGES = ("gym.spaces.", "gymnasium.spaces.", "numpy.random.")
_EXPECTED = "expected the file written by VecNormalize.save()"


def _allowed(name: str) -> bool:
    return name in _CLASSES or name.startswith(_PACKAGES)


def _state(value: Any, kind: str) -> dict[str, Any]:
    if not (isinstance(value, Inert) and value.name.endswith(f".{kind}") and isinstance(value.state, dict)):
        raise ValueError(f"no {kind} in it")
    return value.state


def read_vecnormalize(path: Path) -> tuple[InputNormaliser | None, str]:
    """The observation statistics and a sentence about them; None where observations were not normalised.

    Raises:
        DistillError: no such file, another pickle, Dict observations, NaN, or a clip and epsilon that make no sense.
    """
    if not path.is_file():
        raise DistillError(f"vecnormalize {path}: no such file, {_EXPECTED}; check --vecnormalize")
    if path.stat().st_size > LARGEST_FILE:
        raise DistillError(f"vecnormalize {path}: got {path.stat().st_size} bytes, {_EXPECTED}; check --vecnormalize")
    try:
        state = _state(read_inert(path.read_bytes(), _allowed), "VecNormalize")
        if not state["norm_obs"]:
            return None, f"{path.name}: observations were not normalised in training (norm_obs is off)"
        if isinstance(state["obs_rms"], dict):
            raise ValueError("statistics of Dict observations")
        statistics = _state(state["obs_rms"], "RunningMeanStd")
        normaliser = InputNormaliser(
            mean=inert_array(statistics["mean"]).astype(np.float64),
            variance=inert_array(statistics["var"]).astype(np.float64),
            epsilon=float(inert_array(state["epsilon"])),
            clip=float(inert_array(state["clip_obs"])),
        )
    except Exception as error:  # a damaged or foreign pickle fails in many ways; it is one case for the user
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise DistillError(
            f"vecnormalize {path}: cannot be read ({found}), {_EXPECTED}; nothing in it was run, save it again"
        ) from error
    return check_normaliser(f"vecnormalize {path}", normaliser), f"observations normalised by {path.name}"


def check_normaliser(subject: str, normaliser: InputNormaliser) -> InputNormaliser:
    """The same, checked; `subject` begins the message.

    Raises:
        DistillError: shapes that differ, NaN, a spread that is not above 0, or a clip that is not above 0.
    """
    mean, variance = normaliser.mean, normaliser.variance
    if mean.ndim != 1 or mean.shape != variance.shape or not len(mean):
        raise DistillError(
            f"{subject}: got mean {mean.shape} and variance {variance.shape}, expected two vectors of one length; "
            "use the statistics of flat observations"
        )
    spread = variance + normaliser.epsilon
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(spread)) and np.all(spread > 0.0) and normaliser.clip > 0):
        raise DistillError(
            f"{subject}: got statistics with NaN, infinity or no spread, or a clip of {normaliser.clip}, "
            "expected finite "
            "means, variances + epsilon above 0 and a clip above 0; train it again"
        )
    return normaliser
