"""What `export package` hands over: it compiles, runs, gives the header's bits, and is the same file every time."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from export.c_code.split import split_header
from export.compile import Compiled
from export.errors import ExportError, MismatchError
from export.package import KINDS, package, packaged_summary
from export.sparse_policy import SparsePolicy
from export.student_file import Student
from export.toolchain import STRICT_FLAGS

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]

CXX_FLAGS = ("-std=c++17", *STRICT_FLAGS[1:])
POLICIES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "float": ({"widths": (25, 20, 12, 1), "density": 0.3}, {}),
    "float, clipped, one frame": (
        {"widths": (6, 9, 3), "density": 0.6, "activations": ("tanh", "identity"), "history": 1},
        {},
    ),
    "int8": ({"widths": (25, 20, 12, 2), "density": 0.3}, {"weights": "int8"}),
    "int16, no float unit": ({"widths": (25, 20, 1), "density": 0.3}, {"weights": "int16", "target": "cortex-m0plus"}),
    "straight lines": ({"widths": (25, 20, 12, 1), "density": 0.3}, {"optimise": "speed", "target": "host"}),
}
# Every public function over a sequence with a broken observation in it; prints the bits of what comes out.
DRIVER = r"""
#include "policy.h"
#include <stdio.h>
#include <string.h>
static void show(const void *values, size_t size) {
    unsigned char bytes[1024];
    memcpy(bytes, values, size);
    for (size_t i = 0; i < size; ++i) { printf("%02x", bytes[i]); }
    printf("\n");
}
int main(void) {
    policy_state_t state;
    float observation[POLICY_BASE_OBSERVATION_SIZE], action[POLICY_ACTION_SIZE], stacked[POLICY_OBSERVATION_SIZE];
    uint32_t noise = 1u;
    policy_reset(&state);
    for (int k = 0; k < 300; ++k) {
        for (int i = 0; i < POLICY_BASE_OBSERVATION_SIZE; ++i) {
            noise = noise * 1664525u + 1013904223u;
            observation[i] = (float)(int32_t)noise * (1.0f / 1073741824.0f);
        }
        if (k == 100) { memset(observation, 0xff, sizeof observation); }
        if (k % 7 == 3) { policy_observe(&state, observation); }
        policy_step(&state, observation, action);
        show(action, sizeof action);
        for (int i = 0; i < POLICY_OBSERVATION_SIZE; ++i) {
            stacked[i] = observation[i % POLICY_BASE_OBSERVATION_SIZE];
        }
        policy_evaluate(stacked, action);
        show(action, sizeof action);
    }
#ifdef FIXED
    int32_t reading[POLICY_BASE_OBSERVATION_SIZE], output[POLICY_ACTION_SIZE];
    for (int i = 0; i < POLICY_BASE_OBSERVATION_SIZE; ++i) { reading[i] = 1000 * i - 1500; }
    policy_step_fixed(&state, reading, output);
    show(output, sizeof output);
#endif
    show(policy_digest, sizeof policy_digest);
    show(policy_action_low, sizeof policy_action_low);
    show(policy_action_high, sizeof policy_action_high);
    printf("self test %d, period %u\n", policy_self_test(), (unsigned)POLICY_PERIOD_US);
    return 0;
}
"""
ARDUINO_STUB = r"""
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
static inline unsigned long micros() { return 0; }
static inline void delay(unsigned long) {}
struct Stream {
    void begin(long) {}
    int available() { const int c = getchar(); if (c == EOF) { return 0; } ungetc(c, stdin); return 1; }
    int read() { return getchar(); }
    void print(const char *text) { printf("%s", text); }
    void print(char c) { putchar(c); }
    void print(float value, int digits) { printf("%.*f", digits, static_cast<double>(value)); }
    void println(const char *text) { printf("%s\n", text); }
    void println(int value) { printf("%d\n", value); }
    void println(unsigned long value) { printf("%lu\n", value); }
};
static Stream Serial;
void setup();
void loop();
int main() { setup(); loop(); return 0; }
"""


def compiled(request_name: str, make_student: MakeStudent, compile_to: CompileTo) -> tuple[Path, SparsePolicy]:
    shape, options = POLICIES[request_name]
    folder, result = compile_to(make_student(**shape, seed=4), **options)
    return folder, result.policy


def build(arguments: list[object], program: Path) -> Path:
    done = subprocess.run(
        [*map(str, arguments), "-o", str(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


def output(program: Path, text: str = "") -> str:
    return subprocess.run([program], input=text, capture_output=True, text=True, timeout=20, check=True).stdout


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a library and return its one folder."""
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(folder)
    (root,) = folder.iterdir()
    return root


