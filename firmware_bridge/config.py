"""Configuration of the verbs; each field's docstring is its `--help` text.

In `Run` it says Optional[X], not X | None: the second tyro checks with typeguard, whose import alone takes 0.15 s on
the way to the first command.
"""

import dataclasses
from pathlib import Path
from typing import Literal, Optional

import tyro

from firmware_bridge.errors import BridgeError
from firmware_bridge.ports.port_name import simulated_board
from hardware.protocol import MAXIMUM_WATCHDOG_PERIODS

SIMULATOR_PORT = "sim:"  # other forms: ports/port_name.py


@dataclasses.dataclass(frozen=True)
class Run:
    """Run a policy in closed loop with a device and log everything."""

    port: str
    """Where the device is: a serial port by path, usb:VID:PID[:SERIAL], socket://HOST:PORT, sim: for the simulated one,
    or sim:qemu[:BOARD] for an emulated microcontroller."""
    policy: Path
    """Folder written by `python -m export compile` (policy.safetensors and policy.h)."""
    log: Path
    """Folder for run.mcap; a log that is already there is kept as run.previous.mcap."""
    mode: Literal["host", "device", "shadow"] = "host"
    """Who computes the action: this computer, the device, or both (the device's is used, differences are reported)."""
    duration_s: float = 10.0
    """Length of the run [s], counted in the device's control periods from the first armed one."""
    clock: Literal["real", "lockstep"] = "real"
    """Clock of the simulator: real time, or lock-step (the same bits every run, as fast as it goes)."""
    image: Optional[Path] = None  # noqa: UP045
    """Firmware image for sim: and sim:qemu; built from the policy folder when not given."""
    seed: int = 0
    """Seed of the simulated plant; matters with --randomise."""
    randomise: bool = False
    """Draw rod, friction and drive parameters of the simulated plant around the nominal ones."""
    backend: Literal["auto", "c", "onnx", "csr"] = "auto"
    """The policy on this computer: its C code compiled here, onnxruntime, numpy on the sparse arrays, or the first of
    them that can be had."""
    realtime: bool = False
    """Try the real-time knobs (SCHED_FIFO, pinning, locked memory, no deep sleep, low-latency serial, no timer slack);
    those that were refused are named in the result and the log."""
    cpu: Optional[int] = None  # noqa: UP045
    """Processor to pin the loop to with --realtime; an isolated one, or the last, when not given."""
    baudrate: int = 921_600
    """Speed of a serial port [baud]; USB CDC, sockets and pseudo terminals ignore it."""
    slew_limit: Optional[float] = None  # noqa: UP045
    """Largest change of the commanded acceleration [m/s^3], mode host only; not limited when not given."""
    constant_action: Optional[float] = None  # noqa: UP045
    """Send this acceleration [the action's unit] instead of the policy's, mode host only; for a bench, where 0 holds
    still. The policy computes all the same, and what it would have done is logged."""
    watchdog_periods: int = 2
    """Control periods without a valid answer after which the device brakes."""
    homing_timeout_s: float = 60.0
    """How long to wait for the device to be homed and at rest [s]."""
    arm: Literal["auto", "ask"] = "auto"
    """Once homed: arm at once, or wait until somebody asks for it (Enter on the terminal, the live page, SIGUSR1)."""
    reconnect: bool = False
    """Wait for a device that is not there, and open the port again when it is lost. After that an arm must be asked
    for, whatever --arm says. Each connection has its own log: run.mcap, run-2.mcap, ..."""
    dry_run: bool = False
    """Compute and log, but send nothing that could move the cart: no CONFIG, no ARM, no COMMAND."""
    log_rotate_mb: float = 0.0
    """Go on in a new file (run.0001.mcap, ...) when the log has this many megabytes; 0 for never."""
    log_rotate_minutes: float = 0.0
    """Go on in a new file after this many minutes; 0 for never."""
    log_keep_parts: int = 0
    """Keep this many files of the log, further connections' included, and delete the oldest as new ones begin; 0 keeps
    all. Wants one of the two keys above. The log of the run before stays besides, as run.previous.mcap."""
    config: Optional[Path] = None  # noqa: UP045
    """TOML file with these options as keys (duration_s = 60); what is given on the command line wins."""
    live: bool = False
    """Serve a page that shows rod, cart, action and latency, and stops the run; its address goes to stderr."""
    live_port: int = 0
    """Port of the live page; 0 takes a free one."""
    live_bind: str = "127.0.0.1"
    """Address the live page is served on; elsewhere than on this computer itself a warning is printed."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work. Raises BridgeError."""
        _in_range("--duration-s", self.duration_s, 0.02, 86_400.0, "s")
        _in_range("--homing-timeout-s", self.homing_timeout_s, 0.0, 3_600.0, "s")
        _in_range("--watchdog-periods", self.watchdog_periods, 1, MAXIMUM_WATCHDOG_PERIODS, "control periods")
        _in_range("--baudrate", self.baudrate, 1_200, 12_000_000, "baud")
        _in_range("--log-rotate-mb", self.log_rotate_mb, 0.0, 1e6, "megabytes")
        _in_range("--log-rotate-minutes", self.log_rotate_minutes, 0.0, 1e5, "minutes")
        if self.log_keep_parts:
            _in_range("--log-keep-parts", self.log_keep_parts, 2, 100_000, "files, or 0 for all")
            if not self.log_rotate_mb and not self.log_rotate_minutes:
                raise BridgeError(
                    f"--log-keep-parts {self.log_keep_parts}: a log that is not rotated is one file; pass "
                    "--log-rotate-mb or --log-rotate-minutes, too"
                )
        if self.cpu is not None and (self.cpu < 0 or not self.realtime):
            raise BridgeError(f"--cpu {self.cpu}: expected a processor's number, from 0 on, with --realtime; pass both")
        if self.slew_limit is not None:
            _in_range("--slew-limit", self.slew_limit, 0.001, 1e9, "m/s^3")
        if self.constant_action is not None and (self.mode != "host" or self.dry_run):
            raise BridgeError(
                f"--constant-action {self.constant_action:g}: expected --mode host and no --dry-run, the only way in "
                "which this computer sends actions; leave one of them out"
            )
        _in_range("--live-port", self.live_port, 0, 65_535, "(0 takes a free one)")
        if not self.live and (self.live_port or self.live_bind != "127.0.0.1"):
            raise BridgeError("--live-port and --live-bind are about the live page; pass --live, too")
        if self.seed < 0:
            raise BridgeError(f"--seed {self.seed}: expected a number from 0 on; pass another")
        if self.dry_run and (self.arm != "auto" or self.reconnect):
            raise BridgeError("--dry-run arms nothing: leave --arm and --reconnect out")
        simulated = simulated_board(self.port) is not None
        if simulated and self.reconnect:
            raise BridgeError(f"--reconnect with --port {self.port}: its device ends with it; leave --reconnect out")
        for option, given in (
            ("--clock lockstep", self.clock != "real"),
            ("--image", self.image is not None),
            ("--randomise", self.randomise),
        ):
            if given and not simulated:
                raise BridgeError(f"{option} with --port {self.port}: only sim: knows it; leave {option} out")


