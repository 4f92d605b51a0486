"""Every target: it links, computes IEEE's bits, and counts what single steps count."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import unicorn

from export.compile import Compiled
from export.errors import ExportError, ToolError
from export.measure import count, measure
from export.student_file import Student
from export.targets import avr_core, block_counter, emulated_core
from export.targets.cycle_model import BlockCost, block_cost, cycle_model
from export.targets.image import build_image
from export.targets.open_core import open_core, require_core, run_vectors
from export.targets.target import TARGETS, Target, find_target
from export.verify import verify

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]

ARITHMETIC = """
#include <stdint.h>
#define POLICY_BASE_OBSERVATION_SIZE 2
#define POLICY_OBSERVATION_SIZE 2
#define POLICY_HISTORY 1
#define POLICY_ACTION_SIZE 6
typedef uint8_t policy_state_t;
static inline void policy_reset(policy_state_t *state) { *state = 0; }
static inline void policy_observe(policy_state_t *state, const float *x) { *state = x[0] > 0.0f; }
static inline void policy_evaluate(const float *x, float *y) {
    y[0] = x[0] + x[1];
    y[1] = x[0] - x[1];
    y[2] = x[0] * x[1];
    y[3] = x[0] / x[1];
    y[4] = x[0] < x[1] ? 1.0f : 0.0f;
    y[5] = x[0] >= x[1] ? 1.0f : 0.0f;
}
static inline void policy_step(policy_state_t *state, const float *x, float *y) { (void)state; policy_evaluate(x, y); }
static inline int policy_self_test(void) { return 0; }
"""


def needs(name: str) -> Any:
    compiler = TARGETS[name].compiler
    reason = f"{compiler} is missing: apt-get install {TARGETS[name].packages}"
    absent = shutil.which(compiler) is None and os.environ.get("CI") != "true"
    return pytest.param(name, marks=pytest.mark.skipif(absent, reason=reason))


ALL = [needs(name) for name in TARGETS]
EMULATED = [needs(name) for name in TARGETS if name != "host"]


def write_header(folder: Path, body: str, text: str = ARITHMETIC) -> Path:
    """A policy.h whose policy_evaluate begins with `body`."""
    (folder / "policy.h").write_text(text.replace("    y[0] = x[0] + x[1];", body + "    y[0] = x[0] + x[1];"))
    return folder


def harness(target: Target, folder: Path, optimisation: str = "-O2") -> Any:
    image = folder / f"{target.name}.elf"
    build_image(target, folder, image, "harness.c", (optimisation,))
    return open_core(target, image)


def operands() -> np.ndarray:
    """Ordinary, nearly cancelling and arbitrary pairs, and all pairs of special values."""
    generator = np.random.default_rng(5)
    ordinary = generator.standard_normal((3000, 2)) * 10.0 ** generator.integers(-4, 5, (3000, 2))
    first = generator.standard_normal(2000)
    close = np.column_stack([first, first * (1 + generator.integers(-8, 8, 2000) * 2.0**-23)])
    arbitrary = generator.integers(0, 2**32, (3000, 2), dtype=np.uint32).view(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 1.17549435e-38, 3.4e38, 1, -1], np.float32)
    pairs = np.stack(np.meshgrid(special, special), axis=-1).reshape(-1, 2)
    return np.concatenate([ordinary.astype(np.float32), close.astype(np.float32), arbitrary, pairs])


@pytest.mark.parametrize("name", ALL)
def test_arithmetic_rounds_as_ieee_says(name: str, tmp_path: Path) -> None:
    """Soft float included. avr-libc alone rounds quotients below the smallest normal number in its own way."""
    inputs = operands()
    got = run_vectors(harness(TARGETS[name], write_header(tmp_path, "")), inputs, 6)
    x, y = inputs[:, 0], inputs[:, 1]
    with np.errstate(all="ignore"):
        expected = np.column_stack([x + y, x - y, x * y, x / y, x < y, x >= y]).astype(np.float32)
    different = (got.view(np.uint32) != expected.view(np.uint32)) & ~(np.isnan(got) & np.isnan(expected))
    if name == "avr":
        subnormal = np.abs(expected[:, 3]) < np.finfo(np.float32).tiny
        assert np.abs(got[subnormal, 3] - expected[subnormal, 3]).max() <= 2.0**-149
        different[subnormal, 3] = False
    assert not different.any(), inputs[different.any(axis=1)][0]


@pytest.mark.parametrize("optimisation", ["-O2", "-Os"])
@pytest.mark.parametrize("name", EMULATED)
def test_counts_equal_single_steps(
    make_live_student: MakeStudent, compile_to: CompileTo, name: str, optimisation: str
) -> None:
    """One control step after uncounted calls of the same functions; by single steps, and by both kinds of hook."""
    folder, compiled = compile_to(make_live_student((20, 30, 10), 16))
    target = TARGETS[name]
    core = harness(target, folder, optimisation)
    observation = compiled.policy.known_observations[-1]
    state, frames = core.write(0, np.zeros(1024, np.uint8)), core.write(1024, observation)
    action = core.write(4096, np.zeros(8, np.float32))

    def step(counted: bool) -> Any:
        core.call("run_frames", state, frames)
        return core.call("run_step", state, frames + 80, action, count=counted)

    call = step(True)
    assert step(True) == call, "a second count differs"
    assert call.instructions > 3 * compiled.policy.kept_weights
    assert 40 < call.stack_bytes < 2000
    if name == "avr":
        assert call.instructions < call.cycles < 3 * call.instructions
        return
    assert isinstance(core._counter, block_counter.NativeCounter)
    again = open_core(target, folder / f"{name}.elf")
    assert isinstance(again, emulated_core.EmulatedCore)
    again._counter = block_counter.PythonCounter(again._core, unicorn, 0x1FF00000)
    again.write(0, np.zeros(1024, np.uint8)), again.write(1024, observation)
    again.call("run_frames", state, frames)
    assert again.call("run_step", state, frames + 80, action, count=True) == call
    again.call("run_frames", state, frames)
    assert _single_steps(again, lambda: again.call("run_step", state, frames + 80, action)) == call.instructions


def _single_steps(core: emulated_core.EmulatedCore, run: Callable[[], object]) -> int:
    """Instructions executed, plus those in IT blocks whose condition failed."""
    counted = 0
    guarded = range(0)

    def step(_emulator: object, address: int, _size: int, _data: object) -> None:
        nonlocal counted, guarded
        if address >> 20 == 0x1FF or address in guarded:
            return
        counted += 1
        code = int.from_bytes(core._core.mem_read(address, 2), "little")
        if core._thumb and code >> 8 == 0xBF and code & 0xF:
            length = 4 - ((code & 0xF) & -(code & 0xF)).bit_length() + 1
            end = address + 2
            for _ in range(length):
                end += 4 if int.from_bytes(core._core.mem_read(end, 2), "little") >> 11 >= 0b11101 else 2
            guarded = range(address + 2, end)
            counted += length

    hook = core._core.hook_add(unicorn.UC_HOOK_CODE, step)
    core._core.ctl_flush_tb()
    run()
    core._core.hook_del(hook)
    return counted


@pytest.mark.parametrize("name", ALL)
def test_measure_gives_every_figure(make_live_student: MakeStudent, compile_to: CompileTo, name: str) -> None:
    folder, compiled = compile_to(make_live_student())
    measurement = measure(folder, compiled.policy, name, inputs=0)
    assert sum(measurement.flash_sections.values()) == measurement.flash_bytes
    size = compiled.policy.byte_count
    assert sum(measurement.flash_parts.values()) == measurement.flash_bytes
    assert measurement.flash_parts["values"] == size.values
    assert size.total < measurement.flash_bytes < 9000
    assert measurement.flash_parts["libm"] == 0
    assert min(measurement.flash_parts.values()) >= 0
    assert measurement.max_error < 1e-6
    assert measurement.ram_bytes >= measurement.state_bytes + 4 * (5 + 1)
    if name == "host":
        assert measurement.instructions is None
        assert measurement.instructions_are is None
        assert measurement.stack_bytes is None
    else:
        assert measurement.instructions is not None
        assert measurement.instructions_max is not None
        most = 30 if TARGETS[name].has_float_unit else 400
        assert 7 < measurement.instructions / compiled.policy.kept_weights < most
        assert measurement.instructions <= measurement.instructions_max
    has_model = name in ("cortex-m0plus", "cortex-m3", "cortex-m4f", "avr")
    assert (measurement.cycles_estimate is not None) == has_model
    assert measurement.cycles_are == ({"avr": "exact by simulation"}.get(name, "estimate") if has_model else None)


@pytest.mark.cross
def test_more_inputs_find_larger_counts(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    """In soft float the time depends on the operands; over more inputs the largest only grows."""
    folder, compiled = compile_to(make_live_student())
    known = measure(folder, compiled.policy, "cortex-m0plus", inputs=0)
    more = measure(folder, compiled.policy, "cortex-m0plus", inputs=100)
    assert more.inputs == known.inputs + 100
    assert more.instructions_are == f"largest of {more.inputs} inputs"
    assert known.instructions_max is not None
    assert more.instructions_max is not None
    assert more.instructions_max > known.instructions_max
    with pytest.raises(ExportError, match="--inputs is -1, expected 0 to"):
        measure(folder, compiled.policy, "cortex-m0plus", inputs=-1)


@pytest.mark.cross
def test_a_header_outside_a_folder_counts_the_same(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, compiled = compile_to(make_live_student())
    text = (folder / "policy.h").read_text()
    assert count(TARGETS["cortex-m4f"], text, compiled.policy, "-Os") == measure(
        folder, compiled.policy, "cortex-m4f", "-Os"
    )


@pytest.mark.cross
def test_a_header_of_another_policy_is_refused(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, _ = compile_to(make_live_student())
    _, other = compile_to(make_live_student(seed=9), "other")
    with pytest.raises(ExportError, match="misses a known answer"):
        measure(folder, other.policy)


@pytest.mark.cross
def test_a_constant_count_is_called_so(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    """The same observation twice can only take the same instructions."""
    folder, compiled = compile_to(make_live_student())
    policy = compiled.policy
    one = replace(
        policy, known_observations=policy.known_observations[[0, 0]], known_actions=policy.known_actions[[0, 0]]
    )
    assert measure(folder, one).instructions_are == "the same for 2 inputs"


@pytest.mark.cross
def test_where_instructions_vary_more_inputs_are_counted_unasked(
    make_live_student: MakeStudent, compile_to: CompileTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.measure.VARYING_INPUTS", 20)
    folder, compiled = compile_to(make_live_student())
    known = len(compiled.policy.known_observations)
    assert measure(folder, compiled.policy, "cortex-m0plus").inputs == known + 20
    assert measure(folder, compiled.policy, "cortex-m4f").inputs == known


@pytest.mark.cross
def test_the_flag_that_counted_best_is_measured_with(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, compiled = compile_to(make_live_student(), weights="int8", optimise="size")
    counted = compiled.choice.measurement
    assert counted is not None
    assert compiled.choice.flag == "-Os"
    assert measure(folder, compiled.policy) == counted


@pytest.mark.parametrize("name", [needs("avr")])
def test_what_the_chip_lacks_is_said_in_bytes(
    make_live_student: MakeStudent, compile_to: CompileTo, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Tables in RAM: more than an ATmega328P has; counted all the same."""
    from export.command_line import Measure, run

    folder, compiled = compile_to(make_live_student((300, 300, 60), 64))
    measurement = measure(folder, compiled.policy, name, inputs=0)
    used = measurement.ram_bytes + (measurement.stack_bytes or 0)
    if used <= 2048:
        small = replace(TARGETS[name], ram_limit_bytes=used - 1)
        text = (folder / "policy.h").read_text()
        assert f"{used} bytes of RAM with the stack, 1 more" in str(count(small, text, compiled.policy).does_not_fit)
        return
    expected = f"does not fit the ATmega328P: {used} bytes of RAM with the stack, {used - 2048} more than its 2048"
    assert measurement.does_not_fit == expected
    assert measurement.instructions
    assert run(Measure(folder, target="avr", json=True)) == 0
    assert f"note: {folder} {expected}; the figures stand" in capsys.readouterr().err


