"""Logs from outside: one line each, and no more memory than a chunk."""

import io
import json
import struct
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer

from firmware_bridge.config import Report
from firmware_bridge.errors import LogError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.mcap_file import CHUNK_LIMIT_BYTES, MAGIC, McapFile
from firmware_bridge.logs.read_log import LogReader, read_log
from firmware_bridge.reports.report import make_report

SESSION = {"format_version": log_topics.FORMAT_VERSION, "period_us": 20000}


def _foreign(path, messages, schemas=None, compression=CompressionType.ZSTD, encoding="json"):
    """A well-formed MCAP file by the mcap package: (topic, value) each, value bytes or JSON."""
    ours = {topic.name: topic.schema for topic in log_topics.TOPICS if topic.schema}
    with path.open("wb") as stream:
        writer = Writer(stream, compression=compression)
        writer.start()
        channels = {}
        for number, (topic, value) in enumerate(messages):
            if topic not in channels:
                schema = {**ours, **(schemas or {})}.get(topic, {"type": "object"})
                text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
                channels[topic] = writer.register_channel(
                    topic, encoding, writer.register_schema(topic, "jsonschema", text)
                )
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            writer.add_message(channels[topic], number, data, number, number)
        writer.finish()
    return path


def _record(opcode, body):
    return struct.pack("<BQ", opcode, len(body)) + body


def _chunk(data, unpacked, compression=b"zstd", crc=0):
    head = struct.pack("<QQQII", 0, 0, unpacked, crc, len(compression)) + compression
    return _record(6, head + struct.pack("<Q", len(data)) + data)


def _one_line(path, match):
    with pytest.raises(LogError, match=match) as caught:
        for _ in LogReader(path):
            pass
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.NONE])
def test_what_the_mcap_package_writes_is_read(compression, tmp_path):
    path = _foreign(tmp_path / "a.mcap", [("/session", SESSION), ("/other", {"x": [1, {}]})], compression=compression)
    log = LogReader(path).read()
    assert log.complete
    assert log.values("/other") == [{"x": [1, {}]}]


def test_lz4_is_refused_by_name(tmp_path):
    _one_line(
        _foreign(tmp_path / "a.mcap", [("/session", SESSION)], compression=CompressionType.LZ4), "'lz4', expected"
    )


def test_foreign_file_is_one_line(tmp_path):
    _one_line(_foreign(tmp_path / "a.mcap", [("/camera/front", {"a": 1})]), "first record is of topic '/camera/front'")
    _one_line(_foreign(tmp_path / "b.mcap", [("/session", {"who": 3})]), "format version None")
    _one_line(_foreign(tmp_path / "c.mcap", [("/session", SESSION)], encoding="protobuf"), "'protobuf', expected json")
    _one_line(_foreign(tmp_path / "d.mcap", []), "holds no complete chunk")


_LATENCY = dict.fromkeys([f"{name}_ns" for name in ("receive", "decode", "infer", "encode", "write", "total")], 1)
_GOOD = {"/latency": {"observation_tick": 1, **_LATENCY}, "/event": {"kind": "a", "text": "b"}}


@pytest.mark.parametrize(
    ("topic", "change", "match"),
    [
        ("/latency", {"total_ns": "7"}, "'total_ns' is '7', expected integer"),
        ("/latency", {"total_ns": None}, "'total_ns' is None, expected integer"),
        ("/latency", {"total_ns": True}, "'total_ns' is True, expected integer"),
        ("/latency", {"total_ns": 10**30}, "expected integer"),
        ("/latency", {"total_ns": 1.5}, "'total_ns' is 1.5, expected integer"),
        ("/event", {"kind": ["x"]}, "expected string"),
    ],
)
def test_wrong_type_names_topic_field_and_value(topic, change, match, tmp_path):
    path = tmp_path / "a.mcap"
    _foreign(path, [("/session", SESSION), (topic, {**_GOOD[topic], **change})])
    _one_line(path, match)
    with pytest.raises(LogError, match=topic):
        make_report(Report(log=path))


@pytest.mark.parametrize(
    "text", [b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'{"observation_tick":1}', b"9" * 5000]
)
def test_record_that_is_not_the_object_it_should_be(text, tmp_path):
    _one_line(_foreign(tmp_path / "a.mcap", [("/session", SESSION), ("/latency", text)]), "a record of /latency")


