"""What a policy takes, gives and comes from: the fields that student and policy files have in common."""

import json
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from export.squash import Float32
from export.tensor_file import TensorFile

THRESHOLD_LIMIT = 1e6
"""Largest magnitude of a log-alpha threshold that the files take."""


@dataclass(frozen=True, kw_only=True)
class Interface:
    """Limits, names and provenance of a policy.

    action_low, action_high: (action,) float32 in physical units; history: stacked frames, oldest first.
    """

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

    def interface(self) -> dict[str, Any]:
        """Return these fields by name, as keyword arguments for another network with the same interface."""
        return {entry.name: getattr(self, entry.name) for entry in fields(Interface)}


def package_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("bayesian-policy-distillation")
    except PackageNotFoundError:
        return "unknown"


def interface_metadata(source: Interface) -> dict[str, str]:
    """Return the metadata entries of an interface, as strings."""
    return {
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


def read_interface(file: TensorFile, base_size: int, action_size: int) -> Interface:
    """Read the fields of an interface, checked.

    Raises:
        FileFormatError: an entry is missing or unusable; the message names it.
    """
    role = file.metadata.get("role", "student")
    if role not in ("teacher", "student"):
        raise file.complain(f"metadata 'role' is {role!r}, expected 'teacher' or 'student'")
    low = file.array("action_low", (action_size,))
    high = file.array("action_high", (action_size,))
    for index in np.flatnonzero(~(low < high)):
        raise file.complain(f"action_low[{index}] = {low[index]} is not below action_high[{index}] = {high[index]}")
    pruned = bool(file.metadata.get("threshold"))
    return Interface(
        action_low=low,
        action_high=high,
        history=file.integer("history", 1, 255),
        environment=file.text("environment"),
        control_period_s=file.number("control_period_s", 1e-6, 3600.0),
        observation_names=file.names("observation_names", base_size),
        action_names=file.names("action_names", action_size),
        role=role,
        threshold=file.number("threshold", -THRESHOLD_LIMIT, THRESHOLD_LIMIT) if pruned else None,
        config=file.json("config", dict, "{}"),
        parents=file.json("parents", dict, "{}"),
        seed=file.integer("seed", -(2**63), 2**63) if "seed" in file.metadata else 0,
        evaluation=file.json("evaluation", dict, "{}"),
    )
