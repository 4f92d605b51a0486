"""What randomisation varies in a plant."""

from __future__ import annotations

from dataclasses import dataclass

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
