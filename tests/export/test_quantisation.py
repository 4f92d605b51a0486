"""What integers cost against the float policy: judged on other observations than they were fitted to, kept, checked."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.export_networks import network
from export.calibration import calibration
from export.compile import Compiled, build_policy, compiled_summary
from export.errors import FileFormatError
from export.policy_file import read_policy
from export.quantisation import Quantisation, quantisation
from export.student_file import Student
from export.tensor_file import encode_tensors

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]


def dataset(path: Path, rows: int, scale: float = 1.0) -> Path:
    observations = scale * np.random.default_rng(5).normal(size=(rows, 25)).astype(np.float32)
    path.write_bytes(encode_tensors({"observations": observations.astype(np.float32)}, {}))
    return path


@pytest.mark.parametrize("weights", ["int8", "int16"])
def test_the_error_is_that_of_the_float_policy(make_live_student: MakeStudent, weights: str) -> None:
    student = make_live_student()
    policy, floats = build_policy(student, weights=weights), build_policy(student)
    given = calibration(student, None, None)
    inside = ~policy.fixed.beyond(given.held_out).any(axis=1)
    error = np.abs(policy.evaluate_exact(given.held_out) - floats.evaluate(given.held_out))[inside] / 2
    assert policy.quantisation is not None
    assert policy.quantisation.largest_error == pytest.approx(error.max(), rel=0.01)
    assert policy.quantisation.rms_error == pytest.approx(np.sqrt((error**2).mean()), rel=0.01)
    assert policy.quantisation.saturated == pytest.approx(1 - inside.mean())
    assert 0 < policy.quantisation.rms_error < policy.quantisation.largest_error < 0.05


@pytest.mark.parametrize("weights", ["int8", "int16"])
def test_refinement_brings_integers_closer_on_other_observations(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few drawn observations saturate: no integer mends that, and none may be spoilt by trying."""
    student = network("student")
    refined = build_policy(student, weights=weights).quantisation
    monkeypatch.setattr("export.integer_policy._SWEEPS", 0)
    rounded = build_policy(student, weights=weights).quantisation
    assert refined is not None
    assert rounded is not None
    assert refined.saturated > 0
    assert refined.rms_error < 0.75 * rounded.rms_error
    assert refined.largest_error < rounded.largest_error


@pytest.mark.parametrize("rows", [100, 101, 5000, 9000])
def test_no_row_is_fitted_and_judged_by(make_student: MakeStudent, tmp_path: Path, rows: int) -> None:
    given = calibration(make_student((25, 8, 1)), dataset(tmp_path / "d.safetensors", rows), None)
    fitted, held_out = ({row.tobytes() for row in each} for each in (given.fitted, given.held_out))
    assert not fitted & held_out
    assert min(50, rows // 2) <= len(held_out) <= 4000
    assert len(fitted) == min(4000, (rows + 1) // 2)


def test_few_rows_are_refused(make_student: MakeStudent, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="it has 99 observations, expected at least 100"):
        calibration(make_student((25, 8, 1)), dataset(tmp_path / "d.safetensors", 99), None)


def test_a_range_that_observations_leave_is_warned_of(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    student = make_student((25, 8, 1))
    data = dataset(tmp_path / "d.safetensors", 400)
    _, wide = compile_to(student, weights="int8", dataset=data)
    assert wide.warnings == ()
    folder, narrow = compile_to(student, "narrow", weights="int8", dataset=data, observation_range=((-1.0, 1.0),) * 5)
    (warning,) = narrow.warnings
    assert "% of 200 observations lie beyond what the integers represent" in warning
    assert compiled_summary(narrow)["quantisation"]["saturated"] > 0.9
    assert read_policy(folder).quantisation == narrow.policy.quantisation
    assert "of the action range from the float policy, over 200 observations" in (folder / "policy.h").read_text()


def test_an_action_that_is_not_a_number_counts_as_the_whole_range() -> None:
    exact = np.array([[np.nan], [0.5]], np.float32)
    assert quantisation(exact, np.array([[0.5], [0.5]]), np.array([2.0]), np.zeros(2, bool)) == Quantisation(
        2, 1.0, 0.707, 0.0
    )


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "[]",
        "{}",
        '{"observations": 0, "largest_error": 0, "rms_error": 0, "saturated": 0}',
        '{"observations": 10, "largest_error": NaN, "rms_error": 0, "saturated": 0}',
        '{"observations": 10, "largest_error": 2, "rms_error": 0, "saturated": 0}',
        '{"observations": true, "largest_error": 0, "rms_error": 0, "saturated": 0}',
        '{"observations": 10, "largest_error": 0, "rms_error": 0, "saturated": 0, "more": 1}',
    ],
)
def test_the_entry_is_checked(make_student: MakeStudent, compile_to: CompileTo, entry: str | None) -> None:
    folder, _ = compile_to(make_student((25, 8, 1)), weights="int8")
    path = folder / "policy.safetensors"
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    assert json.loads(metadata.pop("quantisation"))["observations"] == 4000
    path.write_bytes(encode_tensors(tensors, metadata if entry is None else {**metadata, "quantisation": entry}))
    with pytest.raises(FileFormatError, match="quantisation"):
        read_policy(path)
