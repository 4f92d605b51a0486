"""The choice among the ways to write a policy in C, and the sizes and counts that the benchmark's student must keep."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.export_networks import network, observations
from export.choose import Choice, choose
from export.compile import build_policy, compile_student, compiled_summary
from export.errors import ExportError, TooLargeError, ToolError
from export.measure import Measurement, count
from export.sparse_policy import SparsePolicy
from export.student_file import Student, write_student
from export.targets.target import TARGETS, Target

MakeStudent = Callable[..., Student]
DIGEST = "00" * 32


@pytest.fixture(scope="module")
def student() -> Student:
    return network("student")


@pytest.fixture(scope="module")
def policies(student: Student) -> dict[str, SparsePolicy]:
    return {weights: build_policy(student, weights=weights) for weights in ("float32", "int8")}


def chosen(policy: SparsePolicy, target: str, optimise: str, budget: int | None = None) -> Choice:
    return choose(policy, DIGEST, TARGETS[target], optimise, budget)


@pytest.mark.cross
def test_the_benchmark_keeps_its_limits(policies: dict[str, SparsePolicy], student: Student) -> None:
    """The limits of the issue that asked for these kernels, on the student of 1,108 weights, Cortex-M4F, all in."""
    smallest = chosen(policies["int8"], "cortex-m4f", "size").measurement
    fast = chosen(policies["int8"], "cortex-m4f", "speed", 5 * 1024).measurement
    floats = chosen(policies["float32"], "cortex-m4f", "speed", 10 * 1024).measurement
    unbounded = chosen(policies["float32"], "cortex-m4f", "speed").measurement
    assert smallest.flash_bytes <= 3000
    assert smallest.ram_bytes + smallest.stack_bytes <= 500
    assert fast.instructions_max <= 7000
    assert floats.instructions_max <= 8000
    assert unbounded.instructions_max <= 3200
    assert chosen(policies["int8"], "cortex-m0plus", "speed", 5 * 1024).measurement.instructions_max <= 25000
    inputs = observations(1000, 5)
    assert np.abs(policies["int8"].evaluate_exact(inputs) - student.evaluate(inputs.astype(np.float64))).max() <= 0.015
    for each in (smallest, fast, floats, unbounded):
        assert each.instructions == each.instructions_max


@pytest.mark.cross
def test_each_goal_gets_what_it_asks_for(make_live_student: MakeStudent) -> None:
    policy = build_policy(make_live_student())
    size, speed, balanced = (chosen(policy, "cortex-m3", goal).measurement for goal in ("size", "speed", "balanced"))
    assert size.flash_bytes <= min(speed.flash_bytes, balanced.flash_bytes)
    assert speed.instructions <= min(size.instructions, balanced.instructions)
    assert balanced.flash_bytes * balanced.instructions <= min(
        each.flash_bytes * each.instructions for each in (size, speed)
    )
    fitting = chosen(policy, "cortex-m3", "speed", size.flash_bytes)
    assert fitting.measurement.flash_bytes <= size.flash_bytes


@pytest.mark.cross
def test_a_budget_that_nothing_fits_names_the_smallest(make_live_student: MakeStudent) -> None:
    policy = build_policy(make_live_student())
    smallest = chosen(policy, "cortex-m4f", "size").measurement.flash_bytes
    with pytest.raises(ExportError, match=rf"--budget-flash 100: the smallest code takes {smallest} bytes"):
        chosen(policy, "cortex-m4f", "speed", 100)


@pytest.mark.cross
def test_options_reach_the_files(make_live_student: MakeStudent, tmp_path: Path) -> None:
    source = tmp_path / "student.safetensors"
    write_student(source, make_live_student())
    headers = {}
    for goal in ("size", "speed"):
        compiled = compile_student(source, tmp_path / goal, weights="int16", optimise=goal, target="rv32imc")
        headers[goal] = (tmp_path / goal / "policy.h").read_text()
        assert compiled.choice.measurement.target == "rv32imc"
        assert compiled.policy.weight_format == "int16"
    assert "code         packed" in headers["size"] or "code         loop" in headers["size"]
    assert headers["size"] != headers["speed"]
    again = compile_student(source, tmp_path / "again", weights="int16", optimise="size", target="rv32imc")
    assert (tmp_path / "again" / "policy.h").read_text() == headers["size"]
    assert again.digest == compiled.digest, "how the C is written is no part of the policy"


def test_on_the_host_nothing_is_counted(make_live_student: MakeStudent) -> None:
    policy = build_policy(make_live_student())
    assert chosen(policy, "host", "size").plan == "loop"
    assert chosen(policy, "host", "speed").plan == "unrolled"
    assert chosen(policy, "host", "balanced").measurement is None


def test_what_is_proven_is_reported(make_live_student: MakeStudent, tmp_path: Path) -> None:
    source = tmp_path / "student.safetensors"
    write_student(source, make_live_student())
    declared = ((-1.0, 2.0), (-0.5, 0.5), (0.0, 3.0), (-7.0, -6.0), (-1e4, 1e4))
    compiled = compile_student(source, tmp_path / "out", weights="int8", observation_range=declared)
    proven = compiled_summary(compiled)["proven"]
    for (low, high), (proven_low, proven_high) in zip(declared, proven["observation_range"], strict=True):
        assert proven_low <= low
        assert high <= proven_high
    assert max(*proven["largest_sums"], *proven["largest_products"]) <= proven["limits"]["sum"]
    assert max(proven["largest_activations"]) <= proven["limits"]["activation"]
    assert "reads        " in (tmp_path / "out" / "policy.h").read_text()
    assert compiled_summary(compile_student(source, tmp_path / "float"))["proven"] is None


@pytest.mark.avr
def test_what_fits_the_chip_is_preferred(policies: dict[str, SparsePolicy]) -> None:
    """Without loops the fastest code of the benchmark's student is larger than an ATmega328P."""
    choice = chosen(policies["int8"], "avr", "speed")
    assert choice.measurement.does_not_fit is None
    assert choice.plan != "straight"


@pytest.mark.cross
def test_where_nothing_fits_the_chip_the_smallest_is_taken(policies: dict[str, SparsePolicy]) -> None:
    small = replace(TARGETS["cortex-m4f"], flash_limit_bytes=2000)
    choice = choose(policies["int8"], DIGEST, small, "speed", None)
    assert "more than its 2000" in choice.measurement.does_not_fit
    assert choice.measurement.flash_bytes == chosen(policies["int8"], "cortex-m4f", "size").measurement.flash_bytes


@pytest.mark.cross
def test_only_code_that_is_too_large_is_passed_over(
    policies: dict[str, SparsePolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_straight(target: Target, header: str, *rest: Any) -> Measurement:
        if ", straight" in header:
            raise error
        return count(target, header, *rest)

    monkeypatch.setattr("export.choose.count", refuse_straight)
    error: ToolError = TooLargeError("larger than the core's memory")
    assert chosen(policies["int8"], "cortex-m4f", "speed").plan == "unrolled"
    error = ToolError("gcc failed")
    with pytest.raises(ToolError, match="gcc failed"):
        chosen(policies["int8"], "cortex-m4f", "speed")


def test_a_budget_of_nothing_is_refused(policies: dict[str, SparsePolicy]) -> None:
    with pytest.raises(ExportError, match="--budget-flash is 0, expected a number of bytes above 0"):
        chosen(policies["int8"], "cortex-m4f", "speed", 0)
