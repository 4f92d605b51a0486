"""One environment while it is played: whatever its code raises or gives back wrongly ends in one line."""

from __future__ import annotations

import contextlib
from typing import Any

import gymnasium
import numpy as np

from .environment import Array, EnvironmentSpec
from .errors import DistillError

_OWN = (MemoryError, DistillError)
_FOREIGN = (Exception, SystemExit)  # a user's own code fails in its own ways; it may not end this one
_SAFE = 1e38  # float32 holds it
_FLOATS = (np.float64, np.float32)


class Plant:
    """Resets and steps the environment of `spec`, and knows which step of which seed it is at.

    Raises:
        DistillError: an environment that cannot be made or that raises, a wrong shape, a non-finite number.
    """

    def __init__(self, spec: EnvironmentSpec) -> None:
        self._spec, self._environment = spec, spec.make()
        space = self._environment.action_space
        assert isinstance(space, gymnasium.spaces.Box)
        self.action_low: Array = space.low  # (action,)
        self.action_high: Array = space.high
        self.control_period_s = float(self._environment.metadata.get("control_period_s", 0.02))
        self._shape = self._environment.observation_space.shape
        self._seed = self._steps = 0

    def reset(self, seed: int) -> Array:
        """Begin the episode of `seed`; the first observation (observation,)."""
        self._seed, self._steps = seed, 0
        try:
            result: Any = self._environment.reset(seed=seed)
            observation, _ = result
        except _OWN:
            raise
        except _FOREIGN as error:
            raise self._refusal("reset", error) from error
        return self._checked(observation, 0.0)

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One control period: (observation, reward, terminated, truncated, info)."""
        try:  # no context manager: this runs millions of times
            result: Any = self._environment.step(action)
            observation, reward, terminated, truncated, info = result
            reward, terminated, truncated = float(reward), bool(terminated), bool(truncated)
            if not isinstance(info, dict):
                raise TypeError(f"info is {type(info).__name__}, expected dict")
        except _OWN:
            raise
        except _FOREIGN as error:
            raise self._refusal("step", error) from error
        observation = self._checked(observation, reward)
        self._steps += 1
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """End it; what it raises then changes nothing that was played (`EnvironmentSpec.facts` refuses it)."""
        with contextlib.suppress(Exception):
            self._environment.close()

    def _where(self) -> str:
        return f"at step {self._steps} of seed {self._seed}"

    def _refusal(self, call: str, error: BaseException) -> DistillError:
        return DistillError(
            f"environment {self._spec.environment!r}: got {type(error).__name__} in {call}() {self._where()} "
            f"({' '.join(str(error).split())[:200]}), expected "
            f"{'(observation, info)' if call == 'reset' else '(observation, reward, terminated, truncated, info)'}"
            "; check the environment, --env-kwargs and --wrapper"
        )

    def _checked(self, observation: Any, reward: float) -> Array:
        if (
            isinstance(observation, np.ndarray)
            and observation.shape == self._shape
            and observation.dtype in _FLOATS
            and observation.min(initial=0.0) > -_SAFE  # false for NaN
            and observation.max(initial=0.0) < _SAFE
            and abs(reward) < _SAFE
        ):
            return observation.astype(np.float32)  # nothing below would find fault with it, and takes longer
        try:
            with np.errstate(over="ignore"):  # what float32 cannot hold is refused like infinity
                array: Array = np.asarray(observation, dtype=np.float32)
                small = np.float32(reward)
        except (TypeError, ValueError) as error:
            raise DistillError(
                f"environment {self._spec.environment!r}: got an observation that is no array of numbers "
                f"({' '.join(str(error).split())[:100]}) {self._where()}, expected shape {self._shape}; check the "
                "environment and --wrapper"
            ) from error
        if array.shape != self._shape:
            raise DistillError(
                f"environment {self._spec.environment!r}: got an observation of shape {array.shape} {self._where()}, "
                f"expected {self._shape}, its observation space's; check the environment and --wrapper"
            )
        if not (np.isfinite(array).all() and np.isfinite(small)):
            raise DistillError(
                f"environment {self._spec.environment!r}: got a non-finite observation or reward {self._where()}, "
                "expected finite numbers; check the environment"
            )
        return array
