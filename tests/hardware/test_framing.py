"""COBS, CRC and the incremental decoder: pinned values, round trips, hostile bytes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.codec import SCHEMA_HASH
from hardware.framing import (
    CRC_INITIAL,
    MAXIMUM_ENCODED_SIZE,
    FrameDecoder,
    SequenceCounter,
    cobs_decode,
    cobs_encode,
    crc16,
    encode_frame,
    frame_body,
)
from hardware.protocol import Disarm, Heartbeat


def test_crc_check_value_is_ccitt_false():
    assert crc16(b"123456789", 0xFFFF) == 0x29B1


def test_crc_starts_from_the_schema():
    assert CRC_INITIAL == 0xFFFF ^ SCHEMA_HASH
    assert crc16(b"x") != crc16(b"x", 0xFFFF)


def test_cobs_known_codes():
    # The examples of the COBS paper's block rules: empty, zeros, a full block of 254, and one byte more.
    assert cobs_encode(b"") == b"\x01"
    assert cobs_encode(b"\0") == b"\x01\x01"
    assert cobs_encode(b"\x11\x22\0\x33") == b"\x03\x11\x22\x02\x33"
    run = bytes(range(1, 255))
    assert cobs_encode(run) == b"\xff" + run
    assert cobs_encode(run + b"\xff") == b"\xff" + run + b"\x02\xff"
    assert cobs_encode(run + b"\0") == b"\xff" + run + b"\x01\x01"


@given(st.binary(max_size=700) | st.binary(max_size=300).map(lambda data: data.replace(b"\0", b"\1") * 2))
def test_cobs_round_trip(data):
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert len(encoded) <= len(data) + 1 + len(data) // 254
    assert cobs_decode(encoded) == data


def test_cobs_refuses_what_is_no_code():
    assert cobs_decode(b"\x05\x01\x02") is None  # block longer than the data
    assert cobs_decode(b"\x03\x01\x00") is None  # zero inside
    assert cobs_decode(b"\x02\x01\x00\x01") is None


@given(st.lists(st.binary(min_size=3, max_size=70), max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_chunks_do_not_matter(bodies, cuts):
    stream = b"".join(frame_body(body) for body in bodies)
    decoder, got, position = FrameDecoder(), [], 0
    for index in range(len(stream) + 1):
        size = cuts[index % len(cuts)]
        got += decoder.feed(stream[position : position + size])
        position += size
        if position >= len(stream):
            break
    assert got == bodies
    assert (decoder.frames, decoder.rejected) == (len(bodies), 0)


@settings(max_examples=300)
@given(st.binary(max_size=600), st.binary(max_size=600))
def test_hostile_bytes_never_raise_and_the_next_frame_is_right(noise, more):
    decoder = FrameDecoder()
    decoder.feed(noise)
    decoder.feed(more + b"\0")
    assert decoder.feed(frame_body(b"hello")) == [b"hello"]


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_corrupt_byte_loses_one_frame_only(position, flip):
    first = bytearray(encode_frame(Heartbeat(7, 9), 1))
    first[position % len(first)] ^= flip
    decoder = FrameDecoder()
    second, third = encode_frame(Disarm(0), 2), encode_frame(Disarm(1), 3)
    got = decoder.feed(bytes(first) + second + third)
    # A corrupt delimiter glues the first two together; the third is right in any case.
    assert got[-1] == cobs_decode(third[:-1])[:-2]
    assert decoder.rejected >= 1
    assert len(got) <= 2


def test_oversize_is_counted_once_and_bounded():
    decoder = FrameDecoder()
    for _ in range(100):
        assert decoder.feed(b"\xff" * 1000) == []
    assert decoder.oversize == 1
    assert len(decoder._pending) <= MAXIMUM_ENCODED_SIZE
    assert decoder.feed(b"\0" + frame_body(b"abc")) == [b"abc"]
    assert decoder.oversize == 1


def test_counts_by_kind():
    decoder = FrameDecoder()
    wrong = bytearray(frame_body(b"abcdef"))
    wrong[2] ^= 1
    decoder.feed(bytes(wrong) + b"\x09\x01\0" + b"\0\0\0" + b"\x01\0")
    assert (decoder.crc_errors, decoder.garbage, decoder.oversize, decoder.frames) == (1, 2, 0, 0)


def test_sequence_counter():
    counter = SequenceCounter()
    assert [counter.update(n) for n in (65533, 65534, 1, 1, 5)] == [0, 0, 2, 0, 3]
    assert (counter.lost, counter.duplicates, counter.restarts) == (5, 1, 0)
    # Overtaken, or come again: what has been seen stays seen.
    assert [counter.update(n) for n in (3, 65477, 6)] == [0, 0, 0]
    assert (counter.lost, counter.late, counter.restarts) == (5, 2, 0)
    # Further behind: the sender started again.
    assert [counter.update(n) for n in (65477, 65478, 65480)] == [0, 0, 1]
    assert (counter.lost, counter.late, counter.restarts) == (6, 2, 1)