@pytest.mark.parametrize(
    "schema",
    [
        b"{",
        b"[" * 50_000,
        {"properties": {"a": 3}},
        {"properties": {"a": {"type": "object"}}},
        {"properties": {"a": {"type": "array"}}},
        {"properties": {"a": {"type": "array", "items": {"type": "number"}, "minItems": 10**9}}},
        {"properties": {f"k{number}": {"type": "number"} for number in range(600)}},
    ],
)
def test_schema_that_makes_no_columns(schema, tmp_path):
    path = _foreign(tmp_path / "a.mcap", [("/session", SESSION), ("/x", {"a": 1})], schemas={"/x": schema})
    _one_line(path, "a record of /x")


@pytest.mark.parametrize("session", [{"config": [], "machine": 3, "policy_digest": {}}, {"period_us": "x"}, {}])
def test_session_of_any_shape_makes_a_report(session, tmp_path):
    messages = [("/session", {**SESSION, **session}), ("/result", {"faults": 3, "device_us": [], "latency_us": "x"})]
    path = _foreign(tmp_path / "a.mcap", messages)
    result = make_report(Report(log=path, html=tmp_path / "page.html"))
    assert result["steps"] == 0
    assert "<svg" in (tmp_path / "page.html").read_text()


def _peak_bytes(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_huge_lengths_take_no_memory(tmp_path):
    path = tmp_path / "a.mcap"
    bomb = zstandard.ZstdCompressor().compress(bytes(512 * 1024 * 1024))
    hostile = [
        _record(6, b"")[:-8] + struct.pack("<Q", 2**62),
        _chunk(bomb, 512 * 1024 * 1024),
        _chunk(bomb, 1000),  # says less than its own frame does
        _chunk(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 * 1024 * 1024)), 1000),
        _chunk(b"\x04" + struct.pack("<Q", 2**40), 9, b""),
        _record(4, struct.pack("<HHI", 1, 0, 2**31)),
        _record(3, struct.pack("<HI", 1, 2**31)),
    ]
    del bomb
    for content in hostile:
        path.write_bytes(MAGIC + content + b"\0" * 100)
        reader = McapFile(path)
        assert _peak_bytes(lambda file=reader: list(file)) < 2 * CHUNK_LIMIT_BYTES
        assert not reader.ending.complete
        assert reader.ending.reason


def test_file_that_unpacks_without_end_is_refused(tmp_path):
    path = tmp_path / "a.mcap"
    plain = _record(0x7F, bytes(CHUNK_LIMIT_BYTES - 9))  # an unknown record: skipped, but unpacked
    chunk = _chunk(zstandard.ZstdCompressor().compress(plain), len(plain))
    path.write_bytes(MAGIC + chunk * 100)
    file = McapFile(path)
    with pytest.raises(LogError, match="unpacks to more than 256 times its size"):
        assert _peak_bytes(lambda: list(file)) < 4 * CHUNK_LIMIT_BYTES


def test_cut_is_told_from_damage(tmp_path):
    path = _foreign(tmp_path / "a.mcap", [("/session", SESSION)] + [("/x", {"a": number}) for number in range(50)])
    whole = path.read_bytes()
    position = whole.index(b"zstd") + 20  # inside the packed chunk
    path.write_bytes(whole[:position])
    file = McapFile(path)
    assert list(file) == []
    assert (file.ending.complete, file.ending.damaged) == (False, False)
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    file = McapFile(path)
    list(file)
    assert (file.ending.complete, file.ending.damaged) == (False, True)


def test_chunk_that_went_missing_is_damage(tmp_path):
    stream = io.BytesIO()
    writer = Writer(stream, chunk_size=1, compression=CompressionType.NONE)
    writer.start()
    channel = writer.register_channel("/session", "json", writer.register_schema("s", "jsonschema", b"{}"))
    marks = []
    for number in range(3):
        marks.append(stream.tell())
        writer.add_message(channel, number, json.dumps(SESSION).encode(), number, number)
    writer.finish()
    whole = stream.getvalue()
    assert whole[marks[1]] == 6
    path = tmp_path / "a.mcap"
    path.write_bytes(whole[: marks[1]] + b"\x70" + whole[marks[1] + 1 :])  # an opcode nobody knows is skipped
    file = McapFile(path)
    assert len(list(file)) == 1
    assert file.ending.reason == "record 1 is missing, 2 follows"
    assert file.ending.damaged


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=400), chunked=st.booleans(), packed=st.booleans())
def test_garbage_never_gives_a_traceback(tail, chunked, packed, tmp_path):
    path = tmp_path / "a.mcap"
    if chunked:
        data = zstandard.ZstdCompressor().compress(tail) if packed else tail
        tail = _chunk(data, len(tail), b"zstd" if packed else b"", zlib.crc32(tail))
    path.write_bytes(MAGIC + tail)
    with pytest.raises(LogError):
        read_log(path)
    file = McapFile(path)
    list(file)
    assert not file.ending.complete
