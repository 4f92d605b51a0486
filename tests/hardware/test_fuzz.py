"""Hostile bytes: the fuzzers' corpus, ten million bytes of noise and mutated frames, rules that notice what is wrong.

The C side is tests/firmware: the whole device on a bench, held against safety_rules.h. `make fuzz` looks for more.
"""

import importlib.util
import math
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import compile_program

from hardware.build import FIRMWARE_FOLDER, FLAGS, find_compiler
from hardware.codec import decode_body, encode_body, snake_case
from hardware.errors import ProtocolError
from hardware.framing import FrameDecoder
from hardware.protocol import Fault, Mode, Result, State

FOLDER = Path(__file__).parent.parent / "firmware"
SHAPES = ("bytes", "messages")
CORPUS = {shape: sorted((FOLDER / "corpus" / shape).iterdir()) for shape in SHAPES}
TEN_MILLION = 10_000_000
RUNS = {"bytes": 40_000, "messages": 5_000}  # about ten seconds each


def load_script():
    spec = importlib.util.spec_from_file_location("fuzz", FOLDER / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SCRIPT = load_script()


def compile_bench(out: Path, *programs: str, firmware=FIRMWARE_FOLDER, sanitize=True) -> Path:
    sanitizers = SCRIPT.SANITIZERS if sanitize else ()
    flags = (*FLAGS, *sanitizers, *SCRIPT.includes(firmware))
    command = [find_compiler(), *flags, *SCRIPT.sources(*programs, firmware=firmware), "-o", str(out), "-lm"]
    subprocess.run(command, check=True, timeout=120)
    return out


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bench")
    built = {shape: compile_bench(folder / shape, "replay_corpus", f"fuzz_{shape}") for shape in SHAPES}
    return {**built, "stream": compile_bench(folder / "stream", "hostile_stream")}


def counts(command: list[object]) -> dict[str, int]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return {name: int(count) for name, count in (line.split() for line in done.stdout.splitlines())}


@pytest.fixture(scope="module")
def replayed(programs, tmp_path_factory) -> dict[str, tuple[dict[str, int], bytes]]:
    """For each shape what its corpus covers, and what went over the wire."""
    folder = tmp_path_factory.mktemp("wire")
    inputs = {shape: sorted(SCRIPT.unpack_corpus(shape, folder).iterdir()) for shape in SHAPES}
    return {
        shape: (counts([programs[shape], folder / shape, *inputs[shape]]), (folder / shape).read_bytes())
        for shape in SHAPES
    }


# Which results a request can have.
RESULTS = {
    "config": {Result.OK, Result.WRONG_STATE, Result.OUT_OF_RANGE, Result.BAD_NONCE},
    "arm": set(Result) - {Result.WRONG_SESSION},
    "disarm": {Result.OK, Result.WRONG_SESSION},
}
ACCEPTED, STALE, REFUSED = range(3)
HANDLERS = [{"hello_0"}, *({f"{name}_{int(result)}" for result in RESULTS[name]} for name in RESULTS)]
HANDLERS += [{f"{name}_{verdict}" for verdict in (ACCEPTED, STALE, REFUSED)} for name in ("command", "heartbeat")]
EVERYTHING = set().union(
    {"no_handler_0"},
    *HANDLERS,
    {f"fault_{int(fault)}" for fault in Fault if fault != Fault.NONE},
    {f"state_{int(state)}" for state in State},
    {f"driven_{int(mode)}" for mode in Mode},
)


def reached(covered: dict[str, int]) -> set[str]:
    return {name for name, count in covered.items() if count > 0}


def test_corpus_of_messages_reaches_every_handler_with_every_result_and_every_fault(replayed):
    assert EVERYTHING - reached(replayed["messages"][0]) == set()


def test_corpus_of_bytes_reaches_every_handler(replayed):
    assert all(handler & reached(replayed["bytes"][0]) for handler in HANDLERS)


def test_corpus_stays_small():
    files = [path for shape in SHAPES for path in CORPUS[shape]]
    assert len(files) < 200
    assert sum(path.stat().st_size for path in files) < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("how", ["undamaged", "damaged"])
def test_ten_million_bytes(programs, how):
    covered = counts([programs["stream"], TEN_MILLION, *([how] if how == "damaged" else [])])
    assert covered["bytes"] >= TEN_MILLION
    assert covered["random"] == pytest.approx(covered["bytes"] / 2, rel=0.001)
    assert all(handler & reached(covered) for handler in HANDLERS)
    assert (covered["driven"] > 0) == (how == "undamaged")


@pytest.mark.parametrize("shape", SHAPES)
def test_python_reads_the_wire_as_the_device_does(replayed, tmp_path, shape):
    wire = replayed[shape][1]
    program = compile_program(tmp_path / "repack", [FOLDER / "repack_bodies.c", FIRMWARE_FOLDER / "framing.c"])
    done = subprocess.run([program], input=wire, capture_output=True, timeout=120, check=True)
    *lines, last = done.stdout.decode().splitlines()
    decoder = FrameDecoder()
    bodies = decoder.feed(wire)
    assert [line.split()[0] for line in lines] == [body.hex() for body in bodies]
    assert last == f"{decoder.frames} {decoder.crc_errors} {decoder.garbage} {decoder.oversize}"
    for line, body in zip(lines, bodies, strict=True):
        assert line.split()[1:] == list(repack(body)), line


def repack(body: bytes) -> tuple[str, str]:
    """The name of a body's message and what Python packs again; `-` for both where it refuses the body."""
    try:
        sequence, message = decode_body(body)
    except ProtocolError:
        return "-", "-"
    name = snake_case(type(message).__name__)
    values = [getattr(message, field.name) for field in fields(message)]
    numbers = [number for value in values for number in (value if isinstance(value, tuple) else (value,))]
    if any(isinstance(number, float) and math.isnan(number) for number in numbers):
        return name, body.hex()  # Python has one NaN where C keeps the bits
    if any(isinstance(value, str) for value in values):
        return name, body.hex()  # what is behind the first zero of a text is not kept
    return name, encode_body(message, sequence).hex()


# A line of the firmware, what it is replaced by, and the rule that must notice.
MUTANTS = {
    "nonce used twice": ("link.c", "        link->nonce_valid = false;\n", "", "ARM needs an unused nonce"),
    "any nonce arms": (
        "link.c",
        "acknowledge(link, body, safety_arm(safety, nonce_ok,",
        "acknowledge(link, body, safety_arm(safety, true,",
        "ARM needs an unused nonce",
    ),
    "any nonce configures": (
        "link.c",
        "const bool nonce_ok = is_fresh(link, config->device_nonce);",
        "const bool nonce_ok = true;",
        "CONFIG needs the nonce",
    ),
    "arms unhomed": ("safety.c", "if (!safety->homing.homed) {", "if (false) {", "ARM needs"),
    "foreign session drives": ("safety.c", "command->session != safety->session", "false", "an answer is of"),
    "stale command drives": (
        "safety.c",
        "command->observation_tick != safety->tick || ",
        "",
        "an answer is of",
    ),
    "not a number drives": (
        "safety.c",
        "!(command->action >= -PLANT_ACCELERATION_LIMIT && command->action <= PLANT_ACCELERATION_LIMIT)",
        "command->action < -PLANT_ACCELERATION_LIMIT || command->action > PLANT_ACCELERATION_LIMIT",
        "an answer is of",
    ),
    "foreign session feeds": ("safety.c", "heartbeat->session != safety->session", "false", "an answer is of"),
    "heartbeat answers in mode host": (
        "safety.c",
        "safety->state == PROTOCOL_STATE_ARMED && safety->mode != PROTOCOL_MODE_HOST && age",
        "safety->state == PROTOCOL_STATE_ARMED && age",
        "an answer is of",
    ),
    "heartbeat answers twice": (
        "link.c",
        "const bool was_fed = safety->fed_tick == safety->tick;",
        "const bool was_fed = false;",
        "an answer is of",
    ),
    "no watchdog": ("safety_period.c", "missed >= safety->watchdog_periods", "false", "when nobody answers"),
    "emergency stop ignored": (
        "safety_period.c",
        "safety_stop(safety, PROTOCOL_FAULT_E_STOP, sensors->flags);",
        "",
        "input open",
    ),
    "brakes a drive that is off": ("safety_period.c", "!safety->enabled || ", "", "what does not drive does not brake"),
    "arms a driver with a fault": (
        "safety_period.c",
        "PROTOCOL_SENSOR_FLAG_DRIVE_FAULT | END_SWITCHES)",
        "END_SWITCHES)",
        "ARM needs",
    ),
    "encoder fault hidden by another": (
        "safety_period.c",
        "        homing_spend(&safety->homing);\n",
        "        if (safety->fault == fault) {\n            homing_spend(&safety->homing);\n        }\n",
        "an encoder that failed",
    ),
    "rail end hidden by another fault": (
        "safety_period.c",
        "    safety->end_reached = true;\n",
        "    safety->end_reached = safety->fault == PROTOCOL_FAULT_RAIL_END;\n",
        "an end that was reached",
    ),
    "latch forgotten": ("safety_period.c", "safety->state = PROTOCOL_STATE_OFF;", "safety->state = 1;", "ARM needs"),
    "damage ignored": (
        "safety_period.c",
        "if (safety->image_check == BOARD_IMAGE_GOOD) {\n        return;",
        "if (true) {\n        return;",
        "damaged image",
    ),
    "action not limited": (
        "drive.c",
        "-PLANT_ACCELERATION_LIMIT), PLANT_ACCELERATION_LIMIT);",
        "-99.0f), 99.0f);",
        "limit",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_rules_notice_what_is_wrong(tmp_path, mutant):
    """The corpus and one million bytes against a device with an error: the rules are no decoration."""
    name, line, wrong, rule = MUTANTS[mutant]
    firmware = tmp_path / "firmware"
    shutil.copytree(FIRMWARE_FOLDER, firmware)
    shutil.copytree(FIRMWARE_FOLDER.parent / "plants", tmp_path / "plants")
    text = (firmware / name).read_text()
    assert line in text
    (firmware / name).write_text(text.replace(line, wrong))
    if mutant == "damage ignored":
        main = (firmware / "main.c").read_text()
        guard = "if (firmware.safety.image_check == BOARD_IMAGE_GOOD) {"
        assert guard in main
        (firmware / "main.c").write_text(main.replace(guard, "if (true) {"))
    replay = compile_bench(tmp_path / "replay", "replay_corpus", "fuzz_messages", firmware=firmware, sanitize=False)
    stream = compile_bench(tmp_path / "stream", "hostile_stream", firmware=firmware, sanitize=False)
    said = ""
    for command in ([replay, tmp_path / "wire", *CORPUS["messages"]], [stream, TEN_MILLION // 10]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
        said += done.stderr
        assert (done.returncode != 0) == ("violated: " in done.stderr)
    assert rule in said


@pytest.mark.fuzz
@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_fuzzers_find_nothing_in_a_fixed_number_of_runs(tmp_path, shape):
    assert SCRIPT.fuzz(shape, tmp_path, f"-runs={RUNS[shape]}") == 0
