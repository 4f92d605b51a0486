"""Messages over a link: sequence numbers, framing, counting, logging, and what the device said last.

Losses and errors are counted in both directions: ours from frames that arrive damaged or not at all, the device's from
its LinkStatistics. A frame that fails in COBS, length or CRC is one `crc_errors`: on a wire all three are the same
damage.
"""

import dataclasses
import time
from typing import Protocol

from firmware_bridge.device.observation_order import ObservationOrder
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.logs.topics import Topic
from firmware_bridge.ports.link import Link
from hardware.codec import decode_body, encode_body, packer
from hardware.errors import ProtocolError
from hardware.framing import FrameDecoder, SequenceCounter, frame_body, seems_to_be
from hardware.protocol import Command, FaultReport, Heartbeat, HelloReply, LinkStatistics, Message, Observation

_PACK_COMMAND = packer(Command)
_PACK_HEARTBEAT = packer(Heartbeat)
_COMMAND_TOPIC = log_topics.MESSAGE_TOPICS[Command]
_HEARTBEAT_TOPIC = log_topics.MESSAGE_TOPICS[Heartbeat]

_NOTHING: tuple[bytes | None, bytes | None] = (None, None)
_MOST_FAULTS = 1000  # kept for the result; a device that sends more is broken, and the log has them all


@dataclasses.dataclass(frozen=True)
class LinkCounters:
    """Health of the link since it was opened, both directions. `out_of_order` counts OBSERVATIONs."""

    crc_errors: int
    lost: int
    stale_commands: int
    refused: int
    out_of_order: int

    def since(self, earlier: "LinkCounters") -> "LinkCounters":
        """What happened after `earlier`; a counter that fell (the device restarted) counts from zero."""
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(earlier)
        return LinkCounters(*(a - b if a >= b else a for a, b in zip(mine, theirs, strict=True)))


class Polled(Protocol):
    """Who is asked before every wait whether the run should end, and feeds the service manager's watchdog with it."""

    def poll(self) -> None:
        """Raise StopRequested when the run should end."""


