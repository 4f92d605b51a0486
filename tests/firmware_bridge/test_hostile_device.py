"""Whatever comes from a device: the bridge's parser raises nothing, counts all of it, reads the next frame right."""

import math
import struct
from pathlib import Path

import fuzz_host
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from benchmarks import bridge_fuzz
from benchmarks.bridge_fuzz import Fed, fuzz
from benchmarks.hostile_bytes import hostile_pieces
from firmware_bridge.device.conversation import Conversation
from firmware_bridge.logs.recorder import Recorder
from hardware.codec import SCHEMA_HASH, body_size, decode_body, encode_body
from hardware.errors import ProtocolError
from hardware.framing import MAXIMUM_ENCODED_SIZE, FrameDecoder, encode_frame, frame_body
from hardware.protocol import (
    MESSAGES,
    Acknowledge,
    Arm,
    FaultReport,
    Heartbeat,
    HelloReply,
    LinkStatistics,
    Observation,
    State,
)

FROM_DEVICE = [message for message in MESSAGES if message.ROUTE == "device>host"]
CODES = {message.TYPE: message for message in MESSAGES}


def slow_crc16(data):
    """CRC-16/CCITT-FALSE bit by bit, from the start value of the schema."""
    crc = 0xFFFF ^ SCHEMA_HASH
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


def slow_decode(piece):
    """COBS as its paper says it, byte by byte; None for no code."""
    decoded, left, zero = [], 0, False
    for byte in piece:
        if left == 0:
            if zero:
                decoded.append(0)
            left, zero = byte - 1, byte != 255
        else:
            decoded.append(byte)
            left -= 1
    return bytes(decoded) if left == 0 else None


@pytest.mark.parametrize("first", [0, 1, 6])
def test_the_fuzzers_entry_takes_what_libfuzzer_gives(first):
    """Whole frames, bodies whose checksums are made right, and a read that ends in the middle of a frame."""
    observation = Observation(7, 140_000, (0.0,) * 5, (0.0,) * 5, 0.0, State.ARMED, 0, 0)
    frame = encode_frame(observation, 7)
    body = encode_body(observation, 7)
    fuzz_host.one_input(bytes([first]) + (frame + b"\x03ab\0" + frame if first % 2 == 0 else bytes([len(body)]) + body))


class Reference:
    """What a stream says, all of it at once and the slow way."""

    def __init__(self, stream):
        *pieces, rest = stream.split(b"\0")
        self.bodies, self.crc_errors, self.garbage = [], 0, 0
        self.oversize = sum(len(piece) > MAXIMUM_ENCODED_SIZE for piece in (*pieces, rest))
        for piece in pieces:
            if not piece or len(piece) > MAXIMUM_ENCODED_SIZE:
                continue
            decoded = slow_decode(piece)
            if decoded is None or len(decoded) < 5:
                self.garbage += 1
            elif slow_crc16(decoded[:-2]) != int.from_bytes(decoded[-2:], "little"):
                self.crc_errors += 1
            else:
                self.bodies.append(decoded[:-2])
        known = [body for body in self.bodies if body[0] in CODES and len(body) == body_size(CODES[body[0]])]
        self.messages = [body for body in known if CODES[body[0]].ROUTE == "device>host"]
        self.undecodable = len(self.bodies) - len(self.messages)


bodies = st.builds(
    lambda message, sequence, fields: (
        bytes([message.TYPE]) + struct.pack("<H", sequence) + fields[: body_size(message) - 3]
    ),
    st.sampled_from(FROM_DEVICE),
    st.integers(0, 65535),
    st.binary(min_size=80, max_size=80),
)
frames = st.one_of(
    bodies.map(frame_body),
    st.binary(max_size=90).map(frame_body),  # any body at all, its checksum right
    st.builds(
        lambda body, place, flip: bytes(
            byte ^ (flip if index == place % len(body) else 0) for index, byte in enumerate(body)
        ),
        bodies.map(frame_body),
        st.integers(0, 200),
        st.integers(1, 255),
    ),
    st.builds(lambda frame, end: frame[: end % len(frame)], bodies.map(frame_body), st.integers(0, 200)),
    st.binary(max_size=120),
    st.just(b"\0"),
    st.integers(60, 400).map(lambda size: b"\x01" * size),
)


