"""What the fault proxy knows of the connection that it carries: the device's clock, its period, its unanswered tick."""

import dataclasses

from hardware.framing import encode_frame
from hardware.protocol import (
    Acknowledge,
    Arm,
    Command,
    Heartbeat,
    HelloReply,
    Message,
    Observation,
    Result,
    State,
)

_DEFAULT_PERIOD_US = 20_000
_REMEMBERED_ARMS = 64


class DeviceClock:
    """The device's time, unwrapped, from the observations that pass; `seconds` since the first one."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tick = 0
        self.period_s = _DEFAULT_PERIOD_US / 1e6
        self._last_us: int | None = None

    @property
    def running(self) -> bool:
        """Whether there was any observation."""
        return self._last_us is not None

    def observe(self, message: Message) -> None:
        """Take a message of the device."""
        if isinstance(message, HelloReply):
            self.period_s = message.period_us / 1e6
        elif isinstance(message, Observation):
            if self._last_us is not None:
                self.seconds += ((message.time_us - self._last_us) & 0xFFFF_FFFF) / 1e6
            self._last_us, self.tick = message.time_us, message.tick


@dataclasses.dataclass
class Connection:
    """One bridge that came: its number, and the tick of its first ARMED observation."""

    number: int
    first_armed_tick: int | None = None

    def observe(self, message: Message | None) -> None:
        """Take a message of the device."""
        if isinstance(message, Observation) and message.state == State.ARMED and self.first_armed_tick is None:
            self.first_armed_tick = message.tick

    def period(self, tick: int) -> int | None:
        """Control periods from the first ARMED observation to `tick`; None before it."""
        if self.first_armed_tick is None:
            return None
        return (tick - self.first_armed_tick) & 0xFFFF_FFFF


class LockStep:
    """Keeps a simulator in lock-step going when answers are lost, without anybody's clock.

    It waits until the running tick is answered in its session. Where the proxy has lost the observation or the answer,
    nobody will: then `release` gives the heartbeat of session 0, which ends the period and feeds no watchdog. An answer
    in a session whose ARM the device has not acknowledged is none: it may have refused, and wait on.
    """

    def __init__(self) -> None:
        self.released = 0
        self.tick: int | None = None
        """The tick that waits for an answer, None when there is none."""
        self._arms: dict[int, int] = {}  # session by sequence number, of those that have arrived
        self._session = 0
        self._sequence = 0
        self._observation_delay_s = 0.0

    def said(self, message: Message | None, delay_s: float) -> None:
        """Take a message of the device, which reaches the bridge after `delay_s`."""
        if isinstance(message, Acknowledge) and message.request_type == Arm.TYPE and message.result == Result.OK:
            self._session = self._arms.get(message.request_sequence, 0)
        elif isinstance(message, Observation):
            self.tick, self._observation_delay_s = message.tick, delay_s

    def arrived(self, messages: tuple[tuple[int, Message], ...]) -> None:
        """Take what the device has decoded."""
        for sequence, message in messages:
            self._sequence = sequence
            if isinstance(message, Arm):
                if len(self._arms) > _REMEMBERED_ARMS:
                    self._arms.clear()
                self._arms[sequence] = message.device_nonce ^ message.host_nonce
            elif self.is_answer(message) and _session_of(message) in (0, self._session):
                self.tick = None

    def is_answer(self, message: Message | None) -> bool:
        """Whether this answers the tick that waits."""
        return isinstance(message, Command | Heartbeat) and message.observation_tick == self.tick

    def is_late(self, message: Message | None, delay_s: float, period_s: float) -> bool:
        """Whether an answer that is delayed by `delay_s` comes after the device's next period has begun."""
        return self.is_answer(message) and self._observation_delay_s + delay_s >= period_s

    def release(self) -> bytes:
        """What ends the period that waits; nothing when none does."""
        if self.tick is None:
            return b""
        tick, self.tick = self.tick, None
        self.released += 1
        # A delimiter first: a frame may have been cut. The last sequence again: to the device no frame is missing.
        return b"\0" + encode_frame(Heartbeat(0, tick), self._sequence)


def _session_of(message: Message) -> int:
    return message.session if isinstance(message, Command | Heartbeat) else 0