@pytest.mark.parametrize("name", EMULATED)
def test_libm_does_not_link(name: str, tmp_path: Path) -> None:
    text = ARITHMETIC.replace("#include <stdint.h>", "#include <math.h>\n#include <stdint.h>")
    write_header(tmp_path, "    if (x[0] > 2.0f) { y[5] = tanhf(x[1]); }\n", text)
    with pytest.raises(ToolError, match="tanh"):
        build_image(TARGETS[name], tmp_path, tmp_path / "image.elf", "harness.c")


@pytest.mark.parametrize("name", EMULATED)
def test_a_core_that_never_returns_is_stopped(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated_core, "_TIMEOUT_S", 0.05)
    monkeypatch.setattr(avr_core, "_INSTRUCTION_LIMIT", 100_000)
    folder = write_header(tmp_path, "    while (*(const volatile float *)x < 2.0f) {\n    }\n")
    core = harness(TARGETS[name], folder)
    inputs = core.write(0, np.zeros(2, np.float32))
    with pytest.raises(ToolError, match=r"run_batch did not return|100,000 instructions in run_batch"):
        core.call("run_batch", inputs, inputs + 64, 1)


@pytest.mark.parametrize("name", ["cortex-m0plus", "rv32imc", "avr"])
def test_a_missing_compiler_names_its_packages(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_header(tmp_path, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=f"apt-get install {TARGETS[name].packages}"):
        build_image(TARGETS[name], tmp_path, tmp_path / "image.elf", "harness.c")


def test_a_missing_simulator_names_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    avr_core.avr_runner.cache_clear()
    monkeypatch.setenv("CC", "absent-cc")
    with pytest.raises(ToolError, match=r"cannot build the AVR simulator: .* libsimavr-dev libelf-dev"):
        require_core(TARGETS["avr"])
    avr_core.avr_runner.cache_clear()


def test_what_is_not_installed_is_left_out_of_all(
    make_live_student: MakeStudent, compile_to: CompileTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = compile_to(make_live_student())
    absent = {name: replace(target, compiler=f"absent-{name}") for name, target in TARGETS.items() if name != "host"}
    for name, target in absent.items():
        monkeypatch.setitem(TARGETS, name, target)
    verification = verify(folder, count=20, targets=("all",))
    assert verification.ok
    titles = [f"C on {target.title}" for target in absent.values()]
    assert [line.split(":")[0] for line in verification.left_out] == titles
    assert all(f"'absent-{name}' not found; apt-get install" in " ".join(verification.left_out) for name in absent)
    with pytest.raises(ToolError, match="'absent-rv32imc' not found; apt-get install gcc-riscv64"):
        verify(folder, count=20, targets=("rv32imc",))


def test_the_command_line_offers_every_target() -> None:
    from export.command_line import TargetName

    assert get_args(TargetName) == tuple(TARGETS)


def test_unknown_targets_list_the_valid_ones(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    with pytest.raises(ExportError, match=r"unknown --target 'z80', expected one of cortex-m0plus, .*, avr, host"):
        find_target("z80")
    folder, _ = compile_to(make_live_student())
    with pytest.raises(ExportError, match="unknown --target 'z80', expected all or one of cortex-m0plus"):
        verify(folder, count=5, targets=("z80",))


def test_lengths_of_risc_v_instructions() -> None:
    """c.addi a0, 1; add a0, a0, a1; c.ret; fmul.s fa0, fa0, fa1."""
    code = b"\x05\x05" + (0x00B50533).to_bytes(4, "little") + b"\x82\x80" + (0x10B57553).to_bytes(4, "little")
    cost = block_cost(code, thumb=False, model=None)
    assert (cost.instructions, cost.cycles) == (4, 0)


def test_cycles_of_other_cores() -> None:
    """M3: mla 2, umull 4; M0+: pop {r4, pc} 1 + 2 + 1 and bl 2, to which the taken branch adds one; beside the M4's."""
    programs = (
        (0xFB001203, "cortex-m3", 2, 1),
        (0xFBA01203, "cortex-m3", 4, 2),
        (0xBD10, "cortex-m0plus", 4, 3),
        (0xF000F800, "cortex-m0plus", 2, 1),
    )
    for word, core, cycles, cycles_m4 in programs:
        halves = [word >> 16, word & 0xFFFF] if word > 0xFFFF else [word]
        code = b"".join(half.to_bytes(2, "little") for half in halves)
        assert block_cost(code, thumb=True, model=cycle_model(core)) == BlockCost(1, cycles)
        assert block_cost(code, thumb=True, model=cycle_model("cortex-m4f")) == BlockCost(1, cycles_m4)
    assert cycle_model("cortex-m7") is None
