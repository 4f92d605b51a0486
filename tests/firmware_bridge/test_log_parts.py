import dataclasses
import errno
import time

import pytest
from mcap.reader import make_reader

from firmware_bridge.config import Run
from firmware_bridge.errors import BridgeError, LogError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.log_file import LogFile
from firmware_bridge.logs.log_writer import LogWriter
from firmware_bridge.logs.parts import delete_oldest, retire_connections
from firmware_bridge.logs.read_log import LogReader, read_log
from firmware_bridge.logs.record_pipe import LogSettings, Rotation
from firmware_bridge.logs.recorder import Recorder


def _write(path, count=40, rotation=None):
    """A log of `count` host actions, looked at for rotation after every one."""
    recorder = Recorder(path, rotation=rotation, flush_interval_s=0.0)
    recorder.start({"mode": "host"})
    for tick in range(count):
        recorder.put(log_topics.HOST_ACTION, time.monotonic_ns(), (tick, tick * 0.5))
        recorder.pump()
    recorder.close({"steps": count})
    return recorder


def _small_parts(path):
    """Rotation after a few records: what a new file has already are the schemas."""
    recorder = Recorder(path)
    recorder.start({"mode": "host"})
    size_bytes = path.stat().st_size
    recorder.close()
    return Rotation(size_bytes=size_bytes + 1000)


def _ticks(log):
    return [value["observation_tick"] for value in log.values("/host_action")]


@pytest.fixture
def rotated(tmp_path):
    rotation = _small_parts(tmp_path / "scratch" / "run.mcap")
    _write(tmp_path / "run.mcap", rotation=rotation)
    return tmp_path


def test_rotated_log_reads_as_one_and_every_part_opens_alone(rotated):
    parts = sorted(rotated.glob("*.mcap"))
    assert parts[-1].name == "run.mcap"
    assert parts[0].name == "run.0001.mcap"
    assert len(parts) >= 3
    log = read_log(rotated)
    assert log.complete
    assert _ticks(log) == list(range(40))
    assert (log.result, log.session["part"], len(log.values("/session"))) == ({"steps": 40}, 0, 1)
    alone = []
    for number, part in enumerate([parts[-1], *parts[:-1]]):
        with part.open("rb") as stream:
            first = next(iter(make_reader(stream).iter_messages(log_time_order=False)))
        assert first[1].topic == "/session"
        if number:
            log = read_log(part)
            assert (log.session["part"], log.session["mode"], log.complete) == (number, "host", True)
            alone += _ticks(log)
    assert alone == list(range(40))[-len(alone) :]


def test_rotation_by_time(tmp_path):
    _write(tmp_path / "run.mcap", 5, Rotation(interval_s=1e-9))
    assert len(list(tmp_path.glob("run.*.mcap"))) >= 5
    assert _ticks(read_log(tmp_path)) == list(range(5))


def test_rotated_log_keeps_so_many_files_and_says_what_went(tmp_path):
    _files(tmp_path, "run-2.mcap")  # nobody's: it is not this log's
    rotation = dataclasses.replace(_small_parts(tmp_path / "scratch" / "run.mcap"), keep_parts=3)
    _write(tmp_path / "run.mcap", 60, rotation)
    parts = sorted(tmp_path.glob("run.*.mcap"))
    assert len(parts) == 3
    assert not (tmp_path / "run.mcap").exists()
    log = read_log(tmp_path)
    ticks = _ticks(log)
    assert ticks == list(range(ticks[0], 60))
    assert ticks[0] > 0
    assert log.complete
    number = log.session["part"]
    assert parts[0].name == f"run.{number:04d}.mcap"
    oldest_but_two = f"run.{number - 3:04d}.mcap" if number > 3 else "run.mcap"
    assert log.values("/event")[0] == {"kind": "log", "text": f"deleted {oldest_but_two}: 3 files are kept"}


