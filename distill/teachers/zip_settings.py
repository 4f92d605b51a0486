"""What the readable JSON of a Stable-Baselines3 zip says about its actor, and the library's defaults elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DistillError

_STATED_ACTIVATIONS: dict[str, Literal["relu", "tanh"]] = {
    "<class 'torch.nn.modules.activation.ReLU'>": "relu",
    "<class 'torch.nn.modules.activation.Tanh'>": "tanh",
}


def hidden_activation(
    path: Path, options: dict[str, Any], kind: str, asked: str | None
) -> tuple[Literal["relu", "tanh"], tuple[str, ...]]:
    """The hidden activation, and what a person must know of where it comes from; `asked` is --activation's.

    Raises:
        DistillError: nothing asked for, and the zip states neither ReLU nor Tanh.
    """
    stated = options.get("activation_fn")
    default: Literal["relu", "tanh"] = "tanh" if kind == "PPO/A2C/TRPO" else "relu"  # the library's
    found = default if stated is None else _STATED_ACTIVATIONS.get(str(stated))
    words = f"the default of {kind}" if stated is None else f"what the zip states ({found or repr(str(stated))[:80]})"
    if asked is not None:
        chosen: Literal["relu", "tanh"] = "tanh" if asked == "tanh" else "relu"
        changed = f"--activation {chosen} overrides {words}{f': {found}' if stated is None else ''}"
        return chosen, (changed,) if chosen != found else ()
    if found is None:
        raise DistillError(
            f"teacher {path}: got activation {stated}, expected ReLU or Tanh; override with --activation"
        )
    assumed = f"the zip names no hidden activation, {found} is assumed, {words}; --activation sets another"
    return found, (assumed,) if stated is None else ()


def clip_mean(path: Path, options: dict[str, Any], owner: str, weights: dict[str, Any]) -> float | None:
    """The Hardtanh behind a gSDE actor's mean: the head sits in a Sequential exactly where there is one.

    Raises:
        DistillError: its limit is no number above 0.
    """
    if owner not in ("SACPolicy", "TQCPolicy") or "actor.mu.0.weight" not in weights:
        return None
    clip = options.get("clip_mean", 2.0)
    if isinstance(clip, bool) or not isinstance(clip, int | float) or not 0.0 < clip < np.inf:
        raise DistillError(f"teacher {path}: got clip_mean {clip!r}, expected a number above 0; save it again")
    return float(clip)


def squash(path: Path, options: dict[str, Any], owner: str) -> bool:
    """Whether a tanh ends the actor.

    Raises:
        DistillError: the zip's squash_output is neither true nor false.
    """
    if owner in ("SACPolicy", "TQCPolicy", "TD3Policy"):
        return True
    stated = options.get("squash_output", owner == "ARSPolicy")
    if not isinstance(stated, bool):
        raise DistillError(f"teacher {path}: got squash_output {stated!r}, expected true or false; save it again")
    return stated


def algorithm(kind: str, data: dict[str, Any]) -> str:
    """The algorithm's name: those that share a policy class differ in their settings."""
    if kind != "PPO/A2C/TRPO":
        return kind
    return "TRPO" if "cg_max_steps" in data else "PPO" if "clip_range" in data else "A2C"


def action_bounds(data: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The action space's bounds as the JSON prints them, '[-1. -1.]'; None where the print is cut short."""
    found = []
    for key in ("low", "high"):
        text = str(data["action_space"].get(key, ""))
        numbers = re.findall(r"[-+0-9.einf]+", text.strip("[] "))
        try:
            found.append(np.array([float(number) for number in numbers]))
        except ValueError:
            return None
    return (found[0], found[1]) if len(found[0]) == len(found[1]) > 0 else None


def notes_of(data: dict[str, Any]) -> tuple[str, ...]:
    """What a person must know of bounds and statistics."""
    notes = []
    if action_bounds(data) is None:
        notes.append("the zip's action bounds cannot be read: the environment's are used")
    # the on-policy algorithms keep the raw observation only behind a VecNormalize
    if "gae_lambda" in data and data.get("_last_original_obs") is not None:
        notes.append("trained behind a VecNormalize")
    return tuple(notes)
