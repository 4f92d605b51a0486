"""policy.h on this machine: strict compilers, the ring, the self test, tanh, every layer kind."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.c_code.dialect import Dialect
from export.c_code.header import c_code
from export.c_code.layer_tables import layer_tables, live_inputs
from export.c_code.plan import Plan, plans
from export.compile import Compiled, build_policy
from export.errors import ExportError
from export.sparse_policy import SparsePolicy
from export.student_file import Student
from export.toolchain import STRICT_FLAGS, build_host_library
from export.verify import run_host_c

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]

SHAPES: dict[str, dict[str, object]] = {
    "sparse": {"widths": (25, 40, 40, 1), "density": 0.15},
    "dense": {"widths": (25, 33, 17, 2), "density": 1.0},
    "tanh hidden, identity out": {"widths": (10, 9, 3), "density": 0.5, "activations": ("tanh", "identity")},
    "dead inputs": {"widths": (24, 6, 1), "density": (0.02, 1.0), "history": 3},
    "one layer": {"widths": (5, 2), "density": 0.5, "history": 1},
    "constant": {"widths": (25, 8, 1), "density": 0.0},
    "300 columns": {"widths": (300, 6, 1), "density": 0.02},
    "long rows": {"widths": (400, 600, 3, 1), "density": 0.6},
    "uneven limits": {"widths": (25, 8, 1), "density": 0.5, "low": -1.0, "high": 0.3},
    "four layers": {"widths": (25, 20, 30, 20, 1), "density": 0.3},
    "mixed dense and sparse": {"widths": (25, 64, 64, 3), "density": (0.1, 1.0, 0.2)},
}


def observations_for(policy: SparsePolicy, count: int = 200) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 1.5, (count, policy.observation_size)).astype(np.float32)


def header_in(folder: Path, policy: SparsePolicy, plan: Plan, dialect: Dialect | None = None) -> Path:
    folder.mkdir()
    (folder / "policy.h").write_text(c_code(policy, "00" * 32, plan, dialect))
    return folder


@pytest.mark.parametrize("shape", SHAPES)
def test_every_float_plan_matches_the_reference(make_student: MakeStudent, tmp_path: Path, shape: str) -> None:
    policy = build_policy(make_student(**SHAPES[shape]))
    observations = observations_for(policy)
    results = []
    for name, plan in plans(layer_tables(policy)).items():
        folder = header_in(tmp_path / name, policy, plan)
        actions = run_host_c(folder, folder, policy, observations)
        # Random networks of 600 wide layers round more than trained ones; 5e-6 still tells a wrong index from rounding.
        np.testing.assert_allclose(actions, policy.evaluate(observations), atol=5e-6, rtol=0)
        assert (actions >= policy.action_low).all()
        assert (actions <= policy.action_high).all()
        results.append(actions)
    assert len(results) >= 2


@pytest.mark.parametrize("weights", ["int8", "int16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_integer_plan_has_the_bits_of_the_reference(
    make_student: MakeStudent, tmp_path: Path, shape: str, weights: str
) -> None:
    policy = build_policy(make_student(**SHAPES[shape]), weights=weights)
    observations = observations_for(policy)
    # Beyond the declared range, broken, and on the edge of broken.
    live = policy.layers[0].matrix.indices
    used = live[0] if len(live) else 0
    observations[0], observations[1, used], observations[2, used], observations[3, used] = 1e3, np.nan, -np.inf, 3e38
    expected = policy.evaluate_exact(observations)
    assert np.isnan(expected[1:4]).all()
    assert np.isfinite(expected[4:]).all()
    for name, plan in plans(layer_tables(policy)).items():
        for unit in (True, False):
            folder = header_in(tmp_path / f"{name}-{unit}", policy, plan, Dialect(float_unit=unit))
            np.testing.assert_array_equal(run_host_c(folder, folder, policy, observations), expected)
    assert (expected[4:] >= policy.action_low).all()
    assert (expected[4:] <= policy.action_high).all()


def test_shapes_are_what_the_networks_above_mean_to_cover(make_student: MakeStudent) -> None:
    def unrolled(name: str) -> Plan:
        return plans(layer_tables(build_policy(make_student(**SHAPES[name]))))["unrolled"]

    assert unrolled("sparse").shapes == ("unrolled", "unrolled", "unrolled")
    assert unrolled("sparse").fused
    assert unrolled("dense").shapes[:2] == ("blocked", "blocked")
    assert unrolled("mixed dense and sparse").shapes[:2] == ("unrolled", "blocked")
    long = layer_tables(build_policy(make_student(**SHAPES["long rows"])))
    assert {layer.column_kind for layer in long} == {"uint16", "uint8"} or long[0].column_kind == "uint16"
    dead = build_policy(make_student(**SHAPES["dead inputs"]))
    assert len(live_inputs(dead)) < 8
    assert "policy_live_inputs" in c_code(dead, "00" * 32)
    assert "policy_runs_" in c_code(build_policy(make_student(**SHAPES["dense"])), "00" * 32, plans(long)["loop"])


@pytest.mark.parametrize("shape", ["sparse", "dense", "constant", "tanh hidden, identity out"])
@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++", "clang++"])
def test_strict_compilers_accept_the_header(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, shape: str, compiler: str
) -> None:
    if shutil.which(compiler) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{compiler} is missing: apt-get install {compiler}")
    folder, _ = compile_to(make_student(**SHAPES[shape]))
    plus = compiler.endswith("++")
    source = tmp_path / ("main.cc" if plus else "main.c")
    source.write_text(
        '#define POLICY_EXPECTED_FORMAT 1\n#include "policy.h"\n'
        "int main(void) { policy_state_t state; float observation[POLICY_BASE_OBSERVATION_SIZE] = {0};\n"
        "float action[POLICY_ACTION_SIZE]; policy_reset(&state); policy_step(&state, observation, action);\n"
        "return policy_self_test(); }\n"
    )
    flags = [
        "-std=c++17" if plus else "-std=c11",
        *STRICT_FLAGS[1:],
        "-pedantic",
        "-O1",
        "-fsanitize=undefined,address",
    ]
    program = tmp_path / "main"
    subprocess.run([compiler, *flags, "-fno-sanitize-recover=all", f"-I{folder}", source, "-o", program], check=True)
    assert subprocess.run([program], check=False).returncode == 0


def test_another_format_stops_the_compiler(make_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, _ = compile_to(make_student(density=0.05))
    command = ["gcc", "-fsyntax-only", "-DPOLICY_EXPECTED_FORMAT=2", "-xc", str(folder / "policy.h")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "compile the student again" in done.stderr


def load(folder: Path, scratch: Path) -> ctypes.CDLL:
    build_host_library(folder, scratch / "ring.so")
    library = ctypes.CDLL(str(scratch / "ring.so"))
    return library


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("history", [1, 2, 5])
def test_ring_gives_the_stacked_observation(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, history: int, weights: str
) -> None:
    """Steps through the ring equal the policy on stacks of frames, oldest first, the first frame filling the past."""
    base = 3
    folder, compiled = compile_to(make_student((base * history, 8, 2), 0.6, history=history), weights=weights)
    library = load(folder, tmp_path)
    state = ctypes.create_string_buffer(library.run_state_size())
    generator = np.random.default_rng(0)
    for length in (1, 3, 12):
        library.run_reset(state)
        frames: list[np.ndarray] = []
        for index in range(length):
            frame = generator.normal(size=base).astype(np.float32)
            frames = [*frames, frame] if frames else [frame] * history
            observation = np.concatenate(frames[-history:])
            if index % 4 == 2:
                library.run_observe(state, ctypes.c_void_p(frame.ctypes.data))
                continue
            action = np.empty(2, np.float32)
            library.run_step(state, ctypes.c_void_p(frame.ctypes.data), ctypes.c_void_p(action.ctypes.data))
            np.testing.assert_array_equal(action, run_host_c(folder, tmp_path, compiled.policy, observation[None])[0])


def test_two_states_do_not_disturb_each_other(make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path) -> None:
    folder, _ = compile_to(make_student((10, 6, 1), 0.8, history=2))
    library = load(folder, tmp_path)
    generator = np.random.default_rng(0)
    frames = generator.normal(size=(6, 5)).astype(np.float32)

    def run(states: list[ctypes.Array[ctypes.c_char]]) -> list[list[float]]:
        results: list[list[float]] = [[] for _ in states]
        for state in states:
            library.run_reset(state)
        for index, frame in enumerate(frames):
            for which, state in enumerate(states):
                used = frames[-1 - index] if which else frame
                action = np.empty(1, np.float32)
                library.run_step(state, ctypes.c_void_p(used.ctypes.data), ctypes.c_void_p(action.ctypes.data))
                results[which].append(float(action[0]))
        return results

    size = library.run_state_size()
    assert run([ctypes.create_string_buffer(size) for _ in range(2)])[0] == run([ctypes.create_string_buffer(size)])[0]


def test_self_test_finds_a_changed_weight(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    student = make_live_student()
    folder, compiled = compile_to(student)
    assert load(folder, tmp_path).run_self_test() == 0
    bias = compiled.policy.layers[-1].bias
    broken = (*compiled.policy.layers[:-1], replace(compiled.policy.layers[-1], bias=bias + np.float32(0.01)))
    other = tmp_path / "broken"
    other.mkdir()
    (other / "policy.h").write_text(c_code(replace(compiled.policy, layers=broken), compiled.digest))
    assert load(other, other).run_self_test() > 0


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_a_broken_observation_gives_nan_until_it_has_left_the_history(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, value: float, weights: str
) -> None:
    folder, _ = compile_to(make_live_student(), weights=weights)
    library = load(folder, tmp_path)
    state = ctypes.create_string_buffer(library.run_state_size())
    found = []
    for step in range(14):
        frame = np.zeros(5, np.float32)
        if step in (2, 4):
            frame[step % 5] = value
        action = np.zeros(1, np.float32)
        library.run_step(state, ctypes.c_void_p(frame.ctypes.data), ctypes.c_void_p(action.ctypes.data))
        found.append(bool(np.isnan(action[0])))
    assert found == [False, False, *[True] * 7, *[False] * 5]


def test_tanh_keeps_its_stated_bound(make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path) -> None:
    folder, _ = compile_to(make_student((5, 1), 1.0, history=1))
    source = tmp_path / "tanh.c"
    source.write_text(
        '#include "policy.h"\nfloat run_tanh(float x);\nfloat run_tanh(float x) { return policy_tanh(x); }\n'
    )
    command = ["cc", *STRICT_FLAGS, "-O2", "-shared", "-fPIC", f"-I{folder}", source, "-o", tmp_path / "tanh.so"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(tmp_path / "tanh.so"))
    library.run_tanh.restype = ctypes.c_float
    library.run_tanh.argtypes = [ctypes.c_float]
    ends = np.array([0.0, -0.0, 1e-38, 8.299999, 8.3, 8.300001, 50.0, 3e38, np.inf], np.float32)
    points = np.concatenate(
        [np.linspace(-9, 9, 40001, dtype=np.float32), np.geomspace(1e-20, 9, 5000, dtype=np.float32), ends]
    )
    values = np.array([library.run_tanh(x) for x in points])
    assert np.abs(values - np.tanh(points.astype(np.float64))).max() <= 4e-7
    assert np.abs(values).max() <= 1.0
    np.testing.assert_array_equal(values, -np.array([library.run_tanh(-x) for x in points]))


def test_foreign_names_cannot_leave_the_comment(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    names = ("a */ int evil; /*", "b\n#error b", "c\\", "d", "é")
    student = replace(make_student(density=0.1), observation_names=names, environment="x */ #error y")
    folder, _ = compile_to(student)
    build_host_library(folder, tmp_path / "ok.so")


def test_same_student_same_text_without_a_date(make_live_student: MakeStudent) -> None:
    policy = build_policy(make_live_student())
    assert c_code(policy, "ab" * 32) == c_code(policy, "ab" * 32)
    assert "POLICY_PERIOD_US 20000u" in c_code(policy, "ab" * 32)
    assert "malloc(" not in c_code(policy, "ab" * 32)
    digest = bytes(range(32))
    table = c_code(policy, digest.hex()).split("policy_digest[32] = {")[1].split("}")[0]
    assert bytes(int(number) for number in table.replace("\n", " ").split(",") if number.strip()) == digest


def test_weights_that_could_overflow_are_refused(make_student: MakeStudent, compile_to: CompileTo) -> None:
    student = make_student((25, 16, 16, 1), seed=1)
    layers = tuple(replace(layer, weight=layer.weight * np.float32(1e30)) for layer in student.layers)
    with pytest.raises(ExportError, match="what float32 holds"):
        compile_to(replace(student, layers=layers))


def test_fast_mathematics_stops_the_compiler(make_student: MakeStudent, compile_to: CompileTo) -> None:
    """Integers have no arithmetic that it changes."""
    for weights, stops in (("float32", True), ("int8", False)):
        folder, _ = compile_to(make_student((5, 4, 1), history=1), weights, weights=weights)
        command = ["cc", "-ffast-math", "-fsyntax-only", "-xc", folder / "policy.h"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ("compile this policy without -ffast-math" in done.stderr) == (done.returncode != 0) == stops