def test_every_record_is_stamped_by_one_clock(tmp_path):
    """Also what the writer adds: the computer's clock may be set while a log is written."""
    offset_ns = 10**15
    rotation = Rotation(interval_s=1e-9, keep_parts=2)
    before_ns = time.monotonic_ns()
    writer = LogWriter(LogSettings(tmp_path / "run.mcap", rotation, 0.0, offset_ns, {"mode": "host"}))
    for tick in range(5):
        packed = log_topics.HOST_ACTION.pack((tick, 0.5))
        writer.add(log_topics.HOST_ACTION, time.monotonic_ns(), packed)
        writer.flush_when_due()
    writer.finish()
    after_ns = time.monotonic_ns()
    topics = set()
    for part in tmp_path.iterdir():
        with part.open("rb") as stream:
            messages = list(make_reader(stream).iter_messages())
        topics |= {channel.topic for _, channel, _ in messages}
        stamps = [message.log_time for _, _, message in messages]
        assert before_ns + offset_ns <= min(stamps) <= max(stamps) <= after_ns + offset_ns
    assert topics >= {"/session", "/host_action", "/event"}


def test_part_that_a_full_disk_does_not_take_leaves_no_empty_file(tmp_path, monkeypatch):
    writer = LogWriter(LogSettings(tmp_path / "run.mcap", Rotation(interval_s=1e-9), 0.0, 0, {"mode": "host"}))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LogFile, "add", full)
    with pytest.raises(OSError, match="No space left"):
        writer.flush_when_due()
    writer.abandon()
    assert _names(tmp_path) == {"run.mcap"}


def test_first_parts_may_be_deleted_and_a_hole_ends_the_log(rotated):
    (rotated / "run.mcap").unlink()
    log = read_log(rotated)
    first = _ticks(log)[0]
    assert _ticks(log) == list(range(first, 40))
    (rotated / "run.0002.mcap").unlink()
    log = read_log(rotated)
    assert _ticks(log)[-1] < 39
    assert log.result is None


def test_part_of_another_log_is_not_read_on_with(rotated, tmp_path):
    other = tmp_path / "other"
    _write(other / "run.mcap", rotation=Rotation(size_bytes=1))
    (other / "run.0001.mcap").replace(rotated / "run.0001.mcap")
    log = read_log(rotated)
    assert (log.complete, log.cut) == (False, "run.0001.mcap belongs to another log")
    (rotated / "run.0001.mcap").write_bytes(b"")
    assert read_log(rotated).cut == "run.0001.mcap holds no complete chunk"


def test_part_cut_in_the_middle_says_that_later_ones_were_not_read(rotated):
    part = rotated / "run.0001.mcap"
    part.write_bytes(part.read_bytes()[:-200])
    reader = LogReader(rotated)
    ticks = [record.value["observation_tick"] for record in reader if record.topic == "/host_action"]
    assert ticks == list(range(len(ticks)))
    assert not reader.complete
    assert "run.0001.mcap" in reader.cut
    assert "not read" in reader.cut


def test_previous_log_is_kept_with_all_its_parts(rotated):
    before = _ticks(read_log(rotated))
    _write(rotated / "run.mcap", 3)
    assert _ticks(read_log(rotated)) == [0, 1, 2]
    assert _ticks(read_log(rotated / "run.previous.mcap")) == before
    _write(rotated / "run.mcap", 4)
    assert sorted(path.name for path in rotated.glob("*.mcap")) == ["run.mcap", "run.previous.mcap"]
    assert _ticks(read_log(rotated / "run.previous.mcap")) == [0, 1, 2]


def _files(folder, *names):
    for name in names:
        (folder / name).write_text(name)


def _names(folder):
    return {path.name for path in folder.iterdir()}


OTHERS = ("run.previous.mcap", "run.previous.0001.mcap", "run-2.previous.mcap", "run-notes.mcap", "rerun.mcap")


def test_oldest_files_of_all_connections_go_and_nothing_else(tmp_path):
    ours = ["run.mcap", "run.0001.mcap", "run.0002.mcap", "run-2.mcap", "run-2.0001.mcap", "run-10.mcap"]
    _files(tmp_path, *ours, *OTHERS)
    path = tmp_path / "run-10.mcap"
    assert delete_oldest(path, 0) == []
    assert delete_oldest(path, len(ours)) == []
    assert [file.name for file in delete_oldest(path, 3)] == ours[:3]
    assert _names(tmp_path) == {*ours[3:], *OTHERS}
    assert [file.name for file in delete_oldest(path, 1)] == ours[3:5]
    assert _names(tmp_path) == {"run-10.mcap", *OTHERS}