@pytest.mark.parametrize("name", POLICIES)
def test_split_pair_has_the_bits_of_the_header(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, name: str
) -> None:
    folder, policy = compiled(name, make_student, compile_to)
    pair = tmp_path / "split"
    assert package(folder, "split", pair).files == (pair / "policy.h", pair / "policy.c")
    driver = tmp_path / "driver.c"
    driver.write_text(DRIVER)
    fixed = [] if policy.fixed is None else ["-DFIXED"]
    whole = build(["gcc", *STRICT_FLAGS, "-O2", *fixed, f"-I{folder}", driver], tmp_path / "whole")
    expected = output(whole)
    assert "self test 0, period 20000" in expected
    assert "0000c07f" in expected  # the NaN of a broken observation
    unit = pair / "policy.c"
    builds = {"c": ["gcc", *STRICT_FLAGS, "-Os", driver, unit], "c++": ["g++", *CXX_FLAGS, "-xc++", driver, unit]}
    if shutil.which("clang"):
        builds["clang"] = ["clang", *STRICT_FLAGS, "-O1", driver, unit]
    for title, arguments in builds.items():
        program = build([*arguments, *fixed, f"-I{pair}"], tmp_path / title)
        assert output(program) == expected, title
    # A caller in C++ and a unit in C.
    library = build(["gcc", *STRICT_FLAGS, "-c", unit], tmp_path / "policy.o")
    mixed = build(["g++", *CXX_FLAGS, *fixed, f"-I{pair}", "-xc++", driver, "-xnone", library], tmp_path / "mixed")
    assert output(mixed) == expected
    text = (pair / "policy.h").read_text()
    assert "static const" not in text
    for fact in (*policy.observation_names, *policy.action_names, "-1 to 1", "control_period_us", "POLICY_DIGEST_HEX"):
        assert fact in text


