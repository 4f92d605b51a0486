"""Instructions are the same for every input, so a count is the worst case: floats on an FPU, integers everywhere.

Counted from step to step, so that the ring's slot differs as well; a first step after a reset fills the ring and takes
longer. On cores without an FPU the float ends may vary, so there only policy_step_fixed is held to it. The AVR is left
out: libgcc multiplies 16-bit numbers there with a skip for each sign.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.c_code.header import c_code
from export.c_code.layer_tables import layer_tables
from export.c_code.plan import plans
from export.choose import dialect_of
from export.compile import build_policy
from export.sparse_policy import SparsePolicy
from export.student_file import Student
from export.targets.image import build_image
from export.targets.open_core import Core, open_core
from export.targets.target import TARGETS, Target

MakeStudent = Callable[..., Student]

FLOAT_UNIT = [name for name, target in TARGETS.items() if target.has_float_unit and target.family != "host"]
EMULATED = [name for name, target in TARGETS.items() if target.family in ("arm", "riscv")]
INTEGERS = "int8,int16,int8"
INPUTS = 200
_ACTION, _INPUT = 2048, 4096
FLAGS = ("-O2", "-Os")


def require(target: Target) -> None:
    if shutil.which(target.compiler) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{target.compiler} is missing: apt-get install {target.packages}")


@pytest.fixture
def student(make_student: MakeStudent) -> Student:
    """Every activation, a clip at the end, a ring of three frames."""
    return make_student((9, 10, 8, 2), 0.5, seed=4, history=3, activations=("tanh", "relu", "identity"))


def floats(policy: SparsePolicy) -> np.ndarray:
    """Base observations: ordinary, far out, zero, the smallest, and broken ones."""
    generator = np.random.default_rng(6)
    values = generator.normal(0, 1.5, (INPUTS, len(policy.centre))) * 10.0 ** generator.integers(-3, 4, (INPUTS, 1))
    values = values.astype(np.float32)
    values[20], values[21] = 0, 1e-45
    for row, broken in ((40, np.nan), (80, np.inf), (81, -np.inf), (120, 3e38)):
        values[row, row % values.shape[1]] = broken
    return values


def integers(policy: SparsePolicy) -> np.ndarray:
    """Readings: within the limits, beyond them, and the largest there are."""
    assert policy.fixed is not None
    generator = np.random.default_rng(7)
    spread = policy.fixed.input_limit * 10.0 ** generator.integers(-2, 3, (INPUTS, 1))
    values = policy.fixed.input_offset + spread * generator.normal(0, 1, (INPUTS, len(policy.centre)))
    values[20], values[21], values[22] = 0, 2**30, -(2**30)
    return np.clip(np.rint(values), -(2**30), 2**30).astype(np.int32)


def counts(core: Core, policy: SparsePolicy, step: str, inputs: np.ndarray) -> set[int | None]:
    """Instructions of every step once the ring is full."""
    state = core.write(0, np.zeros(core.call("run_state_size").result, np.uint8))
    action = core.write(_ACTION, np.zeros(policy.widths[-1], np.float32))
    rows = core.write(_INPUT, inputs)
    core.call("run_reset", state)
    seen = set()
    for index in range(INPUTS):
        call = core.call(step, state, rows + index * inputs[0].nbytes, action, count=index >= policy.history)
        if index >= policy.history:
            seen.add(call.instructions)
    return seen


def assert_constant(folder: Path, target: Target, policy: SparsePolicy, steps: dict[str, np.ndarray]) -> None:
    layers = layer_tables(policy)
    assert list(plans(layers)) == ["packed", "loop", "unrolled", "straight"]
    for name, plan in plans(layers).items():
        (folder / "policy.h").write_text(c_code(policy, "00" * 32, plan, dialect_of(target)))
        for flag in FLAGS:
            image = folder / f"{name}{flag}.elf"
            build_image(target, folder, image, "harness.c", (flag,))
            core = open_core(target, image)
            for step, inputs in steps.items():
                seen = counts(core, policy, step, inputs)
                assert len(seen) == 1, (target.name, name, flag, step, seen)


@pytest.mark.cross
@pytest.mark.parametrize("weights", ["float32", INTEGERS])
@pytest.mark.parametrize("name", FLOAT_UNIT)
def test_a_step_on_a_float_unit_takes_the_same_for_every_observation(
    student: Student, tmp_path: Path, name: str, weights: str
) -> None:
    require(TARGETS[name])
    policy = build_policy(student, weights=weights)
    assert_constant(tmp_path, TARGETS[name], policy, {"run_step": floats(policy)})


@pytest.mark.cross
@pytest.mark.parametrize("name", EMULATED)
def test_a_step_in_integers_takes_the_same_for_every_reading(student: Student, tmp_path: Path, name: str) -> None:
    require(TARGETS[name])
    policy = build_policy(student, weights=INTEGERS)
    assert_constant(tmp_path, TARGETS[name], policy, {"run_step_fixed": integers(policy)})


@pytest.mark.cross
def test_a_step_in_soft_float_does_vary(student: Student, tmp_path: Path) -> None:
    """What the tests above could not see if they counted too little."""
    require(TARGETS["cortex-m0plus"])
    policy = build_policy(student)
    with pytest.raises(AssertionError, match="run_step"):
        assert_constant(tmp_path, TARGETS["cortex-m0plus"], policy, {"run_step": floats(policy)})
