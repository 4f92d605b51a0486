"""The verb `run`: policy, port, log and loop put together, and taken apart in the right order whatever happens."""

import dataclasses
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from firmware_bridge import log_topics
from firmware_bridge.config import SIMULATOR_PORT, Run
from firmware_bridge.controls import Controls
from firmware_bridge.conversation import Conversation, LinkCounters
from firmware_bridge.errors import BridgeError, RefusedError, StopRequested
from firmware_bridge.handshake import Limits, arm, check_identity, greet, prepare
from firmware_bridge.history import History
from firmware_bridge.host_policy import open_backend
from firmware_bridge.link import open_link
from firmware_bridge.loop import LoopSettings, control_loop, quiet_interpreter
from firmware_bridge.policy_folder import PolicyFolder, open_policy_folder
from firmware_bridge.recorder import Recorder
from firmware_bridge.signals import StopSignals
from firmware_bridge.simulated_port import SimulatedPort, SimulatorSettings, build_image
from firmware_bridge.stop import Stop, brake
from firmware_bridge.tally import Tally
from hardware.codec import SCHEMA_HASH, name_of
from hardware.protocol import PROTOCOL_VERSION, Fault, HelloReply, Mode, ResetCause, Variant

LOG_NAME = "run.mcap"
TRAJECTORY_NAME = "trajectory.safetensors"
_SILENCE_REAL_S = 0.5
# In lock-step the simulator itself waits 2 s for a lost answer before it goes on.
_SILENCE_LOCKSTEP_S = 15.0
_SIMULATOR_MARGIN_S = 120.0


@dataclasses.dataclass
class Outcome:
    """What a run gave: its JSON (None when the loop never started) and what ended it early (None when nothing did)."""

    result: dict[str, Any] | None = None
    error: BaseException | None = None


class _Session:
    """Everything one run has open, filled as it gets there, so that its end can be told from any point."""

    def __init__(self, config: Run, folder: PolicyFolder, recorder: Recorder) -> None:
        self.config = config
        self.folder = folder
        self.recorder = recorder
        self.tally = Tally(folder.period_us)
        self.armed = False
        self.reply: HelloReply | None = None
        self.baseline: LinkCounters | None = None
        self.counters: LinkCounters | None = None
        self.faults: list[dict[str, Any]] = []
        self.history: History | None = None
        self.backend = "none"
        self.backend_reason = ""
        self.stop: Stop | None = None


def run(config: Run) -> Outcome:
    """Run until the duration is over, a signal, or an error; brake; close the log.

    Raises BridgeError (or StopRequested) when it ended before ARM was sent, or ARM was refused; later ones are in the
    outcome.
    """
    started = time.monotonic()
    with Controls() as controls, StopSignals(controls) as signals:
        folder = open_policy_folder(config.policy)
        session = _Session(config, folder, Recorder(config.log / LOG_NAME))
        if config.mode != "device":
            backend, session.backend_reason = open_backend(folder, config.backend)
            session.backend = backend.name
            session.history = History(backend, folder.history)
            session.history.warm_up(folder.base_size)
        outcome = Outcome()
        simulator: SimulatedPort | None = None
        try:
            with _port(config, folder) as (port, simulator):
                # From here on the cart can move: a signal must go through the brake.
                signals.deferred = True
                _converse(session, port, controls)
        except (BridgeError, StopRequested, OSError) as error:
            outcome.error = error
        if not session.armed and outcome.error is not None:
            _close_quietly(session.recorder)
            raise outcome.error
        if outcome.error is None and controls.stop is not None:
            outcome.error = controls.stop  # it came while the run was already ending
        outcome.result = _result(session, outcome.error, simulator, time.monotonic() - started)
        try:
            session.recorder.close({**outcome.result, "histograms": session.tally.histograms.encoded()})
        except BridgeError as error:
            outcome.error = outcome.error or error
        outcome.result["log_dropped"] = session.recorder.dropped
        outcome.result["seconds"] = time.monotonic() - started
        return outcome


def _converse(session: _Session, port: str, controls: Controls) -> None:
    config, folder, recorder = session.config, session.folder, session.recorder
    silence_s = _SILENCE_LOCKSTEP_S if config.clock == "lockstep" else _SILENCE_REAL_S
    limits = Limits(silence_s, max(1, round(config.homing_timeout_s * 1e6 / folder.period_us)))
    link = open_link(port, config.baudrate)
    try:
        link.watch(controls.wake_socket)
        conversation = Conversation(link, recorder, controls)
        greeted = False
        try:
            reply = greet(conversation)
            check_identity(reply, folder, link.baudrate)
            greeted = True
            session.reply = reply
            recorder.start(_session_record(session, reply))
            mode = Mode[config.mode.upper()]
            prepare(conversation, reply, mode, config.watchdog_periods, limits)
            conversation.faults.clear()
            periods = max(1, round(config.duration_s * 1e6 / folder.period_us))
            settings = LoopSettings(mode, periods, silence_s)
            with quiet_interpreter():
                session.armed = True  # from ARM on: it may take effect although its acknowledgement is never read
                session.baseline = conversation.counters()
                try:
                    armed = arm(conversation, reply, limits)
                except RefusedError:
                    session.armed = False
                    raise
                session.baseline = conversation.counters()
                first = armed.observations[0]
                _event(recorder, "armed", f"session {conversation.session:#010x} at tick {first.tick}")
                control_loop(conversation, armed, settings, session.history, session.tally)
        except (BridgeError, StopRequested, OSError) as error:
            _event(recorder, "stopping", str(error))
            raise
        finally:
            # A device that is not ours (another protocol, another policy) was not armed and is left alone.
            if greeted:
                session.stop = brake(conversation, silence_s)
                _event(recorder, "stopped", repr(session.stop))
            session.counters = conversation.counters()
            session.faults = [
                {"reason": name_of(Fault, fault.reason), "tick": fault.tick, "detail": fault.detail}
                for fault in conversation.faults
            ]
    finally:
        link.close()


