"""Pictures of a plant through EGL, without a screen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import HardwareError
from .plants.by_name import plant_named
from .plants.cart_rail import CART_RAIL
from .plants.simulation import PendulumPlant
from .protocol import Enable
from .replace import check_writable, replacing
from .trajectory import FORMAT


class Renderer:
    """Off-screen camera on a plant.

    Opens its EGL context itself: MuJoCo's own renderer picks its OpenGL library when `mujoco` is first imported, long
    before anyone knows whether a picture will be wanted.
    """

    def __init__(self, plant: PendulumPlant, width: int = 1280, height: int = 480) -> None:
        """Open an EGL context.

        Raises:
            HardwareError: when no EGL driver is found; names the Debian packages that bring one.
        """
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
        import mujoco

        self._mujoco = mujoco
        self._plant = plant
        try:
            from mujoco.egl import GLContext

            self._context: Any = GLContext(width, height)
            self._context.make_current()
            self._scene: Any = mujoco.MjvScene(plant.model, maxgeom=100)
            self._target: Any = mujoco.MjrContext(plant.model, mujoco.mjtFontScale.mjFONTSCALE_150)
        except Exception as error:  # whatever the GL loader raises, the cure is the same
            raise HardwareError(
                f"rendering: no EGL context ({error}), expected libegl1 and a Mesa driver; "
                "install them with: apt-get install libegl1 libgl1-mesa-dri"
            ) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._target)
        self._camera: Any = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = plant.model.camera("front").id
        self._viewport: Any = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)

    def picture(self) -> NDArray[np.uint8]:
        """Current scene (height, width, 3) uint8 from the camera in front of the plant."""
        mujoco, plant = self._mujoco, self._plant
        self._context.make_current()
        mujoco.mjv_updateScene(
            plant.model,
            plant.data,
            mujoco.MjvOption(),
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._viewport, self._scene, self._target)
        mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._target)
        return np.flipud(self._pixels).copy()  # OpenGL counts rows from the bottom

    def close(self) -> None:
        """Free the context."""
        self._context.free()


def strobe(plant: PendulumPlant, states: NDArray[np.float64]) -> NDArray[np.uint8]:
    """One picture (height, width, 3) of several moments: the last one solid, the earlier ones ever fainter.

    states (n, 4): axis position [m or rad], rod angle [rad, 0 upright], and their speeds (not used).
    """
    renderer = Renderer(plant)
    moving = [index for index in range(plant.model.ngeom) if plant.model.geom_bodyid[index] > 0]
    colours = plant.model.geom_rgba[moving].copy()
    try:
        plant.model.geom_rgba[moving, 3] = 0.0
        picture = renderer.picture().astype(np.float64)
        plant.model.geom_rgba[moving] = colours
        empty = picture.copy()
        for index, state in enumerate(states):
            plant.reset(float(state[0]), float(state[1]))
            frame = renderer.picture().astype(np.float64)
            share = 1.0 if index == len(states) - 1 else 0.2 + 0.4 * index / len(states)
            changed = np.abs(frame - empty).max(axis=2, keepdims=True) > 12.0
            picture = np.where(changed, (1.0 - share) * picture + share * frame, picture)
    finally:
        plant.model.geom_rgba[moving] = colours
        renderer.close()
    return picture.astype(np.uint8)


def read_plant_name(trajectory: Path) -> str:
    """Name of the plant that a trajectory file is of; files without one are of the cart. Raises HardwareError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(trajectory, framework="numpy") as file:
            if "plant" not in file.keys():  # noqa: SIM118  # not a dict
                return CART_RAIL.name
            return bytes(file.get_tensor("plant")).decode()
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise HardwareError(
            f"trajectory {trajectory}: its plant cannot be read ({' '.join(str(error).split())}), expected a recorded "
            "run; record one with: python -m hardware simulate --trajectory FILE"
        ) from error


def read_driven_states(trajectory: Path) -> NDArray[np.float64]:
    """States (n, 4) float64, n > 0, of the driven periods of a trajectory file; see `Trajectory.write`.

    Raises:
        HardwareError: no such file, another format, wrong shapes or numbers, or a run in which nothing was driven.
    """
    from safetensors import SafetensorError, safe_open

    hint = "record one with: python -m hardware simulate --trajectory FILE, or make bridge"
    try:
        with safe_open(trajectory, framework="numpy") as file:
            found = (file.metadata() or {}).get("format")
            if found != FORMAT:
                raise HardwareError(f"trajectory {trajectory}: got format {found!r}, expected {FORMAT!r}; {hint}")
            state, enable = file.get_tensor("state"), file.get_tensor("enable")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise HardwareError(
            f"trajectory {trajectory}: cannot be read ({reason}), expected a recorded run; {hint}"
        ) from error
    if state.dtype != np.float64 or state.ndim != 2 or state.shape[1] != 4:
        raise HardwareError(
            f"trajectory {trajectory}: state is {state.dtype} {state.shape}, expected f64 (n, 4); {hint}"
        )
    if enable.dtype != np.uint8 or enable.shape != state.shape[:1]:
        raise HardwareError(
            f"trajectory {trajectory}: enable is {enable.dtype} {enable.shape}, expected u8 ({len(state)},); {hint}"
        )
    if not np.all(np.isfinite(state)):
        row, column = np.argwhere(~np.isfinite(state))[0]
        raise HardwareError(
            f"trajectory {trajectory}: state[{row}, {column}] is {state[row, column]}, expected finite numbers; {hint}"
        )
    driven: NDArray[np.float64] = state[enable == Enable.DRIVE]
    if len(driven) == 0:
        raise HardwareError(f"trajectory {trajectory}: got no driven period, expected one or more; {hint}")
    return driven


def strobe_file(trajectory: Path, out: Path, moments: int = 14) -> int:
    """Draw the driven part of a trajectory file (hardware/trajectory.py) as a PNG; returns the moments shown.

    Raises:
        HardwareError: a file that `read_driven_states` refuses, no EGL driver, or an `out` that cannot be written.
    """
    import imageio.v3 as imageio

    driven = read_driven_states(trajectory)
    plant = plant_named(read_plant_name(trajectory))
    check_writable(out)
    # The swing-up is quick and the balance slow: moments lie closer together at the start.
    rows = np.unique(((np.linspace(0.0, 1.0, moments) ** 1.7) * (len(driven) - 1)).astype(int))
    picture = strobe(plant, driven[rows])
    with replacing(out) as partial:
        imageio.imwrite(partial, picture, extension=".png")
    return len(rows)
