"""Swing the rod up and hold it, through the same sensors, delay and limits as the firmware.

`hardware:CartRail-v0`, `hardware:Edukit-v0` and `hardware:Qube-v0` differ in their plant, its constants and the scales
of their task, and in nothing else. One `step` is one control period. The action handed in answers the newest
observation and is latched at the *next* boundary, as on the device: during this step the drive still follows the
previous action.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from .drive import DriveLimit, VoltageLimit
from .observe import BASE_OBSERVATION_SIZE, Observer
from .plants.cart_rail import CART_RAIL, CartRailPlant
from .plants.edukit import EDUKIT, EdukitPlant
from .plants.parameters import PlantParameters
from .plants.pendulum import UPRIGHT_RAD, AcceleratedPendulum, Pendulum, VoltagePendulum
from .plants.qube import QUBE, QubePlant
from .plants.simulation import PendulumPlant
from .task import CART_RAIL_TASK, EDUKIT_TASK, FAILURE_REWARD, QUBE_TASK, STARTS, Task, wrap_angle

_LARGEST_DELAY = 10  # periods


def limit_of(constants: Pendulum) -> DriveLimit | VoltageLimit:
    """The limit that belongs to the plant's kind of drive."""
    if isinstance(constants, AcceleratedPendulum):
        return DriveLimit(constants)
    assert isinstance(constants, VoltagePendulum)
    return VoltageLimit(constants)


def _metadata(constants: Pendulum, task: Task) -> dict[str, Any]:
    return {
        "render_modes": ["rgb_array"],
        "render_fps": round(1.0 / constants.period_s),
        "observation_names": constants.observation_names,
        "observation_scale": task.observation_scale,
        "action_names": (constants.action_name,),
        "control_period_s": constants.period_s,
    }


