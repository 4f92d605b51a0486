"""A plant in MuJoCo: axis, rod, drive and encoders, advanced one control period at a time.

A model (`NAME.xml`) has the driven axis as joint 0 on body 1, the rod as joint 1 on body 2, and one actuator in group
1, which is switched off to model a disabled drive.
"""

from __future__ import annotations

import math
from importlib.resources import files
from typing import Any

import numpy as np

from .parameters import PlantParameters
from .pendulum import Pendulum

DRIVE_GROUP = 1


class PendulumPlant:
    """State, drive and encoders of one plant; positions in the axis's unit, rod angle 0 upright."""

    def __init__(self, constants: Pendulum) -> None:
        import mujoco

        self.constants = constants
        self._mujoco = mujoco
        xml = files("hardware.plants").joinpath(f"{constants.name}.xml").read_text(encoding="utf-8")
        self.model: Any = mujoco.MjModel.from_xml_string(xml)
        self.data: Any = mujoco.MjData(self.model)
        self._prepare()
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
        self.parameters = PlantParameters()
        self.reset()

    def _prepare(self) -> None:
        """Numbers that a plant puts into its model before they become the nominal ones."""

    def set_parameters(self, parameters: PlantParameters) -> None:
        """Install physical parameters; takes effect at the next `reset`."""
        model = self.model
        for name, value in self._nominal.items():
            getattr(model, name)[:] = value
        rod = 2  # body 0 is the world, 1 the axis
        model.body_mass[rod] *= parameters.rod_mass_factor
        model.body_ipos[rod] *= parameters.rod_length_factor
        model.body_inertia[rod] *= parameters.rod_mass_factor * parameters.rod_length_factor**2
        model.dof_damping[1] *= parameters.rod_damping_factor
        model.dof_damping[0] *= parameters.axis_friction_factor
        model.dof_frictionloss[0] *= parameters.axis_friction_factor
        model.actuator_gainprm[0, 0] *= parameters.drive_stiffness_factor
        model.actuator_biasprm[0, 2] *= parameters.drive_stiffness_factor
        self._mujoco.mj_setConst(model, self.data)
        self.parameters = parameters

    def reset(
        self,
        axis_position: float = 0.0,
        rod_angle_rad: float = math.pi,
        axis_speed: float = 0.0,
        rod_speed_rad_s: float = 0.0,
    ) -> None:
        """Place the plant. Angle 0 is upright; the default hangs at rest in the middle."""
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = (axis_position, rod_angle_rad)
        self.data.qvel[:] = (axis_speed, rod_speed_rad_s)
        self.data.act[:] = axis_speed  # the velocity set-point, where the drive has one
        self.model.opt.disableactuator = 0
        self._mujoco.mj_forward(self.model, self.data)

    def step(self, action: float, enable: bool = True) -> None:
        """Advance one control period with the drive following `action`, or switched off."""
        if enable:
            self.model.opt.disableactuator = 0
            self.data.ctrl[0] = self._control(action)
        else:
            self.model.opt.disableactuator = 1 << DRIVE_GROUP
            self.data.ctrl[0] = 0.0
            self.data.act[:] = 0.0  # a re-enabled drive starts from standstill
        self._mujoco.mj_step(self.model, self.data, nstep=self._substeps)

    def set_speed(self, setpoint: float) -> None:
        """The speed that the drive begins the next period with, where it follows one."""
        self.data.act[:] = setpoint

    def _control(self, action: float) -> float:
        """What the model's actuator gets for an action."""
        return action

    @property
    def axis_position(self) -> float:
        """True position of the axis [m or rad]."""
        return float(self.data.qpos[0])

    @property
    def rod_angle_rad(self) -> float:
        """True rod angle, 0 upright, not wrapped."""
        return float(self.data.qpos[1])

    @property
    def axis_speed(self) -> float:
        """True speed of the axis [m/s or rad/s]."""
        return float(self.data.qvel[0])

    @property
    def rod_speed_rad_s(self) -> float:
        """True rod speed."""
        return float(self.data.qvel[1])

    @property
    def axis_count(self) -> int:
        """Encoder of the axis, zero in the middle."""
        return math.floor(float(self.data.qpos[0]) * self.constants.axis_counts_per_unit + 0.5)

    @property
    def rod_count(self) -> int:
        """Rod encoder, zero where the rod hung when it was homed, positive with the angle."""
        angle_from_hanging = float(self.data.qpos[1]) - math.pi
        turns = angle_from_hanging / (2.0 * math.pi)
        count = math.floor(turns * self.constants.rod_counts_per_revolution + 0.5)
        return count + self.parameters.rod_homing_error_counts
