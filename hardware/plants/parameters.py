"""What randomisation varies in a plant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PlantParameters:
    """Factors on the nominal model (1 = nominal), and a homing error in counts."""

    rod_mass_factor: float = 1.0
    rod_length_factor: float = 1.0
    rod_damping_factor: float = 1.0
    axis_friction_factor: float = 1.0
    drive_stiffness_factor: float = 1.0
    """How stiffly a drive follows its set-point; of a voltage drive: its torque, held or free-running."""
    rod_homing_error_counts: int = 0

    @staticmethod
    def named(values: Mapping[str, float]) -> PlantParameters:
        """The nominal plant but for these fields.

        Raises:
            ValueError: for a name that is no field, a factor that is no positive number, or a homing error that is not
                whole.
        """
        chosen: dict[str, Any] = dict(values)
        types = {field.name: type(field.default) for field in fields(PlantParameters)}
        for name, value in chosen.items():
            if name not in types:
                raise ValueError(f"parameters: got {name!r}, expected some of {', '.join(types)}")
            if types[name] is int:
                good, expected = type(value) is int, "a whole number"
            else:
                good, expected = type(value) in (int, float) and 0.0 < value < math.inf, "a positive number"
            if not good:
                raise ValueError(f"parameters: got {name} = {value!r}, expected {expected}")
        return PlantParameters(**chosen)

    @staticmethod
    def sample(generator: np.random.Generator) -> PlantParameters:
        """Draw +-20 % on mass and length, friction and damping within a factor of two, drive stiffness +-40 %."""
        return PlantParameters(
            rod_mass_factor=float(generator.uniform(0.8, 1.2)),
            rod_length_factor=float(generator.uniform(0.8, 1.2)),
            rod_damping_factor=float(2.0 ** generator.uniform(-1.0, 1.0)),
            axis_friction_factor=float(2.0 ** generator.uniform(-1.0, 1.0)),
            drive_stiffness_factor=float(generator.uniform(0.6, 1.4)),
            rod_homing_error_counts=int(generator.integers(-2, 3)),
        )
