"""From an open port to an armed device, refusing whatever does not fit.

    HELLO -> HELLO_REPLY     who is there; digest, protocol, schema and period are compared
    (DISARM)                 only when the device is not at rest: left armed or with a latched fault by somebody else
    CONFIG -> ACKNOWLEDGE    mode and watchdog, with the nonce of the HELLO_REPLY
    wait                     until homed
    HELLO -> HELLO_REPLY     once more: LINK_STATISTICS behind it are the base line of the device's counters
    ARM -> state ARMED       with the nonce of the HELLO_REPLY (good for one use) and our share of the session

All waiting is counted in the device's control periods and every observation is answered by a heartbeat: in lock-step
the device waits for that, and the tick at which it arms does not depend on how fast this computer is.
"""

import dataclasses
import secrets
import time

import numpy as np

from firmware_bridge.device.conversation import Conversation
from firmware_bridge.errors import HandshakeError, LinkLostError, MismatchError, NoReplyError, RefusedError
from firmware_bridge.loop.policy_folder import PolicyFolder
from hardware.codec import SCHEMA_HASH, body_size, name_of
from hardware.protocol import (
    MESSAGES,
    PROTOCOL_VERSION,
    Acknowledge,
    Arm,
    Config,
    Disarm,
    Hello,
    HelloReply,
    LinkStatistics,
    Message,
    Mode,
    Observation,
    ObservationFlag,
    Result,
    State,
)

