"""Stack the last frames of an environment into one observation, as the exported policy's ring of frames does."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class FrameStack(gymnasium.Wrapper[Array, Array, Any, Array]):
    """Observations (frames * base,), oldest frame first; reset fills every frame with the first observation."""

    def __init__(self, environment: gymnasium.Env[Any, Array], frames: int) -> None:
        super().__init__(environment)
        space = environment.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        self.observation_space = gymnasium.spaces.Box(
            np.tile(space.low, frames).astype(np.float32), np.tile(space.high, frames).astype(np.float32)
        )
        self._frames: deque[Array] = deque(maxlen=frames)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Reset the environment; see the class."""
        observation, info = self.env.reset(seed=seed, options=options)
        assert self._frames.maxlen is not None
        self._frames.extend([np.asarray(observation, dtype=np.float32)] * self._frames.maxlen)
        return np.concatenate(self._frames), info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step; the newest frame pushes the oldest out."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._frames.append(np.asarray(observation, dtype=np.float32))
        return np.concatenate(self._frames), float(reward), terminated, truncated, info
