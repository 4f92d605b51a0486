"""A tiny host for the tests: speaks the protocol over the pty, one answer per observation."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from hardware.codec import decode_body
from hardware.framing import FrameDecoder, encode_frame
from hardware.protocol import (
    PROTOCOL_VERSION,
    Acknowledge,
    Action,
    Arm,
    Command,
    Config,
    Disarm,
    FaultReport,
    Heartbeat,
    Hello,
    HelloReply,
    LinkStatistics,
    Message,
    Mode,
    Observation,
    ObservationFlag,
    State,
    Timing,
)

SESSION = 0x1234
WAIT_S = 30.0  # only a test that fails waits so long


def arm_message(reply: HelloReply, session: int = SESSION) -> Arm:
    """An ARM that makes `session` the session."""
    return Arm(reply.device_nonce, reply.device_nonce ^ session)


def disarm_message(session: int = 0) -> Disarm:
    return Disarm(session)


class Host:
    """Opens the link; `send`, `receive`, and the usual sequences on top."""

    def __init__(self, link: Path) -> None:
        self.port = os.open(link, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.port)
        self.decoder = FrameDecoder()
        self.sequence = 0
        self.sent: list[Message] = []
        self.inbox: list[Message] = []
        self.observations: list[Observation] = []
        self.actions: list[Action] = []
        self.timings: list[Timing] = []
        self.faults: list[FaultReport] = []
        self.statistics: list[LinkStatistics] = []
        self.acknowledgements: list[Acknowledge] = []

    def close(self) -> None:
        os.close(self.port)

    def send(self, *messages: Message) -> bytes:
        """All messages in one write; the bytes that went out."""
        frames = b""
        for message in messages:
            frames += encode_frame(message, self.sequence)
            self.sequence += 1
            self.sent.append(message)
        self.write(frames)
        return frames

    def write(self, data: bytes) -> None:
        assert os.write(self.port, data) == len(data)

    def receive(self) -> Message:
        """The next message of the device."""
        if not self.inbox:
            self.fetch()
        return self.inbox.pop(0)

    def wait(self, kind: type, condition: Callable[[Message], bool] = lambda _message: True) -> Message:
        """The next message of this kind that fulfils the condition. Observations in between stay in the inbox."""
        position = 0
        while True:
            if position == len(self.inbox):
                self.fetch()
            message = self.inbox[position]
            if isinstance(message, kind) and condition(message):
                return self.inbox.pop(position)
            if isinstance(message, Observation) and kind is not Observation:
                position += 1
            else:
                self.inbox.pop(position)

    def fetch(self) -> None:
        """Wait for a message, and file what came."""
        size, deadline = len(self.inbox), time.monotonic() + WAIT_S
        while len(self.inbox) == size:
            assert self.listen(deadline - time.monotonic()), "the device said nothing"

    def listen(self, patience_s: float) -> bool:
        """Wait for bytes, once; file what they carry in the inbox and by kind. False when none came."""
        if not select.select([self.port], [], [], max(0.0, patience_s))[0]:
            return False
        data = os.read(self.port, 4096)
        assert data, "the device hung up"
        for body in self.decoder.feed(data):
            message = decode_body(body)[1]
            self.inbox.append(message)
            for kind, box in (
                (Observation, self.observations),
                (Action, self.actions),
                (Timing, self.timings),
                (FaultReport, self.faults),
                (LinkStatistics, self.statistics),
                (Acknowledge, self.acknowledgements),
            ):
                if isinstance(message, kind):
                    box.append(message)
        return True

    def hello(self) -> HelloReply:
        self.send(Hello(PROTOCOL_VERSION, 77))
        self.reply = self.wait(HelloReply)
        return self.reply

    def configure(self, mode: int, watchdog_periods: int = 2, untethered: int = 0) -> int:
        """Config with the nonce of the last `hello`; the result."""
        return self.request(Config(self.reply.device_nonce, mode, watchdog_periods, untethered))

    def request(self, message: Message) -> int:
        """Send a Config, Arm or Disarm; the result. Sends nothing else, so in lock-step time stands still."""
        self.send(message)
        return self.wait(Acknowledge, lambda reply: reply.request_type == message.TYPE).result

    def idle(self, session: int = 0) -> Observation:
        """Receive one observation and keep the clock going with a heartbeat."""
        observation = self.wait(Observation)
        self.send(Heartbeat(session, observation.tick))
        return observation

    def next_statistics(self, session: int = 0) -> LinkStatistics:
        """Keep the clock going until the device sends its counters once more."""
        seen = len(self.statistics)
        while len(self.statistics) == seen:
            self.idle(session)
        return self.statistics[-1]

    def home(self) -> None:
        """Keep the clock going until the device says that it is homed."""
        while not self.idle().flags & ObservationFlag.HOMED:
            pass

    def arm(self, mode: Mode, session: int = SESSION, watchdog_periods: int = 2) -> Observation:
        """Hello to the first ARMED observation, which the caller has to answer."""
        reply = self.hello()
        first = self.wait(Observation)
        assert self.configure(mode, watchdog_periods) == 0
        self.send(Heartbeat(0, first.tick))
        self.home()
        last = self.wait(Observation)  # time stands still until it is answered
        assert self.request(arm_message(reply, session)) == 0
        self.send(Heartbeat(session, last.tick))
        observation = self.wait(Observation)
        assert observation.state == State.ARMED
        return observation

    def answer(self, observation: Observation, policy: Callable[[Observation], float]) -> None:
        self.send(Command(SESSION, observation.tick, policy(observation)))

    def disarm(self, observation: Observation, session: int = SESSION) -> list[Observation]:
        """Disarm instead of answering `observation`; the observations until the drive is off."""
        assert self.request(Disarm(session)) == 0
        self.send(Heartbeat(session, observation.tick))
        seen = [self.idle(session)]
        while seen[-1].state == State.BRAKING:
            seen.append(self.idle(session))
        self.idle(session)  # one more tick: the one in which the drive went off is in the trajectory for sure
        return seen


class Simulation:
    """`python -m hardware simulate` as a subprocess."""

    def __init__(self, image: Path, folder: Path, *options: str) -> None:
        self.link = folder / "link"
        command = [sys.executable, "-m", "hardware", "simulate", "--image", str(image), "--link", str(self.link)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.child = subprocess.Popen(
            [*command, "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert "ready" in self.child.stderr.readline()

    def end(self, number: int | None = signal.SIGTERM) -> dict:
        """Ask it to end (None: it ends by itself); its JSON."""
        if number is not None:
            self.child.send_signal(number)
        out, error = self.child.communicate(timeout=WAIT_S)
        assert self.child.returncode == 0, error
        assert not os.path.lexists(self.link)
        return json.loads(out)

    def firmware_pids(self) -> list[int]:
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


def simulate(image: Path, folder: Path, *options: str) -> Iterator[Simulation]:
    """For fixtures: a simulation that is killed when the test did not end it."""
    simulation = Simulation(image, folder, *options)
    try:
        yield simulation
    finally:
        if simulation.child.poll() is None:
            simulation.child.kill()
            simulation.child.communicate()
