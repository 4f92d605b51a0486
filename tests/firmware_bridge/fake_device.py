"""A device that speaks the protocol from a thread: fast (the next period follows the answer), scriptable, judging."""

import math
import os
import select
import socket
import threading
import time
import tty

from firmware_bridge.config import Run
from hardware.codec import SCHEMA_HASH, decode_body
from hardware.framing import FrameDecoder, encode_frame
from hardware.protocol import (
    NO_TIME_US,
    PROTOCOL_VERSION,
    Acknowledge,
    Action,
    Arm,
    Command,
    Config,
    Disarm,
    Fault,
    FaultReport,
    Heartbeat,
    Hello,
    HelloReply,
    LinkStatistics,
    Mode,
    Observation,
    ObservationFlag,
    ResetCause,
    Result,
    State,
    Timing,
)


def frame_at(tick):
    """Base observation of a tick: numbers that exist in float32, so that they survive the wire unchanged.

    Cart and rod swing gently, as something with a mass does: a host that checks its sensors believes them.
    """
    phase = math.tau * tick / 100
    angle = math.pi + 0.5 * math.sin(phase)
    values = (0.1 * math.sin(phase), 0.3 * math.cos(phase), math.sin(angle), math.cos(angle), 1.5 * math.cos(phase))
    return tuple(float(memoryview(bytes_of(value)).cast("f")[0]) for value in values)


def bytes_of(value):
    import struct

    return struct.pack("f", value)


def run_config(device, policy_folder, log, **changes):
    """A run of 2 s, 100 periods, with this device."""
    return Run(port=device.path, policy=policy_folder, log=log, **{"duration_s": 2.0, **changes})


