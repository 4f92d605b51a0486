"""The verb `run`: policy, port, log and loop put together, and taken apart in the right order whatever happens."""

import dataclasses
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from firmware_bridge.config import Run
from firmware_bridge.device.conversation import Conversation, LinkCounters
from firmware_bridge.device.handshake import Limits, arm, check_identity, greet, prepare
from firmware_bridge.errors import (
    BridgeError,
    DeviceRestartedError,
    LinkError,
    NoReplyError,
    RefusedError,
    SimulatorError,
    StopRequested,
)
from firmware_bridge.latency.stage_histograms import APPLY, STAGES
from firmware_bridge.live.page import LiveSettings, live_page
from firmware_bridge.logs.host_machine import describe_machine
from firmware_bridge.logs.parts import LOG_NAME
from firmware_bridge.logs.recorder import Recorder, Rotation
from firmware_bridge.loop.clock_sync import ClockSync
from firmware_bridge.loop.control_loop import LoopSettings, control_loop, quiet_interpreter
from firmware_bridge.loop.dry_run import dry_run
from firmware_bridge.loop.history import History
from firmware_bridge.loop.host_policy import Backend, open_backend
from firmware_bridge.loop.policy_folder import PolicyFolder, open_policy_folder
from firmware_bridge.loop.realtime import RealTime
from firmware_bridge.loop.tally import Tally
from firmware_bridge.ports.back_off import RECONNECTED, BackOff
from firmware_bridge.ports.link import open_link
from firmware_bridge.ports.port_name import simulated_board
from firmware_bridge.ports.simulated_port import SimulatedPort, SimulatorSettings, build_image, require_packages
from firmware_bridge.safety.action_limits import ActionLimits
from firmware_bridge.safety.arming import wait_for_arm
from firmware_bridge.safety.brake import Stop, brake
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.host_state import HostState
from firmware_bridge.safety.keyboard import Keyboard
from firmware_bridge.safety.sensor_watch import SensorWatch, plant_constants
from firmware_bridge.safety.signals import StopSignals
from firmware_bridge.supervisor import Supervisor
from firmware_bridge.systemd.service_manager import ServiceManager
from hardware.codec import SCHEMA_HASH, name_of
from hardware.protocol import PROTOCOL_VERSION, Fault, HelloReply, Mode, ResetCause, Variant

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
    """Everything one connection has open, filled as it gets there, so that its end can be told from any point.

    `number` counts the connections of a run from 1; `periods` is how long this one may still be armed; `retried` tells
    that the port was lost, or not there, before; `homed` that the device could have been armed.
    """

    def __init__(self, config: Run, folder: PolicyFolder, backend: Backend | None, number: int, periods: int) -> None:
        self.config = config
        self.folder = folder
        self.number = number
        self.periods = periods
        self.retried = False
        self.homed = False
        name = LOG_NAME if number == 1 else f"run-{number}.mcap"
        rotation = Rotation(round(config.log_rotate_mb * 1e6), config.log_rotate_minutes * 60.0)
        self.recorder = Recorder(config.log / name, rotation=rotation)
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

    def successor(self, backend: Backend | None) -> "_Session":
        """The next connection of the same run. One that never came to anything leaves its number, and log, to it."""
        number = self.number + self.homed
        following = _Session(self.config, self.folder, backend, number, max(1, self.periods - self.tally.steps))
        following.retried = True
        following.backend_reason = self.backend_reason
        return following


def run(config: Run, controls: Controls | None = None, *, keyboard: bool = False) -> Outcome:
    """Run until the duration is over, a request to stop, or an error; brake; close the log.

    `controls` takes requests from other threads and is closed at the end; with `keyboard` any key stops. Raises
    BridgeError (or StopRequested) when it ended before ARM was sent, or ARM was refused; later ones are in the outcome.
    """
    started = time.monotonic()
    with controls or Controls() as requests, StopSignals(requests) as signals:
        folder = open_policy_folder(config.policy)
        backend, reason = open_backend(folder, config.backend) if config.mode != "device" else (None, "")
        periods = max(1, round(config.duration_s * 1e6 / folder.period_us))
        first = _Session(config, folder, backend, 1, periods)
        first.backend_reason = reason
        if first.history is not None:
            first.history.warm_up(folder.base_size)
        supervisor = Supervisor(requests, ServiceManager())
        sessions = [first]
        outcome = Outcome()
        simulator: SimulatedPort | None = None
        try:
            with (
                _port(config, folder) as (port, simulator),
                _keyboard(supervisor, keyboard),
                _live_page(sessions, supervisor),
            ):
                # From here on the cart can move: a signal must go through the brake.
                signals.deferred = True
                supervisor.service.ready()
                _converse_until_done(sessions, backend, port, supervisor)
        except (BridgeError, StopRequested, OSError) as error:
            outcome.error = _with_the_simulators_reason(error, simulator)
        supervisor.service.stopping()
        _finish(sessions, outcome, requests, simulator, started)
        supervisor.service.close()
        return outcome


