"""One direction of the fault proxy: the same faults however the bytes are split, and counts that add up."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.errors import BridgeError
from firmware_bridge.faults.plan import Direction, FaultPlan, FaultRates, Moment
from firmware_bridge.faults.script import RATE_KINDS, ScriptedFault, read_script
from firmware_bridge.faults.stream import FaultStream
from hardware.framing import FrameDecoder, encode_frame
from hardware.protocol import Arm, Command, Config, Heartbeat, Hello

FRAMES = [
    encode_frame(message, sequence)
    for sequence, message in enumerate(
        [Hello(2, 9), Config(1, 0, 2, 0), Arm(1, 2), *(Command(77, tick, tick / 8 - 5) for tick in range(60))]
    )
]
EVERYTHING = FaultRates(**dict.fromkeys(RATE_KINDS, 0.15), jitter_s=0.005)


def stream_of(rates=EVERYTHING, seed=1, script=(), direction=Direction.TO_DEVICE):
    return FaultStream(FaultPlan(direction, seed, rates, tuple(script)))


def carried(stream, pieces, connection=0, period=None):
    return [stream.forward(frame, connection, period) for piece in pieces for frame in stream.cut(piece)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(0, 2**31), st.binary(max_size=80))
def test_splits_of_reads_change_nothing(cuts, seed, noise):
    data = b"".join(FRAMES[:20]) + noise + b"\0" + b"".join(FRAMES[20:])
    pieces, position = [], 0
    while position < len(data):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(data[position : position + size])
        position += size
    split, whole = stream_of(seed=seed), stream_of(seed=seed)
    assert carried(split, pieces) == carried(whole, [data])
    assert split.counters == whole.counters


def test_another_seed_connection_direction_or_phase_has_other_faults():
    def out(seed=1, connection=0, period=None, direction=Direction.TO_DEVICE):
        stream = stream_of(seed=seed, direction=direction)
        return b"".join(each.data for each in carried(stream, FRAMES, connection, period))

    several = [out(), out(seed=2), out(connection=1), out(period=3), out(direction=Direction.TO_HOST)]
    assert len(set(several)) == len(several)
    assert out() == out()


def test_a_frame_more_of_one_kind_leaves_the_fates_of_the_others():
    """A bridge that asks once more because it waited on its own clock gets the same armed run."""
    plan = FaultPlan(Direction.TO_DEVICE, 5, EVERYTHING, ())
    fates = [plan.fate(Moment(0, "Command", 7, frame_index, 0, 3)) for frame_index in range(5)]
    assert len(set(fates)) == 1


def test_rates_are_what_they_say():
    plan = FaultPlan(Direction.TO_HOST, 0, FaultRates(drop=0.01, corrupt=0.005, jitter_s=0.005), ())
    fates = [plan.fate(Moment(0, "Observation", 1, 0, 0, index)) for index in range(100_000)]
    for kind, expected in (("drop", 1000), ("corrupt", 500)):
        assert sum(kind in fate.kinds for fate in fates) == pytest.approx(expected, abs=4 * expected**0.5)
    assert not any(fate.kinds - {"drop", "corrupt"} for fate in fates)
    delays = [fate.delay_s for fate in fates]
    assert 0.0 <= min(delays) < 1e-6 < 0.004999 < max(delays) < 0.005
    assert sum(delays) / len(delays) == pytest.approx(0.0025, rel=0.01)
    both = sum({"drop", "corrupt"} <= fate.kinds for fate in fates)
    assert 0 < both < 20  # independent: 5 are expected


def test_no_faults_change_no_byte():
    stream = stream_of(FaultRates())
    passages = carried(stream, FRAMES)
    assert [passage.data for passage in passages] == FRAMES
    assert [len(passage.arrived) for passage in passages] == [1] * len(FRAMES)


@pytest.mark.parametrize("kind", RATE_KINDS)
def test_each_kind_does_what_it_says(kind):
    stream = stream_of(FaultRates(**{kind: 1.0}))
    passages = carried(stream, FRAMES)
    counted = getattr(stream.counters, kind)
    whole = b"".join(passage.data for passage in passages)
    commands = len(FRAMES) - 3
    assert counted == {"replay": len(FRAMES) - 1, "foreign": commands}.get(kind, len(FRAMES))
    assert stream.counters.bytes_out == len(whole)
    got = FrameDecoder().feed(whole + b"\0")
    originals = [FrameDecoder().feed(frame)[0] for frame in FRAMES]
    if kind == "drop":
        assert whole == b""
    elif kind in ("corrupt", "truncate"):
        assert not set(got) & set(originals)
    elif kind == "duplicate":
        assert got == [body for body in originals for _ in range(2)]
    elif kind == "reorder":
        assert got != originals
        assert set(got) <= set(originals)
        stream.restart()
        assert len(got) + stream.counters.lost_in_flight == len(originals)
    elif kind == "flood":
        assert len(whole) > sum(map(len, FRAMES)) + 100 * len(FRAMES)
        assert max(len(p.data) - len(f) for p, f in zip(passages, FRAMES, strict=True)) <= 1024
    else:
        assert [body for body in originals if body in got] == originals
        assert len(got) == len(originals) + counted
    # What the stream says that the receiver reads is what a receiver reads.
    receiver = FrameDecoder()
    assert [len(receiver.feed(passage.data)) for passage in passages] == [len(p.arrived) for p in passages]


def test_foreign_commands_have_the_tick_and_not_the_session():
    stream = stream_of(FaultRates(foreign=1.0))
    for session in (5, 6):
        (passage,) = carried(stream, [encode_frame(Command(session, 40, 2.0), 9)])
        (_, foreign), (_, own) = passage.arrived
        assert (own.session, own.action) == (session, 2.0)
        assert foreign.observation_tick == 40
        assert foreign.session not in (session, 0)
        assert foreign.action == -19.0
    assert foreign.session == 5  # of the session before, once there was one


def test_held_frames_die_with_their_connection():
    stream = stream_of(script=[ScriptedFault("reorder", index=0)], rates=FaultRates())
    assert carried(stream, FRAMES[:1])[0].data == b""
    stream.restart()
    assert stream.counters.lost_in_flight == 1
    out = b"".join(each.data for each in carried(stream, FRAMES[1:20], connection=1))
    assert FrameDecoder().feed(FRAMES[0])[0] not in FrameDecoder().feed(out)


def test_script_hits_what_it_names(tmp_path):
    path = tmp_path / "faults.toml"
    path.write_text(
        """
