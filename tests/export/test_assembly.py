"""Float layers in Thumb-2 assembly: the bits of the C beside it, in fewer instructions."""

from collections.abc import Callable

import numpy as np
import pytest

from export.c_code.dialect import Dialect
from export.c_code.header import c_code
from export.c_code.layer_tables import layer_tables
from export.c_code.plan import plans
from export.compile import build_policy
from export.measure import count
from export.student_file import Student
from export.targets.image import build_image
from export.targets.open_core import open_core, run_vectors
from export.targets.target import TARGETS

MakeStudent = Callable[..., Student]

SHAPES: dict[str, dict[str, object]] = {
    "inputs in registers": {"widths": (20, 31, 32, 1), "density": 0.2},
    "inputs in memory": {"widths": (100, 33, 32, 3), "density": (0.05, 0.2, 1.0), "history": 4},
    "one hidden unit": {"widths": (5, 1, 1), "density": 1.0, "history": 1},
    "last layer apart": {"widths": (25, 20, 12), "density": 0.3},
    "identity": {"widths": (25, 20, 15, 2), "density": 0.4, "activations": ("identity", "relu", "identity")},
    "tanh stays in C": {"widths": (25, 20, 15, 2), "density": 0.4, "activations": ("tanh", "relu", "tanh")},
    "more columns than it reaches": {"widths": (300, 16, 1), "density": 0.5},
}


@pytest.mark.cross
@pytest.mark.parametrize("target", ["cortex-m4f", "cortex-m7"])
@pytest.mark.parametrize("shape", SHAPES)
def test_assembly_has_the_bits_of_the_c(
    make_student: MakeStudent, shape: str, target: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    policy = build_policy(make_student(**SHAPES[shape]))
    plan = plans(layer_tables(policy))["straight"]
    observations = np.random.default_rng(5).normal(0, 1.5, (100, policy.observation_size)).astype(np.float32)
    actions = []
    for assembled in (False, True):
        folder = tmp_path_factory.mktemp("header")
        text = c_code(policy, "00" * 32, plan, Dialect(float_assembly=assembled))
        assert ("vldmia" in text) == (assembled and "more columns" not in shape)
        (folder / "policy.h").write_text(text)
        for flag in ("-O0", "-O2", "-Os"):
            image = folder / f"{flag}.elf"
            build_image(TARGETS[target], folder, image, "harness.c", (flag,))
            actions.append(run_vectors(open_core(TARGETS[target], image), observations, policy.widths[-1]))
    for other in actions[1:]:
        np.testing.assert_array_equal(other, actions[0])


@pytest.mark.cross
def test_assembly_takes_fewer_instructions_and_bytes(make_live_student: MakeStudent) -> None:
    policy = build_policy(make_live_student())
    plan = plans(layer_tables(policy))["straight"]
    plain, assembled = (
        count(TARGETS["cortex-m4f"], c_code(policy, "00" * 32, plan, Dialect(float_assembly=on)), policy, "-Os")
        for on in (False, True)
    )
    assert assembled.instructions < 0.75 * plain.instructions
    assert assembled.flash_bytes < plain.flash_bytes
    assert assembled.instructions == assembled.instructions_max
