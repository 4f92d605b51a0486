"""What happened at the plant, tick by tick: for the hash that compares runs, and for plots."""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path

import numpy as np

from hardware.plants.cart_rail import CART_RAIL
from hardware.plants.pendulum import UPRIGHT_RAD, UPRIGHT_WINDOW_S, Pendulum
from hardware.plants.simulation import PendulumPlant
from hardware.protocol import Actuate, Enable
from hardware.replace import replacing

FORMAT = "bpd-trajectory/2"


class Trajectory:
    """Rows of one run: what the sensors said, what the drive was told, and the true state, all at the same tick."""

    def __init__(self, constants: Pendulum = CART_RAIL) -> None:
        self._constants = constants
        self._ticks: list[int] = []
        self._counts: list[tuple[int, int]] = []
        self._drive: list[tuple[float, float]] = []
        self._enable: list[int] = []
        self._fault: list[int] = []
        self._state: list[tuple[float, float, float, float]] = []

    def append(self, tick: int, plant: PendulumPlant, actuate: Actuate) -> None:
        """Add one tick: the plant as it was measured, and the drive's orders from there on."""
        self._ticks.append(tick)
        self._counts.append((plant.axis_count, plant.rod_count))
        self._drive.append((actuate.acceleration, actuate.velocity_setpoint))
        self._enable.append(actuate.enable)
        self._fault.append(actuate.fault)
        self._state.append((plant.axis_position, plant.rod_angle_rad, plant.axis_speed, plant.rod_speed_rad_s))

    @property
    def steps(self) -> int:
        """Periods played."""
        return len(self._ticks)

    @property
    def enabled_steps(self) -> int:
        """Periods in which the drive was enabled: driven by the policy, or braking."""
        return sum(enable != Enable.OFF for enable in self._enable)

    def sha256(self) -> str:
        """Hash of counts, drive orders, enable flags and faults from the first to the last enabled tick.

        Tick numbers are left out: how long a host takes before it arms is not part of a trajectory.
        """
        enabled = [row for row, enable in enumerate(self._enable) if enable != Enable.OFF]
        digest = hashlib.sha256()
        for row in range(enabled[0], enabled[-1] + 1) if enabled else ():
            digest.update(
                struct.pack("<iiffBB", *self._counts[row], *self._drive[row], self._enable[row], self._fault[row])
            )
        return digest.hexdigest()

    def upright_fraction(self) -> float:
        """Share of the last UPRIGHT_WINDOW_S seconds under the policy (braking excluded) with |angle| < UPRIGHT_RAD."""
        driven = [row for row, enable in enumerate(self._enable) if enable == Enable.DRIVE]
        judged = driven[-round(UPRIGHT_WINDOW_S / self._constants.period_s) :]
        if not judged:
            return 0.0
        upright = sum(abs(math.remainder(self._state[row][1], 2.0 * math.pi)) < UPRIGHT_RAD for row in judged)
        return upright / len(judged)

    def write(self, path: Path) -> None:
        """Write all rows as safetensors, the same rows to the same bytes. Raises HardwareError.

        tick (n,) u32; counts (n, 2) i32: axis, rod; drive (n, 2) f32: acceleration, velocity set-point; enable and
        fault (n,) u8; state (n, 4) f64: axis position, rod angle [rad, 0 upright], their speeds; plant: its name in
        UTF-8, u8.
        The axis's unit is the plant's: m for the cart, rad for an arm.
        """
        from safetensors.numpy import save

        rows = self.steps
        data = save(
            {
                "tick": np.array(self._ticks, dtype=np.uint32),
                "counts": np.array(self._counts, dtype=np.int32).reshape(rows, 2),
                "drive": np.array(self._drive, dtype=np.float32).reshape(rows, 2),
                "enable": np.array(self._enable, dtype=np.uint8),
                "fault": np.array(self._fault, dtype=np.uint8),
                "state": np.array(self._state, dtype=np.float64).reshape(rows, 4),
                "plant": np.frombuffer(self._constants.name.encode(), dtype=np.uint8),
            },
            # One entry only: safetensors writes several in an order that differs from process to process.
            metadata={"format": FORMAT},
        )
        with replacing(path) as temporary:
            temporary.write_bytes(data)
