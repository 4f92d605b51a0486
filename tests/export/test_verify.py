"""Every backend against the reference, and the ways in which verification must fail."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from export.c_backends import CBackend, run_backend
from export.c_code.signature import signed
from export.compile import Compiled
from export.errors import ExportError, FileFormatError, MismatchError, ToolError
from export.observations import c_reference, dataset_observations, extreme_observations, perturbed_known_observations
from export.sparse_policy import SparsePolicy
from export.student_file import Student
from export.targets.image import build_image
from export.targets.open_core import open_core
from export.targets.target import TARGETS
from export.tensor_file import encode_tensors
from export.verify import TOLERANCE, run_core, run_host_c, verify

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]


def write_dataset(path: Path, rows: int, columns: int = 25) -> np.ndarray:
    observations = np.random.default_rng(2).normal(size=(rows, columns)).astype(np.float32)
    path.write_bytes(encode_tensors({"observations": observations}, {}))
    return observations


@pytest.mark.cross
def test_every_backend_agrees_on_a_sparse_student(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    folder, compiled = compile_to(make_live_student())
    write_dataset(tmp_path / "dataset.safetensors", 3000)
    for dataset in (None, tmp_path / "dataset.safetensors"):
        verification = verify(folder, dataset, 1000)
        assert verification.ok
        assert verification.same_bits
        extreme = len(extreme_observations(compiled.policy))
        rows = (1000, 1000) if dataset is None else (2000, 2000 + 2 * 25)
        assert rows[0] + extreme <= verification.count <= rows[1] + extreme
        assert len(verification.rows) == 5
        assert max(row.max_error_fraction for row in verification.rows) <= TOLERANCE


@pytest.mark.cross
@pytest.mark.parametrize(
    "shape",
    [
        {"widths": (25, 40, 40, 1), "density": 0.15},
        {"widths": (25, 33, 17, 2), "density": 1.0},
        {"widths": (10, 9, 3), "density": 0.5, "activations": ("tanh", "identity")},
        {"widths": (300, 6, 1), "density": 0.05},
        {"widths": (25, 8, 1), "density": 0.0},
    ],
)
def test_host_and_cortex_m4f_compute_the_same_bits(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, shape: dict[str, object]
) -> None:
    folder, compiled = compile_to(make_student(**shape))
    observations = perturbed_known_observations(compiled.policy, 500)
    host = run_host_c(folder, tmp_path, compiled.policy, observations)
    core = run_core(folder, tmp_path, compiled.policy, observations)
    assert host.tobytes() == core.tobytes()
    assert len(np.unique(host)) > 1 or compiled.policy.kept_weights == 0


@pytest.mark.cross
@pytest.mark.avr
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_a_header_for_avr_runs_everywhere(make_student: MakeStudent, compile_to: CompileTo, weights: str) -> None:
    folder, _ = compile_to(make_student((10, 12, 1), 0.3), weights=weights, target="avr")
    assert "PROGMEM" in (folder / "policy.h").read_text()
    verification = verify(folder, count=50, targets=("cortex-m4f", "avr"))
    assert verification.ok
    assert verification.same_bits
    assert {"C on this machine", "C on AVR"} <= {row.backend for row in verification.rows}


@pytest.mark.cross
def test_a_changed_weight_in_the_header_fails(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    """One value 0.1 % off, with the right digest: caught by the signature, and where that is right by the self test."""
    folder, compiled = compile_to(make_live_student())
    header = folder / "policy.h"
    value = f"{float(compiled.policy.layers[-1].matrix.data[0]):.9g}f"
    text = header.read_text()
    assert value in text
    changed = text.replace(value, f"{float(compiled.policy.layers[-1].matrix.data[0]) * 1.001:.9g}f")
    header.write_text(changed)
    with pytest.raises(MismatchError, match="was changed after `compile` wrote it"):
        verify(folder, count=10)
    header.write_text(signed(changed.rpartition("/* sha256")[0]))
    with pytest.raises(MismatchError, match="self test fails"):
        verify(folder, count=10)


@pytest.mark.parametrize("name", ["policy.h", "policy.onnx"])
def test_files_of_another_policy_are_named(make_live_student: MakeStudent, compile_to: CompileTo, name: str) -> None:
    folder, _ = compile_to(make_live_student())
    other, _ = compile_to(make_live_student(seed=9), "other")
    (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(MismatchError, match=r"another policy\.safetensors: it carries digest \w{12}, expected \w{12}"):
        verify(folder, count=5)


@pytest.mark.parametrize("name", ["policy.h", "policy.onnx", "policy.safetensors"])
@pytest.mark.parametrize("damage", ["absent", "truncated"])
def test_absent_and_truncated_files(
    make_live_student: MakeStudent, compile_to: CompileTo, name: str, damage: str
) -> None:
    folder, _ = compile_to(make_live_student())
    data = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage == "truncated":
        (folder / name).write_bytes(data[: len(data) // 3])
    with pytest.raises(ExportError, match=name):
        verify(folder, count=5)


def test_dataset_rows_are_evenly_spaced_and_checked(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    policy: SparsePolicy = compile_to(make_live_student())[1].policy
    path = tmp_path / "dataset.safetensors"
    observations = write_dataset(path, 101)
    chosen = dataset_observations(path, policy, 11)
    np.testing.assert_array_equal(chosen[:11], observations[::10])
    for extreme in (observations.min(axis=0), observations.max(axis=0)):
        assert np.isin(extreme, chosen).all()
    assert len(np.unique(chosen, axis=0)) == len(chosen) <= 11 + 2 * 25
    assert len(dataset_observations(path, policy, 1000)) == 101
    write_dataset(path, 10, 24)
    with pytest.raises(FileFormatError, match=r"shape \(10, 24\), expected \(n, 25\)"):
        dataset_observations(path, policy, 5)
    with pytest.raises(FileFormatError, match="no such file"):
        dataset_observations(tmp_path / "absent", policy, 5)


def test_missing_compilers_name_the_package(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, compiled = compile_to(make_live_student())
    observations = perturbed_known_observations(compiled.policy, 2)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install gcc"):
        run_host_c(folder, tmp_path, compiled.policy, observations)
    with pytest.raises(ToolError, match="apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"):
        run_core(folder, tmp_path, compiled.policy, observations)


@pytest.mark.cross
def test_a_fault_on_the_core_is_an_error_not_a_hang(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    folder, _ = compile_to(make_live_student())
    target = TARGETS["cortex-m4f"]
    build_image(target, folder, tmp_path / "policy.elf", "harness.c")
    with pytest.raises(ToolError, match="emulated Cortex-M4F stopped in run_batch"):
        open_core(target, tmp_path / "policy.elf").call("run_batch", 0x90000000, 0x90000000, 1)


def test_a_backend_that_gives_nan_fails_with_null_in_json(
    make_student: MakeStudent,
    compile_to: CompileTo,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = compile_to(make_student((25, 16, 16, 1), seed=1))
    monkeypatch.setattr("export.verify.run_backend", lambda *given: np.full((len(given[-1]), 1), np.nan, np.float32))
    monkeypatch.setattr("sys.argv", ["export", "verify", str(folder), "--count", "20"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "fails verification: " in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["export", "verify", str(folder), "--count", "20", "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verify_max_error"] is None
    assert "do not flash it" in err


@pytest.mark.cross
def test_thorough_runs_every_compiler_and_target(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, _ = compile_to(make_live_student((20, 30, 10), 16))
    verification = verify(folder, count=50, thorough=True)
    assert verification.ok
    names = {row.backend for row in verification.rows} | {line.split(":")[0] for line in verification.left_out}
    compilers = {f"C, {compiler} {level}" for compiler in ("gcc", "clang") for level in ("-O0", "-O2", "-Os")}
    assert names == {
        *("known answers", "scipy float32", "onnxruntime", "C on this machine"),
        *compilers,
        "C, address and undefined-behaviour sanitisers",
        *(f"C on {target.title}" for target in TARGETS.values() if target.family != "host"),
    }


SANITISED = CBackend("sanitised", TARGETS["host"], sanitised=True)


def spoil_step(folder: Path, flaw: str) -> None:
    """Put `flaw` after policy_step."""
    header = folder / "policy.h"
    text = header.read_text()
    end = text.rindex("#endif")
    step = "(policy_state_t *state, const float *observation, float *action) {\n"
    body = f"    policy_step(state, observation, action);\n    {flaw}\n}}\n#define policy_step flawed_step\n"
    header.write_text(text[:end] + "static inline void flawed_step" + step + body + text[end:])


@pytest.mark.parametrize(
    ("flaw", "found"),
    [
        ("volatile int32_t big = INT32_MAX; big = big + 1;", "signed integer overflow"),
        ("action[POLICY_ACTION_SIZE] = 0.0f;", "heap-buffer-overflow"),
        (
            "static const float table[2] = {1.0f, 2.0f}; volatile int index = 2; action[0] += 0.0f * table[index];",
            "out of bounds",
        ),
    ],
)
def test_sanitisers_find_what_shows_in_no_action(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, flaw: str, found: str
) -> None:
    folder, compiled = compile_to(make_student((5, 4, 1), history=1))
    observations = perturbed_known_observations(compiled.policy, 5)
    clean = run_backend(SANITISED, folder, tmp_path, compiled.policy, observations)
    np.testing.assert_array_equal(clean, run_host_c(folder, tmp_path, compiled.policy, observations))
    spoil_step(folder, flaw)
    with pytest.raises(MismatchError, match=f"policy.h: the sanitised build stops: .*{found}"):
        run_backend(SANITISED, folder, tmp_path, compiled.policy, observations)


def test_a_step_that_differs_from_evaluate_is_found(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    folder, compiled = compile_to(make_student((10, 4, 1), history=2))
    spoil_step(folder, "action[0] *= 1.0000002f;")
    with pytest.raises(MismatchError, match="policy_step and policy_evaluate differ for"):
        run_backend(SANITISED, folder, tmp_path, compiled.policy, perturbed_known_observations(compiled.policy, 20))


def test_tolerance_follows_what_single_precision_can_do(
    make_live_student: MakeStudent, compile_to: CompileTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times scipy's error, at least TOLERANCE; void where scipy itself computes nonsense."""
    folder, compiled = compile_to(make_live_student())
    policy = compiled.policy

    def tolerances(error: float) -> tuple[bool, set[float]]:
        shift = np.float32(2 * error)
        monkeypatch.setattr(SparsePolicy, "evaluate_float32", lambda self, x: self.evaluate(x) + shift)
        verification = verify(folder, count=50, targets=())
        return verification.ok, {round(row.tolerance, 9) for row in verification.rows}

    assert float(policy.action_high[0] - policy.action_low[0]) == 2
    assert tolerances(1e-8) == (True, {TOLERANCE})
    assert tolerances(1e-6) == (True, {4e-6})
    assert tolerances(2e-3) == (False, {TOLERANCE})
    assert tolerances(float("nan")) == (False, {TOLERANCE})


@pytest.mark.cross
def test_integer_weights_are_compared_to_the_bit(
    make_live_student: MakeStudent, compile_to: CompileTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = compile_to(make_live_student(), weights="int8")

    def one_bit_off(policy: SparsePolicy, observations: np.ndarray) -> np.ndarray:
        actions = policy.evaluate_exact(observations)
        actions[-1, 0] = np.nextafter(actions[-1, 0], np.float32(2))
        return actions

    for answers, passes in ((c_reference, True), (one_bit_off, False)):
        monkeypatch.setattr("export.verify.c_reference", answers)
        verification = verify(folder, count=50)
        rows = [row for row in verification.rows if row.backend.startswith("C ")]
        assert {row.tolerance for row in rows} == {0.0}
        assert len(rows) == 2
        assert verification.ok == all(row.ok for row in rows) == passes
