"""What the firmware, the observation, the drive limit and the environment have to know of a plant.

Every plant is a rod on a driven axis: a cart on a rail or an arm about a vertical shaft. Numbers of the axis are in its
own unit, metres or radians (`axis_unit`); the plant's file says which and where its numbers come from. Two kinds of
actuator exist and are two types, so that code for one cannot be handed the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

# What "upright" means wherever it is judged: within this angle for the whole of the last seconds.
UPRIGHT_RAD = 0.2
UPRIGHT_WINDOW_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Pendulum(ABC):
    """Controller's constants of one plant: period, encoders, limits, homing."""

    name: str
    """Name of the plant's files and of its folder below `firmware/plants/`."""
    environment: str
    """Gymnasium's id of the environment; a policy's file names it, and so says which plant it is for."""
    title: str
    """What it is, for headings and comments."""
    axis_unit: str
    """Unit of the driven axis: m or rad."""
    observation_names: tuple[str, ...]
    """The five quantities of the base observation, with units."""
    action_name: str
    """The one action, with its unit."""
    period_us: int = 20_000
    """Control period."""
    axis_counts_per_unit: float
    """Counts of the axis's encoder for one metre or radian."""
    rod_counts_per_revolution: int
    """Counts of the rod's encoder for one turn; divisible by 8, so that eighths of a turn are whole counts."""
    velocity_filter: float = 0.6
    """Share of the newest difference in the low-pass of both speeds."""
    axis_soft_limit: float
    """Where the axis should stay, to both sides of the middle: a braking envelope ends here."""
    axis_limit: float
    """Beyond it an episode ends and the firmware stops."""
    rod_speed_limit_rad_s: float
    """Beyond it an episode ends and the firmware stops."""
    homing_still_counts: int = 2
    """Homing: the rod hangs still when its count stays within this ..."""
    homing_still_periods: int = 10
    """... for so many periods."""
    disarm_delay_periods: int = 50
    """Longest braking before the drive is switched off anyway."""

    @property
    def period_s(self) -> float:
        """Control period [s]."""
        return self.period_us * 1e-6

    @property
    @abstractmethod
    def action_limit(self) -> float:
        """Full scale of the action to both sides, in the action's unit."""


@dataclass(frozen=True, kw_only=True)
class AcceleratedPendulum(Pendulum):
    """The drive follows an acceleration: a stepper, or a servo amplifier with its own velocity loop."""

    acceleration_limit: float
    """Full scale of the action [unit/s^2]."""
    brake_acceleration: float
    """Below the limit, so that the braking envelope can always be followed [unit/s^2]."""
    speed_limit: float
    """Largest velocity set-point [unit/s]."""
    rest_speed: float
    """An axis slower than this counts as standing when the drive is to be switched off [unit/s]."""
    axis_jump: float
    """Change of the axis's speed from one period to the next beyond which its encoder is broken [unit/s]."""
    rod_jump_rad_s: float
    """The same of the rod's speed."""
    axis_frozen: float
    """Way of the set-point without a new count of the axis after which its encoder is broken [unit]."""
    axis_dead_speed: float
    """Set-points below it count for nothing there [unit/s]."""
    rod_frozen: float
    """Sum of |changes of the set-point| without a new count of the rod after which its encoder is broken [unit/s]."""
    rod_dead_change: float
    """Changes in a period below it count for nothing there [unit/s]."""

    @property
    def action_limit(self) -> float:
        """Acceleration [unit/s^2]."""
        return self.acceleration_limit


@dataclass(frozen=True, kw_only=True)
class VoltagePendulum(Pendulum):
    """The drive puts a voltage on a direct-current motor; how fast the axis moves then depends on the load."""

    voltage_limit_v: float
    """Full scale of the action."""

    @property
    def action_limit(self) -> float:
        """Voltage [V]."""
        return self.voltage_limit_v
