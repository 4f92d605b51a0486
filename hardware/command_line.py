"""Command line of the device's room: generate headers, build and flash firmware, simulate a device, draw a run.

`python -m hardware VERB --help` explains every option.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hardware.errors import HardwareError, SimulatorError

CONTROL_PERIOD_S = 0.02  # of the cart on its rail, whose module is heavy to import; a test compares the two
MAXIMUM_SECONDS = 1e6  # every tick is kept in memory


@dataclass(frozen=True)
class Generate:
    """Render protocol.h and the plants' headers from the Python definitions."""

    json: bool = False
    """Print one JSON object on stdout."""

    def run(self) -> dict[str, Any]:
        """Write the headers that are not up to date."""
        from hardware.generate import generate

        return {"written": [str(path) for path in generate()]}


@dataclass(frozen=True)
class Build:
    """Compile a firmware image with a policy inside."""

    policy: Path
    """Folder with policy.h, written by `python -m export compile`."""
    out: Path
    """Folder that receives the image: `firmware` for board host, `firmware_VARIANT.elf` and `.bin` for a chip."""
    board: str = "host"
    """Board to build for: host (a process for the simulator), netduinoplus2 (STM32F405), nucleo_f401re and
    nucleo_bridge (STM32F401, for the EDUKIT), microbit (nRF51822) or atmega328p."""
    variant: Literal["hil", "real"] = "hil"
    """hil: encoders and motor are the simulator, to be emulated. real: pins and timers, to be flashed."""
    json: bool = False
    """Print one JSON object on stdout."""

    def run(self) -> dict[str, Any]:
        """Build and say what was built."""
        from hardware.board import find_board
        from hardware.build import build
        from hardware.stack import stack_bytes

        image = build(self.policy, self.out, self.board, self.variant)
        return {
            "image": str(image.path),
            "policy_digest": image.policy_digest,
            "board": image.board,
            "variant": image.variant,
            "flash_bytes": image.flash_bytes,
            "ram_bytes": image.ram_bytes,
            "stack_bytes": stack_bytes(image.path, find_board(image.board)),
        }


@dataclass(frozen=True)
class Flash:
    """Program a microcontroller with an image built with --variant real, and verify it."""

    image: tyro.conf.Positional[Path]
    """firmware_real.elf, written by `python -m hardware build --variant real`."""
    board: str
    """The board that is connected; an image for another one is refused."""
    interface: str | None = None
    """OpenOCD's name of the debug probe, when it is not the one usual for the board."""
    dry_run: bool = False
    """Check the image and print the command without running it."""
    json: bool = False
    """Print one JSON object on stdout."""

    def run(self) -> dict[str, Any]:
        """Flash and say what was done."""
        import shlex

        from hardware.flash import flash

        done = flash(self.image, self.board, self.interface, dry_run=self.dry_run)
        return {
            "board": done.board,
            "flash_bytes": done.bytes,
            "command": shlex.join(done.command),
            "verified": not done.dry_run,
        }


