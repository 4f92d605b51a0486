"""The plants by the names that files and command lines use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from hardware.errors import HardwareError

from .cart_rail import CART_RAIL, CartRailPlant
from .edukit import EDUKIT, EdukitPlant
from .qube import QUBE, QubePlant
from .simulation import PendulumPlant

PLANTS: Mapping[str, Callable[[], PendulumPlant]] = MappingProxyType(
    {CART_RAIL.name: CartRailPlant, EDUKIT.name: EdukitPlant, QUBE.name: QubePlant}
)


def plant_named(name: str) -> PendulumPlant:
    """A new simulation of the plant. Raises HardwareError for a name that is none."""
    if name not in PLANTS:
        raise HardwareError(f"plant: got {name!r}, expected one of {', '.join(PLANTS)}; choose one of these")
    return PLANTS[name]()
