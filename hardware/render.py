"""Pictures of a plant through EGL, without a screen."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plants.cart_rail import CartRailPlant


class Renderer:
    """Off-screen camera on a plant."""

    def __init__(self, plant: CartRailPlant, width: int = 1280, height: int = 720) -> None:
        """Open an EGL context.

        Raises:
            RuntimeError: when no EGL driver is found; names the Debian packages that bring one.
        """
        os.environ.setdefault("MUJOCO_GL", "egl")  # read by MuJoCo when its renderer is first imported
        import mujoco

        self._plant = plant
        try:
            self._renderer: Any = mujoco.Renderer(plant.model, height, width)
        except Exception as error:  # MuJoCo raises whatever the GL loader raises
            raise RuntimeError(
                f"rendering: no EGL context ({error}), expected libegl1 and a Mesa driver; "
                "install them with: apt-get install libegl1 libgl1-mesa-dri"
            ) from error

    def picture(self) -> NDArray[np.uint8]:
        """Current scene (height, width, 3) uint8 from the camera in front of the rail."""
        self._renderer.update_scene(self._plant.data, camera="front")
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def close(self) -> None:
        """Free the context."""
        self._renderer.close()
