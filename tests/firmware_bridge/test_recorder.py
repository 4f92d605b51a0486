import errno
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.records import Chunk
from mcap.stream_reader import StreamReader

from firmware_bridge.errors import LogError, RecorderError, StopRequested
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.read_log import LogReader, number, read_log
from firmware_bridge.logs.record_pipe import HEADER
from firmware_bridge.logs.recorder import Recorder, launch_writer
from firmware_bridge.logs.write_failure import next_step
from hardware import protocol
from hardware.codec import body_size, encode_body

OBSERVATION = log_topics.MESSAGE_TOPICS[protocol.Observation]
RECORD_BYTES = HEADER.size + body_size(protocol.Observation)


def _observation(tick, x=0.0):
    return protocol.Observation(tick, tick * 20000, (x, 0.0, 0.0, -1.0, 0.0), (0.0,) * 5, 0.0, 2, 0, 1)


def _put(recorder, tick, x=0.0):
    recorder.put(OBSERVATION, time.monotonic_ns(), encode_body(_observation(tick, x), tick & 0xFFFF))


def _written_log(path, count=500):
    recorder = Recorder(path)
    recorder.start({"policy_digest": "ab" * 32})
    for tick in range(count):
        _put(recorder, tick)
        if tick % 100 == 0:
            recorder.pump()
            time.sleep(0.005)
    recorder.put(log_topics.RAW_RECEIVED, time.monotonic_ns(), b"\x01\x00\xff")
    recorder.close({"steps": count})
    return path


def test_round_trip_and_any_mcap_reader_opens_it(tmp_path):
    path = _written_log(tmp_path / "run.mcap")
    log = read_log(tmp_path, raw=True)
    assert log.complete
    assert log.session["policy_digest"] == "ab" * 32
    assert [value["tick"] for value in log.values("/observation")] == list(range(500))
    assert log.values("/observation")[3]["current"] == [0.0, 0.0, 0.0, -1.0, 0.0]
    assert log.result == {"steps": 500}
    assert log.topics["/raw/received"][0].value == b"\x01\x00\xff"
    with path.open("rb") as stream:
        first = next(iter(make_reader(stream).iter_messages(log_time_order=False)))
    assert first[1].topic == "/session"