HELLO_TIMEOUT_S = 5.0
_RESEND_S = 0.5
_ATTEMPTS = 4
_RETRY_PERIODS = 10
_BASE_LINE_PERIODS = 2_100  # two seconds at 1 kHz, in which older firmware sends them once at least
_LIMIT_TOLERANCE = 1e-6  # both sides are float32
_BITS_PER_BYTE = 10  # 8N1: start bit, eight data bits, stop bit
_FRAME_OVERHEAD_BYTES = 4  # CRC 2, COBS 1, delimiter 1
# What the device may send in one period; what the host answers goes the other way at the same time (full duplex).
PERIOD_BYTES = sum(
    body_size(message) + _FRAME_OVERHEAD_BYTES
    for message in MESSAGES
    if message.ROUTE == "device>host" and (message.STREAMED or message is LinkStatistics)
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long the handshake waits: `silence_s` for any observation, `homing_periods` for the homed flag."""

    silence_s: float
    homing_periods: int


@dataclasses.dataclass(frozen=True)
class Armed:
    """The device is: `idle_tick` is the last tick seen before, `messages` begin after it and hold every ARMED
    observation that has come, not yet answered (the loop does that)."""

    idle_tick: int
    messages: list[Message]

    @property
    def observations(self) -> list[Observation]:
        """The ARMED observations, at least one."""
        return [message for message in self.messages if isinstance(message, Observation)]


def greet(conversation: Conversation, timeout_s: float = HELLO_TIMEOUT_S) -> HelloReply:
    """Say HELLO until somebody answers. Raises NoReplyError."""
    nonce = secrets.randbits(32)
    deadline = time.monotonic() + timeout_s
    while (now := time.monotonic()) < deadline:
        conversation.send(Hello(PROTOCOL_VERSION, nonce))
        resend = min(deadline, now + _RESEND_S)
        while (left := resend - time.monotonic()) > 0:
            for message in exchange(conversation, left):
                if isinstance(message, HelloReply) and message.host_nonce == nonce:
                    return message
    if conversation.frames_rejected > conversation.frames_received:
        got = (
            f"{conversation.frames_rejected} frames came, {conversation.frames_received} with a valid checksum: "
            "another schema or another baud rate"
        )
    else:
        got = f"{conversation.bytes_received} bytes came, none of them an answer"
    raise NoReplyError(
        f"port {conversation.link.name}: no HELLO_REPLY within {timeout_s:g} s ({got}), expected firmware with schema "
        f"{SCHEMA_HASH:#06x}; check port and baud rate, or rebuild it with `python -m hardware build`"
    )


def check_identity(reply: HelloReply, folder: PolicyFolder, baudrate: int | None) -> None:
    """Compare the device with the policy folder. Raises MismatchError naming both sides and the remedy."""
    rebuild = f"rebuild the firmware with `python -m hardware build --policy {folder.directory}` and load it"
    period = f"export a policy for {reply.period_us} us, or {rebuild}"
    size = f"export a policy for this plant, or {rebuild}"
    digest = f"pass the policy the device was built with, or {rebuild}"
    comparisons: tuple[tuple[str, object, object, str], ...] = (
        ("protocol version", reply.protocol_version, PROTOCOL_VERSION, rebuild),
        ("schema hash", reply.schema_hash, SCHEMA_HASH, rebuild),
        ("control period [us]", reply.period_us, folder.period_us, period),
        ("base observation size", reply.base_observation_size, folder.base_size, size),
        ("history [frames]", reply.history, folder.history, size),
        ("policy digest", reply.policy_digest.hex(), folder.digest, digest),
    )
    asked = float(np.abs((folder.policy.action_low, folder.policy.action_high)).max())
    for what, device, host, remedy in comparisons:
        if device != host:
            raise MismatchError(
                f"{what} differs: the device {reply.board!r} has {device}, the host has {host}; not armed; {remedy}"
            )
    if not asked <= reply.acceleration_limit * (1.0 + _LIMIT_TOLERANCE):  # also refuses NaN
        raise MismatchError(
            f"the policy asks for up to {asked:g} m/s^2, the device {reply.board!r} refuses more than "
            f"{reply.acceleration_limit:g} m/s^2; not armed; distil a policy whose action range lies within it"
        )
    if baudrate is not None:
        needed_us = PERIOD_BYTES * _BITS_PER_BYTE * 1_000_000 / baudrate
        if needed_us > reply.period_us:
            raise MismatchError(
                f"the wire is too slow: {PERIOD_BYTES} bytes a period x {_BITS_PER_BYTE} bits / {baudrate} baud = "
                f"{needed_us:.0f} us, the control period is {reply.period_us} us; pass a higher --baudrate"
            )


def prepare(conversation: Conversation, reply: HelloReply, mode: Mode, watchdog_periods: int, limits: Limits) -> None:
    """Bring the device to rest, configure it, and wait until it is homed. Raises HandshakeError, LinkLostError."""
    observation = next_observation(conversation, limits)
    for period in range(limits.homing_periods):
        if observation.state in (State.UNHOMED, State.IDLE):
            break
        if period % _RETRY_PERIODS == 0:
            conversation.send(Disarm(0))
        observation = next_observation(conversation, limits)
    else:
        raise HandshakeError(
            f"the device stays in state {name_of(State, observation.state)} after DISARM, expected IDLE; reset it"
        )
    _configure(conversation, reply, mode, watchdog_periods)
    for _ in range(limits.homing_periods):
        if observation.flags & ObservationFlag.HOMED and observation.state == State.IDLE:
            return take_base_line(conversation, limits)
        observation = next_observation(conversation, limits)
    raise HandshakeError(
        f"waited {limits.homing_periods} control periods for homed, the device is in state "
        f"{name_of(State, observation.state)} with flags {observation.flags:#x}; move the cart to both rail ends "
        "and let the rod hang still"
    )


@dataclasses.dataclass
class _SentArms:
    """Every ARM of this handshake by its sequence number, and whether the device has `accepted` one of them.

    A link may bring one twice: the nonce is good for one use, so the copy is refused although the device is armed.
    """

    requests: dict[int, Arm] = dataclasses.field(default_factory=dict)
    accepted: bool = False

    def check(self, messages: list[Message]) -> None:
        """Raise RefusedError for a refusal of one of them, unless another, or the same, was accepted."""
        results = [
            (message, request)
            for message in messages
            if isinstance(message, Acknowledge)
            and message.request_type == Arm.TYPE
            and (request := self.requests.get(message.request_sequence)) is not None
        ]
        self.accepted |= any(message.result == Result.OK for message, _ in results)
        if not self.accepted:
            for message, request in results:
                _check_result(message, request)


def arm(conversation: Conversation, reply: HelloReply, limits: Limits) -> Armed:
    """Send ARM until the device is ARMED. Raises RefusedError, HandshakeError, LinkLostError, StopRequested."""
    idle_tick = conversation.observation.tick if conversation.observation is not None else 0
    conversation.session = secrets.randbits(32) | 1  # never 0, which means any
    sent = _SentArms()
    for attempt in range(_ATTEMPTS * _RETRY_PERIODS):
        if attempt % _RETRY_PERIODS == 0:
            # The newest reply's nonce: a HELLO that was sent twice made the first one's worthless.
            device_nonce = (conversation.reply or reply).device_nonce
            request = Arm(device_nonce, device_nonce ^ conversation.session)
            sent.requests[conversation.send(request)] = request
        conversation.answer()
        messages = _receive_observation(conversation, limits, sent)
        for position, message in enumerate(messages):
            if isinstance(message, Observation):
                if message.state == State.ARMED:
                    return Armed(idle_tick, messages[position:])
                idle_tick = message.tick
    raise HandshakeError(
        f"ARM was sent {_ATTEMPTS} times and the device stays in another state than ARMED; "
        "look at the link's error counters with `python -m firmware_bridge report`"
    )


def exchange(conversation: Conversation, timeout_s: float) -> list[Message]:
    """Receive for at most `timeout_s` and answer what wants an answer."""
    messages = conversation.receive(timeout_s)
    conversation.answer()
    return messages


def _receive_observation(conversation: Conversation, limits: Limits, sent: _SentArms | None = None) -> list[Message]:
    """Messages up to and including the batch that brings the next observation, which stays unanswered.

    A refusal of what was `sent` is raised as soon as it comes: in lock-step a refused device may wait for an answer,
    silent.
    """
    messages: list[Message] = []
    deadline = time.monotonic() + limits.silence_s
    while not conversation.unanswered:
        if (left := deadline - time.monotonic()) <= 0:
            raise silence_error(conversation, limits.silence_s)
        received = conversation.receive(min(left, 0.1))
        if sent is not None:
            sent.check(received)
        messages += received
    return messages


def next_observation(conversation: Conversation, limits: Limits) -> Observation:
    """Answer the last observation with a heartbeat and wait for the next. Raises LinkLostError."""
    conversation.answer()
    _receive_observation(conversation, limits)
    if conversation.observation is None:
        raise silence_error(conversation, limits.silence_s)
    return conversation.observation


def take_base_line(conversation: Conversation, limits: Limits) -> None:
    """What the device has counted so far, asked for now: HELLO brings it (older firmware sends it once a second).

    What a chip lost while it started, or before this program came, is not this run's. Raises NoReplyError.
    """
    before = conversation.statistics_count
    sent = -1
    for period in range(_BASE_LINE_PERIODS):
        # Each HELLO takes the nonce of the one before: only the reply to the newest will do.
        told = conversation.reply is not None and conversation.reply.host_nonce == sent
        if told and conversation.statistics_count > before:
            return
        if not told and period % _RETRY_PERIODS == 0:
            sent = secrets.randbits(32)
            conversation.send(Hello(PROTOCOL_VERSION, sent))
        next_observation(conversation, limits)
    raise NoReplyError(
        f"waited {_BASE_LINE_PERIODS} control periods for HELLO_REPLY and LINK_STATISTICS, expected both; "
        "check the cable, or rebuild the firmware with `python -m hardware build`"
    )


def _configure(conversation: Conversation, reply: HelloReply, mode: Mode, watchdog_periods: int) -> None:
    """Send CONFIG until acknowledged. Raises RefusedError, NoReplyError."""
    requests: dict[int, Config] = {}  # by sequence number
    for _ in range(_ATTEMPTS):
        newest = (conversation.reply or reply).device_nonce
        request = Config(newest, mode, watchdog_periods, 0)
        requests[conversation.send(request)] = request
        deadline = time.monotonic() + _RESEND_S
        while (left := deadline - time.monotonic()) > 0:
            for message in exchange(conversation, left):
                sent = requests.get(message.request_sequence) if isinstance(message, Acknowledge) else None
                if sent is None:
                    continue
                if (conversation.reply or reply).device_nonce != sent.device_nonce:
                    deadline = 0.0  # a HELLO that was sent twice made this nonce worthless: once more, with the new one
                    continue
                _check_result(message, sent)
                return
    raise NoReplyError(f"CONFIG was sent {_ATTEMPTS} times without an acknowledgement; check the cable")


def _check_result(message: Message, request: Config | Arm) -> None:
    if not isinstance(message, Acknowledge) or message.request_type != request.TYPE or message.result == Result.OK:
        return
    raise RefusedError(
        f"the device refused {type(request).__name__.upper()}: {name_of(Result, message.result)}; "
        f"{_REMEDIES.get(message.result, 'reset the device and try again')}"
    )


_REMEDIES: dict[int, str] = {
    Result.NOT_HOMED: "move the cart to both rail ends and let the rod hang still",
    Result.SELF_TEST_FAILED: "its policy does not give the known answers; rebuild with `python -m hardware build`",
    Result.BAD_NONCE: "somebody else talked to it in between; run again",
    Result.IMAGE_DAMAGED: "a bit of its flash has changed; flash it again",
    Result.INPUT_OPEN: "release the emergency stop, move the cart off the end switch, clear the fault that the motor "
    "driver reports (look at its display), or mend the wire, and run again",
    Result.FAULT_LATCHED: "remove the cause of the fault and run again",
}


def silence_error(conversation: Conversation, silence_s: float) -> LinkLostError:
    """The device is there but says nothing new."""
    late = conversation.counters().out_of_order
    told = f" ({late} came late or again since the port was opened)" if late else ""
    return LinkLostError(
        f"port {conversation.link.name}: no OBSERVATION for {silence_s:g} s{told}, expected one every control period; "
        "check the cable and the device's power"
    )