@pytest.mark.cross
def test_split_unit_contracts_nothing_whatever_the_build_says(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    folder, _ = compiled("float", make_student, compile_to)
    package(folder, "split", tmp_path / "split")
    core = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-O2", "-S"]
    text = build([*core, "-std=gnu11", tmp_path / "split" / "policy.c"], tmp_path / "policy.s").read_text()
    assert "vmul.f32" in text
    assert "vfma" not in text
    plain = (tmp_path / "split" / "policy.c").read_text().replace('#pragma GCC optimize("fp-contract=off")', "")
    (tmp_path / "split" / "plain.c").write_text(plain)
    text = build([*core, "-std=gnu11", tmp_path / "split" / "plain.c"], tmp_path / "plain.s").read_text()
    assert "vfma" in text  # else this test would show nothing


@pytest.mark.avr
def test_split_unit_reads_its_tables_from_the_flash_of_an_avr(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    folder, _ = compile_to(make_student((25, 12, 1), 0.3), weights="int8", target="avr")
    package(folder, "split", tmp_path / "split")
    unit = [*STRICT_FLAGS, "-mmcu=atmega328p", "-Os", "-c", tmp_path / "split" / "policy.c"]
    program = build(["avr-gcc", *unit], tmp_path / "policy.o")
    listed = subprocess.run(["avr-size", "-A", program], capture_output=True, text=True, check=True).stdout
    sizes = {line.split()[0]: int(line.split()[1]) for line in listed.splitlines() if line.startswith(".")}
    assert sum(size for name, size in sizes.items() if name.startswith(".progmem")) > 400
    # In memory: the digest and the two limits, which the caller reads.
    assert sum(size for name, size in sizes.items() if name.startswith((".rodata", ".data", ".bss"))) == 40


def test_header_that_compile_did_not_write_is_not_split(make_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, _ = compile_to(make_student((5, 4, 1), history=1))
    text = (folder / "policy.h").read_text()
    for damaged in (
        "",
        text.replace("} policy_state_t;", "} state_t;"),
        text.replace("static inline void policy_step(", "static inline void other_step("),
        text.replace("policy_action_low[1] =", "policy_lowest[1] ="),
    ):
        with pytest.raises(ExportError, match="cannot be split"):
            split_header(damaged)


@pytest.mark.parametrize("name", ["float", "int8"])
def test_libraries_hold_the_split_pair_and_the_facts(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, name: str
) -> None:
    folder, policy = compiled(name, make_student, compile_to)
    digest = package(folder, "split", tmp_path / "split").digest
    limits = f"{policy.action_names[0]} -1 to 1"
    manifests = {"arduino": "library.properties", "platformio": "library.json", "cmake": "CMakeLists.txt"}
    for kind, manifest in manifests.items():
        archive = tmp_path / f"{kind}.zip"
        package(folder, kind, archive)
        with zipfile.ZipFile(archive) as zipped:
            assert {entry.date_time for entry in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        root = unpacked(archive, tmp_path / kind)
        assert root.name == "policy_CartRail_v0"
        for file in ("policy.h", "policy.c"):
            assert (root / "src" / file).read_bytes() == (tmp_path / "split" / file).read_bytes()
        text = (root / manifest).read_text()
        for fact in (digest, "20000", ", ".join(policy.observation_names), limits, "hardware:CartRail-v0"):
            assert fact in text, f"{kind}: {fact}"
        assert "@" not in text


def test_arduino_sketch_answers_observations(make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path) -> None:
    folder, policy = compiled("float", make_student, compile_to)
    package(folder, "arduino", tmp_path / "arduino.zip")
    root = unpacked(tmp_path / "arduino.zip", tmp_path / "arduino")
    properties = dict(line.split("=", 1) for line in (root / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"} <= set(properties)
    assert properties["architectures"] == "*"
    keywords = [line.split("\t") for line in (root / "keywords.txt").read_text().splitlines()]
    assert ["policy_step", "KEYWORD2"] in keywords
    (tmp_path / "Arduino.h").write_text(ARDUINO_STUB)
    unit = build(["gcc", *STRICT_FLAGS, "-c", root / "src" / "policy.c"], tmp_path / "policy.o")
    sketch = root / "examples" / "control_loop" / "control_loop.ino"
    include = [f"-I{tmp_path}", f"-I{root / 'src'}", "-include", "Arduino.h"]
    program = build(["g++", *CXX_FLAGS, *include, "-xc++", sketch, "-xnone", unit], tmp_path / "sketch")
    observations = np.random.default_rng(2).normal(0, 1, (4, 5)).astype(np.float32)
    lines = [" ".join(f"{value:.9g}" for value in row) for row in observations]
    answers = output(program, "\n".join([*lines, "reset", lines[2], "1 2", "1 2 3 4 5 6", "9" * 500, "nan " * 5, ""]))
    digest, *rest = answers.splitlines()
    assert digest.startswith("policy ")
    history = [observations[0]] * 5
    expected = []
    for row in observations:
        history = [*history[1:], row]
        expected.append(policy.evaluate_float32(np.concatenate(history))[0, 0])
    expected.append(policy.evaluate_float32(np.tile(observations[2], 5))[0, 0])
    np.testing.assert_allclose([float(line.split()[0]) for line in rest[:5]], expected, atol=2e-6)
    assert rest[5:8] == ["error: expected so many numbers: 5"] * 3
    assert rest[8].startswith("stop: ")
    assert len(rest) == 9


def test_platformio_manifest(make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path) -> None:
    folder, _ = compiled("int8", make_student, compile_to)
    package(folder, "platformio", tmp_path / "platformio.zip")
    root = unpacked(tmp_path / "platformio.zip", tmp_path / "platformio")
    manifest = json.loads((root / "library.json").read_text())
    assert manifest["build"]["flags"] == ["-ffp-contract=off"]
    assert (root / manifest["build"]["srcDir"] / manifest["headers"]).is_file()
    for example in manifest["examples"]:
        assert all((root / example["base"] / file).is_file() for file in example["files"])
    assert manifest["version"].endswith(f"+{manifest['policy']['policy_digest'][:12]}")


def test_cmake_library_builds_installs_and_links(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is missing: apt-get install cmake")
    folder, _ = compiled("float", make_student, compile_to)
    package(folder, "cmake", tmp_path / "cmake.zip")
    root = unpacked(tmp_path / "cmake.zip", tmp_path / "cmake")
    prefix, user = tmp_path / "prefix", tmp_path / "user"
    user.mkdir()
    (user / "main.cpp").write_text(DRIVER)
    (user / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.15)\nproject(user LANGUAGES C CXX)\nfind_package(policy 0.1 REQUIRED)\n"
        "set(CMAKE_EXPORT_COMPILE_COMMANDS ON)\n"
        "add_executable(user main.cpp)\ntarget_link_libraries(user PRIVATE policy::policy)\n"
    )

    def cmake(*arguments: object) -> None:
        done = subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    cmake("-S", root, "-B", tmp_path / "b", f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror")
    cmake("--build", tmp_path / "b", "--target", "install")
    assert "known answers" in output(tmp_path / "b" / "policy_self_test")
    cmake("-S", user, "-B", tmp_path / "u", f"-DCMAKE_PREFIX_PATH={prefix}")
    cmake("--build", tmp_path / "u")
    assert "-ffp-contract=off" in (tmp_path / "u" / "compile_commands.json").read_text()
    driver = tmp_path / "driver.c"
    driver.write_text(DRIVER)
    whole = build(["gcc", *STRICT_FLAGS, "-O2", f"-I{folder}", driver], tmp_path / "whole")
    assert output(tmp_path / "u" / "user") == output(whole)


def test_same_policy_same_bytes(make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path) -> None:
    folder, _ = compiled("int8", make_student, compile_to)
    for kind in KINDS:
        suffix = "" if kind == "split" else ".onnx" if kind.startswith("onnx") else ".zip"
        done = [package(folder, kind, tmp_path / f"{name} {kind}{suffix}") for name in ("one", "two")]
        assert [path.read_bytes() for path in done[0].files] == [path.read_bytes() for path in done[1].files], kind
        summary = json.loads(json.dumps(packaged_summary(done[0])))
        assert summary["files"] == [str(path) for path in done[0].files]
        assert summary["bytes"] == sum(path.stat().st_size for path in done[0].files)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the verb here and return its one line."""
    sys.argv = ["export", "package", *map(str, arguments)]
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_bad_requests_give_one_line_and_leave_what_was_there(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = compiled("float", make_student, compile_to)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    kept = tmp_path / "kept.zip"
    kept.write_bytes(b"kept")
    blocked = tmp_path / "file" / "library.zip"
    blocked.parent.write_text("no folder")
    occupied = tmp_path / "folder.zip"
    occupied.mkdir()
    assert all(kind in refused(capsys, folder, "--as", "tar", "--out", kept) for kind in KINDS)
    assert ".zip" in refused(capsys, folder, "--as", "cmake", "--out", tmp_path / "library")
    assert ".onnx" in refused(capsys, folder, "--as", "onnx-sparse", "--out", kept)
    assert "choose another folder" in refused(capsys, folder, "--as", "split", "--out", folder)
    assert "dense model" in refused(capsys, folder, "--as", "onnx-sparse", "--out", folder / "policy.onnx")
    assert "--weights int8" in refused(capsys, folder, "--as", "onnx-qdq", "--out", tmp_path / "q.onnx")
    assert "cannot write into" in refused(capsys, folder, "--as", "arduino", "--out", blocked)
    assert "is a folder" in refused(capsys, folder, "--as", "arduino", "--out", occupied)
    assert "no such file" in refused(capsys, tmp_path / "nowhere", "--as", "arduino", "--out", kept)
    assert kept.read_bytes() == b"kept"
    assert not (tmp_path / "q.onnx").exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_header_of_another_policy_is_refused(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = compiled("float", make_student, compile_to)
    other, _ = compile_to(make_student((5, 4, 1), history=1), name="other")
    shutil.copy(other / "policy.h", folder / "policy.h")
    kept = tmp_path / "kept.zip"
    kept.write_bytes(b"kept")
    with pytest.raises(MismatchError, match=r"another policy\.safetensors"):
        package(folder, "arduino", kept)
    assert "compile STUDENT" in refused(capsys, folder, "--as", "cmake", "--out", kept)
    assert kept.read_bytes() == b"kept"


def test_verb_writes_and_reports(make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path) -> None:
    folder, result = compile_to(make_student((25, 12, 1), 0.4), weights="int8")
    command = [
        sys.executable,
        "-m",
        "export",
        "package",
        str(folder),
        "--as",
        "onnx-qdq",
        "--out",
        str(tmp_path / "q.onnx"),
    ]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["policy_digest"] == result.digest
    assert report["kind"] == "onnx-qdq"
    assert 0 <= report["max_difference"] < 1e-3
    assert report["onnxruntime"]