class FakeDevice:
    """Runs in a thread; `path` is what the bridge opens. `received` holds every message in order.

    `mangle(ticks_since_armed, message, frame) -> frame | None` may damage or drop an outgoing frame. `homed_at` is the
    tick of homing, `arm_result` the answer to ARM, `fault_at`, `vanish_at`, `mute_at`, `restart_at` count ticks since
    arming; after a restart it is silent until the next HELLO, its ticks start again, and its reset cause is BROWN_OUT.
    """

    def __init__(self, digest, transport="pty", **options):
        self.digest = bytes.fromhex(digest)
        self.received = []
        self.states = []
        self.options = {
            "mangle": lambda since, message, frame: frame,
            "homed_at": 3,
            "arm_result": Result.OK,
            "fault_at": None,
            "vanish_at": None,
            "mute_at": None,
            "restart_at": None,
            "period_us": 20000,
            "protocol_version": PROTOCOL_VERSION,
            "ignore_disarm": False,
            "stale": 0,
            "pace_s": 0.0,
            "acceleration_limit": 20.0,
            "device_action": lambda tick: 0.0,
            **options,
        }
        self.state = State.UNHOMED
        self.fault = Fault.NONE
        self.session = 0
        self.nonce = 76
        self.mode = Mode.HOST
        self.tick = 0
        self.reset_cause = ResetCause.POWER_ON
        self.armed_tick = None
        self._sequence = 0
        self._said = True  # the observation of this period went out as it is
        self._decoder = FrameDecoder()
        self._stop = threading.Event()
        if transport == "pty":
            self._master, self._slave = os.openpty()
            tty.setraw(self._slave)
            self.path = os.ttyname(self._slave)
            self._server = None
        else:
            self._server = socket.create_server(("127.0.0.1", 0))
            self.path = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
            self._master = self._slave = None
        self._connection = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)
        self._close()

    def of_type(self, kind):
        """Received messages of one type."""
        return [message for message in self.received if isinstance(message, kind)]

    def wait_for(self, condition, timeout_s=20.0):
        """Wait in the test until `condition(self)`; fails the test when it does not come."""
        deadline = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < deadline, "the fake device waited in vain"
            time.sleep(0.005)

    def _close(self):
        for descriptor in (self._master, self._slave):
            if descriptor is not None and self._connection is None:
                os.close(descriptor)
        if self._connection is not None:
            self._connection.close()
        if self._server is not None:
            self._server.close()
        self._master = self._slave = None

    def _run(self):
        if self._server is not None:
            self._server.settimeout(10)
            self._connection, _ = self._server.accept()
            self._master = self._connection.fileno()
        greeted = False
        while not self._stop.is_set():
            if not greeted:
                greeted = Hello in self._take(0.02)
                continue
            if self.options["restart_at"] is not None and self._since() == self.options["restart_at"]:
                self.tick, self.state, self.armed_tick, self.session = 0, State.UNHOMED, None, 0
                self.reset_cause, greeted = ResetCause.BROWN_OUT, False
                continue
            self._begin_period()
            if self.options["vanish_at"] is not None and self._since() == self.options["vanish_at"]:
                self._close()
                return
            # What the bridge cannot have read it need not answer; everything else it answers, however slow the machine.
            deadline = time.monotonic() + (10.0 if self._said else 0.05)
            while not self._stop.is_set() and time.monotonic() < deadline:
                if self._answered(self._take(0.02)):
                    break
            if self.options["pace_s"]:
                time.sleep(self.options["pace_s"])

    def _since(self):
        return -1 if self.armed_tick is None else self.tick - self.armed_tick

    def _begin_period(self):
        self.tick += 1
        if self.state == State.UNHOMED and self.tick >= self.options["homed_at"]:
            self.state = State.IDLE
        elif self.state == State.BRAKING:
            self.state = State.OFF if self.fault else State.IDLE
        if self.state == State.ARMED and self.armed_tick is None:
            self.armed_tick = self.tick
        if self.state == State.ARMED and self._since() == self.options["fault_at"]:
            self.state, self.fault = State.BRAKING, Fault.RAIL_END
            self._send(FaultReport(self.fault, self.tick, 0))
        self.states.append(self.state)
        flags = ObservationFlag.HOMED if self.state not in (State.UNHOMED,) else 0
        observation = Observation(
            *(self.tick, self.tick * 20000, frame_at(self.tick), frame_at(self.tick - 1), 0.0),
            *(self.state, self.fault, int(flags)),
        )
        if self.tick % 5 == 0:
            self._send(LinkStatistics(0, 0, self.options["stale"] if self.armed_tick else 0, 0))
        mute = self.options["mute_at"] is not None and self._since() >= self.options["mute_at"]
        self._said = not mute and self._send(observation)
        policy = self.mode != Mode.HOST
        inference_us = 0 if not policy else 12 if self._since() != 50 else 21
        age_us = 20000 if self.state == State.ARMED and self._since() > 0 else NO_TIME_US
        # Its time counts periods and is no clock: it times no answer, in any mode.
        self._send(Timing(self.tick, age_us, NO_TIME_US, inference_us))
        if self.state == State.ARMED and policy:
            self._send(Action(self.tick, self.options["device_action"](self.tick)))

    def _answered(self, kinds):
        if Hello in kinds:
            return True  # a host that has just opened the port cannot know this period's observation
        last = next((m for m in reversed(self.received) if isinstance(m, Command | Heartbeat)), None)
        return last is not None and last.observation_tick == self.tick and bool(kinds)

    def _take(self, timeout_s):
        """Receive for a while; the types that came. Lets the bridge's messages take effect."""
        if not select.select([self._master], [], [], timeout_s)[0]:
            return []
        try:
            data = os.read(self._master, 4096)
        except OSError:
            data = b""
        if not data:
            time.sleep(0.01)  # the bridge has closed its side
            return []
        kinds = []
        for body in self._decoder.feed(data):
            sequence, message = decode_body(body)
            self.received.append(message)
            kinds.append(type(message))
            self._react(sequence, message)
        return kinds

    def _react(self, sequence, message):
        if isinstance(message, Hello):
            self.nonce += 1
            version = self.options["protocol_version"]
            head = (version, message.host_nonce, self.nonce, SCHEMA_HASH, self.options["period_us"], 5, 5)
            self._send(HelloReply(*head, self.digest, "fake", self.options["acceleration_limit"], self.reset_cause, 0))
        elif isinstance(message, Config):
            result = Result.OK if message.device_nonce == self.nonce else Result.BAD_NONCE
            if result == Result.OK:
                self.mode = Mode(message.mode)
            self._send(Acknowledge(message.TYPE, sequence, result))
        elif isinstance(message, Arm):
            result = self.options["arm_result"] if message.device_nonce == self.nonce else Result.BAD_NONCE
            if result == Result.OK:
                self.state, self.session = State.ARMED, message.device_nonce ^ message.host_nonce
            self._send(Acknowledge(message.TYPE, sequence, result))
        elif isinstance(message, Disarm):
            if self.state == State.ARMED and not self.options["ignore_disarm"]:
                self.state = State.BRAKING
            elif self.state == State.OFF:
                self.state, self.fault = State.IDLE, Fault.NONE
            self._send(Acknowledge(message.TYPE, sequence, Result.OK))

    def _send(self, message):
        """Write the frame, mangled or not; whether it is whole among what went out."""
        frame = encode_frame(message, self._sequence)
        self._sequence += 1
        mangled = self.options["mangle"](self._since(), message, frame)
        if mangled:
            try:
                os.write(self._master, mangled)
            except OSError:
                self._stop.set()
        return bool(mangled) and frame in mangled