def _with_the_simulators_reason(error: BaseException, simulator: SimulatedPort | None) -> BaseException:
    """Where a simulated device ended by itself it knows why; its link only went silent, as if a cable was pulled."""
    said = simulator.result.get("error") if simulator is not None else None
    if said is None or not isinstance(error, (LinkError, NoReplyError, DeviceRestartedError)):
        return error
    return SimulatorError(f"the simulated device is gone: {said}")


def _finish(
    sessions: list[_Session], outcome: Outcome, controls: Controls, simulator: SimulatedPort | None, started: float
) -> None:
    """Close the last log and sum up. Raises what ended a run in which nothing was armed."""
    session = sessions[-1]
    told = [other for other in sessions if other.armed or (other.config.dry_run and other.reply is not None)]
    if not told and outcome.error is not None:
        _close_quietly(session.recorder)
        raise outcome.error
    if outcome.error is None and controls.stop is not None:
        outcome.error = controls.stop  # it came while the run was already ending
    # The last that was armed is what the run is judged by; where the device stands, the last connection knows.
    outcome.result = _result(told[-1], outcome.error, simulator, time.monotonic() - started)
    if session.stop is not None:
        outcome.result["stop"] = dataclasses.asdict(session.stop)
    if session.config.reconnect:
        outcome.result["connections"] = [
            {"log": str(other.recorder.path), "armed": other.armed, "steps": other.tally.steps}
            for other in sessions
            if other.homed
        ]
    try:
        _close_log(session, outcome.result)
    except BridgeError as error:
        outcome.error = outcome.error or error
    outcome.result["log_dropped"] = told[-1].recorder.dropped
    outcome.result["log_dropped_by_topic"] = told[-1].recorder.dropped_by_topic
    outcome.result["seconds"] = time.monotonic() - started


def _converse_until_done(sessions: list[_Session], backend: Backend | None, port: str, supervisor: Supervisor) -> None:
    """One connection, or with --reconnect one after the other until one of them ends as it should.

    `sessions` holds the first and gets the others. Raises what `_converse` raises.
    """
    back_off = BackOff()
    while True:
        session = sessions[-1]
        try:
            _converse(session, port, supervisor)
        except RECONNECTED as error:
            if not session.config.reconnect:
                raise
            supervisor.service.feed()  # closing a log on a slow disk takes its time
            if session.reply is not None:
                _close_log(session, _result(session, error, None, session.tally.duration_s))
            if session.homed:
                back_off = BackOff()
            back_off.tell(error)
        else:
            return
        supervisor.pause(back_off.next_pause_s())
        if session.periods - session.tally.steps <= 0:
            return
        following = session.successor(backend)
        if not session.homed:
            sessions.pop()
        sessions.append(following)


def _converse(session: _Session, port: str, supervisor: Supervisor) -> None:
    config, folder, recorder = session.config, session.folder, session.recorder
    silence_s = _SILENCE_LOCKSTEP_S if config.clock == "lockstep" else _SILENCE_REAL_S
    limits = Limits(silence_s, max(1, round(config.homing_timeout_s * 1e6 / folder.period_us)))
    supervisor.record_to(recorder)
    supervisor.poll()
    link = open_link(port, config.baudrate)
    try:
        link.watch(supervisor.controls.wake_socket)
        conversation = Conversation(link, recorder, supervisor)
        if supervisor.page is not None:
            supervisor.page.watch(conversation, session.tally)
        greeted = False
        ended: BaseException | None = None
        try:
            reply = greet(conversation)
            check_identity(reply, folder, link.baudrate)
            greeted = True
            session.reply = reply
            if session.number == 1:
                _retire_logs(config.log)
            if config.realtime:
                session.realtime.take(link.descriptor, config.cpu)
            with session.realtime.elsewhere():  # the log writer
                recorder.start(_session_record(session, reply))
            mode = Mode[config.mode.upper()]
            if config.dry_run:
                supervisor.event("dry run", "nothing that could move the cart is sent")
                session.baseline = conversation.counters()
                dry_run(conversation, session.periods, silence_s, session.history, session.tally)
                return
            _home(session, conversation, supervisor, limits)
            conversation.faults.clear()
            settings = LoopSettings(mode, session.periods, silence_s, session.limits, config.constant_action)
            if config.constant_action is not None:
                supervisor.event("constant action", f"{config.constant_action:g} is sent instead of the policy's")
            with quiet_interpreter():
                session.armed = True  # from ARM on: it may take effect although its acknowledgement is never read
                session.baseline = conversation.counters()
                supervisor.enter(HostState.ARMED, "ARM is sent")
                try:
                    armed = arm(conversation, reply, limits)
                except RefusedError:
                    session.armed = False
                    raise
                session.baseline = conversation.counters()
                first = armed.observations[0]
                supervisor.event("armed", f"session {conversation.session:#010x} at tick {first.tick}")
                supervisor.enter(HostState.RUN, f"armed at tick {first.tick}")
                watch = SensorWatch(plant_constants(folder.policy.environment))
                control_loop(conversation, armed, settings, session.history, session.tally, watch=watch)
        except (BridgeError, StopRequested, OSError) as error:
            ended = error
            supervisor.event("stopping", str(error))
            raise
        finally:
            # A device that is not ours (another protocol, another policy) was not armed and is left alone.
            if greeted and not config.dry_run:
                session.stop = brake(conversation, silence_s)
                supervisor.event("stopped", repr(session.stop))
            supervisor.ended(ended)
            session.counters = conversation.counters()
            session.faults = [
                {"reason": name_of(Fault, fault.reason), "tick": fault.tick, "detail": fault.detail}
                for fault in conversation.faults
            ]
    finally:
        session.realtime.undo()
        link.close()


