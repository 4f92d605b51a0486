"""What the picture of a plant needs to be drawn to scale, from the files that define the plant."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

from hardware.plant_header import FIRMWARE_PLANTS
from hardware.plants.pendulum import AcceleratedPendulum


def picture_of(observation_names: Sequence[str]) -> dict[str, Any] | None:
    """Lengths [m] and limits of the plant whose policies have these observation names; None for any other plant.

    `axis_unit` is m for a cart on a rail and rad for an arm about the vertical; `arm_m` is 0 for a cart.
    """
    for plant in FIRMWARE_PLANTS:
        if tuple(observation_names) == plant.observation_names:
            rod_m, arm_m = _lengths(plant)
            return {
                "title": plant.title,
                "axis_name": plant.observation_names[0],
                "axis_unit": plant.axis_unit,
                "axis_limit": plant.axis_limit,
                "axis_soft_limit": plant.axis_soft_limit,
                "action_name": plant.action_name,
                "action_limit": plant.acceleration_limit,
                "rod_m": rod_m,
                "arm_m": arm_m,
            }
    return None


def _lengths(plant: AcceleratedPendulum) -> tuple[float, float]:
    """Length of the rod from its pivot and of the arm that carries it [m], as NAME.xml has them."""
    text = files("hardware.plants").joinpath(f"{plant.name}.xml").read_text(encoding="utf-8")
    rod = ElementTree.fromstring(text).find(".//body[@name='rod']")  # noqa: S314 (a file of this package)
    geometry = rod.find("geom[@name='rod']") if rod is not None else None
    if rod is None or geometry is None:
        raise ValueError(f"{plant.name}.xml: no body 'rod' with a geom 'rod'; the live page draws it")
    return float(geometry.attrib["fromto"].split()[5]), float(rod.attrib["pos"].split()[0])
