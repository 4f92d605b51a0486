"""`hardware:CartRail-v0`: swing the rod up and hold it, through the same sensors, delay and limits as the firmware.

One `step` is one control period. The action handed in answers the newest observation and is latched at the *next*
boundary, as on the device: during this step the drive still follows the previous action.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from .drive import DriveLimit
from .observe import BASE_OBSERVATION_SIZE, OBSERVATION_NAMES, Observer
from .plants.cart_rail import CART_RAIL, UPRIGHT_RAD, CartRailParameters, CartRailPlant

# Generous physical bounds of one frame; measured values stay inside until the episode has ended.
_FRAME_BOUND = np.array([1.0, 20.0, 1.01, 1.01, 150.0], dtype=np.float32)


def wrap_angle(angle_rad: float) -> float:
    """Map an angle to [-pi, pi)."""
    return (angle_rad + math.pi) % (2.0 * math.pi) - math.pi


class CartRailEnvironment(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Observation (history * 5,) float32, oldest frame first; action (1,) cart acceleration [m/s^2].

    Reward per period: 0.25 (1 + cos th) + 0.5 exp(-(th/0.3)^2 - (th'/6)^2 - (x/0.4)^2) - 0.1 (x/0.75)^2
    - 0.08 (change of action / full scale)^2, and -10 when the cart leaves the rail or the rod spins too fast.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  # the base class declares it so
        "render_modes": ["rgb_array"],
        "render_fps": 50,
        "observation_names": OBSERVATION_NAMES,
        "action_names": ("cart acceleration [m/s^2]",),
        "control_period_s": CART_RAIL.period_s,
    }

    def __init__(
        self,
        render_mode: str | None = None,
        history: int = 5,
        randomise: bool = False,
        start: str = "mixed",
        near_upright_share: float = 0.0,
    ) -> None:
        """Build the plant.

        Args:
            render_mode: None or "rgb_array" (needs EGL).
            history: number of stacked frames in the observation.
            randomise: draw new physical parameters at every reset (`CartRailParameters.sample`).
            start: "rest" (hanging in the middle), "random" (anywhere), or "mixed" (either with equal chance).
            near_upright_share: share of episodes that start close to upright instead; a training curriculum.

        Raises:
            ValueError: for an unknown `start` or `render_mode`, or a history outside 1..32.
        """
        if start not in ("rest", "random", "mixed"):
            raise ValueError(f"start: got {start!r}, expected rest, random or mixed")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: got {render_mode!r}, expected None or 'rgb_array'")
        if not 1 <= history <= 32:
            raise ValueError(f"history: got {history}, expected 1 to 32 stacked frames")
        self.render_mode = render_mode
        self.history = history
        self._randomise = randomise
        self._start = start
        self._near_upright_share = near_upright_share
        bound = np.tile(_FRAME_BOUND, history)
        limit = CART_RAIL.acceleration_limit_m_s2
        self.observation_space = gymnasium.spaces.Box(-bound, bound, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-limit, limit, (1,), np.float32)
        self.plant = CartRailPlant()
        self._observer = Observer()
        self._drive = DriveLimit()
        self._stack = np.zeros(history * BASE_OBSERVATION_SIZE, dtype=np.float32)
        self._pending = np.float32(0.0)
        self._renderer: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; `options={"parameters": CartRailParameters(...)}` fixes the plant for it."""
        super().reset(seed=seed)
        generator = self.np_random
        if options and "parameters" in options:
            self.plant.set_parameters(options["parameters"])
        elif self._randomise:
            self.plant.set_parameters(CartRailParameters.sample(generator))
        else:
            self.plant.set_parameters(CartRailParameters())
        self.plant.reset(*self._initial_state(generator))
        self._pending = np.float32(0.0)
        self._drive.reset(0.0)
        self._observer.reset(self.plant.cart_count, self.plant.rod_count)
        frame = self._observer.observe(self.plant.cart_count, self.plant.rod_count)
        self._stack[:] = np.tile(frame, self.history)
        return self._stack.copy(), self._info()

    def _initial_state(self, generator: np.random.Generator) -> tuple[float, float, float, float]:
        """Cart position, rod angle, cart speed, rod speed. The cart starts at standstill, as every drive does."""
        if generator.random() < self._near_upright_share:
            return float(generator.uniform(-0.3, 0.3)), float(generator.uniform(-0.3, 0.3)), 0.0, 0.0
        rest = self._start == "rest" or (self._start == "mixed" and generator.random() < 0.5)
        if rest:
            return 0.0, math.pi, 0.0, 0.0
        position = float(generator.uniform(-0.5, 0.5))
        angle = float(generator.uniform(-math.pi, math.pi))
        return position, angle, 0.0, float(generator.uniform(-8.0, 8.0))

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance one period; see the class docstring for reward and timing.

        Raises:
            ValueError: for an action that is not one finite number.
        """
        commanded = np.asarray(action, dtype=np.float32).reshape(-1)
        if commanded.size != 1 or not np.isfinite(commanded[0]):
            raise ValueError(f"action: got {action!r}, expected one finite acceleration in m/s^2")
        position = self._stack[-BASE_OBSERVATION_SIZE]
        applied = self._drive.latch(self._pending, position)
        self.plant.step(float(applied))
        limit = CART_RAIL.acceleration_limit_m_s2
        change = (float(np.clip(commanded[0], -limit, limit)) - float(self._pending)) / limit
        self._pending = np.float32(np.clip(commanded[0], -limit, limit))
        frame = self._observer.observe(self.plant.cart_count, self.plant.rod_count)
        self._stack[:-BASE_OBSERVATION_SIZE] = self._stack[BASE_OBSERVATION_SIZE:]
        self._stack[-BASE_OBSERVATION_SIZE:] = frame

        angle = wrap_angle(self.plant.rod_angle_rad)
        x = self.plant.cart_position_m
        rod_speed = self.plant.rod_speed_rad_s
        reward = 0.25 * (1.0 + math.cos(angle))
        reward += 0.5 * math.exp(-((angle / 0.3) ** 2) - (rod_speed / 6.0) ** 2 - (x / 0.4) ** 2)
        reward -= 0.1 * (x / CART_RAIL.rail_limit_m) ** 2 + 0.08 * change**2
        terminated = abs(x) > CART_RAIL.rail_limit_m or abs(rod_speed) > CART_RAIL.rod_speed_limit_rad_s
        if terminated:
            reward -= 10.0
        return self._stack.copy(), reward, terminated, False, self._info()

    def _info(self) -> dict[str, Any]:
        angle = wrap_angle(self.plant.rod_angle_rad)
        return {
            "upright": abs(angle) < UPRIGHT_RAD,
            "rod_angle_rad": angle,
            "cart_position_m": self.plant.cart_position_m,
        }

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (480, 1280, 3) uint8 when `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        from .render import Renderer

        if self._renderer is None:
            self._renderer = Renderer(self.plant)
        picture: NDArray[np.uint8] = self._renderer.picture()
        return picture

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