class Conversation:
    """Sends and receives messages on one link.

    `first_ns`, `last_ns`, `decoded_ns` are the stamps of the newest message of the last `receive`;
    `read_ns` that of the return of its read: only then whatever it brought had surely come.
    `observation` is the newest one seen, `unanswered` True until `answer` sent a heartbeat for it or the loop, which
    writes answers of its own, cleared it; one that comes late or again is logged and counted, no more. `session` is
    carried by heartbeats; 0 before arming. `reply` is the newest HELLO_REPLY: its nonce is the valid one.
    """

    def __init__(self, link: Link, recorder: Recorder, stop: Polled | None = None) -> None:
        self.link = link
        self.recorder = recorder
        self.session = 0
        self.observation: Observation | None = None
        self.unanswered = False
        self.statistics: LinkStatistics | None = None
        self.statistics_count = 0
        self.reply: HelloReply | None = None
        self.faults: list[FaultReport] = []
        self.bytes_received = 0
        self.first_ns = self.last_ns = self.read_ns = self.decoded_ns = 0
        self._stop = stop
        self._decoder = FrameDecoder()
        self._received = SequenceCounter()
        self._order = ObservationOrder()
        self._undecodable = 0
        self._sequence = 0
        self._pending_since_ns = 0
        self._errors_logged = 0
        self._taken: bytes | None = None
        self._frames: list[bytes] = []
        self._checked = _NOTHING
        self._answered: tuple[Topic, int, bytes, bytes] | None = None
        recorder.put(log_topics.LINK_ERRORS, time.monotonic_ns(), (0, 0, 0))

    def ignore_signals(self) -> None:
        """From now on `receive` raises neither StopRequested nor RecorderError: the stop is under way."""
        self._stop = None

    def receive(self, timeout_s: float) -> list[Message]:
        """All messages that have come, observations in order, after waiting at most `timeout_s` for the first byte.

        Raises StopRequested, RecorderError, LinkLostError.
        """
        self.take(timeout_s)
        return self.settle()

    def take(self, timeout_s: float) -> bool:
        """The first half of `receive`, whether anything came. Answer what is urgent (`only`), then call `settle`."""
        if self._stop is not None:
            self._stop.poll()
            self.recorder.check()  # nothing is armed, nor stays armed, without its log
        if self._taken is not None:
            self.settle()  # an error ended the period between the two halves
        ready = self.link.wait(0.0)
        if not ready or self.recorder.crowded:
            self.recorder.pump()  # only now: there is nothing to answer
        if not ready and not self.link.wait(timeout_s):
            return False
        ready_ns = time.monotonic_ns()
        data = self.link.read()
        self.read_ns = time.monotonic_ns()
        if not data:
            return False
        self._frames = self._decoder.cut(data)
        self._taken = data
        # The first byte of the newest frame came with this read, unless this read only completed one begun earlier.
        self.first_ns = self._pending_since_ns if self._pending_since_ns and data.count(0) == 1 else ready_ns
        self.last_ns = ready_ns
        return True

    def only(self, message: type[Message]) -> bytes | None:
        """The body of the one `message` that was taken; None for none, several, or a damaged one. Nothing is logged."""
        found: bytes | None = None
        for frame in self._frames:
            if seems_to_be(frame, message.TYPE):
                if found is not None:
                    return None
                found = frame
        if found is None or self._taken is None:
            return None
        self._checked = (found, self._decoder.check(found))
        return self._checked[1]

    def settle(self) -> list[Message]:
        """The second half of `receive`: the messages; counted, and logged together with the answer that they got."""
        if self._taken is None:
            return []
        data, self._taken = self._taken, None
        ready_ns = self.last_ns
        checked, body_of_checked = self._checked
        self._checked = _NOTHING
        messages = []
        for frame in self._frames:
            # The very object: an equal frame may have come twice.
            body = body_of_checked if frame is checked else self._decoder.check(frame)
            if body is not None and (message := self._decode(body, ready_ns)) is not None:
                messages.append(message)
        if self._answered is None:
            self.decoded_ns = time.monotonic_ns()
        if data[-1] == 0:
            self._pending_since_ns = 0
        elif 0 in data or not self._pending_since_ns:
            self._pending_since_ns = ready_ns
        self.bytes_received += len(data)
        self.recorder.put(log_topics.RAW_RECEIVED, ready_ns, data)
        rejected, undecodable, lost = self._decoder.rejected, self._undecodable, self._received.lost
        if rejected + undecodable + lost != self._errors_logged:
            self._errors_logged = rejected + undecodable + lost
            self.recorder.put(log_topics.LINK_ERRORS, ready_ns, (rejected, undecodable, lost))
        if self._answered is not None:
            self._log_sent(*self._answered)
            self._answered = None
            self.unanswered = False
        return messages

    def answer_tick(self, tick: int, action: float | None) -> tuple[int, int]:
        """Send COMMAND (or HEARTBEAT where `action` is None) for observation `tick`; the stamps [ns] encoded, written.

        The shortest way from an action to the wire: without a message.
        """
        sequence = self._sequence
        self._sequence = (sequence + 1) & 0xFFFF
        if action is not None:
            topic, body = _COMMAND_TOPIC, _PACK_COMMAND(Command.TYPE, sequence, self.session, tick, action)
        else:
            topic, body = _HEARTBEAT_TOPIC, _PACK_HEARTBEAT(Heartbeat.TYPE, sequence, self.session, tick)
        frame = frame_body(body)
        encoded_ns = time.monotonic_ns()
        self.link.write(frame)
        written_ns = time.monotonic_ns()
        self.unanswered = False
        if self._taken is None:
            self._log_sent(topic, written_ns, body, frame)
        else:
            self._answered = (topic, written_ns, body, frame)  # in the log it comes behind what it answers
        return encoded_ns, written_ns

    def send(self, message: Message) -> int:
        """Encode and write at once; the sequence number it travelled under."""
        sequence = self._sequence
        self._sequence = (sequence + 1) & 0xFFFF
        body = encode_body(message, sequence)
        frame = frame_body(body)
        self.link.write(frame)
        written_ns = time.monotonic_ns()
        self._log_sent(log_topics.MESSAGE_TOPICS[type(message)], written_ns, body, frame)
        return sequence

    def answer(self) -> None:
        """Send a heartbeat for the newest observation if it has no answer yet (in lock-step the device waits)."""
        if self.unanswered and self.observation is not None:
            self.unanswered = False
            self.send(Heartbeat(self.session, self.observation.tick))
            self.recorder.pump()

    def counters(self) -> LinkCounters:
        """Both directions together, since the link was opened (ours) and since the device's boot (its)."""
        device = self.statistics or LinkStatistics(0, 0, 0, 0)
        return LinkCounters(
            crc_errors=self._decoder.rejected + self._undecodable + device.crc_errors,
            lost=self._received.lost + device.lost,
            stale_commands=device.stale_commands,
            refused=device.refused,
            out_of_order=self._order.out_of_order,
        )

    @property
    def frames_received(self) -> int:
        """Frames with a right checksum."""
        return self._decoder.frames

    @property
    def frames_rejected(self) -> int:
        """Frames that arrived damaged."""
        return self._decoder.rejected

    def _log_sent(self, topic: Topic, written_ns: int, body: bytes, frame: bytes) -> None:
        self.recorder.put(topic, written_ns, body)
        self.recorder.put(log_topics.RAW_SENT, written_ns, frame)

    def _decode(self, body: bytes, time_ns: int) -> Message | None:
        try:
            sequence, message = decode_body(body)
        except ProtocolError:
            self._undecodable += 1
            return None
        if message.ROUTE != "device>host":
            self._undecodable += 1  # a port that echoes, or two bridges on one wire
            return None
        self._received.update(sequence)
        self.recorder.put(log_topics.MESSAGE_TOPICS[type(message)], time_ns, body)
        if isinstance(message, Observation):
            if not self._order.take(message.tick, message.state):
                return None
            self.observation = message
            self.unanswered = True
        elif isinstance(message, HelloReply):
            self.reply = message
        elif isinstance(message, LinkStatistics):
            self.statistics = message
            self.statistics_count += 1
        elif isinstance(message, FaultReport) and len(self.faults) < _MOST_FAULTS:
            self.faults.append(message)
        return message
