import csv
import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from firmware_bridge.config import Export
from firmware_bridge.errors import BridgeError, LogError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.export_log import export_log
from firmware_bridge.logs.log_file import LogFile
from firmware_bridge.logs.read_log import LogReader
from firmware_bridge.logs.recorder import Recorder
from hardware import protocol
from hardware.codec import encode_body

THIRD, TINY = float(np.float32(1 / 3)), float(np.float32(1e-30))  # what the wire carries
NAMES = ["x [m]", "x' [m/s]", "sin", "cos", "theta' [rad/s]"]


@pytest.fixture
def log(tmp_path):
    """Every kind of record once or more, with numbers that are not finite and awkward text."""
    recorder = Recorder(tmp_path / "log" / "run.mcap")
    recorder.start({"observation_names": NAMES})
    for tick in range(20_000):
        frame = (0.1 * tick, math.nan if tick == 3 else 0.25, -0.0, math.inf, TINY)
        observation = protocol.Observation(tick, tick * 20000, frame, frame, THIRD, 2, 0, 1)
        topic = log_topics.MESSAGE_TOPICS[protocol.Observation]
        recorder.put(topic, time.monotonic_ns(), encode_body(observation, tick))
    recorder.put(log_topics.EVENT, time.monotonic_ns(), ("armed", 'comma, "quote"\nnew line, ü'))
    recorder.put(log_topics.RAW_RECEIVED, time.monotonic_ns(), b"\x00\xff\x10")
    recorder.close({"steps": 3})
    return tmp_path / "log"


def _rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_units_spread_arrays_and_every_number(log, tmp_path):
    result = export_log(Export(log=log, csv=tmp_path / "out"))
    assert result["complete"]
    rows = _rows(tmp_path / "out" / "observation.csv")
    head = [f"{key}.{name}" for key in ("current", "previous") for name in NAMES]
    assert list(rows[0]) == [
        *("record", "log_time_ns", "time_s", "sequence", "tick [control periods]", "time_us", *head),
        *("applied_action [m/s^2]", "state", "fault", "flags"),
    ]
    records = [record for record in LogReader(log) if record.topic == "/observation"]
    assert len(rows) == len(records) == 20_000
    for row, record in zip(rows, records, strict=True):
        assert int(row["log_time_ns"]) == record.time_ns
        assert int(row["tick [control periods]"]) == record.value["tick"]
        assert float(row["current.x [m]"]) == record.value["current"][0]
        assert float(row["applied_action [m/s^2]"]) == THIRD
    assert rows[3]["current.x' [m/s]"] == "NaN"
    assert rows[0]["current.cos"] == "NaN"  # null in the log: infinity, which JSON cannot say
    assert float(rows[0]["previous.theta' [rad/s]"]) == TINY
    order = [int(row["record"]) for row in rows]
    assert order == sorted(order)
    event = _rows(tmp_path / "out" / "event.csv")[0]
    assert event["text"] == 'comma, "quote"\nnew line, ü'
    assert _rows(tmp_path / "out" / "raw_received.csv")[0]["data_hex"] == "00ff10"
    lines = (tmp_path / "out" / "result.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["value"] == {"steps": 3}
    assert not list((tmp_path / "out").glob(".*"))


def test_parquet_has_the_same_types_and_values(log, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export_log(Export(log=log, parquet=tmp_path / "out", csv=tmp_path / "csv"))
    table = parquet.read_table(tmp_path / "out" / "observation.parquet")
    rows = _rows(tmp_path / "csv" / "observation.csv")
    assert table.column_names == list(rows[0])
    assert table.num_rows == 20_000
    assert str(table.schema.field("tick [control periods]").type) == "int64"
    assert str(table.schema.field("current.sin").type) == "double"
    for name in table.column_names:
        ours = [float(row[name]) for row in rows]
        theirs = [float(value) for value in table[name].to_pylist()]
        assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(ours, theirs, strict=True)), name
    assert json.loads(table.schema.metadata[b"session"])["observation_names"] == NAMES
    raw = parquet.read_table(tmp_path / "out" / "raw_received.parquet")
    assert raw["data"].to_pylist() == [b"\x00\xff\x10"]
    assert (tmp_path / "out" / "session.jsonl").is_file()


def test_parquet_without_pyarrow_names_the_extra(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BridgeError, match=r"bayesian-policy-distillation\[parquet\]"):
        export_log(Export(log=log, parquet=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_cut_log_is_exported_up_to_the_cut(log, tmp_path):
    path = log / "run.mcap"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    result = export_log(Export(log=log, csv=tmp_path / "out"))
    assert not result["complete"]
    rows = _rows(tmp_path / "out" / "observation.csv")
    assert 0 < len(rows) < 20_000
    assert [int(row["tick [control periods]"]) for row in rows] == list(range(len(rows)))
    command = [sys.executable, "-m", "firmware_bridge", "export", str(log), "--csv", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cut off" in done.stdout


def _log_of(path, records):
    """A log of (topic, JSON) whose topics may be anything."""
    file = LogFile(path)
    session = {"format_version": log_topics.FORMAT_VERSION, "observation_names": [3]}
    for number, (topic, value) in enumerate([("/session", session), *records]):
        if topic not in file._channels:
            file._channels[topic] = file._writer.register_channel(topic, "json", 0)
        file.add(topic, number, json.dumps(value).encode(), number)
    file.finish()
    return path


def test_failure_leaves_earlier_tables_and_no_rubbish(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "event.csv").write_text("earlier")
    bad = _log_of(tmp_path / "bad.mcap", [("/event", {"kind": "a", "text": "b"}), ("/event", {"kind": 3})])
    with pytest.raises(LogError, match="a record of /event"):
        export_log(Export(log=bad, csv=out))
    assert [path.name for path in out.iterdir()] == ["event.csv"]
    assert (out / "event.csv").read_text() == "earlier"


def test_topics_cannot_leave_the_folder_or_overwrite_one_another(tmp_path):
    log = _log_of(tmp_path / "a.mcap", [("/../../etc/passwd", {"a": 1}), ("..", {"a": 1})])
    result = export_log(Export(log=log, csv=tmp_path / "deep" / "out"))
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == [
        "_.jsonl",
        "_etc_passwd.jsonl",
        "session.jsonl",
    ]
    assert len(result["files"]) == 3
    log = _log_of(tmp_path / "b.mcap", [("/a/b", {}), ("/a.b", {})])
    with pytest.raises(LogError, match="would both go into a_b"):
        export_log(Export(log=log, csv=tmp_path / "out"))
    log = _log_of(tmp_path / "c.mcap", [(f"/topic{number}", {}) for number in range(300)])
    with pytest.raises(LogError, match="more than 200 topics"):
        export_log(Export(log=log, csv=tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(BridgeError, match="neither --csv nor --parquet"):
        Export(log=tmp_path)


def test_full_disk_is_one_line(log, tmp_path):
    command = [sys.executable, "-m", "firmware_bridge", "export", str(log), "--csv", str(tmp_path / "out")]
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