@contextmanager
def _port(config: Run, folder: PolicyFolder) -> Iterator[tuple[str, SimulatedPort | None]]:
    if config.port != SIMULATOR_PORT:
        yield config.port, None
        return
    image = config.image
    if image is None:
        image = build_image(config.policy, folder.directory / "host_firmware", "host").path
    elif not image.is_file():
        raise BridgeError(
            f"--image {image}: no such file; build it with `python -m hardware build --board host "
            f"--policy {config.policy} --out DIR`, or leave --image out"
        )
    seconds = config.duration_s + config.homing_timeout_s + _SIMULATOR_MARGIN_S
    trajectory = config.log / TRAJECTORY_NAME
    settings = SimulatorSettings(image, config.clock, config.seed, config.randomise, seconds, trajectory)
    with SimulatedPort(settings) as simulator:
        yield str(simulator.path), simulator


def _session_record(session: _Session, reply: HelloReply) -> dict[str, Any]:
    config = dataclasses.asdict(session.config)
    device = {**dataclasses.asdict(reply), **_start_of(reply)}
    names = ("bayesian-policy-distillation", "numpy", "scipy", "mcap", "pyserial", "hdrhistogram")
    return {
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "policy_digest": session.folder.digest,
        "device": {key: value.hex() if isinstance(value, bytes) else value for key, value in device.items()},
        "protocol_version": PROTOCOL_VERSION,
        "schema_hash": SCHEMA_HASH,
        "period_us": session.folder.period_us,
        "observation_names": list(session.folder.policy.observation_names),
        "action_names": list(session.folder.policy.action_names),
        "config": {key: str(value) if isinstance(value, Path) else value for key, value in config.items()},
        "backend": session.backend,
        "backend_reason": session.backend_reason,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in names}},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "parents": dict(session.folder.policy.parents),
    }


def _start_of(reply: HelloReply) -> dict[str, str]:
    """Names instead of numbers: what kind of image it is, and why it started."""
    return {"variant": name_of(Variant, reply.variant), "reset_cause": name_of(ResetCause, reply.reset_cause)}


def _result(
    session: _Session, error: BaseException | None, simulator: SimulatedPort | None, seconds: float
) -> dict[str, Any]:
    config, tally = session.config, session.tally
    zero = LinkCounters(0, 0, 0, 0)
    counters = (session.counters or zero).since(session.baseline or zero)
    history = session.history
    result: dict[str, Any] = {
        "mode": config.mode,
        "clock": config.clock,
        "steps": tally.steps,
        "crc_errors": counters.crc_errors,
        "lost": counters.lost,
        "deadline_misses": tally.unanswered + counters.stale_commands,
        "refused": counters.refused,
        "upright_fraction_last_3s": tally.upright_fraction,
        "latency_us": dataclasses.asdict(tally.histograms.percentiles("total", tally.duration_s)),
        "latency_overflows": tally.histograms.overflows,
        "device_us": {
            name: dataclasses.asdict(value) for name, value in tally.device_times.percentiles(tally.duration_s).items()
        },
        "faults": session.faults,
        "device": {"board": session.reply.board, **_start_of(session.reply)} if session.reply else None,
        "stop": dataclasses.asdict(session.stop) if session.stop else None,
        "policy_digest": session.folder.digest,
        "backend": session.backend,
        "log": str(session.recorder.path),
        "log_dropped": session.recorder.dropped,
        "ended_by": _ended_by(error),
    }
    if history is not None:
        names = ("repaired", "gaps", "withheld", "duplicates")
        result["history"] = {name: getattr(history, name) for name in names}
    if config.mode == "shadow":
        result["shadow"] = {"compared": tally.shadow_compared, "max_difference": tally.shadow_difference}
    if simulator is not None:
        result["trajectory_sha256"] = simulator.result.get("trajectory_sha256")
        result["simulator"] = simulator.result
    result["seconds"] = seconds
    return result


def _ended_by(error: BaseException | None) -> str:
    if error is None:
        return "duration"
    return str(error) if isinstance(error, StopRequested) else type(error).__name__


def _event(recorder: Recorder, kind: str, text: str) -> None:
    recorder.put(log_topics.EVENT, time.monotonic_ns(), (kind, text))


def _close_quietly(recorder: Recorder) -> None:
    try:
        recorder.close()
    except BridgeError:
        return  # the error that ended the run is the one to report


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
