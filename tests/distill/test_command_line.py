"""The command line: standard output holds the result alone, and every failure ends in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill import command_line
from distill.config import environment_spec
from distill.errors import DistillError
from distill.standard_output import printed_to_stderr

ROOT = Path(__file__).resolve().parents[2]
CHATTY = """
import os, sys
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv

print("imported")

class Chatty(PendulumEnv):
    def reset(self, **options):
        print("reset")
        sys.__stdout__.write("past the redirection\\n")
        os.write(1, b"as C code writes\\n")
        return super().reset(**options)

gymnasium.register("Chatty-v0", Chatty, max_episode_steps=5)
"""


def matrices(path: Path) -> Path:
    """A teacher of 3 inputs and 1 action that reacts."""
    arrays = {"W0": np.eye(3), "b0": np.zeros(3), "W1": np.ones((1, 3)), "b1": np.zeros(1)}
    weights = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(path, **weights, n_layers=np.array(2), hidden_act=np.array("tanh"), out_act=np.array("clip"))
    return path


@pytest.mark.parametrize("verb", ["teacher", "collect"])
def test_what_an_environment_prints_does_not_reach_the_result(tmp_path: Path, verb: str) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY)
    teacher = str(matrices(tmp_path / "teacher.npz"))
    options = ["--env", "chatty:Chatty-v0", "--json"]
    if verb == "teacher":
        options += [teacher, "--episodes", "2"]
    else:  # 26 episodes are two shards: workers print, too
        options += ["--teacher", teacher, "--episodes", "26", "--jobs", "2", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "distill", verb, *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["episodes"] == (2 if verb == "teacher" else 26)
    assert done.stdout.count("\n") == 1
    for words in ("imported", "reset", "past the redirection", "as C code writes"):
        assert words in done.stderr


def test_standard_output_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        os.write(1, b"inside\n")
        raise DistillError("refused")

    with pytest.raises(DistillError), printed_to_stderr():
        fails()
    os.write(1, b"after\n")
    written = capfd.readouterr()
    assert written.out == "after\n"
    assert "inside" in written.err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory, expected"),
        (MemoryError("Unable to allocate 3.6 TiB for an array"), "out of memory (Unable to allocate 3.6 TiB)"),
        (
            RuntimeError(
                "[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.\n"
            ),
            "out of memory (tried to allocate 8 bytes)",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."), "(Tried to allocate 20.00 GiB)"),
    ],
)
def test_want_of_memory_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "_run", fails)
    monkeypatch.setattr(sys, "argv", ["distill", "teacher", "none.npz"])
    assert command_line.command_line() == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert words in line


def test_torch_says_what_is_looked_for() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert command_line._TORCH_OUT_OF_MEMORY.search(str(caught.value))


def test_another_runtime_error_is_a_fault_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(command_line, "_run", fails)
    monkeypatch.setattr(sys, "argv", ["distill", "teacher", "none.npz"])
    with pytest.raises(RuntimeError, match="a bug"):
        command_line.command_line()


@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "table"])
@pytest.mark.parametrize("target", ["> /dev/full", "| true"])
def test_standard_output_that_cannot_be_written_ends_in_one_line(
    tmp_path: Path, options: list[str], target: str
) -> None:
    command = [sys.executable, "-m", "distill", "study", "fig2", "--iterations", "5", "--out", str(tmp_path), *options]
    done = subprocess.run(
        ["bash", "-c", f'{{ "$@"; echo "code $?" >&2; }} {target}', "bash", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    error, code = done.stderr.splitlines()
    assert error.startswith("error: standard output: ")
    assert error.endswith("expected a place for the result; redirect it elsewhere")
    assert code == "code 1"


def test_json_never_holds_what_is_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "_run", lambda _: {"return": float("nan")})
    monkeypatch.setattr(sys, "argv", ["distill", "teacher", "none.npz", "--json"])
    assert command_line.command_line() == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("error: the result: got a number that is not finite")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999"])
def test_environment_arguments_are_finite(value: str) -> None:
    with pytest.raises(DistillError, match=r"--env-kwargs: got .*expected a JSON object of finite numbers"):
        environment_spec("hardware:CartRail-v0", f'{{"near_upright_share": {value}}}')
