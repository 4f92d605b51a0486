"""What the rows of the fault table share: a device to drive and hurt, and the judgement of a stop.

As a program it is the host that dies: `python fault_bench.py LINK TICK SIGNAL` arms, drives, and sends itself SIGNAL
when it has read observation TICK, before it answers.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pendulum_host import SESSION, Host, Simulation, arm_message
from safetensors.numpy import load_file

from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import (
    PROTOCOL_VERSION,
    Command,
    Enable,
    Fault,
    FaultReport,
    Heartbeat,
    Hello,
    HelloReply,
    Mode,
    Observation,
    Result,
    State,
)

START_TICK = 20  # armed and at rest by then
BRAKE_STEP_M_S = CART_RAIL.brake_acceleration_m_s2 * CART_RAIL.period_s
REST_PERIODS = 5  # from a set-point of zero until the filtered speed says so, too


def to_and_fro(tick: int) -> float:
    """Acceleration [m/s^2]: to the left until tick 40, then to the right, 0.16 m/s faster every period."""
    return 0.0 if tick < START_TICK else -8.0 if tick < START_TICK + 10 else 8.0 if tick < 60 else 0.0


def full_speed(tick: int) -> float:
    """To the end of the left braking envelope, wait there, and from tick 100 on to the right at full power."""
    return 0.0 if tick < START_TICK else -20.0 if tick < 100 else 20.0


def gentle(tick: int) -> float:
    """A little to and fro for as long as one likes."""
    return 0.0 if tick < START_TICK else 2.0 if (tick - START_TICK) // 10 % 4 in (0, 3) else -2.0


class Device:
    """A simulation in lock-step with a host on its link."""

    def __init__(self, image: Path, folder: Path, *faults: str) -> None:
        self.file = folder / "trajectory.safetensors"
        options = ["--clock", "lockstep", "--trajectory", str(self.file)]
        for fault in faults:
            options += ["--inject", fault]
        self.simulation = Simulation(image, folder, *options)
        self.host = Host(self.simulation.link)

    def arm(self, mode: Mode = Mode.HOST) -> Observation:
        """The first ARMED observation, not answered."""
        observation = self.host.arm(mode)
        assert observation.tick < START_TICK
        return observation

    def drive(self, observation: Observation, until: int, action: Callable[[int], float] = to_and_fro) -> Observation:
        """Answer observations until the one of tick `until`, or the first that is not ARMED; it has no answer yet."""
        while observation.tick < until and observation.state == State.ARMED:
            self.host.send(Command(SESSION, observation.tick, action(observation.tick)))
            observation = self.host.wait(Observation)
        return observation

    def another_host(self) -> Host:
        """A host that finds the device as the first one left it."""
        self.host.close()
        self.host = Host(self.simulation.link)
        self.host.hello()
        return self.host

    def greet_restarted(self, tick: int) -> tuple[HelloReply, Observation]:
        """Say HELLO until a device that was reset before `tick` answers; its reply and its first observation."""
        for _ in range(60):  # half a second each: in lock-step the silence after the reset takes its time
            self.host.send(Hello(PROTOCOL_VERSION, 78))
            until = time.monotonic() + 0.5
            while self.host.listen(until - time.monotonic()):
                pass  # never for a whole message: the reset may have cut the last one
            fresh = [observation for observation in self.host.observations if observation.tick >= tick]
            if fresh:
                self.host.inbox.clear()
                self.host.send(Hello(PROTOCOL_VERSION, 79))
                return self.host.wait(HelloReply, lambda reply: reply.host_nonce == 79), fresh[-1]
        raise AssertionError("the device did not come back")

    def end(self) -> dict[str, np.ndarray]:
        """End the simulation; its trajectory, row k - 1 for tick k."""
        self.host.close()
        self.simulation.end()
        rows = load_file(self.file)
        assert list(rows["tick"]) == list(range(1, len(rows["tick"]) + 1))
        return rows

    def kill(self) -> None:
        """Leave nothing behind."""
        if self.simulation.child.poll() is None:
            self.simulation.child.kill()
            self.simulation.child.communicate()


def assert_stopped(device: Device, reason: Fault, tick: int, detail: int) -> dict[str, np.ndarray]:
    """Braked from `tick` on and not earlier, driver off, named, latched; the trajectory, for more."""
    host = device.host
    observation = host.wait(Observation)
    while observation.state in (State.ARMED, State.BRAKING):
        host.send(Heartbeat(0, observation.tick))
        observation = host.wait(Observation)
    assert (observation.state, observation.fault) == (State.OFF, reason)
    assert host.faults == [FaultReport(reason, tick, detail)]
    # Latched: neither a command of the session nor a new ARM nor time switches the drive on again.
    host.send(Command(SESSION, observation.tick, 1.0), Heartbeat(0, observation.tick))
    assert host.request(arm_message(host.hello())) == Result.FAULT_LATCHED
    for _ in range(5):
        assert host.idle().state == State.OFF
    rows = device.end()
    assert_braked(rows, tick)
    return rows


def assert_starved(device: Device, tick: int) -> dict[str, np.ndarray]:
    """Braked by the watchdog at `tick`, whose observation has been answered or needs no answer; the trajectory."""
    host = device.host
    while host.observations[-1].state == State.BRAKING:
        host.idle()
    for _ in range(5):
        assert host.idle().state == State.OFF
    assert [(fault.reason, fault.tick) for fault in host.faults] == [(Fault.WATCHDOG, tick)]
    rows = device.end()
    assert_braked(rows, tick)
    return rows


def assert_braked(rows: dict[str, np.ndarray], tick: int) -> None:
    """Driven until `tick`, from there on at the brake's acceleration to rest, then off for good."""
    enable, setpoint = rows["enable"], np.abs(rows["drive"][:, 1])
    assert set(enable[tick - 2 : tick - 1]) == {Enable.DRIVE}
    speed = float(setpoint[tick - 2])
    off = tick - 1 + int(np.argmax(enable[tick - 1 :] == Enable.OFF))
    assert set(enable[tick - 1 : off]) <= {Enable.BRAKE}
    braking = np.maximum(speed - BRAKE_STEP_M_S * np.arange(1, off - tick + 2), 0.0)
    assert np.all(setpoint[tick - 1 : off] <= braking + 1e-4)
    assert off - (tick - 1) <= math.ceil(speed / BRAKE_STEP_M_S) + REST_PERIODS
    assert set(enable[off:]) == {Enable.OFF}
    assert len(enable) > off + 3


def main() -> None:
    """The host that dies."""
    link, tick, number = sys.argv[1:]
    host = Host(Path(link))
    observation = host.arm(Mode.HOST)
    while observation.tick < int(tick):
        host.send(Command(SESSION, observation.tick, to_and_fro(observation.tick)))
        observation = host.wait(Observation)
    os.kill(os.getpid(), signal.Signals[number])


if __name__ == "__main__":
    main()
