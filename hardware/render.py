"""Pictures of a plant through EGL, without a screen."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plants.cart_rail import CartRailPlant


class Renderer:
    """Off-screen camera on a plant.

    Opens its EGL context itself: MuJoCo's own renderer picks its OpenGL library when `mujoco` is first imported, long
    before anyone knows whether a picture will be wanted.
    """

    def __init__(self, plant: CartRailPlant, width: int = 1280, height: int = 480) -> None:
        """Open an EGL context.

        Raises:
            RuntimeError: when no EGL driver is found; names the Debian packages that bring one.
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
            raise RuntimeError(
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
        """Current scene (height, width, 3) uint8 from the camera in front of the rail."""
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
