"""The whole way round by the command line, small: teacher -> student -> C -> firmware -> closed loop."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEACHER = ROOT / "teachers" / "cart_rail.safetensors"
SMALL = [
    *("--iterations", "2000", "--round-iterations", "1000", "--episodes", "6", "--selection-episodes", "5"),
    *("--fine-tune-iterations", "200", "--fine-tune-doublings", "0", "--kept-weights", "1500"),
]


def verb(room: str, *arguments: object) -> dict[str, Any]:
    """Run `python -m room ... --json`; its one JSON object."""
    done = subprocess.run(
        [sys.executable, "-m", room, *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{room} {arguments[0]}: {done.stderr[-2000:]}"
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    assert "seconds" in answer
    return answer


def closed_loop(folder: Path, policy: Path, image: str, mode: str) -> dict[str, Any]:
    return verb(
        "firmware_bridge",
        "run",
        *("--port", "sim:", "--image", image, "--policy", policy, "--mode", mode),
        *("--clock", "lockstep", "--duration-s", "10", "--log", folder / mode),
    )


@pytest.mark.slow
@pytest.mark.cross
def test_student_goes_all_the_way_round(tmp_path: Path) -> None:
    distilled = verb(
        "distill", "train", "--teacher", TEACHER, "--out", tmp_path / "d", *SMALL, "--evaluation-episodes", "5"
    )
    policy = tmp_path / "policy"
    compiled = verb("export", "compile", distilled["student"], "--out", policy)
    assert compiled["kept_weights"] == distilled["kept_weights"]
    assert compiled["kept_parameters"] == distilled["kept_parameters"]
    verified = verb("export", "verify", policy, "--dataset", distilled["dataset"], "--count", "200")
    assert verified["verify_max_error"] <= 1e-6
    assert verified["same_bits"]
    measured = verb("export", "measure", policy)
    assert measured["flash_bytes"] >= compiled["bytes"] - 256
    image = verb("hardware", "build", "--board", "host", "--policy", policy, "--out", tmp_path / "firmware")
    assert image["policy_digest"] == compiled["policy_digest"]
    runs = [closed_loop(tmp_path, policy, image["image"], mode) for mode in ("host", "device")]
    assert runs[0]["trajectory_sha256"] == runs[1]["trajectory_sha256"]
    for run in runs:
        assert run["policy_digest"] == compiled["policy_digest"]
        assert (run["crc_errors"], run["lost"]) == (0, 0)


@pytest.mark.slow
def test_teacher_in_c_balances_through_the_real_firmware(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    verb("export", "compile", TEACHER, "--out", policy)
    image = verb("hardware", "build", "--board", "host", "--policy", policy, "--out", tmp_path / "firmware")
    for mode in ("host", "device", "shadow"):
        run = closed_loop(tmp_path, policy, image["image"], mode)
        assert run["upright_fraction_last_3s"] == 1.0
        assert run["steps"] == 500
        assert (run["crc_errors"], run["lost"], run["deadline_misses"], run["faults"]) == (0, 0, 0, [])
