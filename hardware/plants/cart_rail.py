"""The cart on a rail: every number of the plant and its controller in one place, and its MuJoCo simulation.

`CART_RAIL` is the single definition of the constants; `python -m hardware generate` renders them for the firmware
(`firmware/plant.h`). Source of the mechanical numbers: the public CO_GYM simulator of the paper's laboratory. The
action range of +-20 m/s^2 is half of theirs: our stated choice, gentler on a real drive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np


@dataclass(frozen=True)
class CartRail:
    """Constants of the plant, its sensors and its drive. Units are in the names."""

    period_us: int = 20_000
    cart_counts_per_metre: int = 20_000
    rod_counts_per_revolution: int = 4_096  # a power of two: angle reduction is an integer mask
    velocity_filter: float = 0.6  # share of the newest difference in the low-pass
    acceleration_limit_m_s2: float = 20.0
    brake_acceleration_m_s2: float = 15.0  # below the limit, so that the braking envelope can always be followed
    speed_limit_m_s: float = 4.0
    rail_soft_limit_m: float = 0.70  # where the braking envelope ends
    rail_limit_m: float = 0.75  # beyond it an episode ends and the firmware stops
    rod_speed_limit_rad_s: float = 35.0
    homing_still_counts: int = 2
    homing_still_periods: int = 10
    disarm_delay_periods: int = 50  # longest braking before the drive is switched off anyway

    # What encoders may say while the drive is on; beyond it they are broken. Numbers of the worst plant that
    # CartRailParameters.sample draws: rod 0.6 kg, centre of mass at 0.144 m (heaviest) or 0.096 m (quickest), drive 150
    # N s/m, friction 2 N + 1 N s/m; rod at the speed limit of 35 rad/s. In brackets: the largest of 300 simulated runs
    # of 15 s with full, alternating, random and pumping accelerations on random and worst plants.
    #
    # Cart, change of speed from period to period: 0.4 m/s by the drive at 20 m/s^2; the rod pulls with up to 0.6 x
    # 0.144 x 35^2 = 106 N, which yields 0.71 m/s and turns by 0.7 rad a period: 0.49 m/s. Together 0.89 [0.71].
    cart_jump_m_s: float = 1.2
    # Rod: gravity g / (4/3 0.096) = 77 rad/s^2, and the cart's 20 m/s^2 with another 0.71 m/s x 35 rad/s = 25 m/s^2 by
    # its yielding, / (4/3 0.096): 351 rad/s^2. In 20 ms 8.6 rad/s [5.1].
    rod_jump_rad_s: float = 10.0
    # Way that the set-point has gone since the cart count last changed. The count can stand still for the one period in
    # which the cart turns round, at most 0.4 m/s x 20 ms, more where the rod holds it [0.0094].
    cart_frozen_m: float = 0.02
    # Set-points below it count for nothing: friction holds the weakest drive up to 2 N / 150 N s/m = 0.013 m/s.
    cart_dead_speed_m_s: float = 0.02
    # Sum of |changes of the set-point| since the rod count last changed. Each throws the rod, unless gravity happens to
    # undo it, which it does for a period or two: twice 0.4 m/s [0.46].
    rod_frozen_m_s: float = 1.0
    # Changes below it count for nothing, or a rod that hangs still under a cart that is held would look frozen in the
    # end: 0.01 m/s in a period turn the quickest rod by 0.01 / (4/3 0.096) 20 ms / 2 = 0.8 mrad, half a count.
    rod_dead_m_s: float = 0.01

    @property
    def period_s(self) -> float:
        """Control period [s]."""
        return self.period_us * 1e-6


CART_RAIL = CartRail()


@dataclass(frozen=True)
class CartRailParameters:
    """What randomisation varies, as factors on the nominal model (1 = nominal) and a homing error in counts."""

    rod_mass_factor: float = 1.0
    rod_length_factor: float = 1.0
    rod_damping_factor: float = 1.0
    cart_friction_factor: float = 1.0
    drive_stiffness_factor: float = 1.0
    rod_homing_error_counts: int = 0

    @staticmethod
    def sample(generator: np.random.Generator) -> CartRailParameters:
        """Draw +-20 % on mass and length, friction and damping within a factor of two, drive stiffness +-40 %."""
        return CartRailParameters(
            rod_mass_factor=float(generator.uniform(0.8, 1.2)),
            rod_length_factor=float(generator.uniform(0.8, 1.2)),
            rod_damping_factor=float(2.0 ** generator.uniform(-1.0, 1.0)),
            cart_friction_factor=float(2.0 ** generator.uniform(-1.0, 1.0)),
            drive_stiffness_factor=float(generator.uniform(0.6, 1.4)),
            rod_homing_error_counts=int(generator.integers(-2, 3)),
        )


DRIVE_GROUP = 1

# What "upright" means wherever it is judged: within this angle for the whole of the last seconds.
UPRIGHT_RAD = 0.2
UPRIGHT_WINDOW_S = 3.0


class CartRailPlant:
    """MuJoCo simulation of rail, cart, rod, drive and encoders, advanced one control period at a time."""

    def __init__(self, constants: CartRail = CART_RAIL) -> None:
        import mujoco

        self.constants = constants
        self._mujoco = mujoco
        xml = files("hardware.plants").joinpath("cart_rail.xml").read_text(encoding="utf-8")
        self.model: Any = mujoco.MjModel.from_xml_string(xml)
        self.data: Any = mujoco.MjData(self.model)
        self._nominal = {
            name: np.array(getattr(self.model, name))
            for name in (
                "body_mass",
                "body_ipos",
                "body_inertia",
                "dof_damping",
                "dof_frictionloss",
                "actuator_gainprm",
                "actuator_biasprm",
            )
        }
        self._substeps = round(constants.period_s / float(self.model.opt.timestep))
        self.parameters = CartRailParameters()
        self.reset()

    def set_parameters(self, parameters: CartRailParameters) -> None:
        """Install physical parameters; takes effect at the next `reset`."""
        model = self.model
        for name, value in self._nominal.items():
            getattr(model, name)[:] = value
        rod = 2  # body 0 is the world, 1 the cart
        model.body_mass[rod] *= parameters.rod_mass_factor
        model.body_ipos[rod] *= parameters.rod_length_factor
        model.body_inertia[rod] *= parameters.rod_mass_factor * parameters.rod_length_factor**2
        model.dof_damping[1] *= parameters.rod_damping_factor
        model.dof_damping[0] *= parameters.cart_friction_factor
        model.dof_frictionloss[0] *= parameters.cart_friction_factor
        model.actuator_gainprm[0, 0] *= parameters.drive_stiffness_factor
        model.actuator_biasprm[0, 2] *= parameters.drive_stiffness_factor
        self._mujoco.mj_setConst(model, self.data)
        self.parameters = parameters

    def reset(
        self,
        cart_position_m: float = 0.0,
        rod_angle_rad: float = math.pi,
        cart_speed_m_s: float = 0.0,
        rod_speed_rad_s: float = 0.0,
    ) -> None:
        """Place the plant. Angle 0 is upright; the default hangs at rest in the middle of the rail."""
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = (cart_position_m, rod_angle_rad)
        self.data.qvel[:] = (cart_speed_m_s, rod_speed_rad_s)
        self.data.act[0] = cart_speed_m_s
        self.model.opt.disableactuator = 0
        self._mujoco.mj_forward(self.model, self.data)

    def step(self, acceleration_m_s2: float, enable: bool = True) -> None:
        """Advance one control period with the drive integrating `acceleration_m_s2`, or switched off."""
        if enable:
            self.model.opt.disableactuator = 0
            self.data.ctrl[0] = acceleration_m_s2
        else:
            self.model.opt.disableactuator = 1 << DRIVE_GROUP
            self.data.ctrl[0] = 0.0
            self.data.act[0] = 0.0  # a re-enabled drive starts from standstill
        self._mujoco.mj_step(self.model, self.data, nstep=self._substeps)

    @property
    def cart_position_m(self) -> float:
        """True cart position."""
        return float(self.data.qpos[0])

    @property
    def rod_angle_rad(self) -> float:
        """True rod angle, 0 upright, not wrapped."""
        return float(self.data.qpos[1])

    @property
    def cart_speed_m_s(self) -> float:
        """True cart speed."""
        return float(self.data.qvel[0])

    @property
    def rod_speed_rad_s(self) -> float:
        """True rod speed."""
        return float(self.data.qvel[1])

    @property
    def cart_count(self) -> int:
        """Cart encoder, zero in the middle of the rail."""
        return math.floor(float(self.data.qpos[0]) * self.constants.cart_counts_per_metre + 0.5)

    @property
    def rod_count(self) -> int:
        """Rod encoder, zero where the rod hung when it was homed, positive with the angle."""
        angle_from_hanging = float(self.data.qpos[1]) - math.pi
        turns = angle_from_hanging / (2.0 * math.pi)
        count = math.floor(turns * self.constants.rod_counts_per_revolution + 0.5)
        return count + self.parameters.rod_homing_error_counts