def test_the_file_being_written_stays_whatever_lies_beside_it(tmp_path):
    # Logs of later connections are another run's that nobody has renamed; ten thousand parts sort by number.
    _files(tmp_path, "run.mcap", "run.9999.mcap", "run.10000.mcap", "run-3.mcap", "run-3.0001.mcap")
    assert [file.name for file in delete_oldest(tmp_path / "run.mcap", 1)] == ["run.mcap", "run.9999.mcap"]
    assert _names(tmp_path) == {"run.10000.mcap", "run-3.mcap", "run-3.0001.mcap"}


def test_connections_are_retired_with_all_their_parts(tmp_path):
    _files(tmp_path, "run-2.mcap", "run-2.0001.mcap", "run-3.0004.mcap", "run-2.previous.0007.mcap", "run-notes.mcap")
    retire_connections(tmp_path)
    assert _names(tmp_path) == {
        *("run-2.previous.mcap", "run-2.previous.0001.mcap", "run-3.previous.0004.mcap", "run-notes.mcap")
    }
    assert (tmp_path / "run-2.previous.0001.mcap").read_text() == "run-2.0001.mcap"


def test_of_all_earlier_runs_only_the_previous_is_kept(tmp_path):
    """The run before had two connections, and rotation has deleted all of the first; the one before that had four."""
    older = ("run.previous.mcap", "run.previous.0001.mcap", "run-2.previous.mcap", "run-4.previous.0002.mcap")
    _files(tmp_path, *older, "run-2.0003.mcap", "run-notes.previous.mcap", "rerun.previous.mcap")
    retire_connections(tmp_path)
    kept = {"run-2.previous.0003.mcap", "run-notes.previous.mcap", "rerun.previous.mcap"}
    assert _names(tmp_path) == kept
    retire_connections(tmp_path)  # nothing was logged in between
    assert _names(tmp_path) == kept


def test_the_previous_runs_connections_go_with_it(tmp_path):
    _files(tmp_path, "run.mcap", "run.previous.mcap", "run-2.previous.mcap")
    retire_connections(tmp_path)
    assert _names(tmp_path) == {"run.mcap"}


@pytest.mark.parametrize(
    "option",
    [
        {"log_rotate_mb": -1.0},
        {"log_rotate_minutes": float("nan")},
        {"log_keep_parts": 1, "log_rotate_mb": 1.0},
        {"log_keep_parts": -2, "log_rotate_mb": 1.0},
        {"log_keep_parts": 9},
    ],
)
def test_rotation_that_cannot_be_is_refused(option, tmp_path):
    with pytest.raises(BridgeError, match=r"^--log-(rotate|keep-parts)"):
        Run(port="sim:", policy=tmp_path, log=tmp_path, **option)


def test_no_log_at_all_is_one_line(tmp_path):
    with pytest.raises(LogError, match=r"run\.mcap: no such file"):
        LogReader(tmp_path)


def test_folder_whose_first_connections_are_deleted_is_the_last_connections(rotated, capsys):
    for file in rotated.glob("*.mcap"):
        file.replace(rotated / file.name.replace("run", "run-6"))
    (rotated / "run-6.mcap").unlink()
    _files(rotated, "run-5.0002.mcap", "run-9.previous.mcap", "run-notes.mcap")
    assert read_log(rotated).path.name == "run-6.0001.mcap"
    said = capsys.readouterr().err
    assert "run.mcap was deleted, run-6.0001.mcap, of the last connection, is read" in said
    assert "logs of 2 connections" in said


def test_folder_without_a_runs_log_says_what_it_holds(tmp_path):
    _files(tmp_path, "run.previous.mcap", "notes.txt")
    with pytest.raises(LogError, match=rf"no such file; .*; {tmp_path} holds run\.previous\.mcap: name one"):
        LogReader(tmp_path)


def test_log_of_a_connection_that_came_to_nothing_is_replaced_and_no_other(tmp_path):
    _write(tmp_path / "run.mcap", 10, Rotation(interval_s=1e-9))
    (tmp_path / "run.previous.mcap").write_bytes(b"good")
    assert (tmp_path / "run.0003.mcap").exists()
    recorder = Recorder(tmp_path / "run.mcap")
    recorder.first_of_run = False
    recorder.start({})
    recorder.close({"steps": 7})
    assert _names(tmp_path) == {"run.mcap", "run.previous.mcap"}
    assert (tmp_path / "run.previous.mcap").read_bytes() == b"good"
    assert read_log(tmp_path).result == {"steps": 7}
