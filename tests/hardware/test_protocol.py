"""Messages as bytes: round trips over every message, sizes, refusals, and what the schema hash covers."""

import dataclasses
import math
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.codec import body_size, decode_body, encode_body, name_of, picker, schema_text, wire_fields
from hardware.errors import HardwareError, ProtocolError
from hardware.framing import encode_frame
from hardware.protocol import MESSAGES, STREAMED_FRAME_LIMIT, Command, Disarm, Hello, HelloReply, Observation, State

SCALARS = {
    "u8": st.integers(0, 0xFF),
    "u16": st.integers(0, 0xFFFF),
    "u32": st.integers(0, 0xFFFFFFFF),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "f32": st.floats(width=32, allow_nan=False),
}


def field_strategy(wire):
    if wire.ctype == "char":
        return st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=wire.count)
    if wire.count and wire.ctype == "u8":
        return st.binary(min_size=wire.count, max_size=wire.count)
    if wire.count:
        return st.tuples(*[SCALARS[wire.ctype]] * wire.count)
    return SCALARS[wire.ctype]


def message_strategy(kind):
    return st.builds(kind, **{name: field_strategy(wire) for name, wire in wire_fields(kind).items()})


any_message = st.one_of([message_strategy(kind) for kind in MESSAGES])


@given(any_message, st.integers(0, 0xFFFF))
def test_round_trip(message, sequence):
    body = encode_body(message, sequence)
    assert len(body) == body_size(type(message))
    assert decode_body(body) == (sequence, message)


@given(message_strategy(Observation))
def test_picked_fields_are_those_of_the_message(message):
    size, pick = picker(Observation, "tick", "current", "state", "previous")
    body = encode_body(message, 7)
    assert size == len(body)
    assert pick(body) == (message.tick, message.current, message.state, message.previous)


def test_layout_is_little_endian_and_packed():
    body = encode_body(Command(session=0x01020304, observation_tick=0x0A0B0C0D, action=-1.5), 0x1122)
    assert body == bytes.fromhex("05 2211 04030201 0d0c0b0a") + struct.pack("<f", -1.5)


def test_types_are_unique_and_streamed_messages_fit_one_packet():
    assert len({kind.TYPE for kind in MESSAGES}) == len(MESSAGES)
    for kind in MESSAGES:
        if kind.STREAMED:
            assert body_size(kind) + 2 + 1 + 1 <= STREAMED_FRAME_LIMIT, kind


def test_device_types_tell_the_direction():
    # Host messages have neither high bit, device messages one, plant messages the top bit: one UART can carry all.
    high = {"host>device": 0x00, "device>host": 0x40, "plant>device": 0x80, "device>plant": 0xC0}
    assert {kind: kind.TYPE & 0xC0 for kind in MESSAGES} == {kind: high[kind.ROUTE] for kind in MESSAGES}


def test_nan_travels():
    _, message = decode_body(encode_body(Command(1, 2, math.nan), 0))
    assert math.isnan(message.action)


@pytest.mark.parametrize(
    "message",
    [
        Hello(256, 0),
        Disarm(-1),
        Command(1, 2, 1e39),
        Observation(1, 2, (0.0,) * 4, (0.0,) * 5, 0.0, 0, 0, 0),
        HelloReply(1, 0, 0, 0, 20000, 5, 5, b"short", "host", 20.0, 0, 0),
        HelloReply(1, 0, 0, 0, 20000, 5, 5, bytes(32), "a name of more than 16", 20.0, 0, 0),
        HelloReply(1, 0, 0, 0, 20000, 5, 5, bytes(32), "plät", 20.0, 0, 0),
    ],
)
def test_what_does_not_fit_is_refused_by_name(message):
    with pytest.raises(ProtocolError, match=type(message).__name__) as caught:
        encode_frame(message, 0)
    assert isinstance(caught.value, HardwareError)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=100))
def test_decode_raises_nothing_else(body):
    known = {kind.TYPE: body_size(kind) for kind in MESSAGES}
    if body and known.get(body[0]) == len(body):
        assert isinstance(decode_body(body)[1], MESSAGES)
    else:
        with pytest.raises(ProtocolError, match="expected"):
            decode_body(body)


def test_schema_text_names_every_field_and_unit():
    text = schema_text()
    for kind in MESSAGES:
        assert kind.__name__ in text
        assert all(f"{field.name}:" in text for field in dataclasses.fields(kind))
    assert "m/s^2" in text
    assert "State.BRAKING=3" in text


def test_name_of_survives_any_value():
    assert name_of(State, 2) == "ARMED"
    assert name_of(State, 77) == "unknown 77"


def test_the_wire_needs_no_simulator():
    # The bridge's base install has neither mujoco nor gymnasium: importing the wire must not need them.
    code = (
        "import sys; sys.modules['mujoco'] = None; sys.modules['gymnasium'] = None; sys.modules['numpy'] = None\n"
        "import hardware.protocol, hardware.framing, hardware.codec"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
