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
import pytest

from export.compile import Compiled, build_policy, compile_student
from export.errors import ExportError
from export.policy_file import read_policy
from export.student_file import Student, write_student
from export.verify import run_host_c

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]
RunHere = Callable[..., tuple[int, str, str]]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "export", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


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


def test_tables_are_printed_for_people(make_live_student: MakeStudent, tmp_path: Path, run_here: RunHere) -> None:
    write_student(tmp_path / "student.safetensors", make_live_student())
    code, out, err = run_here("compile", tmp_path / "student.safetensors", "--out", tmp_path / "policy")
    assert code == 0
    assert "kept weights" in out
    assert str(build_policy(make_live_student()).kept_weights) in out
    assert err == ""


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["compile"], ["verify", "x", "--count", "many"]])
def test_usage_errors_exit_with_2(run_here: RunHere, arguments: list[str]) -> None:
    assert run_here(*arguments)[0] == 2


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


def test_threshold_warning_goes_to_stderr(make_student: MakeStudent, tmp_path: Path, run_here: RunHere) -> None:
    path = tmp_path / "student.safetensors"
    write_student(path, make_student(density=0.1, posterior=True))
    code, out, err = run_here("compile", path, "--out", tmp_path / "p", "--threshold", "1", "--json")
    assert code == 0
    assert json.loads(out)["warnings"]
    assert "fine-tuned weights are lost" in err


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


def test_paths_and_metadata_are_no_markup(make_live_student: MakeStudent, tmp_path: Path, run_here: RunHere) -> None:
    path = tmp_path / "student.safetensors"
    write_student(path, replace(make_live_student(), config={"teacher_parameters": {"[red]": "[/nope]"}}))
    folder = tmp_path / "[bold]a[/b]"
    code, out, err = run_here("compile", path, "--out", folder)
    assert (code, err) == (0, "")
    assert "[bold]a[/b]" in out.replace("\n", "").replace(" ", "").replace("│", "")


def test_a_closed_output_is_one_line(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m export measure {shlex.quote(str(tmp_path))} --json >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: standard output is closed, expected a place for the answer; redirect it\n"


@pytest.mark.cross
def test_the_file_stands_for_its_folder(
    make_live_student: MakeStudent, compile_to: CompileTo, run_here: RunHere
) -> None:
    folder, _ = compile_to(make_live_student())
    for verb in ("verify", "measure"):
        assert run_here(verb, folder / "policy.safetensors", "--json")[0] == 0