[[fault]]
kind = "drop"
direction = "to-device"
message = "Heartbeat"
period = 2
periods = 3

[[fault]]
kind = "duplicate"
index = 1
connection = 1
""",
        encoding="utf-8",
    )
    script = read_script(path)
    stream = stream_of(FaultRates(), script=script)
    beats = [encode_frame(Heartbeat(1, tick), tick) for tick in range(8)]
    got = [carried(stream, [frame], 0, None if tick == 0 else tick - 1) for tick, frame in enumerate(beats)]
    assert [bool(passage.data) for (passage,) in got] == [True, True, True, False, False, False, True, True]
    other = stream_of(FaultRates(), script=script, direction=Direction.TO_HOST)
    assert all(passage.data for passage in carried(other, beats, 0, 2))
    other.restart()
    assert [len(each.arrived) for each in carried(other, beats, 1)] == [1, 2, *[1] * 6]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[fault]]\nkind = 'drop'", "exactly one of period and index"),
        ("[[fault]]\nkind = 'drop'\nindex = 1\nperiod = 1", "exactly one of period and index"),
        ("[[fault]]\nkind = 'melt'\nindex = 1", "kind is 'melt', expected one of drop"),
        ("[[fault]]\nkind = ['drop']\nindex = 1", "kind is"),
        ("[[fault]]\nindex = 1", "kind is None"),
        ("[[fault]]\nkind = 'drop'\nindex = -1", "index is -1, expected a whole number"),
        ("[[fault]]\nkind = 'drop'\nindex = true", "index is True"),
        ("[[fault]]\nkind = 'drop'\nindex = 1.5", "index is 1.5"),
        ("[[fault]]\nkind = 'drop'\nindex = 1\nperiods = 0", "periods is 0"),
        ("[[fault]]\nkind = 'drop'\nindex = 1\nmessage = 'Sensors'", "message is 'Sensors'"),
        ("[[fault]]\nkind = 'drop'\nindex = 1\ndirection = 'up'", "direction is 'up'"),
        ("[[fault]]\nkind = 'drop'\nindex = 1\nwhen = 3", "unknown key 'when'"),
        ("[faults]\nx = 1", "got faults, expected nothing but"),
        ("fault = 3", "got fault, expected nothing but"),
        ("fault = [3]", "got 3, expected a"),
        ("not toml", "not TOML"),
        ("x = " + "[" * 100_000, "not TOML"),
    ],
)
def test_wrong_scripts_are_refused_in_one_line(text, says, tmp_path):
    path = tmp_path / "faults.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BridgeError) as caught:
        read_script(path)
    message = str(caught.value)
    assert says in message
    assert str(path) in message
    assert "\n" not in message


def test_missing_or_huge_scripts_are_refused(tmp_path):
    with pytest.raises(BridgeError, match="cannot be read"):
        read_script(tmp_path / "nothing")
    (tmp_path / "huge").write_bytes(b"#" * 1_000_001)
    with pytest.raises(BridgeError, match="expected at most"):
        read_script(tmp_path / "huge")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(BridgeError, match="not TOML"):
        read_script(tmp_path / "bytes")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_rates_that_are_no_shares_are_refused(value):
    with pytest.raises(BridgeError, match="expected a share"):
        FaultRates(drop=value)
    with pytest.raises(BridgeError, match="jitter-ms"):
        FaultRates(jitter_s=value * 100 - 10)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=300), max_size=30))
def test_memory_is_bounded_and_nothing_raises_whatever_comes(pieces):
    stream = stream_of()
    for piece in [*pieces, b"\x01" * 5000]:
        carried(stream, [piece])
        assert len(stream._pending) <= 1024
    assert sum(map(len, pieces)) + 5000 == stream.counters.bytes_in


def test_a_script_that_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(BridgeError, match="not a regular file"):
        read_script(tmp_path / "pipe.toml")
