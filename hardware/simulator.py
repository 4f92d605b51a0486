"""The plant's side of a device without a device: MuJoCo plays the pendulum, the real firmware runs beside it.

Two clocks. `real`: SENSORS go out at absolute deadlines, one control period apart; after a stall of this process the
deadlines move, for a burst of ticks would starve the watchdog of a host that did nothing wrong. `lockstep`: the SENSORS
frame is the period tick, and the next one is withheld until the firmware has actuated and the host's answer to this
tick was judged (EXCHANGE_DONE), or was declared missing after EXCHANGE_TIMEOUT_S; time starts with the host's first
HELLO or HEARTBEAT. The same host then gives the same bits on every run.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from hardware.codec import decode_body
from hardware.errors import SimulatorError
from hardware.faults import FaultInjector, ScriptedFault
from hardware.framing import FrameDecoder, encode_frame
from hardware.open_firmware import Firmware
from hardware.plants.simulation import PendulumPlant
from hardware.protocol import STARTED_TICK, Actuate, Enable, ExchangeDone, Fault, SensorFlag, Sensors
from hardware.trajectory import Trajectory

Clock = Literal["real", "lockstep"]

EXCHANGE_TIMEOUT_S = 2.0  # generous: a host that needs longer is gone or hangs
GONE_AFTER_MISSES = 3  # then it is gone, and waiting that long every period helps nobody
GONE_TIMEOUT_S = 0.02
CLOCK_START_US = 2**32 - 10_000_000  # ten seconds before the 32-bit counter wraps: every longer run passes that
ACTUATE_TIMEOUT_S = 10.0  # the firmware itself answers within microseconds unless the machine is stuck


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked the simulation to end
    """Ends the simulation from inside a wait."""


@dataclass
class Counters:
    """What did not go as planned."""

    missed_exchanges: int = 0
    late_actuations: int = 0
    late_periods: int = 0  # by which a real-time run fell behind the clock


class Simulator:
    """Couples one plant with one firmware; `run` plays until a limit, `stop`, or nobody is there."""

    def __init__(
        self,
        plant: PendulumPlant,
        firmware: Firmware,
        clock: Clock,
        patience_s: float,
        faults: Sequence[ScriptedFault] = (),
    ) -> None:
        self.plant = plant
        self.firmware = firmware
        self.clock: Clock = clock
        self.patience_s = patience_s
        self.trajectory = Trajectory(plant.constants)
        self._injector = FaultInjector(faults)
        if self._injector.resets and not firmware.CAN_RESET:
            raise SimulatorError(
                "--inject brown-out: got an image that runs as a process, expected one for a microcontroller; build it "
                "with `python -m hardware build --board netduinoplus2`"
            )
        self.counters = Counters()
        self._stop_sender, self._stop_receiver = socket.socketpair()
        self._stop_sender.setblocking(False)
        self._decoder = FrameDecoder()
        self._sequence = 0
        self._actuate = Actuate(0, 0.0, 0.0, Enable.OFF, Fault.NONE)
        self._done_tick = -1
        self._starts = 0  # how often an emulated chip said that it is up
        self._last_answer_s = time.monotonic()

    def run(self, maximum_steps: int | None) -> None:
        """Play periods until `maximum_steps`, a stop, or no host for `patience_s`. Raises SimulatorError."""
        try:
            if self.clock == "lockstep":
                self._run_lockstep(maximum_steps)
            else:
                self._run_real(maximum_steps)
        except Stopped:
            pass

    def _run_lockstep(self, maximum_steps: int | None) -> None:
        while not self._wait_for(partial(self._answered, 0), EXCHANGE_TIMEOUT_S):
            pass  # no host yet: patience ends this
        tick, misses = 0, 0
        while maximum_steps is None or tick < maximum_steps:
            tick += 1
            self._maybe_reset(tick)
            starts = self._starts
            self._send_sensors(tick)
            if not self._wait_for(partial(self._actuated, tick, starts), ACTUATE_TIMEOUT_S):
                raise SimulatorError(
                    f"the firmware did not actuate tick {tick} within {ACTUATE_TIMEOUT_S:g} s: it hangs; "
                    "expected an ACTUATE for every SENSORS frame; run its image under a debugger"
                )
            timeout_s = GONE_TIMEOUT_S if misses >= GONE_AFTER_MISSES else EXCHANGE_TIMEOUT_S
            if self._wait_for(partial(self._answered, tick), timeout_s):
                misses = 0
            else:
                misses += 1
                self.counters.missed_exchanges += 1
            self._advance(tick)

    def _run_real(self, maximum_steps: int | None) -> None:
        period_s = self.plant.constants.period_s
        start_s, tick = time.monotonic(), 0
        while maximum_steps is None or tick < maximum_steps:
            tick += 1
            self._maybe_reset(tick)
            self._send_sensors(tick)
            deadline_s = start_s + tick * period_s
            late = not self._wait_for(partial(self._actuated, tick, self._starts), deadline_s - time.monotonic())
            self.counters.late_actuations += late
            self._follow(tick, late)
            while (left_s := deadline_s - time.monotonic()) > 0:
                self._receive(left_s)
            if -left_s > period_s:
                start_s -= left_s
                self.counters.late_periods += round(-left_s / period_s)

    def _maybe_reset(self, tick: int) -> None:
        """Reset the device where the script says so, and wait until it says that it is up again."""
        if not self._injector.resets_at(tick):
            return
        self._wait_for_start(1)  # its first word may still be on its way
        starts = self._starts
        try:
            self.firmware.reset()
        except OSError as error:
            raise self.firmware.why_it_ended() from error
        self._wait_for_start(starts + 1)

    def _wait_for_start(self, number: int) -> None:
        """Wait until the chip has said `number` times that it is up.

        They are counted: a host that greets a chip that has just started has EXCHANGE_DONE of tick 0 sent at once, and
        the two may be read together.
        """
        if not self._wait_for(lambda: self._starts >= number, ACTUATE_TIMEOUT_S):
            raise SimulatorError(
                f"the firmware did not say within {ACTUATE_TIMEOUT_S:g} s that it is up: got {self._starts} starts, "
                f"expected {number}; run its image under a debugger"
            )

    def _advance(self, tick: int) -> None:
        self.trajectory.append(tick, self.plant, self._actuate)
        self.plant.step(self._actuate.acceleration, self._actuate.enable != Enable.OFF)

    def _follow(self, tick: int, late: bool) -> None:
        """Advance as a real drive does (boards/speed_ramp.c): what it follows are the set-points of its speed.

        It holds the last one until it is told another. Were the accelerations summed up here, one that came late would
        leave the axis with a speed of which the device knows nothing, and its braking to a set-point of zero would
        keep it.
        """
        actuate = self._actuate
        acceleration = 0.0 if late else actuate.acceleration
        self.trajectory.append(tick, self.plant, actuate)
        self.plant.set_speed(actuate.velocity_setpoint - acceleration * self.plant.constants.period_s)
        self.plant.step(acceleration, actuate.enable != Enable.OFF)

    def _send_sensors(self, tick: int) -> None:
        flags = SensorFlag.REFERENCED
        if self.plant.axis_position < -self.plant.constants.axis_limit:
            flags |= SensorFlag.END_LEFT
        if self.plant.axis_position > self.plant.constants.axis_limit:
            flags |= SensorFlag.END_RIGHT
        time_us = (CLOCK_START_US + tick * self.plant.constants.period_us) & 0xFFFFFFFF
        message = Sensors(tick, time_us, self.plant.axis_count, self.plant.rod_count, int(flags))
        try:
            self.firmware.plant.sendall(encode_frame(self._injector.apply(message), self._sequence))
        except OSError as error:
            raise self.firmware.why_it_ended() from error
        self._sequence += 1

    def stop(self) -> None:
        """End `run` soon. May be called from a signal handler or another thread."""
        with suppress(BlockingIOError):
            self._stop_sender.send(b"x")

    def _actuated(self, tick: int, starts: int) -> bool:
        # A device whose image is damaged sends no ACTUATE, and its drive stays off; the exchange with its host goes on.
        # So it does with one that reset itself in the period (a fault, its watchdog): `starts` is from before.
        return self._actuate.tick == tick or self._answered(tick) or self._starts > starts

    def _answered(self, tick: int) -> bool:
        return self._done_tick == tick

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Receive until `condition()`; False when it does not hold after `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return False
            self._receive(left_s)
        return True

    def _receive(self, timeout_s: float) -> None:
        """Take what the firmware says within `timeout_s`; returns after the first piece. Raises Stopped."""
        ready, _, _ = select.select([self.firmware.plant, self._stop_receiver], [], [], timeout_s)
        if self._stop_receiver in ready and self.firmware.has_ended():
            raise self.firmware.why_it_ended()  # a host that lost it stops us next: say why, not that all is well
        if self._stop_receiver in ready or time.monotonic() - self._last_answer_s > self.patience_s:
            raise Stopped
        if not ready:
            return
        try:
            data = self.firmware.plant.recv(4096)
        except ConnectionError:
            data = b""
        if not data:
            raise self.firmware.why_it_ended()
        for body in self._decoder.feed(data):
            _, message = decode_body(body)
            if isinstance(message, Actuate):
                self._actuate = message
            elif isinstance(message, ExchangeDone):
                self._last_answer_s = time.monotonic()
                if message.tick == STARTED_TICK:
                    self._starts += 1
                    # A chip in reset drives no pin; what it ordered just before may have been read after reset().
                    self._actuate = Actuate(self._actuate.tick, 0.0, 0.0, Enable.OFF, Fault.NONE)
                else:
                    self._done_tick = message.tick