@dataclass(frozen=True)
class Simulate:
    """Play the plant that a firmware image was built for against it: a process of this machine or, for a chip, in QEMU.

    The link appears as a serial port behind the symlink. Ends on SIGTERM, SIGINT or SIGHUP, after --seconds, or when
    no host has answered for --patience-s.
    """

    image: Path
    """Firmware image, written by `python -m hardware build`."""
    link: Path
    """Symlink to the serial port; created when everything is ready, removed at the end."""
    clock: Literal["real", "lockstep"] = "real"
    """real: 20 ms are 20 ms. lockstep: time waits for the host; same bits on every run."""
    seed: int = 0
    """Seed of the physical parameters; matters with --randomise."""
    randomise: bool = False
    """Draw rod, friction and drive parameters around the nominal ones."""
    seconds: float | None = None
    """Simulated time after which to end."""
    patience_s: float = 60.0
    """Wall-clock time without any host after which to end."""
    trajectory: Path | None = None
    """Write every tick to this safetensors file."""
    inject: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Sensor fault KIND[=SIZE]@TICK[:PERIODS]; repeat the option for several. A wrong KIND lists the right ones."""
    json: bool = False
    """Print one JSON object on stdout."""

    def run(self) -> dict[str, Any]:
        """Simulate until something ends it. Raises SimulatorError, also for numbers out of range."""
        self._check_numbers()
        import numpy as np

        from hardware.faults import parse_fault
        from hardware.image import identify
        from hardware.open_firmware import open_firmware
        from hardware.plants.by_name import plant_named
        from hardware.plants.parameters import PlantParameters
        from hardware.replace import check_writable
        from hardware.simulator import Simulator

        faults = [parse_fault(text) for text in self.inject]
        plant = plant_named(identify(self.image).plant)
        if self.randomise:
            plant.set_parameters(PlantParameters.sample(np.random.default_rng(self.seed)))
            plant.reset()
        if self.trajectory is not None:
            check_writable(self.trajectory)  # before the run, not after it
        steps = None if self.seconds is None else round(self.seconds / plant.constants.period_s)
        stops = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            stops.append(signal.SIGHUP)
        stopped_early: list[int] = []
        for number in stops:
            signal.signal(number, lambda number, _frame: stopped_early.append(number))
        with open_firmware(self.image, self.link, self.clock == "lockstep") as firmware:
            simulator = Simulator(plant, firmware, self.clock, self.patience_s, faults)
            for number in stops:
                signal.signal(number, lambda _number, _frame: simulator.stop())
            if stopped_early:
                simulator.stop()
            print(f"link {self.link} ready, clock {self.clock}", file=sys.stderr, flush=True)
            simulator.run(steps)
        if self.trajectory is not None:
            simulator.trajectory.write(self.trajectory)
        return {
            "steps": simulator.trajectory.steps,
            "enabled_steps": simulator.trajectory.enabled_steps,
            "upright_fraction_last_3s": simulator.trajectory.upright_fraction(),
            "trajectory_sha256": simulator.trajectory.sha256(),
            "missed_exchanges": simulator.counters.missed_exchanges,
            "late_actuations": simulator.counters.late_actuations,
            "late_periods": simulator.counters.late_periods,
            "clock": self.clock,
        }

    def _check_numbers(self) -> None:
        # Written so that NaN is refused, too.
        if self.seconds is not None and not CONTROL_PERIOD_S <= self.seconds <= MAXIMUM_SECONDS:
            raise SimulatorError(
                f"--seconds {self.seconds:g}: expected {CONTROL_PERIOD_S:g} to {MAXIMUM_SECONDS:g} s; "
                "pass another, or leave it out"
            )
        if not self.patience_s > 0.0:
            raise SimulatorError(
                f"--patience-s {self.patience_s:g}: expected more than 0 s (inf waits for ever); pass another"
            )
        if self.seed < 0:
            raise SimulatorError(f"--seed {self.seed}: expected a number from 0 on; pass another")


@dataclass(frozen=True)
class Render:
    """Draw a recorded run as one picture: the last moment solid, the earlier ones ever fainter."""

    trajectory: Path
    """Recorded by `python -m hardware simulate --trajectory`; the bridge leaves one beside each log of `sim:`."""
    out: Path
    """PNG file to write."""
    json: bool = False
    """Print one JSON object on stdout."""

    def run(self) -> dict[str, Any]:
        """Draw and say what was drawn."""
        from hardware.render import strobe_file

        return {"picture": str(self.out), "moments": strobe_file(self.trajectory, self.out)}


Verb = (
    Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Flash, tyro.conf.subcommand("flash")]
    | Annotated[Simulate, tyro.conf.subcommand("simulate")]
    | Annotated[Render, tyro.conf.subcommand("render")]
)


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for key, value in result.items():
        table.add_row(key, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console(markup=False).print(table)  # else [find x.tcl] in a command is taken for a style


def command_line() -> int:
    """Parse, run one verb, report what failed; the exit code. Raises SystemExit(2) for wrong usage."""
    verb = tyro.cli(Verb, prog="python -m hardware", description=__doc__)
    start_s = time.monotonic()
    try:
        result = verb.run()
        _print({**result, "seconds": time.monotonic() - start_s}, verb.json)
        sys.stdout.flush()
    except HardwareError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        # What is still buffered would fail once more at exit, with a traceback.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(
            f"error: {error.filename or 'output'}: {error.strerror or error}; mend that and try again", file=sys.stderr
        )
        return 1
    return 0
