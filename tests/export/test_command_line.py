"""The command line as a user meets it: exit codes, one-line errors, JSON, and files that survive failures."""

import errno
import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.__main__ import main
from export.compile import Compiled, build_policy, compile_student
from export.errors import ExportError
from export.policy_file import read_policy
from export.student_file import Student, write_student
from export.tensor_file import encode_tensors
from export.verify import run_host_c

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "export", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def run_here(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process: one import of the heavy packages for all tests."""
    sys.argv = ["export", *map(str, arguments)]
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.mark.cross
def test_three_verbs_give_one_json_object_each(make_live_student: MakeStudent, tmp_path: Path) -> None:
    write_student(tmp_path / "student.safetensors", make_live_student())
    folder = tmp_path / "new" / "policy"
    results = {}
    for verb, arguments in {
        "compile": (tmp_path / "student.safetensors", "--out", folder),
        "verify": (folder, "--count", "50"),
        "measure": (folder,),
    }.items():
        done = run(verb, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        results[verb] = json.loads(done.stdout)
        assert results[verb]["seconds"] > 0
    digest = hashlib.sha256((folder / "policy.safetensors").read_bytes()).hexdigest()
    assert {result["policy_digest"] for result in results.values()} == {digest}
    assert sorted(path.name for path in folder.iterdir()) == ["policy.h", "policy.onnx", "policy.safetensors"]
    compiled = results["compile"]
    assert compiled["kept_weights"] == build_policy(make_live_student()).kept_weights
    assert compiled["kept_parameters"] >= compiled["kept_weights"]
    assert compiled["density"] == pytest.approx(compiled["kept_weights"] / (25 * 64 + 64 * 64 + 64))
    assert compiled["bytes"] == sum(compiled["bytes_parts"].values())
    assert results["verify"]["verify_max_error"] <= 1e-6
    assert all(
        set(row) == {"backend", "max_error", "max_error_fraction", "tolerance", "ok"}
        for row in results["verify"]["rows"]
    )
    assert results["measure"]["flash_bytes"] <= 4430


def test_tables_are_printed_for_people(
    make_live_student: MakeStudent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_student(tmp_path / "student.safetensors", make_live_student())
    code, out, err = run_here(capsys, "compile", tmp_path / "student.safetensors", "--out", tmp_path / "policy")
    assert code == 0
    assert "kept weights" in out
    assert str(build_policy(make_live_student()).kept_weights) in out
    assert err == ""


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["compile"], ["verify", "x", "--count", "many"]])
def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run_here(capsys, *arguments)[0] == 2


def test_bad_input_is_one_line_and_exit_1(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
        code, out, err = run_here(capsys, *arguments)
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


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line with which `compile` refuses."""
    code, out, err = run_here(capsys, "compile", *arguments)
    assert (code, out) == (1, ""), (arguments, err)
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


def test_students_that_cannot_be_are_refused_and_the_policy_stays(
    compiled: tuple[Path, Path, dict[str, bytes]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from safetensors import safe_open

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
            assert words in refused(capsys, path, "--out", folder, *options)
            assert contents(folder) == before
    for size in (1e10, 1e30):
        large = np.where(weight != 0, np.float32(size), 0).astype(np.float32)
        path.write_bytes(encode_tensors({**tensors, "layer0.weight": large}, metadata))
        assert "are so large (" in refused(capsys, path, "--out", folder, "--weights", "int8")


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
    compiled: tuple[Path, Path, dict[str, bytes]], capsys: pytest.CaptureFixture[str], options: str, words: str
) -> None:
    student, folder, before = compiled
    assert words in refused(capsys, student, "--out", folder, *options.split())
    assert contents(folder) == before


@pytest.mark.cross
def test_a_budget_that_nothing_fits_leaves_the_policy(
    compiled: tuple[Path, Path, dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    student, folder, before = compiled
    line = refused(capsys, student, "--out", folder, "--budget-flash", "10")
    assert "--budget-flash 10: the smallest code takes" in line
    assert contents(folder) == before


def test_datasets_of_another_kind_are_refused(
    compiled: tuple[Path, Path, dict[str, bytes]], capsys: pytest.CaptureFixture[str], tmp_path: Path
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
        assert words in refused(capsys, student, "--out", folder, "--weights", "int8", "--dataset", path)
        assert contents(folder) == before


@pytest.mark.parametrize("options", [(), ("--weights", "int8")])
def test_a_file_limit_is_one_line_and_the_policy_stays(
    compiled: tuple[Path, Path, dict[str, bytes]], options: tuple[str, ...]
) -> None:
    """What a full disk is to the kernel, for real: no file may grow beyond 1 KiB."""
    import resource

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


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_300_columns_and_more_weights_than_16_bits_count(
    make_student: MakeStudent, compile_to: CompileTo, weights: str
) -> None:
    for widths in ((300, 6, 1), (200, 500, 1)):
        folder, compiled = compile_to(make_student(widths, (0.7, 1.0)), str(widths[0]), weights=weights)
        if widths[0] == 200:
            assert compiled.policy.kept_weights > 65_535
        observations = np.random.default_rng(0).normal(0, 1, (20, widths[0])).astype(np.float32)
        actions = run_host_c(folder, folder, read_policy(folder), observations)
        if weights == "int8":
            assert actions.tobytes() == compiled.policy.evaluate_exact(observations).tobytes()
        else:
            np.testing.assert_allclose(actions, compiled.policy.evaluate(observations), atol=2e-5)


def test_interrupt_while_packages_load_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = run("verify", tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "error: interrupted; every file is whole, run it again\n"


def test_threshold_warning_goes_to_stderr(
    make_student: MakeStudent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "student.safetensors"
    write_student(path, make_student(density=0.1, posterior=True))
    code, out, err = run_here(capsys, "compile", path, "--out", tmp_path / "p", "--threshold", "1", "--json")
    assert code == 0
    assert json.loads(out)["warnings"]
    assert "fine-tuned weights are lost" in err


def test_missing_cross_compiler_is_one_line(
    make_live_student: MakeStudent,
    compile_to: CompileTo,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = compile_to(make_live_student())
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    code, _, err = run_here(capsys, "measure", folder)
    assert code == 1
    assert "apt-get install gcc-arm-none-eabi" in err
    assert err.count("\n") == 1


def test_full_disk_keeps_the_previous_outputs(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = compile_to(make_live_student())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = tmp_path / "other.safetensors"
    write_student(other, make_live_student(seed=8))
    calls = iter([None, None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])

    def full(_descriptor: int) -> None:
        if (error := next(calls)) is not None:
            raise error

    monkeypatch.setattr("export.replace_files.os.fsync", full)
    with pytest.raises(ExportError, match="No space left on device"):
        compile_student(other, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_failure_between_two_renames_names_what_was_replaced(
    make_live_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = compile_to(make_live_student())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = tmp_path / "other.safetensors"
    write_student(other, make_live_student(seed=8))
    rename = Path.replace

    def refuse_the_second(path: Path, target: Path) -> Path:
        if target.name == "policy.onnx":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refuse_the_second)
    with pytest.raises(ExportError, match=r"only policy\.safetensors replaced"):
        compile_student(other, folder)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert [name for name in before if before[name] != after.pop(name)] == ["policy.safetensors"]
    assert not after, "temporary files are left"


def test_full_device_for_the_result_is_an_error(make_live_student: MakeStudent, tmp_path: Path) -> None:
    write_student(tmp_path / "student.safetensors", make_live_student())
    command = [
        sys.executable,
        "-m",
        "export",
        "compile",
        tmp_path / "student.safetensors",
        "--out",
        tmp_path / "p",
        "--json",
    ]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_compile_needs_no_torch_and_teachers_pass_the_same_door(make_student: MakeStudent, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    write_student(path, replace(make_student((25, 256, 256, 1)), role="teacher"))
    code = (
        "import sys; from pathlib import Path; from export.compile import compile_student\n"
        f"compiled = compile_student(Path({str(path)!r}), Path({str(tmp_path / 'p')!r}))\n"
        "assert compiled.policy.role == 'teacher'; assert compiled.policy.kept_parameters == 72705\n"
        "assert 'torch' not in sys.modules and 'unicorn' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_paths_and_metadata_are_no_markup(
    make_live_student: MakeStudent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "student.safetensors"
    write_student(path, replace(make_live_student(), config={"teacher_parameters": {"[red]": "[/nope]"}}))
    folder = tmp_path / "[bold]a[/b]"
    code, out, err = run_here(capsys, "compile", path, "--out", folder)
    assert (code, err) == (0, "")
    assert "[bold]a[/b]" in out.replace("\n", "").replace(" ", "").replace("│", "")


def test_the_student_is_not_overwritten(
    make_live_student: MakeStudent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.safetensors"
    write_student(path, make_live_student())
    before = path.read_bytes()
    assert "is the student itself; choose another folder" in refused(capsys, path, "--out", tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("limits", [(0.0, 1e-45), (16777216.0, 16777218.0), (1e6, 1000001.0)])
def test_policies_that_would_fail_their_self_test_are_refused(
    make_student: MakeStudent, tmp_path: Path, capsys: pytest.CaptureFixture[str], limits: tuple[float, float]
) -> None:
    path = tmp_path / "student.safetensors"
    write_student(path, make_student((5, 4, 1), history=1, low=limits[0], high=limits[1]))
    assert "in float32 the policy is off by" in refused(capsys, path, "--out", tmp_path / "policy")


@pytest.mark.cross
def test_a_header_that_was_cut_or_changed_is_refused_by_every_verb(
    make_live_student: MakeStudent, compile_to: CompileTo, capsys: pytest.CaptureFixture[str], tmp_path: Path
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
            code, _, err = run_here(capsys, *verb)
            assert code == 1
            assert "policy.h was changed after `compile` wrote it" in err
            assert err.count("\n") == 1


def test_a_model_with_other_names_is_one_line(
    make_live_student: MakeStudent, compile_to: CompileTo, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = compile_to(make_live_student())
    model = onnx.load(folder / "policy.onnx")
    for node in model.graph.node:
        node.input[:] = ["other" if name == "observation" else name for name in node.input]
    model.graph.input[0].name = "other"
    onnx.save(model, folder / "policy.onnx")
    code, _, err = run_here(capsys, "verify", folder)
    assert code == 1
    assert "policy.onnx: " in err
    assert err.count("\n") == 1


def test_a_closed_output_is_one_line(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m export measure {shlex.quote(str(tmp_path))} --json >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: standard output is closed, expected a place for the answer; redirect it\n"


@pytest.mark.cross
def test_the_file_stands_for_its_folder(
    make_live_student: MakeStudent, compile_to: CompileTo, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = compile_to(make_live_student())
    for verb in ("verify", "measure"):
        assert run_here(capsys, verb, folder / "policy.safetensors", "--json")[0] == 0
