"""Quanser QUBE-Servo 2 and 3: a rod on an arm that a direct-current motor turns, driven by its voltage.

Three sets of mechanical numbers. `servo2` and `servo3` are the makers': they differ in the motor's resistance. Where
authors disagree by a factor of a hundred, on both dampings, the values are in the middle. `identified` was fitted to a
real QUBE-Servo 2 by maximum likelihood (public, with the dynamics that it was fitted in: centre of mass at half the
length, inertia of the rod about that centre although a comment there says pivot, torque = km (V - km w) / Rm with the
identified km). Only ratios of these numbers can be identified: they predict motion and weigh nothing.

Inertia: m L^2 / 12 is about the centre of a rod, m L^2 / 3 about its end. `rod_inertia_kg_m2` is about the centre.

Our choices, stated: a period of 10 ms, a ninth of the 93 ms with which the rod falls; travel +-2.0 rad (soft) and
+-2.2 rad of the 2.39 rad between the middle and the stops; below 0.65 V the amplifier gives nothing and the motor is
braked by its own voltage, from there on it gives what was asked; a switched-off drive is an open circuit. The firmware
drives accelerations only (its limits, its braking and its wire speak of them), so there is no C header for this plant:
it serves training, distillation and export.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

from .pendulum import VoltagePendulum
from .simulation import PendulumPlant

AMPLIFIER_DEAD_BAND_V = 0.65


@dataclass(frozen=True, kw_only=True)
class QubeModel:
    """Mechanical and electrical numbers of one device."""

    resistance_ohm: float
    motor_constant_n_m_a: float  # torque for current, and voltage for speed [V s/rad]
    arm_inertia_kg_m2: float  # about the shaft, with rotor and hub
    arm_length_m: float
    arm_damping_n_m_s: float
    rod_mass_kg: float
    rod_length_m: float  # the centre of mass lies at half of it
    rod_inertia_kg_m2: float  # about the centre of mass
    rod_damping_n_m_s: float

    def torque_n_m(self, voltage_v: float, speed_rad_s: float) -> float:
        """Torque at the shaft; the motor's inductance (about 1 mH, 0.15 ms) is left out."""
        return self.motor_constant_n_m_a * (voltage_v - self.motor_constant_n_m_a * speed_rad_s) / self.resistance_ohm


def _makers_numbers(resistance_ohm: float) -> QubeModel:
    rotor, hub, arm = 1.4e-6, 0.0106 * 0.0111**2 / 2.0, 0.095 * 0.085**2 / 3.0
    return QubeModel(
        resistance_ohm=resistance_ohm,
        motor_constant_n_m_a=0.042,
        arm_inertia_kg_m2=rotor + hub + arm,
        arm_length_m=0.085,
        arm_damping_n_m_s=5e-5,
        rod_mass_kg=0.024,
        rod_length_m=0.129,
        rod_inertia_kg_m2=0.024 * 0.129**2 / 12.0,
        rod_damping_n_m_s=2.5e-6,
    )


MODELS = MappingProxyType(
    {
        "servo2": _makers_numbers(8.4),
        "servo3": _makers_numbers(7.5),
        "identified": QubeModel(
            resistance_ohm=3.728,
            motor_constant_n_m_a=0.06104,
            arm_inertia_kg_m2=1.1123e-5,
            arm_length_m=0.07707,
            arm_damping_n_m_s=4.894e-5,
            rod_mass_kg=0.11573,
            rod_length_m=0.08108,
            rod_inertia_kg_m2=1.9808e-4,
            rod_damping_n_m_s=3.25e-6,
        ),
    }
)

QUBE = VoltagePendulum(
    name="qube",
    environment="hardware:Qube-v0",
    title="the Quanser QUBE-Servo rotary pendulum",
    axis_unit="rad",
    observation_names=(
        "arm angle [rad]",
        "arm speed [rad/s]",
        "sin of rod angle",
        "cos of rod angle",
        "rod speed [rad/s]",
    ),
    action_name="motor voltage [V]",
    period_us=10_000,
    axis_counts_per_unit=2_048 / (2.0 * math.pi),
    rod_counts_per_revolution=2_048,
    voltage_limit_v=10.0,
    axis_soft_limit=2.0,
    axis_limit=2.2,
    rod_speed_limit_rad_s=60.0,
)


class QubePlant(PendulumPlant):
    """MuJoCo simulation of motor, arm, rod and encoders (qube.xml), with the numbers of one of `MODELS`."""

    def __init__(self, device: str = "servo2", constants: VoltagePendulum = QUBE) -> None:
        """Raises ValueError for an unknown `device`."""
        if device not in MODELS:
            raise ValueError(f"device: got {device!r}, expected one of {', '.join(MODELS)}")
        self.device = MODELS[device]
        super().__init__(constants)

    def _prepare(self) -> None:
        model, device = self.model, self.device
        arm, rod = 1, 2
        model.body_inertia[arm] = device.arm_inertia_kg_m2
        model.body_pos[rod] = (device.arm_length_m, 0.0, 0.0)
        model.body_mass[rod] = device.rod_mass_kg
        model.body_ipos[rod] = (0.0, 0.0, device.rod_length_m / 2.0)
        model.body_inertia[rod] = (device.rod_inertia_kg_m2, device.rod_inertia_kg_m2, 1e-8)
        model.dof_damping[:] = (device.arm_damping_n_m_s, device.rod_damping_n_m_s)
        model.actuator_gainprm[0, 0] = device.torque_n_m(1.0, 0.0)
        model.actuator_biasprm[0, 2] = device.torque_n_m(0.0, 1.0)
        self._mujoco.mj_setConst(model, self.data)

    def _control(self, action: float) -> float:
        return action if abs(action) >= AMPLIFIER_DEAD_BAND_V else 0.0
