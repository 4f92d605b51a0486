import functools
import json
import subprocess
import sys

import pytest
from fake_device import FakeDevice, frame_at
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_bridge.config import Replay, Run
from firmware_bridge.errors import BridgeError, LogError, MismatchError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.log_file import LogFile
from firmware_bridge.logs.read_log import LogReader
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.loop.host_policy import CBackend, CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.replay.replay import replay
from firmware_bridge.run import run
from hardware.protocol import Observation


def _run(policy_folder, log, **options):
    """One run of 2 s; `device` options go to the fake device."""
    device_options = options.pop("device", {})
    with FakeDevice(open_policy_folder(policy_folder).digest, **device_options) as device:
        outcome = run(Run(port=device.path, policy=policy_folder, log=log, **{"duration_s": 2.0, **options}))
    assert outcome.error is None
    return outcome.result


def _rewrite(path, records):
    """A complete log of these (topic, data), with right checksums and numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = LogFile(path)
    for number, (topic, data) in enumerate(records):
        file.add(topic, number, data, number)
    file.finish()
    return path


def _records(log):
    return [(record.topic, record.data) for record in LogReader(log)]


@pytest.fixture(scope="module")
def recorded(policy_folder, tmp_path_factory):
    log = tmp_path_factory.mktemp("recorded")
    _run(policy_folder, log)
    return log


def _noisy(since, message, frame):
    """Damage, noise, losses, a longer gap, and an echo of our own message type, at fixed ticks."""
    if not isinstance(message, Observation):
        return frame
    if since in (20, 60):
        return frame[:10] + bytes([frame[10] ^ 0x55 or 1]) + frame[11:]
    if since in (30, 45, 46, 47):
        return None
    return b"\x05noise\x00" + frame if since == 50 else frame


@pytest.mark.parametrize("mode", ["host", "device", "shadow"])
@pytest.mark.parametrize("noisy", [False, True])
def test_log_replays_to_the_same_frames_errors_and_actions(mode, noisy, policy_folder, tmp_path):
    folder = open_policy_folder(policy_folder)
    state = {}

    def device_action(tick):
        backend = state.setdefault("backend", CsrBackend(folder))
        return backend.step(frame_at(tick))

    result = _run(
        policy_folder,
        tmp_path,
        mode=mode,
        device={"device_action": device_action, **({"mangle": _noisy} if noisy else {})},
    )
    answer = replay(Replay(log=tmp_path, policy=policy_folder, backend="c"))
    assert answer["difference"] is None
    assert answer["complete"]
    assert answer["frames_skipped"] == 0
    # Six observations never came, and after the gap of three the ring is refilled with three more.
    assert answer["actions_skipped"] == (9 if noisy and mode != "host" else 0)
    assert answer["frames_received"] > 200
    # How many records they are depends on what comes in one read.
    assert 5 <= answer["errors_compared"] <= 12 if noisy else answer["errors_compared"] == 0
    assert answer["host_actions"] == (result["latency_us"]["n"] if mode != "device" else 0)
    assert (answer["device_actions"] > 80) == (mode != "host")
    assert answer["largest_difference"] < 1e-4


def test_other_backend_is_compared_with_a_tolerance(recorded, policy_folder):
    same = replay(Replay(log=recorded, policy=policy_folder, backend="csr"))
    assert (same["difference"], same["largest_difference"]) == (None, 0.0)
    answer = replay(Replay(log=recorded, policy=policy_folder, backend="onnx"))
    assert answer["difference"] is None
    assert 0 < answer["largest_difference"] < 1e-4
    strict = replay(Replay(log=recorded, policy=policy_folder, backend="onnx", tolerance=0.0))
    assert strict["difference"]["where"] == "/host_action"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_mutated_byte_of_the_wire_is_found(data, recorded, tmp_path):
    records = _records(recorded)
    raw = [index for index, (topic, _) in enumerate(records) if topic.startswith("/raw/")]
    index = data.draw(st.sampled_from(raw))
    topic, content = records[index]
    position = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[position] ^= data.draw(st.integers(1, 255))
    records[index] = (topic, bytes(changed))
    answer = replay(Replay(log=_rewrite(tmp_path / "run.mcap", records)))
    assert answer["difference"]["where"] == topic.removeprefix("/raw/")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_mutated_field_missing_and_extra_record_is_found(data, recorded, tmp_path):
    records = _records(recorded)
    wire = {topic.name for topic in log_topics.MESSAGE_TOPICS.values()}
    index = data.draw(st.sampled_from([index for index, (topic, _) in enumerate(records) if topic in wire]))
    kind = data.draw(st.sampled_from(["field", "missing", "twice"]))
    topic, content = records[index]
    value = json.loads(content)
    if kind == "field":
        key = data.draw(st.sampled_from([key for key in value if isinstance(value[key], int | float)]))
        value[key] = value[key] + 1
        records[index] = (topic, json.dumps(value).encode())
    elif kind == "missing":
        del records[index]
    else:
        records.insert(index, records[index])
    answer = replay(Replay(log=_rewrite(tmp_path / "run.mcap", records)))
    difference = answer["difference"]
    assert difference is not None
    if kind == "field":
        assert difference["field"] == key
        assert difference["expected"] == difference["got"] + 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.05, 0.999))
def test_log_cut_anywhere_replays_up_to_there(share, recorded, tmp_path):
    whole = (recorded / "run.mcap").read_bytes()
    path = tmp_path / "run.mcap"
    path.write_bytes(whole[: int(share * len(whole))])
    try:
        answer = replay(Replay(log=path))
    except LogError:  # not one chunk is left
        return
    assert answer["difference"] is None
    assert not answer["complete"]


def test_log_that_ends_between_any_two_records_replays_up_to_there(recorded, policy_folder, tmp_path):
    records = _records(recorded)
    for end in range(2, 80):
        path = _rewrite(tmp_path / "run.mcap", records[:end])
        path.write_bytes(path.read_bytes()[:-8])  # the end mark
        answer = replay(Replay(log=path, policy=policy_folder, backend="csr"))
        assert answer["difference"] is None, end


def test_damaged_file_is_a_difference(recorded, tmp_path):
    whole = bytearray((recorded / "run.mcap").read_bytes())
    whole[whole.index(b"zstd", whole.index(b"zstd") + 4) + 40] ^= 1  # in the second chunk; the first is the session
    path = tmp_path / "run.mcap"
    path.write_bytes(whole)
    assert replay(Replay(log=path))["difference"]["where"] == "file"


def test_changed_action_names_tick_got_and_expected(recorded, policy_folder, tmp_path):
    records = _records(recorded)
    places = [index for index, (topic, _) in enumerate(records) if topic == "/host_action"]
    topic, content = records[places[40]]
    value = json.loads(content)
    records[places[40]] = (topic, json.dumps({**value, "action": value["action"] + 1e-5}).encode())
    answer = replay(Replay(log=_rewrite(tmp_path / "run.mcap", records), policy=policy_folder, backend="c"))
    difference = answer["difference"]
    assert (difference["where"], difference["field"]) == ("/host_action", "action")
    assert difference["tick"] == value["observation_tick"]
    assert difference["got"] == value["action"]
    assert answer["host_actions"] == 41


def test_changed_error_count_is_found(policy_folder, tmp_path):
    _run(policy_folder, tmp_path / "a", device={"mangle": _noisy})
    records = _records(tmp_path / "a")
    place = [index for index, (topic, _) in enumerate(records) if topic == "/link_errors"][3]
    value = json.loads(records[place][1])
    records[place] = ("/link_errors", json.dumps({**value, "rejected": value["rejected"] + 1}).encode())
    difference = replay(Replay(log=_rewrite(tmp_path / "b" / "run.mcap", records)))["difference"]
    assert difference["field"] == "link errors"
    assert difference["expected"]["rejected"] == difference["got"]["rejected"] + 1


@pytest.fixture(scope="module")
def rotated(policy_folder, tmp_path_factory):
    log = tmp_path_factory.mktemp("rotated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("firmware_bridge.session.Recorder", functools.partial(Recorder, flush_interval_s=0.02))
        _run(policy_folder, log, log_rotate_minutes=0.001, device={"pace_s": 0.002, "mangle": _noisy})
    assert len(list(log.glob("run.*.mcap"))) >= 3
    return log


def test_rotated_log_replays_as_one(rotated, policy_folder):
    answer = replay(Replay(log=rotated, policy=policy_folder, backend="c"))
    assert (answer["difference"], answer["frames_skipped"], answer["actions_skipped"]) == (None, 0, 0)
    assert answer["parts"] >= 4
    assert answer["errors_compared"] >= 5


def test_later_part_replays_alone_from_the_first_message_that_both_sides_have(rotated, policy_folder):
    compared = 0
    for part in sorted(rotated.glob("run.0*.mcap")):
        answer = replay(Replay(log=part, policy=policy_folder, backend="c"))
        assert answer["difference"] is None, part
        assert answer["frames_skipped"] <= 8
        compared += answer["host_actions"]
    assert compared > 20


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(100, 400), length=st.integers(1, 60))
def test_dropped_records_are_skipped_not_reported(start, length, recorded, policy_folder, tmp_path):
    records = _records(recorded)
    hole = records[start : start + length]
    markers = [
        ("/dropped", json.dumps({"topic": name, "count": sum(topic == name for topic, _ in hole), "total": 1}).encode())
        for name in sorted({topic for topic, _ in hole})
    ]
    path = _rewrite(tmp_path / "run.mcap", [*records[:start], *markers, *records[start + length :]])
    answer = replay(Replay(log=path, policy=policy_folder, backend="csr"))
    assert answer["difference"] is None
    assert answer["frames_skipped"] <= 16
    assert answer["frames_received"] > 100


def test_reconnection_starts_the_parser_anew(recorded, tmp_path):
    records = _records(recorded)
    session, rest = records[0], records[1:]
    # Half a frame hangs in the first connection's parser when the second begins.
    first = [*rest, ("/raw/received", b"\x05abc")]
    answer = replay(Replay(log=_rewrite(tmp_path / "run.mcap", [session, *first, *rest])))
    alone = replay(Replay(log=recorded))
    assert answer["difference"] is None
    assert answer["frames_received"] == 2 * alone["frames_received"]


def test_other_policy_and_other_protocol_are_refused(recorded, make_policy, tmp_path):
    with pytest.raises(MismatchError, match="was made with policy"):
        replay(Replay(log=recorded, policy=make_policy(7)))
    records = _records(recorded)
    session = json.loads(records[0][1])
    records[0] = ("/session", json.dumps({**session, "schema_hash": 1}).encode())
    with pytest.raises(MismatchError, match="have schema 1, this version's"):
        replay(Replay(log=_rewrite(tmp_path / "run.mcap", records)))
    with pytest.raises(BridgeError, match="--tolerance"):
        Replay(log=recorded, tolerance=-1.0)


def test_number_that_no_wire_carries_is_one_line(recorded, policy_folder, tmp_path):
    records = _records(recorded)
    place = [index for index, (name, _) in enumerate(records) if name == "/observation"][30]
    value = json.loads(records[place][1])
    records[place] = ("/observation", json.dumps({**value, "current": [1e300, 0.0, 0.0, 1.0, 0.0]}).encode())
    log = _rewrite(tmp_path / "run.mcap", records)
    with pytest.raises(LogError, match="a record of /observation holds a number that the wire cannot carry") as caught:
        replay(Replay(log=log, policy=policy_folder, backend="c"))
    assert "\n" not in str(caught.value)


def test_exit_code_says_whether_there_was_a_difference(recorded, tmp_path):
    records = _records(recorded)
    place = next(index for index, (topic, _) in enumerate(records) if topic == "/observation")
    value = json.loads(records[place][1])
    records[place] = ("/observation", json.dumps({**value, "flags": value["flags"] ^ 1}).encode())
    bad = _rewrite(tmp_path / "run.mcap", records)
    for log, code, word in ((recorded, 0, "none"), (bad, 1, "flags")):
        command = [sys.executable, "-m", "firmware_bridge", "replay", str(log)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, "")
        assert word in done.stdout
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert (json.loads(done.stdout)["difference"] is None) == (code == 0)


def test_c_backend_gives_the_bits_that_the_run_logged(recorded, policy_folder):
    folder = open_policy_folder(policy_folder)
    assert CBackend(folder).name == "c"
    answer = replay(Replay(log=recorded, policy=policy_folder, backend="c", tolerance=0.0))
    assert (answer["difference"], answer["largest_difference"], answer["host_actions"]) == (None, 0.0, 100)