def test_index_of_a_log_is_whole(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap", flush_interval_s=0.0)
    recorder.start({})
    for tick in range(50):
        _put(recorder, tick)
        recorder.put(log_topics.HOST_ACTION, time.monotonic_ns(), (tick, 0.5))
        recorder.pump()
    recorder.close({})
    with (tmp_path / "run.mcap").open("rb") as stream:
        summary = make_reader(stream).get_summary()
        stream.seek(0)
        chunks = [record for record in StreamReader(stream, emit_chunks=True).records if isinstance(record, Chunk)]
        stream.seek(0)
        messages = list(make_reader(stream).iter_messages(topics=["/host_action"]))
    assert len(summary.chunk_indexes) == summary.statistics.chunk_count == len(chunks) > 10
    for index, chunk in zip(summary.chunk_indexes, chunks, strict=True):
        assert index.compression == chunk.compression == "zstd"
        assert (index.message_start_time, index.message_end_time) == (chunk.message_start_time, chunk.message_end_time)
        assert (index.compressed_size, index.uncompressed_size) == (len(chunk.data), chunk.uncompressed_size)
    assert [json.loads(message.data)["observation_tick"] for _, _, message in messages] == list(range(50))


def test_not_a_number_is_null_in_the_file_and_nan_again_after_reading(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap")
    recorder.start({})
    _put(recorder, 1, math.nan)
    recorder.close()
    value = read_log(tmp_path).values("/observation")[0]["current"][0]
    assert value is None
    assert math.isnan(number(value))


def test_records_put_before_start_come_after_the_session_record(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap")
    _put(recorder, 7)
    assert not (tmp_path / "run.mcap").exists()
    recorder.start({"mode": "host"})
    recorder.close()
    log = read_log(tmp_path)
    assert log.session["mode"] == "host"
    assert log.values("/observation")[0]["tick"] == 7


def test_full_queue_drops_counts_by_topic_and_marks_the_hole(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap", capacity_bytes=10 * RECORD_BYTES + 8)
    for tick in range(25):
        _put(recorder, tick)
    recorder.put(log_topics.RAW_SENT, time.monotonic_ns(), b"1234")
    recorder.pump()
    assert recorder.dropped_by_topic == {"/observation": 15, "/raw/sent": 1}
    assert recorder.dropped == 16
    recorder.start({})  # from here on the pipe takes all of it
    _put(recorder, 99)
    recorder.close({})
    assert recorder.written == 15
    log = read_log(tmp_path)
    assert [value["tick"] for value in log.values("/observation")] == [*range(10), 99]
    holes = [(value["topic"], value["count"], value["total"]) for value in log.values("/dropped")]
    assert holes == [("/observation", 15, 15), ("/raw/sent", 1, 1)]
    # The hole is marked where it is, between the two observations.
    order = [record.topic for record in LogReader(tmp_path)]
    assert order[1:] == ["/observation"] * 10 + ["/dropped"] * 2 + ["/observation", "/result"]


def test_hole_at_the_very_end_is_marked_too(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap", capacity_bytes=0)
    recorder.start({})
    _put(recorder, 1)
    recorder.close({"steps": 0})
    log = read_log(tmp_path)
    assert [value["count"] for value in log.values("/dropped")] == [1]
    assert log.result == {"steps": 0}


def test_queue_is_bounded_in_bytes_whatever_the_records_are(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap", capacity_bytes=1_000_000)
    tracemalloc.start()
    for _ in range(200):
        recorder.put(log_topics.RAW_RECEIVED, time.monotonic_ns(), os.urandom(4096))
        recorder.pump()
    for tick in range(100_000):
        _put(recorder, tick, tick * 0.1)
        if recorder.crowded:
            recorder.pump()
    recorder.pump()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 500_000 < held < 1_100_000
    assert recorder.dropped > 90_000


def test_after_a_hole_half_of_the_queue_must_be_free(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap", capacity_bytes=10 * RECORD_BYTES + 4 * HEADER.size)
    for tick in range(11):
        _put(recorder, tick)
    recorder.pump()
    recorder._held_bytes -= 4 * RECORD_BYTES  # as if the pipe had taken four
    _put(recorder, 11)
    recorder.pump()
    assert recorder.dropped == 2
    recorder._held_bytes -= 2 * RECORD_BYTES
    _put(recorder, 12)
    recorder.pump()
    assert recorder.dropped == 2


def test_previous_log_is_kept(tmp_path):
    _written_log(tmp_path / "run.mcap", 5)
    _written_log(tmp_path / "run.mcap", 6)
    assert read_log(tmp_path).result == {"steps": 6}
    assert read_log(tmp_path / "run.previous.mcap").result == {"steps": 5}


def test_every_flush_is_readable(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap")
    recorder.start({})
    _put(recorder, 1)
    recorder.pump()
    deadline = time.monotonic() + 10
    while not (log := read_log(tmp_path)).values("/observation"):
        assert time.monotonic() < deadline, "a flushed record never became readable"
        time.sleep(0.05)
    assert not log.complete
    recorder.close()
    assert read_log(tmp_path).complete


@pytest.fixture(scope="module")
def whole_log(tmp_path_factory):
    return _written_log(tmp_path_factory.mktemp("whole") / "run.mcap").read_bytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_log_cut_anywhere_is_a_prefix_or_one_clear_error(whole_log, tmp_path_factory, data):
    end = data.draw(st.integers(0, len(whole_log) - 1))
    path = tmp_path_factory.getbasetemp() / "cut.mcap"
    path.write_bytes(whole_log[:end])
    try:
        log = read_log(path)
    except LogError:
        return
    ticks = [value["tick"] for value in log.values("/observation")]
    assert ticks == list(range(len(ticks)))
    assert not log.complete


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_byte_never_gives_a_traceback_or_a_wrong_value(whole_log, tmp_path_factory, data):
    position = data.draw(st.integers(0, len(whole_log) - 1))
    damaged = bytearray(whole_log)
    damaged[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.mcap"
    path.write_bytes(damaged)
    try:
        log = read_log(path)
    except LogError:
        return
    for value in log.values("/observation"):
        assert value["time_us"] == value["tick"] * 20000


def test_reading_what_is_no_log_names_it(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("this is not a log at all")
    with pytest.raises(LogError, match=r"notes\.txt: not an MCAP file"):
        read_log(other)
    with pytest.raises(LogError, match="no such file"):
        read_log(tmp_path / "missing.mcap")
    empty = tmp_path / "empty.mcap"
    empty.touch()
    with pytest.raises(LogError, match="no complete chunk"):
        read_log(empty)


def test_full_disk_at_start_leaves_the_logs_that_filled_it(tmp_path):
    files = {"run.mcap": b"good", "run.previous.mcap": b"older", "run-2.mcap": b"good, too"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for _ in range(2):
        process = launch_writer()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, 100))
        with pytest.raises(RecorderError, match=r"cannot write: File too large; .*; free space"):
            Recorder(tmp_path / "run.mcap", process=process).start({})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_empty_file_is_no_log_to_keep(tmp_path):
    (tmp_path / "run.mcap").touch()
    (tmp_path / "run.previous.mcap").write_bytes(b"good")
    recorder = Recorder(tmp_path / "run.mcap")
    recorder.start({})
    recorder.close()
    assert (tmp_path / "run.previous.mcap").read_bytes() == b"good"
    assert {path.name for path in tmp_path.iterdir()} == {"run.mcap", "run.previous.mcap"}


def _pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_pipe, "run.mcap is there and is no regular file"),
        (lambda path: path.symlink_to("/dev/full"), "run.mcap is there and is no regular file"),
        (lambda path: path.mkdir(), "run.mcap is there and is no regular file"),
        (lambda path: path.symlink_to("nothing"), "run.mcap is a symbolic link to nothing"),
    ],
)
def test_what_is_no_regular_file_is_refused_and_left_alone(make, reason, tmp_path):
    make(tmp_path / "run.mcap")
    with pytest.raises(RecorderError, match=rf"{reason}; .*remove what is in the way"):
        Recorder(tmp_path / "run.mcap").start({})
    assert [path.name for path in tmp_path.iterdir()] == ["run.mcap"]


def test_stop_is_heard_while_the_disk_is_waited_for(tmp_path):
    process = launch_writer()
    process.send_signal(signal.SIGSTOP)  # as one that hangs in the kernel
    recorder = Recorder(tmp_path / "run.mcap", process=process)

    def stop():
        raise StopRequested.by_signal(signal.SIGINT)

    with pytest.raises(StopRequested):
        recorder.start({}, stop)
    recorder.close({"steps": 0})
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_log_that_is_deleted_or_renamed_while_it_is_written_is_an_error(tmp_path):
    for change in (lambda path: path.unlink(), lambda path: path.rename(tmp_path / "mine.mcap")):
        recorder = Recorder(tmp_path / "run.mcap")
        recorder.start({})
        change(tmp_path / "run.mcap")
        with pytest.raises(RecorderError, match=r"run\.mcap was deleted, renamed or replaced while it was written"):
            recorder.close({"steps": 1})
    assert read_log(tmp_path / "mine.mcap").result == {"steps": 1}


@pytest.mark.parametrize("said", ["Traceback (most recent call last):", "[1]", "\udcff"])
def test_writer_that_talks_nonsense_is_one_error(said, tmp_path):
    command = [sys.executable, "-c", f"import os; os.write(1, {said.encode(errors='surrogateescape')!r} + b'\\n')"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    with pytest.raises(RecorderError, match=r"its writer (said|ended)"):
        Recorder(tmp_path / "run.mcap", process=process).start({})


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EROFS, "permissions"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EEXIST, "remove what is in the way"),
        (errno.ENOTDIR, "remove what is in the way"),
        (errno.ELOOP, "mend the link"),
        (errno.EIO, "dmesg"),
        (None, "see whether the kernel ended it"),
    ],
)
def test_next_step_fits_the_reason(number, step):
    assert step in next_step(number)
    assert ("free space" in next_step(number)) == (number == errno.ENOSPC)


def test_disk_that_fills_up_is_reported_by_check_and_close(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap")
    recorder.start({})
    size = (tmp_path / "run.mcap").stat().st_size
    # From here on every write fails, as on a full disk.
    resource.prlimit(recorder._process.pid, resource.RLIMIT_FSIZE, (size, size))
    _put(recorder, 1)
    deadline = time.monotonic() + 10
    while not recorder._failure and time.monotonic() < deadline:
        recorder.put(log_topics.HOST_ACTION, time.monotonic_ns(), (1, 0.5))
        recorder.pump()
        time.sleep(0.02)
    with pytest.raises(RecorderError, match=r"run\.mcap: cannot write: File too large"):
        recorder.check()
    with pytest.raises(RecorderError, match="File too large"):
        recorder.close({"steps": 1})


def test_writer_that_is_killed_is_noticed(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap")
    recorder.start({})
    recorder._process.kill()
    recorder._process.wait()
    _put(recorder, 1)
    recorder.pump()
    with pytest.raises(RecorderError, match="its writer ended at once"):
        recorder.check()
    with pytest.raises(RecorderError, match="its writer ended at once"):
        recorder.close({"steps": 1})


def test_writer_that_hangs_blocks_nobody_and_nothing_is_lost_once_it_goes_on(tmp_path):
    recorder = Recorder(tmp_path / "run.mcap")
    recorder.start({})
    process = recorder._process
    process.send_signal(signal.SIGSTOP)
    for tick in range(4000):  # three times what the pipe holds
        _put(recorder, tick)
        recorder.put(log_topics.RAW_RECEIVED, time.monotonic_ns(), bytes(1024))
        recorder.pump()
    assert recorder.dropped == 0
    process.send_signal(signal.SIGCONT)
    recorder.close({"steps": 4000})
    log = read_log(tmp_path)
    assert [value["tick"] for value in log.values("/observation")] == list(range(4000))
    assert log.complete


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor only")
def test_processor_time_of_the_writer_is_told_where_it_has_no_processor_of_its_own(tmp_path):
    apart, together = Recorder(tmp_path / "a.mcap"), Recorder(tmp_path / "b.mcap")
    apart.start({})
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        together.start({})
    finally:
        os.sched_setaffinity(0, everywhere)
    assert apart.processor_ns() == 0
    assert together.processor_ns() > 0
    for recorder in (apart, together):
        recorder.close()
        assert recorder.processor_ns() == 0


def test_writer_that_was_launched_and_never_started_leaves_no_file(tmp_path):
    process = launch_writer()
    Recorder(tmp_path / "run.mcap", process=process).close()
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


_ENDLESS = """
import sys, time
from pathlib import Path
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.recorder import Recorder, launch_writer
recorder = Recorder(Path(sys.argv[1]))
recorder.start({"policy_digest": "00"})
tick = 0
while True:
    recorder.put(log_topics.HOST_ACTION, time.monotonic_ns(), (tick, 0.5))
    recorder.pump()
    tick += 1
    if tick == 300:
        print("going", flush=True)
    time.sleep(0.001)
"""


def test_log_of_a_killed_process_has_all_that_it_handed_over(tmp_path):
    path = tmp_path / "run.mcap"
    with subprocess.Popen([sys.executable, "-c", _ENDLESS, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 10
    while len(ticks := [value["observation_tick"] for value in read_log(path).values("/host_action")]) < 300:
        assert time.monotonic() < deadline, f"only {len(ticks)} of at least 300 records"
        time.sleep(0.05)
    assert not read_log(path).complete
    assert ticks == list(range(len(ticks)))
