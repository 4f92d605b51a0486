"""One connection of a run: all it has open, and what the log says of it first."""

import dataclasses
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from firmware_bridge.config import Run
from firmware_bridge.device.conversation import LinkCounters
from firmware_bridge.errors import BridgeError
from firmware_bridge.logs.host_machine import describe_machine
from firmware_bridge.logs.parts import LOG_NAME, parts_on_disk
from firmware_bridge.logs.record_pipe import Rotation
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.loop.clock_sync import ClockSync
from firmware_bridge.loop.history import History
from firmware_bridge.loop.host_policy import Backend
from firmware_bridge.loop.policy_folder import PolicyFolder
from firmware_bridge.loop.realtime import RealTime
from firmware_bridge.loop.tally import Tally
from firmware_bridge.safety.action_limits import ActionLimits
from firmware_bridge.safety.brake import Stop
from hardware.codec import SCHEMA_HASH, name_of
from hardware.protocol import PROTOCOL_VERSION, HelloReply, ResetCause, Variant


class Session:
    """Everything one connection has open, filled as it gets there, so that its end can be told from any point.

    `number` counts the connections of a run from 1; `periods` is how long this one may still be armed; `retried` tells
    that the port was lost, or not there, before; `homed` that the device could have been armed; `told` is the
    configuration that log and result name; `writer` a process of `launch_writer`.
    """

    def __init__(
        self,
        config: Run,
        folder: PolicyFolder,
        backend: Backend | None,
        number: int,
        periods: int,
        *,
        writer: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.config = config
        self.told = config
        self.folder = folder
        self.number = number
        self.periods = periods
        self.retried = False
        self.homed = False
        name = LOG_NAME if number == 1 else f"run-{number}.mcap"
        rotation = Rotation(round(config.log_rotate_mb * 1e6), config.log_rotate_minutes * 60.0, config.log_keep_parts)
        self.recorder = Recorder(config.log / name, rotation=rotation, process=writer)
        # In lock-step the device's time stands still but for its ticks: no clock.
        self.tally = Tally(folder.period_us, ClockSync() if config.clock == "real" else None)
        low, high = float(folder.policy.action_low[0]), float(folder.policy.action_high[0])
        constant = config.constant_action
        if constant is not None and not low <= constant <= high:  # also refuses NaN
            raise BridgeError(
                f"--constant-action {constant:g}: the policy's actions go from {low:g} to {high:g}, expected one of "
                "these; pass another"
            )
        self.limits = ActionLimits(low, high, config.slew_limit, folder.policy.control_period_s)
        self.realtime = RealTime()
        self.armed = False
        self.reply: HelloReply | None = None
        self.baseline: LinkCounters | None = None
        self.counters: LinkCounters | None = None
        self.faults: list[dict[str, Any]] = []
        self.history = History(backend, folder.history) if backend is not None else None
        self.backend = backend.name if backend is not None else "none"
        self.backend_reason = ""
        self.stop: Stop | None = None

    def successor(self, backend: Backend | None) -> "Session":
        """The next connection of the same run. One that never came to anything leaves its number, and log, to it."""
        number = self.number + self.came_to_something
        following = Session(self.config, self.folder, backend, number, max(1, self.periods - self.tally.steps))
        following.retried = True
        following.backend_reason = self.backend_reason
        following.told = self.told
        # Once this run has a log, what lies there under the name of the next is its own.
        following.recorder.first_of_run = self.recorder.first_of_run and self.reply is None
        return following

    @property
    def came_to_something(self) -> bool:
        """Worth a log of its own: the device could have been armed, or was watched as a dry run wants it."""
        return self.homed or (self.config.dry_run and self.tally.steps > 0)

    @property
    def log_path(self) -> str | None:
        """The first file that is left of the log, where it is once everything has its name; None where none is."""
        parts = parts_on_disk(self.recorder.path)
        return str(self.told.log / parts[0].name) if parts else None


def session_record(session: Session, reply: HelloReply) -> dict[str, Any]:
    """The first record of a connection's log."""
    config = dataclasses.asdict(session.told)
    device = {**dataclasses.asdict(reply), **start_of(reply)}
    names = ("bayesian-policy-distillation", "numpy", "scipy", "mcap", "pyserial", "hdrhistogram")
    return {
        "connection": session.number,
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "policy_digest": session.folder.digest,
        "device": {key: value.hex() if isinstance(value, bytes) else value for key, value in device.items()},
        "protocol_version": PROTOCOL_VERSION,
        "schema_hash": SCHEMA_HASH,
        "period_us": session.folder.period_us,
        "periods": session.periods,
        "observation_names": list(session.folder.policy.observation_names),
        "action_names": list(session.folder.policy.action_names),
        "config": {key: str(value) if isinstance(value, Path) else value for key, value in config.items()},
        "backend": session.backend,
        "backend_reason": session.backend_reason,
        "realtime": session.realtime.as_record(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in names}},
        "machine": describe_machine(),
        "parents": dict(session.folder.policy.parents),
    }


def start_of(reply: HelloReply) -> dict[str, str]:
    """Names instead of numbers: what kind of image it is, and why it started."""
    return {"variant": name_of(Variant, reply.variant), "reset_cause": name_of(ResetCause, reply.reset_cause)}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
