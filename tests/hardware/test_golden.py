"""Golden frames: the committed file, Python and C agree on every byte."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import compile_program

from hardware.build import FIRMWARE_FOLDER
from hardware.codec import SCHEMA_HASH, decode_body, encode_body
from hardware.framing import FrameDecoder, frame_body
from hardware.generate import headers
from hardware.protocol import MESSAGES

TESTS = Path(__file__).parent.parent
GOLDEN = json.loads((TESTS / "golden" / "frames.json").read_text())
REMEDY = "run `python -m hardware generate` and `python tests/golden/write_frames.py`, and read the difference"


def test_golden_file_is_of_this_schema():
    assert GOLDEN["schema_hash"] == SCHEMA_HASH, REMEDY
    assert {frame["message"] for frame in GOLDEN["frames"]} == {kind.__name__ for kind in MESSAGES}


def test_golden_file_is_what_the_script_writes():
    spec = importlib.util.spec_from_file_location("write_frames", TESTS / "golden" / "write_frames.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.golden() == GOLDEN, REMEDY


@pytest.mark.parametrize("golden", GOLDEN["frames"], ids=lambda golden: f"{golden['message']}-{golden['sequence']}")
def test_python_reads_and_writes_golden_frames(golden):
    [body] = FrameDecoder().feed(bytes.fromhex(golden["frame"]))
    sequence, message = decode_body(body)
    assert (sequence, type(message).__name__, body.hex()) == (golden["sequence"], golden["message"], golden["body"])
    for name, text in golden["fields"].items():
        value = getattr(message, name)
        assert (value.hex() if isinstance(value, bytes) else repr(value)) == text
    assert frame_body(encode_body(message, sequence)).hex() == golden["frame"]


def test_c_reads_and_writes_golden_frames(tmp_path):
    sources = [TESTS / "firmware" / "test_frames.c", FIRMWARE_FOLDER / "framing.c"]
    program = compile_program(tmp_path / "test_frames", sources)
    lines = "".join(f"{frame['body']} {frame['frame']}\n" for frame in GOLDEN["frames"])
    done = subprocess.run([program], input=lines, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(GOLDEN["frames"]))), done.stdout + done.stderr


def test_c_test_notices_a_wrong_frame(tmp_path):
    sources = [TESTS / "firmware" / "test_frames.c", FIRMWARE_FOLDER / "framing.c"]
    program = compile_program(tmp_path / "test_frames", sources, sanitize=False)
    frame = GOLDEN["frames"][3]
    line = f"{frame['body']} {frame['frame'][:-4]}ff00\n"
    done = subprocess.run([program], input=line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "encoded frame differs" in done.stdout


@pytest.mark.parametrize(("path", "text"), headers().items(), ids=lambda value: getattr(value, "name", ""))
def test_committed_headers_are_what_the_generator_writes(path, text):
    assert path.read_text() == text, REMEDY


def test_every_plant_header_defines_the_same_names():
    plants = [text for path, text in headers().items() if path.parent.name == "plants"]
    names = [re.findall(r"^#define (PLANT_\w+)", text, re.MULTILINE) for text in plants]
    assert len(names) == 2
    assert names[0] == names[1]