@dataclasses.dataclass(frozen=True)
class Check:
    """Explain a configuration file: every key, its value, where it comes from, and whether a run could start."""

    file: tyro.conf.Positional[Path | None] = None
    """bridge.toml, as `run --config` reads it."""
    template: bool = False
    """Print an example with every key explained instead."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""


@dataclasses.dataclass(frozen=True)
class InstallDaemon:
    """Install the systemd unit, the udev rule and an example of its configuration. As root, or below --destdir."""

    destdir: Path | None = None
    """Put everything below this folder instead of / and tell no running systemd or udev; for packages."""
    bridge: Path | None = None
    """The bpd-bridge that the unit starts; the one beside this Python when not given."""
    group: str | None = None
    """Group that may use serial ports; dialout or uucp, whichever exists, when not given."""
    dry_run: bool = False
    """Print what would be done, and do nothing."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""


@dataclasses.dataclass(frozen=True)
class Emulate:
    """Build the firmware of a microcontroller and let it balance the simulated pendulum in QEMU, in lock-step."""

    policy: Path
    """Folder written by `python -m export compile`."""
    out: Path
    """Folder for BOARD.json, the image and the log."""
    board: str = "netduinoplus2"
    """netduinoplus2 (STM32F405, Cortex-M4F), microbit (nRF51822, Cortex-M0) or atmega328p (AVR; wants a policy compiled
    with --target avr)."""
    mode: Literal["host", "device", "shadow"] = "device"
    """Who computes the action: this computer, the emulated chip, or both."""
    duration_s: float = 10.0
    """Length of the run [s], in simulated time."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""


@dataclasses.dataclass(frozen=True)
class Identify:
    """Ask a device who it is: board, reset cause, and the digest of its policy."""

    port: str
    """Where the device is: a serial port by path, usb:VID:PID[:SERIAL], or socket://HOST:PORT."""
    policy: Path | None = None
    """Folder written by `python -m export compile`; a device with another policy is an error."""
    baudrate: int = 921_600
    """Speed of a serial port [baud]."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""


@dataclasses.dataclass(frozen=True)
class Ping:
    """Measure the link: round trips of HELLO, losses, and what most likely makes them slow. Arms nothing."""

    port: str
    """Where the device is: a serial port by path, or socket://HOST:PORT."""
    count: int | None = None
    """Stop after this many; not limited when not given."""
    duration_s: float = 5.0
    """Stop after this long [s]."""
    baudrate: int = 921_600
    """Speed of a serial port [baud]; USB CDC, sockets and pseudo terminals ignore it."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work. Raises BridgeError."""
        _in_range("--duration-s", self.duration_s, 0.01, 86_400.0, "s")
        _in_range("--baudrate", self.baudrate, 1_200, 12_000_000, "baud")
        if self.count is not None:
            _in_range("--count", self.count, 1, 10_000_000, "round trips")