class Talk(RuleBasedStateMachine):
    """A bridge's conversation with somebody who says anything, in any pieces; checked against the slow reference."""

    @initialize()
    def begin(self):
        self.link = Fed()
        self.recorder = Recorder(Path("unused"), capacity_bytes=0)
        self.conversation = Conversation(self.link, self.recorder)
        self.stream, self.pending, self.messages, self.sent = b"", b"", [], 0
        self.unanswered = False

    @rule(frame=frames)
    def device_says(self, frame):
        self.pending += frame

    @rule(
        tick=st.integers(0, 40) | st.integers(0, 2**32 - 1),
        state=st.integers(0, 4) | st.integers(0, 255),
        value=st.floats(width=32),
    )
    def device_observes(self, tick, state, value):
        self.pending += encode_frame(Observation(tick, 0, (value,) * 5, (value,) * 5, value, state, 0, 0), tick)

    @precondition(lambda self: self.pending)
    @rule(cut=st.integers(0, 500))
    def bridge_reads(self, cut):
        cut = min(len(self.pending), cut + 1)
        self.link.data, self.pending = self.pending[:cut], self.pending[cut:]
        self.stream += self.link.data
        received = self.conversation.receive(0.0)
        self.messages += received
        if any(isinstance(message, Observation) for message in received):
            self.unanswered = True

    @rule()
    def bridge_answers(self):
        self.link.written.clear()
        self.conversation.answer()
        said = [decode_body(body) for body in FrameDecoder().feed(bytes(self.link.written))]
        if self.unanswered:
            newest = self.conversation.observation
            assert said == [(self.sent & 0xFFFF, Heartbeat(self.conversation.session, newest.tick))]
            self.sent += 1
        else:
            assert said == []
        self.unanswered = False

    @rule(session=st.integers(0, 2**32 - 1))
    def bridge_arms(self, session):
        self.conversation.session = session
        assert self.conversation.send(Arm(1, session)) == self.sent & 0xFFFF
        self.sent += 1

    @invariant()
    def counts_and_messages_are_the_references(self):
        if not hasattr(self, "conversation"):
            return
        expected, decoder = Reference(self.stream), self.conversation._decoder
        said = _in_order([decode_body(body)[1] for body in expected.messages])
        assert list(map(_values, self.messages)) == list(map(_values, said))
        assert decoder.frames == len(expected.bodies) == self.conversation.frames_received
        assert (decoder.crc_errors, decoder.garbage) == (expected.crc_errors, expected.garbage)
        assert decoder.oversize == expected.oversize
        assert self.conversation._undecodable == expected.undecodable
        assert len(decoder._pending) <= MAXIMUM_ENCODED_SIZE
        told = self.conversation.counters()
        statistics = self.conversation.statistics or LinkStatistics(0, 0, 0, 0)
        assert told.crc_errors == decoder.rejected + expected.undecodable + statistics.crc_errors
        for kind, newest in ((Observation, self.conversation.observation), (HelloReply, self.conversation.reply)):
            of_kind = [message for message in self.messages if isinstance(message, kind)]
            assert newest is (of_kind[-1] if of_kind else None)
        assert len(self.conversation.faults) == sum(isinstance(message, FaultReport) for message in self.messages)
        assert told.out_of_order == len(expected.messages) - len(said)
        assert self.conversation.unanswered == self.unanswered
        assert self.conversation.bytes_received == len(self.stream)


def _in_order(messages):
    """Without the observations that are not newer than the newest: ARMED ones, or near, but no restart of an ARMED."""
    kept, newest = [], None
    for message in messages:
        if isinstance(message, Observation):
            behind = (newest.tick - message.tick) % 2**32 if newest else 2**32
            near = behind < 0x10000 if message.state == State.ARMED else behind < 17
            if near and (newest.state, message.state) != (State.ARMED, State.UNHOMED):
                continue
            newest = message
        kept.append(message)
    return kept


