"""Which environment: its id, arguments, wrappers and stacked frames, and what a student must know of it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import DistillError

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[np.float32]


@dataclass(frozen=True)
class EnvironmentSpec:
    """Which environment, and with which keyword arguments."""

    environment: str
    arguments: dict[str, Any]

    def make(self) -> gymnasium.Env[Array, Array]:
        """Build one environment.

        Raises:
            DistillError: for an unknown id or module, or spaces that are not flat boxes.
        """
        import gymnasium

        module = self.environment.partition(":")[0] if ":" in self.environment else ""
        try:
            if module:
                importlib.import_module(module)
            environment = gymnasium.make(self.environment, **self.arguments)
        except (gymnasium.error.Error, ModuleNotFoundError, TypeError, ValueError) as error:
            raise DistillError(
                f"environment: got {self.environment!r} with {self.arguments}, which Gymnasium cannot make "
                f"({' '.join(str(error).split())}); expected a registered id such as 'hardware:CartRail-v0'; "
                "check the spelling and install the package that registers it"
            ) from error
        for name, space in (("observation", environment.observation_space), ("action", environment.action_space)):
            if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
                raise DistillError(
                    f"environment {self.environment!r}: got {name} space {space}, expected a one-dimensional Box; "
                    "flatten or wrap the environment"
                )
        return environment

    def facts(self) -> EnvironmentFacts:
        """Build it once and read its sizes, bounds, names and control period."""
        import gymnasium

        environment = self.make()
        observation, action = environment.observation_space, environment.action_space
        assert isinstance(observation, gymnasium.spaces.Box)
        assert isinstance(action, gymnasium.spaces.Box)
        plain = environment.unwrapped
        history = int(getattr(plain, "history", 1))
        base = observation.shape[0] // history
        metadata = plain.metadata
        period = metadata.get("control_period_s") or getattr(plain, "dt", None) or 1.0 / metadata.get("render_fps", 50)
        environment.close()
        if not (np.all(np.isfinite(action.low)) and np.all(np.isfinite(action.high))):
            raise DistillError(
                f"environment {self.environment!r}: got action bounds {action.low}..{action.high}, expected finite "
                "bounds; wrap it in gymnasium.wrappers.RescaleAction"
            )
        return EnvironmentFacts(
            observation_size=observation.shape[0],
            history=history,
            action_low=action.low.astype(np.float32),
            action_high=action.high.astype(np.float32),
            control_period_s=float(period),
            observation_names=tuple(metadata.get("observation_names", [f"observation {i}" for i in range(base)])),
            action_names=tuple(metadata.get("action_names", [f"action {i}" for i in range(action.shape[0])])),
        )


@dataclass(frozen=True)
class EnvironmentFacts:
    """What a student must know of its environment; `observation_size` counts all stacked frames."""

    observation_size: int
    history: int
    action_low: Array
    action_high: Array
    control_period_s: float
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