@dataclasses.dataclass(frozen=True)
class Report:
    """Print what a log says, and draw it."""

    log: tyro.conf.Positional[Path]
    """run.mcap, or the folder that holds it; a log that was cut off is read up to its last complete chunk."""
    html: Path | None = None
    """Also write a self-contained HTML page here."""
    histograms: Path | None = None
    """Also write the histogram of each stage into this folder, as measured and corrected for coordinated omission:
    NAME.hgrm (percentiles, for HdrHistogram's plotters) and NAME.hlog (which `merge` takes)."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""


@dataclasses.dataclass(frozen=True)
class Live:
    """Show a log on the live page, as it was while it was recorded; begins when the page is opened."""

    log: tyro.conf.Positional[Path]
    """run.mcap, or the folder that holds it; a log that was cut off is shown up to its last complete chunk."""
    speed: float = 1.0
    """How many seconds of the log pass in one."""
    live_port: int = 0
    """Port of the page; 0 takes a free one."""
    live_bind: str = "127.0.0.1"
    """Address the page is served on; elsewhere than on this computer itself a warning is printed."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work. Raises BridgeError."""
        _in_range("--speed", self.speed, 0.01, 100.0, "times real time")
        _in_range("--live-port", self.live_port, 0, 65_535, "(0 takes a free one)")


@dataclasses.dataclass(frozen=True)
class Replay:
    """Feed a log through the parser and the policy again; exit code 1 when anything comes out otherwise."""

    log: tyro.conf.Positional[Path]
    """run.mcap, or the folder that holds it; a log that was cut off is replayed up to there."""
    policy: Path | None = None
    """Folder of the policy that ran: its actions are computed again, too. Without it only the frames are compared."""
    backend: Literal["auto", "c", "csr", "onnx"] = "auto"
    """What computes them: policy.h compiled here, numpy with the same bits, onnxruntime, or the first there is."""
    tolerance: float | None = None
    """Largest difference of an action [m/s^2]. By default 0 for the host's actions with the arithmetic that the run
    had (c and csr have the same), 1e-5 of the action range for another one and for the device's."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""

    def __post_init__(self) -> None:
        """Refuse a tolerance that is none. Raises BridgeError."""
        if self.tolerance is not None:
            _in_range("--tolerance", self.tolerance, 0.0, 1e6, "m/s^2")


@dataclasses.dataclass(frozen=True)
class Merge:
    """Percentiles over several logs, stage by stage."""

    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Logs (run.mcap, or folders that hold one), and folders of histograms that `report --histograms` wrote."""
    histograms: Path | None = None
    """Also write the merged histograms into this folder."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a log as tables, one file a topic; pass --csv, --parquet or both."""

    log: tyro.conf.Positional[Path]
    """run.mcap, or the folder that holds it; a log that was cut off is exported up to there."""
    csv: Path | None = None
    """Folder for TOPIC.csv."""
    parquet: Path | None = None
    """Folder for TOPIC.parquet; needs pyarrow (the extra `parquet`)."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""

    def __post_init__(self) -> None:
        """Refuse to write nothing. Raises BridgeError."""
        if self.csv is None and self.parquet is None:
            raise BridgeError("export: neither --csv nor --parquet was given; name a folder for one of them")


@dataclasses.dataclass(frozen=True)
class ListPorts:
    """List the serial ports of this computer, which of them look like controllers, and which are in use."""

    probe: bool = False
    """Also say HELLO on every port that is free and looks like a controller's. Opening a port may reset its board."""
    baudrate: int = 921_600
    """Speed to probe with [baud]."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """Collect the JSON files of all stages of `make demo` into summary.json and report.html."""

    build: Path
    """Folder with the stages' JSON files (distill, robustness, export, verify, measure, measure_teacher, run_host,
    run_device, lockstep_host, lockstep_device) and, if there is one, render.png."""
    out: Path
    """Folder for summary.json and report.html."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""


def _in_range(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:  # also refuses NaN
        shown = value if isinstance(value, int) else f"{value:g}"  # an int may be larger than any float
        raise BridgeError(f"{name} {shown}: expected {low:g} to {high:g} {unit}; pass another")