def _values(message):
    """A message's class and numbers, one NaN for all, so that messages can be compared."""
    values = [getattr(message, name) for name in message.__dataclass_fields__]
    flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return type(message), ["nan" if isinstance(part, float) and math.isnan(part) else part for part in flat]


TestTalk = Talk.TestCase
TestTalk.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_decode_body_raises_its_own_error_only(body):
    if body[:1] and body[0] in CODES and len(body) == body_size(CODES[body[0]]):
        sequence, message = decode_body(body)
        assert int.from_bytes(body[1:3], "little") == sequence
        assert body[0] == message.TYPE
    else:
        with pytest.raises(ProtocolError, match=r"\Acannot decode [^\n]*\Z"):
            decode_body(body)


def test_a_million_hostile_bytes():
    told = fuzz(1_000_000, seed=1)
    assert told["bytes"] >= 1_000_000
    for kind in ("messages", "undecodable", "crc_errors", "garbage", "oversize"):
        assert told[kind] > 20, kind


@pytest.mark.slow
def test_ten_million_hostile_bytes():
    assert fuzz(10_000_000, seed=0)["bytes"] >= 10_000_000


def test_half_is_random_and_every_message_of_a_device_is_among_the_rest():
    pieces = list(hostile_pieces(400_000, 3))
    random, mutated = (sum(map(len, pieces[start::2])) for start in (0, 1))
    assert random == pytest.approx(mutated, rel=0.05)
    got = set()
    for body in FrameDecoder().feed(b"".join(pieces[1::2])):
        try:
            got.add(type(decode_body(body)[1]))
        except ProtocolError:
            continue
    assert set(FROM_DEVICE) <= got
    assert list(hostile_pieces(50_000, 3)) == pieces[: len(list(hostile_pieces(50_000, 3)))]


def _raises(body):
    if body[:1] == b"\x42":
        raise ValueError("an error that is nobody's")
    return decode_body(body)


def _forgets(body):
    if body[:1] == b"\x43" and body[1] == 7:
        raise ProtocolError("lost")
    return decode_body(body)


@pytest.mark.parametrize("wrong", [_raises, _forgets])
def test_the_run_notices_a_parser_that_raises_or_loses(wrong, monkeypatch):
    monkeypatch.setattr("firmware_bridge.device.conversation.decode_body", wrong)
    with pytest.raises((ValueError, AssertionError)):
        fuzz(1_000_000, seed=1)


def test_the_run_notices_memory_that_grows(monkeypatch):
    kept = []
    monkeypatch.setattr(bridge_fuzz, "_GROWTH_LIMIT_BYTES", 200_000)
    original = Conversation.receive
    monkeypatch.setattr(Conversation, "receive", lambda self, timeout: kept.append(r := original(self, timeout)) or r)
    with pytest.raises(AssertionError, match="memory grew"):
        fuzz(1_000_000, seed=1)


def test_faults_that_are_kept_are_bounded():
    link = Fed()
    conversation = Conversation(link, Recorder(Path("unused"), capacity_bytes=0))
    frame = encode_frame(FaultReport(1, 2, 3), 0)
    link.data = frame * 5000
    assert len(conversation.receive(0.0)) == 5000
    assert conversation.faults == [FaultReport(1, 2, 3)] * 1000


def test_reference_is_an_independent_one():
    """It finds the check value of the CRC, and takes what the other side encodes."""
    assert slow_decode(b"\x03\x11\x22\x02\x33") == b"\x11\x22\0\x33"
    assert slow_decode(b"\x05\x01") is None
    message = Acknowledge(1, 2, 3)
    assert Reference(encode_frame(message, 9)).messages == [encode_body(message, 9)]
    assert slow_crc16(b"") == 0xFFFF ^ SCHEMA_HASH