class PendulumEnvironment(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Observation (history * 5,) float32, oldest frame first; action (1,) in the plant's unit.

    Reward per period, with x the axis's position, th the rod's angle and the scales of `Task`:
    0.25 (1 + cos th) + 0.5 exp(-(th/0.3)^2 - (th'/near_rod_speed)^2 - (x/near_axis)^2) - 0.1 (x/axis_limit)^2
    - 0.08 (change of action / full scale)^2, and -10 when the axis leaves its travel or the rod spins too fast.
    """

    constants: ClassVar[Pendulum]
    task: ClassVar[Task]
    position_key: ClassVar[str]  # how `info` names the true position of the axis

    def __init__(
        self,
        render_mode: str | None = None,
        *,
        history: int = 5,
        randomise: bool = False,
        start: str = "mixed",
        near_upright_share: float = 0.0,
        parameters: Mapping[str, float] | None = None,
        extra_delay_periods: int = 0,
    ) -> None:
        """Build the plant.

        Args:
            render_mode: None or "rgb_array" (needs EGL).
            history: number of stacked frames in the observation.
            randomise: draw new physical parameters at every reset (`PlantParameters.sample`), and the extra delay
                from 0 to `extra_delay_periods`.
            start: "rest" (hanging in the middle), "random" (anywhere), or "mixed" (either with equal chance).
            near_upright_share: share of episodes that start close to upright instead; a training curriculum.
            parameters: fields of `PlantParameters` that differ from the nominal plant's in every episode.
            extra_delay_periods: control periods that an action waits beyond the one it waits on the device.

        Raises:
            ValueError: for an unknown `start`, `render_mode` or parameter, one that is no positive number, parameters
                of a plant that is to be random, a history outside 1..32, or a delay outside 0..10.
        """
        if start not in STARTS:
            raise ValueError(f"start: got {start!r}, expected rest, random or mixed")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: got {render_mode!r}, expected None or 'rgb_array'")
        if not 1 <= history <= 32:
            raise ValueError(f"history: got {history}, expected 1 to 32 stacked frames")
        if parameters is not None and randomise:
            raise ValueError("parameters: got some for a plant whose parameters are random, expected one of the two")
        if not isinstance(extra_delay_periods, int) or not 0 <= extra_delay_periods <= _LARGEST_DELAY:
            raise ValueError(f"extra_delay_periods: got {extra_delay_periods}, expected 0 to {_LARGEST_DELAY}")
        self._parameters = PlantParameters.named(parameters or {})
        self._extra_delay_periods = extra_delay_periods
        self.render_mode = render_mode
        self.history = history
        self._randomise = randomise
        self._start = start
        self._near_upright_share = near_upright_share
        bound = np.tile(np.array(self.task.frame_bound, dtype=np.float32), history)
        limit = self.constants.action_limit
        self.observation_space = gymnasium.spaces.Box(-bound, bound, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-limit, limit, (1,), np.float32)
        self.plant = self._make_plant()
        self._observer = Observer(self.constants)
        self._drive = limit_of(self.constants)
        self._stack = np.zeros(history * BASE_OBSERVATION_SIZE, dtype=np.float32)
        self._newest = np.float32(0.0)  # action handed in
        self._waiting: deque[np.float32] = deque()  # actions handed in and not latched, oldest first
        self._renderer: Any = None

    def _make_plant(self) -> PendulumPlant:
        return PendulumPlant(self.constants)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; `options={"parameters": PlantParameters(...)}` fixes the plant for it."""
        super().reset(seed=seed)
        generator = self.np_random
        if options and "parameters" in options:
            self.plant.set_parameters(options["parameters"])
        elif self._randomise:
            self.plant.set_parameters(PlantParameters.sample(generator))
        else:
            self.plant.set_parameters(self._parameters)
        self.plant.reset(*self.task.initial_state(generator, self._start, self._near_upright_share))
        delay = self._extra_delay_periods
        if delay and self._randomise:
            delay = int(generator.integers(0, delay + 1))
        self._newest = np.float32(0.0)
        self._waiting = deque([self._newest] * (1 + delay))
        self._drive.reset()
        self._observer.reset(self.plant.axis_count, self.plant.rod_count)
        frame = self._observer.observe(self.plant.axis_count, self.plant.rod_count)
        self._stack[:] = np.tile(frame, self.history)
        return self._stack.copy(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance one period; see the class docstring for reward and timing.

        Raises:
            ValueError: for an action that is not one finite number.
        """
        commanded = np.asarray(action, dtype=np.float32).reshape(-1)
        if commanded.size != 1 or not np.isfinite(commanded[0]):
            raise ValueError(f"action: got {action!r}, expected one finite {self.constants.action_name}")
        applied = self._drive.latch(self._waiting.popleft(), self._stack[-BASE_OBSERVATION_SIZE])
        self.plant.step(float(applied))
        limit = self.constants.action_limit
        change = (float(np.clip(commanded[0], -limit, limit)) - float(self._newest)) / limit
        self._newest = np.float32(np.clip(commanded[0], -limit, limit))
        self._waiting.append(self._newest)
        frame = self._observer.observe(self.plant.axis_count, self.plant.rod_count)
        self._stack[:-BASE_OBSERVATION_SIZE] = self._stack[BASE_OBSERVATION_SIZE:]
        self._stack[-BASE_OBSERVATION_SIZE:] = frame

        position, rod_speed = self.plant.axis_position, self.plant.rod_speed_rad_s
        angle = wrap_angle(self.plant.rod_angle_rad)
        reward = self.task.reward(self.constants, position, angle, rod_speed, change)
        terminated = abs(position) > self.constants.axis_limit or abs(rod_speed) > self.constants.rod_speed_limit_rad_s
        if terminated:
            reward += FAILURE_REWARD
        return self._stack.copy(), reward, terminated, False, self._info()

    def _info(self) -> dict[str, Any]:
        angle = wrap_angle(self.plant.rod_angle_rad)
        return {
            "upright": abs(angle) < UPRIGHT_RAD,
            "rod_angle_rad": angle,
            self.position_key: self.plant.axis_position,
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


class CartRailEnvironment(PendulumEnvironment):
    """`hardware:CartRail-v0`: the cart on a rail, driven by its acceleration [m/s^2]."""

    constants = CART_RAIL
    task = CART_RAIL_TASK
    position_key = "cart_position_m"
    metadata = _metadata(CART_RAIL, CART_RAIL_TASK)
    plant: CartRailPlant

    def _make_plant(self) -> CartRailPlant:
        return CartRailPlant()


class EdukitEnvironment(PendulumEnvironment):
    """`hardware:Edukit-v0`: the ST EDUKIT rotary pendulum, driven by its arm's acceleration [rad/s^2]."""

    constants = EDUKIT
    task = EDUKIT_TASK
    position_key = "arm_angle_rad"
    metadata = _metadata(EDUKIT, EDUKIT_TASK)

    def _make_plant(self) -> EdukitPlant:
        return EdukitPlant()


class QubeEnvironment(PendulumEnvironment):
    """`hardware:Qube-v0`: the Quanser QUBE-Servo, driven by its motor's voltage [V]."""

    constants = QUBE
    task = QUBE_TASK
    position_key = "arm_angle_rad"
    metadata = _metadata(QUBE, QUBE_TASK)

    def __init__(self, *, device: str = "servo2", **options: Any) -> None:
        """Build the plant; `device` is one of `plants.qube.MODELS`, the rest as for every plant.

        Raises:
            ValueError: for an unknown `device`, and as `PendulumEnvironment`.
        """
        self._device = device
        super().__init__(**options)

    def _make_plant(self) -> QubePlant:
        return QubePlant(self._device)
