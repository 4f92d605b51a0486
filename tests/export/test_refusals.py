"""What `python -m export` refuses: one line that says what, got and expected, and the files stay as they were."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors import safe_open

from export.compile import Compiled
from export.student_file import Student, write_student
from export.tensor_file import encode_tensors

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]
RunHere = Callable[..., tuple[int, str, str]]


def test_bad_input_is_one_line_and_exit_1(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, run_here: RunHere
) -> None:
    policy, _ = compile_to(make_live_student())
    narrow = tmp_path / "narrow.safetensors"
    narrow.write_bytes(encode_tensors({"observations": np.zeros((4, 24), np.float32)}, {}))
    absent, broken = tmp_path / "absent", tmp_path / "broken.safetensors"
    student = make_live_student()
    write_student(broken, student)
    broken.write_bytes(broken.read_bytes()[:-7])
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, not a folder")
    good = tmp_path / "good.safetensors"
    write_student(good, student)
    nan = tmp_path / "nan.safetensors"
    tensors = {"observation_mean": np.full(5, np.nan, np.float32)}
    nan.write_bytes(
        encode_tensors(tensors, {"format": "bpd-student", "format_version": "1", "activations": '["tanh"]'})
    )
    for arguments in (
        ("compile", absent, "--out", tmp_path / "out"),
        ("compile", broken, "--out", tmp_path / "out"),
        ("compile", nan, "--out", tmp_path / "out"),
        ("compile", good, "--out", blocked),
        ("compile", good, "--out", blocked / "below"),
        ("compile", good, "--out", "/proc/policy"),
        ("compile", good, "--out", tmp_path / "out", "--threshold", "2.5"),
        ("compile", tmp_path, "--out", tmp_path / "out"),
        ("compile", good, "--out", tmp_path / "out", "--threshold", "1e300"),
        ("compile", good, "--out", tmp_path / "out", "--threshold", "nan"),
        ("verify", absent),
        ("verify", policy, "--count", "0"),
        ("verify", policy, "--count", "-5"),
        ("verify", policy, "--count", "1000000000"),
        ("verify", policy, "--dataset", tmp_path),
        ("verify", policy, "--dataset", good),
        ("verify", policy, "--dataset", narrow),
        ("verify", tmp_path),
        ("measure", good),
    ):
        code, out, err = run_here(*arguments)
        assert code == 1, arguments
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def compiled(make_live_student: MakeStudent, compile_to: CompileTo) -> tuple[Path, Path, dict[str, bytes]]:
    """A student file, the folder compiled from it, and what is in that folder."""
    folder, _ = compile_to(make_live_student())
    return folder.with_name("policy.student.safetensors"), folder, contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(run_here: RunHere, *arguments: object) -> str:
    """The line with which `compile` refuses."""
    code, out, err = run_here("compile", *arguments)
    assert (code, out) == (1, ""), (arguments, err)
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


def test_students_that_cannot_be_are_refused_and_the_policy_stays(
    compiled: tuple[Path, Path, dict[str, bytes]], run_here: RunHere, tmp_path: Path
) -> None:
    student, folder, before = compiled
    with safe_open(student, framework="numpy") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        metadata = opened.metadata()
    weight = tensors["layer0.weight"]
    nan, infinite = weight.copy(), weight.copy()
    nan[3, 2], infinite[3, 2] = np.nan, -np.inf
    zeros = np.zeros
    changes: dict[str, tuple[dict[str, np.ndarray], dict[str, str]]] = {
        "holds nan at index (3, 2)": ({"layer0.weight": nan}, {}),
        "holds -inf at index (3, 2)": ({"layer0.weight": infinite}, {}),
        "'layer1.weight' has shape (0, 64), expected (n, 64), no side of length 0": (
            {"layer1.weight": zeros((0, 64), np.float32), "layer1.bias": zeros(0, np.float32)},
            {},
        ),
        "'layer0.weight' has shape (64, 0)": ({"layer0.weight": zeros((64, 0), np.float32)}, {}),
        "'format_version' is '2', expected '1'": ({}, {"format_version": "2"}),
        "could make sums of": ({"layer0.weight": np.where(weight != 0, np.float32(1e38), 0).astype(np.float32)}, {}),
    }
    path = tmp_path / "changed.safetensors"
    for words, (arrays, texts) in changes.items():
        path.write_bytes(encode_tensors({**tensors, **arrays}, {**metadata, **texts}))
        for options in ((), ("--weights", "int8")):
            assert words in refused(run_here, path, "--out", folder, *options)
            assert contents(folder) == before
    for size in (1e10, 1e30):
        large = np.where(weight != 0, np.float32(size), 0).astype(np.float32)
        path.write_bytes(encode_tensors({**tensors, "layer0.weight": large}, metadata))
        assert "are so large (" in refused(run_here, path, "--out", folder, "--weights", "int8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--weights int4", "--weights is 'int4', expected float32, int8, int16, or"),
        ("--weights int8,int8", "one for each of 3 layers"),
        ("--weights float32,int8,int8", "one for each of 3 layers"),
        ("--budget-flash 10 --target host", "nothing is counted on the host"),
        ("--weights int8 --observation-range 0 1", "has 1 pairs [[0.0, 1.0]], expected 5"),
        ("--weights int8 --observation-range" + 5 * " 1 0", "of finite LOW < HIGH"),
        ("--weights int8 --observation-range" + 5 * " nan 1", "of finite LOW < HIGH"),
        ("--weights int8 --observation-range" + 5 * " 0 inf", "of finite LOW < HIGH"),
        ("--weights int8 --observation-range" + 5 * " 0 1e-300", "2**1011, expected exponents of -100 to 100"),
        ("--weights int8 --observation-range" + 5 * " -1e300 1e300", "expected exponents of -100 to 100"),
        ("--observation-range" + 5 * " 0 1", "--weights is float32"),
        ("--dataset absent", "--weights is float32"),
        ("--weights int8 --dataset absent", "absent: no such file"),
    ],
)
def test_options_of_compile_that_cannot_be_are_refused_and_the_policy_stays(
    compiled: tuple[Path, Path, dict[str, bytes]], run_here: RunHere, options: str, words: str
) -> None:
    student, folder, before = compiled
    assert words in refused(run_here, student, "--out", folder, *options.split())
    assert contents(folder) == before


@pytest.mark.cross
def test_a_budget_that_nothing_fits_leaves_the_policy(
    compiled: tuple[Path, Path, dict[str, bytes]], run_here: RunHere
) -> None:
    student, folder, before = compiled
    line = refused(run_here, student, "--out", folder, "--budget-flash", "10")
    assert "--budget-flash 10: the smallest code takes" in line
    assert contents(folder) == before


def test_datasets_of_another_kind_are_refused(
    compiled: tuple[Path, Path, dict[str, bytes]], run_here: RunHere, tmp_path: Path
) -> None:
    student, folder, before = compiled
    path = tmp_path / "dataset.safetensors"
    for rows, words in (
        (np.zeros((50, 24), np.float32), "has shape (50, 24), expected (n, 25)"),
        (np.zeros((0, 25), np.float32), "no side of length 0"),
        (np.full((50, 25), np.nan, np.float32), "holds nan at index (0, 0)"),
        (np.zeros((50, 25), np.int32), "is int32, expected float32"),
    ):
        path.write_bytes(encode_tensors({"observations": rows}, {}))
        assert words in refused(run_here, student, "--out", folder, "--weights", "int8", "--dataset", path)
        assert contents(folder) == before


@pytest.mark.parametrize("options", [(), ("--weights", "int8")])
def test_a_file_limit_is_one_line_and_the_policy_stays(
    compiled: tuple[Path, Path, dict[str, bytes]], options: tuple[str, ...]
) -> None:
    """What a full disk is to the kernel, for real: no file may grow beyond 1 KiB."""
    student, folder, before = compiled
    done = subprocess.run(
        [sys.executable, "-m", "export", "compile", student, "--out", folder, *options],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot write into {folder}: File too large")
    assert done.stderr.count("\n") == 1
    assert contents(folder) == before


def test_missing_cross_compiler_is_one_line(
    make_live_student: MakeStudent,
    compile_to: CompileTo,
    tmp_path: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = compile_to(make_live_student())
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    code, _, err = run_here("measure", folder)
    assert code == 1
    assert "apt-get install gcc-arm-none-eabi" in err
    assert err.count("\n") == 1


def test_the_student_is_not_overwritten(make_live_student: MakeStudent, tmp_path: Path, run_here: RunHere) -> None:
    path = tmp_path / "policy.safetensors"
    write_student(path, make_live_student())
    before = path.read_bytes()
    assert "is the student itself; choose another folder" in refused(run_here, path, "--out", tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("limits", [(0.0, 1e-45), (16777216.0, 16777218.0), (1e6, 1000001.0)])
def test_policies_that_would_fail_their_self_test_are_refused(
    make_student: MakeStudent, tmp_path: Path, run_here: RunHere, limits: tuple[float, float]
) -> None:
    path = tmp_path / "student.safetensors"
    write_student(path, make_student((5, 4, 1), history=1, low=limits[0], high=limits[1]))
    assert "in float32 the policy is off by" in refused(run_here, path, "--out", tmp_path / "policy")


@pytest.mark.cross
def test_a_header_that_was_cut_or_changed_is_refused_by_every_verb(
    make_live_student: MakeStudent, compile_to: CompileTo, run_here: RunHere, tmp_path: Path
) -> None:
    folder, _ = compile_to(make_live_student())
    whole = (folder / "policy.h").read_bytes()
    verbs: list[tuple[object, ...]] = [
        ("verify", folder),
        ("measure", folder),
        ("package", folder, "--as", "split", "--out", tmp_path / "split"),
    ]
    for damaged in (b"\xff\xfe" + whole, whole[:-300], whole.replace(b"0.", b"1.", 1), whole + b"\n"):
        (folder / "policy.h").write_bytes(damaged)
        for verb in verbs:
            code, _, err = run_here(*verb)
            assert code == 1
            assert "policy.h was changed after `compile` wrote it" in err
            assert err.count("\n") == 1


def test_a_model_with_other_names_is_one_line(
    make_live_student: MakeStudent, compile_to: CompileTo, run_here: RunHere
) -> None:
    folder, _ = compile_to(make_live_student())
    model = onnx.load(folder / "policy.onnx")
    for node in model.graph.node:
        node.input[:] = ["other" if name == "observation" else name for name in node.input]
    model.graph.input[0].name = "other"
    onnx.save(model, folder / "policy.onnx")
    code, _, err = run_here("verify", folder)
    assert code == 1
    assert "policy.onnx: " in err
    assert err.count("\n") == 1
