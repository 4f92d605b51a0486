"""The verb `run`: policy, port, log and loop put together, and taken apart in the right order whatever happens."""

import dataclasses
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from firmware_bridge.config import Run
from firmware_bridge.device.conversation import Conversation
from firmware_bridge.device.handshake import Limits, arm, check_identity, greet, prepare, take_base_line
from firmware_bridge.errors import (
    BridgeError,
    DeviceRestartedError,
    LinkError,
    NoReplyError,
    RefusedError,
    SimulatorError,
    StopRequested,
)
from firmware_bridge.live.page import LiveSettings, live_page
from firmware_bridge.logs.folder_lock import locked_folder
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.loop.control_loop import LoopSettings, control_loop, quiet_interpreter
from firmware_bridge.loop.dry_run import dry_run
from firmware_bridge.loop.host_policy import Backend, open_backend
from firmware_bridge.loop.policy_folder import PolicyFolder, open_policy_folder
from firmware_bridge.ports.back_off import RECONNECTED, BackOff
from firmware_bridge.ports.link import open_link
from firmware_bridge.ports.port_name import simulated_board
from firmware_bridge.ports.simulated_port import SimulatedPort, SimulatorSettings, build_image, require_packages
from firmware_bridge.safety.arming import wait_for_arm
from firmware_bridge.safety.brake import brake
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.host_state import HostState
from firmware_bridge.safety.keyboard import Keyboard
from firmware_bridge.safety.sensor_watch import SensorWatch, plant_constants
from firmware_bridge.safety.signals import StopSignals
from firmware_bridge.session import Session, session_record
from firmware_bridge.session_result import session_result
from firmware_bridge.supervisor import Supervisor
from firmware_bridge.systemd.service_manager import ServiceManager
from hardware.codec import name_of
from hardware.protocol import Fault, Mode

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


def run(
    config: Run,
    controls: Controls | None = None,
    *,
    keyboard: bool = False,
    told: Run | None = None,
    writer: subprocess.Popen[bytes] | None = None,
) -> Outcome:
    """Run until the duration is over, a request to stop, or an error; brake; close the log.

    `controls` takes requests from other threads and is closed at the end; with `keyboard` any key stops; `told` is
    `config` with the names that its files get afterwards; `writer` is a process of `launch_writer`, started while this
    module was loading. Raises BridgeError (or StopRequested) when it ended before ARM was sent, or ARM was refused;
    later ones are in the outcome.
    """
    started = time.monotonic()
    with controls or Controls() as requests, StopSignals(requests) as signals:
        folder = open_policy_folder(config.policy)
        backend, reason = open_backend(folder, config.backend) if config.mode != "device" else (None, "")
        periods = max(1, round(config.duration_s * 1e6 / folder.period_us))
        first = Session(config, folder, backend, 1, periods, writer=writer)
        first.told = told or config
        first.backend_reason = reason
        if first.history is not None:
            first.history.warm_up(folder.base_size)
        supervisor = Supervisor(requests, ServiceManager())
        sessions = [first]
        outcome = Outcome()
        simulator: SimulatedPort | None = None
        with ExitStack() as held:  # until the log is closed
            try:
                held.enter_context(locked_folder(config.log))
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
    sessions: list[Session], outcome: Outcome, controls: Controls, simulator: SimulatedPort | None, started: float
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
    outcome.result = session_result(told[-1], outcome.error, simulator, time.monotonic() - started)
    # Its log ends with what it did itself: an earlier one's has been closed with its own figures.
    own = outcome.result
    if session is not told[-1]:
        own = session_result(session, outcome.error, simulator, session.tally.duration_s)
    if session.stop is not None:
        outcome.result["stop"] = dataclasses.asdict(session.stop)
    if session.config.reconnect:
        own["connections"] = _connections(sessions)
    try:
        _close_log(session, own)
    except BridgeError as error:
        outcome.error = outcome.error or error
    # As it is now: --log-keep-parts may have deleted one meanwhile.
    outcome.result["log"] = told[-1].log_path
    if session.config.reconnect:
        outcome.result["connections"] = _connections(sessions)
    outcome.result["log_dropped"] = told[-1].recorder.dropped
    outcome.result["log_dropped_by_topic"] = told[-1].recorder.dropped_by_topic
    outcome.result["seconds"] = time.monotonic() - started


def _connections(sessions: list[Session]) -> list[dict[str, Any]]:
    return [
        {"log": other.log_path, "armed": other.armed, "steps": other.tally.steps}
        for other in sessions
        if other.came_to_something
    ]


def _converse_until_done(sessions: list[Session], backend: Backend | None, port: str, supervisor: Supervisor) -> None:
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
                _close_log(session, session_result(session, error, None, session.tally.duration_s))
            if session.came_to_something:
                back_off = BackOff()
            back_off.tell(error)
        else:
            return
        supervisor.pause(back_off.next_pause_s())
        if session.periods - session.tally.steps <= 0:
            return
        following = session.successor(backend)
        if not session.came_to_something:
            _close_quietly(sessions.pop().recorder)
        sessions.append(following)


def _converse(session: Session, port: str, supervisor: Supervisor) -> None:
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
            if config.realtime:
                session.realtime.take(link.descriptor, config.cpu)
            with session.realtime.elsewhere():  # the log writer's process
                recorder.start(session_record(session, reply), supervisor.poll)
            mode = Mode[config.mode.upper()]
            if config.dry_run:
                supervisor.event("dry run", "nothing that could move the cart is sent")
                take_base_line(conversation, limits)
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


def _home(session: Session, conversation: Conversation, supervisor: Supervisor, limits: Limits) -> None:
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
def _live_page(sessions: list[Session], supervisor: Supervisor) -> Iterator[None]:
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


def _close_log(session: Session, result: dict[str, Any]) -> None:
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


def _close_quietly(recorder: Recorder) -> None:
    try:
        recorder.close()
    except BridgeError:
        return  # the error that ended the run is the one to report