def _home(session: _Session, conversation: Conversation, supervisor: Supervisor, limits: Limits) -> None:
    """Until the device may be armed: at rest, configured, homed, and asked for where that is wanted.

    Where the port was lost or not there at first, somebody must ask: who has just plugged in the cable may have a hand
    at the rod.
    """
    config, reply = session.config, session.reply
    assert reply is not None
    while True:
        supervisor.enter(HostState.HOMING, f"connected to {reply.board!r}")
        prepare(conversation, reply, Mode[config.mode.upper()], config.watchdog_periods, limits)
        supervisor.states.homed("homed and at rest")
        session.homed = True
        if config.arm == "auto" and not session.retried:
            return
        if wait_for_arm(conversation, supervisor, limits):
            return


def _keyboard(supervisor: Supervisor, wanted: bool) -> AbstractContextManager[object]:
    return Keyboard(supervisor.controls, supervisor.states) if wanted else nullcontext()


@contextmanager
def _live_page(sessions: list[_Session], supervisor: Supervisor) -> Iterator[None]:
    """The page of this run while it lasts, over all of its connections, where one was asked for."""
    config = sessions[0].config
    if not config.live:
        yield
        return
    with live_page(LiveSettings(config.live_bind, config.live_port), supervisor.controls) as supervisor.page:
        error: BaseException | None = None
        try:
            yield
        except BaseException as caught:
            error = caught
            raise
        finally:
            stop = sessions[-1].stop
            supervisor.page.result = {
                "text": "the duration is over" if error is None else str(error),
                "armed": any(session.armed for session in sessions),
                "stop": dataclasses.asdict(stop) if stop is not None else None,
            }


def _retire_logs(folder: Path) -> None:
    """Logs of further connections of an earlier run get the name that run.mcap's predecessor gets, too."""
    for path in sorted(folder.glob("run-[0-9]*.mcap")):
        if not path.name.endswith(".previous.mcap"):
            path.replace(path.with_suffix(".previous.mcap"))


def _close_log(session: _Session, result: dict[str, Any]) -> None:
    session.recorder.close({**result, "histograms": session.tally.histograms.encoded()})


@contextmanager
def _port(config: Run, folder: PolicyFolder) -> Iterator[tuple[str, SimulatedPort | None]]:
    board = simulated_board(config.port)
    if board is None:
        yield config.port, None
        return
    require_packages()
    image = config.image
    if image is None:
        image = build_image(config.policy, folder.directory / f"{board}_firmware", board).path
    elif not image.is_file():
        raise BridgeError(
            f"--image {image}: no such file; build it with `python -m hardware build --board {board} "
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
        "connection": session.number,
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
        "realtime": session.realtime.as_record(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in names}},
        "machine": describe_machine(),
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
        "dry_run": config.dry_run,
        "clock": config.clock,
        "steps": tally.steps,
        "crc_errors": counters.crc_errors,
        "lost": counters.lost,
        "deadline_misses": tally.unanswered + counters.stale_commands,
        "own_deadline_misses": tally.own_misses,
        "refused": counters.refused,
        "upright_fraction_last_3s": tally.upright_fraction,
        "latency_us": dataclasses.asdict(tally.histograms.percentiles("total", tally.duration_s)),
        "stages_us": {
            stage: dataclasses.asdict(tally.histograms.percentiles(stage, tally.duration_s))
            for stage in (*STAGES, APPLY)
        },
        "clock_sync": _clock_sync(tally.clock),
        "latency_overflows": tally.histograms.overflows,
        "device_us": {
            name: dataclasses.asdict(value) for name, value in tally.device_times.percentiles(tally.duration_s).items()
        },
        "faults": session.faults,
        "device": {"board": session.reply.board, **_start_of(session.reply)} if session.reply else None,
        "stop": dataclasses.asdict(session.stop) if session.stop else None,
        "policy_digest": session.folder.digest,
        "backend": session.backend,
        "realtime": session.realtime.as_record(),
        "limits": {"clamped": session.limits.clamped, "slewed": session.limits.slewed},
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


def _clock_sync(clock: ClockSync | None) -> dict[str, Any] | None:
    estimate = clock.estimate(time.monotonic_ns()) if clock is not None else None
    return dataclasses.asdict(estimate) if estimate is not None else None


def _ended_by(error: BaseException | None) -> str:
    if error is None:
        return "duration"
    return str(error) if isinstance(error, StopRequested) else type(error).__name__


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
