"""Flash, RAM and instruction counts: complete, exact, and better than the known rows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from export.compile import Compiled
from export.errors import ExportError
from export.flash_parts import flash_parts
from export.measure import measure
from export.student_file import Student
from export.targets.cycle_model import block_cost, cycle_model
from export.targets.image import build_image, symbol_sizes
from export.targets.target import TARGETS

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]


@pytest.mark.cross
def test_sparse_student_fits_and_beats_the_dense_teacher(
    make_live_student: MakeStudent, make_student: MakeStudent, compile_to: CompileTo
) -> None:
    folder, compiled = compile_to(make_live_student())
    student = measure(folder, compiled.policy)
    size = compiled.policy.byte_count
    assert student.flash_parts["values"] == size.values
    # The last layer has one row, which needs no index.
    assert student.flash_parts["indices"] == size.columns - compiled.policy.layers[-1].matrix.nnz
    assert student.flash_parts["biases"] == size.biases - 4, "the last layer's bias is in the code"
    assert sum(student.flash_parts.values()) == student.flash_bytes
    assert abs(student.flash_parts["library_and_alignment"]) < 32, "library code was linked"
    assert student.flash_parts["libm"] == 0
    assert student.flash_bytes < 2500
    vectors = compiled.policy.known_observations.nbytes + compiled.policy.known_actions.nbytes
    assert vectors < student.self_test_bytes < vectors + 600
    assert student.instructions / compiled.policy.kept_weights < 14
    assert student.instructions <= student.instructions_max

    teacher_folder, teacher_compiled = compile_to(make_student((25, 256, 256, 1)), "teacher")
    teacher = measure(teacher_folder, teacher_compiled.policy)
    assert teacher_compiled.policy.kept_weights == 72192
    # Dense bytes: no index is stored, and the best dense peer needs 264,060 instructions for this network.
    assert teacher.flash_bytes < 4 * 72705 + 2000
    assert teacher.instructions < 264060
    assert teacher.instructions > 40 * student.instructions


@pytest.mark.cross
def test_same_counts_every_time(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, compiled = compile_to(make_live_student())
    assert measure(folder, compiled.policy) == measure(folder, compiled.policy)


@pytest.mark.cross
def test_stack_is_seen(make_student: MakeStudent, compile_to: CompileTo) -> None:
    """One buffer of 256 floats lies on the teacher's stack: the second hidden layer is never stored."""
    folder, compiled = compile_to(make_student((25, 256, 256, 1)))
    measurement = measure(folder, compiled.policy)
    assert 4 * 256 < measurement.stack_bytes < 4 * 256 + 256
    assert measurement.ram_bytes == 4 * 2 * 25 + 4 + 4 * 5 + 4


@pytest.mark.cross
def test_linked_mathematics_would_show_as_libm(tmp_path: Path) -> None:
    """A header that brings its own sqrtf and memory stands for a policy that needs a library."""
    (tmp_path / "policy.h").write_text(
        """
        #include <stdint.h>
        #define POLICY_BASE_OBSERVATION_SIZE 1
        #define POLICY_ACTION_SIZE 1
        typedef int policy_state_t;
        __attribute__((noinline, used)) static float sqrtf_approximation(float x) { return 0.5f * (x + 1.0f / x); }
        static inline void policy_step(policy_state_t *state, const float *observation, float *action) {
            *action = sqrtf_approximation(observation[0] + (float)*state);
        }
        """
    )
    image = tmp_path / "policy.elf"
    build_image(TARGETS["cortex-m4f"], tmp_path, image, "firmware.c", ("-O2", "-DWITH_POLICY"))
    parts = flash_parts(symbol_sizes(image), [], 1000)
    assert parts["libm"] > 0
    assert sum(parts.values()) == 1000


def test_unknown_target(make_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, compiled = compile_to(make_student((5, 1), history=1))
    with pytest.raises(ExportError, match="unknown --target 'pic18', expected one of cortex-m0plus, cortex-m3, "):
        measure(folder, compiled.policy, "pic18")


def test_instruction_lengths_and_costs() -> None:
    """vldmia r0!, {s13}; ldrb.w r7, [r3], #1; vmul.f32; vdiv.f32; vmla.f32; ldr r3, [r4]; pop {r4, r5, pc}; it mi."""
    program = [0xECF06A01, 0xF8137B01, 0xEE277A26, 0xEE870A87, 0xEE477A26, 0x6823, 0xBD30, 0xBF48]
    encoded = b"".join(
        (code >> 16).to_bytes(2, "little") + (code & 0xFFFF).to_bytes(2, "little")
        if code > 0xFFFF
        else code.to_bytes(2, "little")
        for code in program
    )
    cost = block_cost(encoded, thumb=True, model=cycle_model("cortex-m4f"))
    assert cost.instructions == len(program)
    assert cost.cycles == 2 + 2 + 1 + 14 + 3 + 2 + 4 + 1
