"""Command line of this room: `python -m export compile | verify | measure | package`."""

import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from export.errors import ExportError

if TYPE_CHECKING:
    from export.measure import Measurement

TargetName = Literal["cortex-m0plus", "cortex-m3", "cortex-m4f", "cortex-m7", "rv32imc", "rv32imafc", "avr", "host"]


@dataclass(frozen=True)
class Compile:
    """Turn student.safetensors into policy.safetensors, policy.onnx and policy.h."""

    student: tyro.conf.Positional[Path]
    """Student or teacher file (student.safetensors)."""
    out: Path
    """Folder for the three files; replaced when all three are made."""
    threshold: float | None = None
    """Prune at this log-alpha instead of the stored one; loses fine-tuning."""
    weights: str = "float32"
    """float32, int8 or int16; or int8 and int16 with commas, one for each layer. Activations of integers are int16."""
    dataset: Path | None = None
    """dataset.safetensors whose observations integers are fitted to; without it they are drawn from the normaliser."""
    observation_range: tuple[tuple[float, float], ...] | None = None
    """LOW HIGH of every base observation, which integers have to reach; else 1.25 times what the dataset holds, or 6
    times the normaliser's scale. Observations beyond it saturate."""
    target: TargetName = "cortex-m4f"
    """Processor that policy.h is written for; it runs on every other one too."""
    optimise: Literal["size", "speed", "balanced"] | None = None
    """Count the ways to write the C on the target (without loops only up to 4,000 weights) and take the one with the
    least flash, the fewest instructions, or the smallest product of both; without it nothing is counted, and layers
    are unrolled where that costs little. On the host nothing is counted: size means loops, all else unrolled."""
    budget_flash: int | None = None
    """Take the fastest that fits into so many bytes of flash."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Verify:
    """Run the same observations through numpy/scipy, onnxruntime, C here and C on emulated cores."""

    folder: tyro.conf.Positional[Path]
    """Folder that `compile` wrote."""
    dataset: Path | None = None
    """dataset.safetensors to take observations from; without it, the known answers' are perturbed."""
    count: int = 1000
    """Number of observations; a dataset's rows with the smallest and largest value of each input come on top."""
    target: tuple[TargetName | Literal["all"], ...] = ("cortex-m4f",)
    """Processors to run the C code on beside this machine; all: those whose compiler is installed."""
    thorough: bool = False
    """Also gcc and clang at -O0, -O2 and -Os, a build with sanitisers, and all targets."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Measure:
    """Count flash, RAM, stack and instructions of one control step on a target."""

    folder: tyro.conf.Positional[Path]
    """Folder that `compile` wrote."""
    target: TargetName = "cortex-m4f"
    """Processor to compile for."""
    optimisation: Literal["-O2", "-Os", "-O3"] | None = None
    """Optimisation flag of the C compiler; else the one that `compile` counted best, or -O2 where it counted none."""
    inputs: int | None = None
    """Random observations to count beside the known answers; else none where those take the same instructions, and
    10,000 where they vary: the largest seen is reported."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class Package:
    """Hand a compiled policy over as two C files, a library, or another ONNX."""

    folder: tyro.conf.Positional[Path]
    """Folder that `compile` wrote."""
    kind: Annotated[str, tyro.conf.arg(name="as", metavar="KIND")]
    """split (policy.h and policy.c); arduino, platformio, cmake (libraries); onnx-sparse (sparse_initializer),
    onnx-sparse-constant (sparse Constant nodes), onnx-qdq (QuantizeLinear and DequantizeLinear; integer policies)."""
    out: Path
    """Folder for split; else the file, a .zip or .onnx. Replaced when all is made."""
    json: bool = False
    """Print one JSON object on stdout."""


def command_line() -> int:
    """Parse, run one verb, report what failed; the exit code. Raises SystemExit(2) for wrong usage."""
    verbs: Any = (
        Annotated[Compile, tyro.conf.subcommand("compile")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Measure, tyro.conf.subcommand("measure")]
        | Annotated[Package, tyro.conf.subcommand("package")]
    )
    config = tyro.cli(
        verbs, prog="python -m export", description="Freeze a student into a policy for a microcontroller."
    )
    if sys.stdout is None:
        print("error: standard output is closed, expected a place for the answer; redirect it", file=sys.stderr)
        return 1
    try:
        return run(config)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        # What is still buffered would fail once more at exit, with a traceback.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(
            f"error: {error.filename or 'output'}: {error.strerror or error}; mend that and try again", file=sys.stderr
        )
    except MemoryError:
        print("error: out of memory; use a smaller policy or --count", file=sys.stderr)
    return 1


def run(config: Compile | Verify | Measure | Package) -> int:
    """Run one verb, print its result, return the exit code."""
    started = time.perf_counter()
    if isinstance(config, Compile):
        result, code = _compile(config), 0
    elif isinstance(config, Verify):
        result, code = _verify(config)
    elif isinstance(config, Package):
        result, code = _package(config), 0
    else:
        result, code = _measure(config), 0
    result["seconds"] = round(time.perf_counter() - started, 3)
    bad = [row["backend"] for row in result.get("rows", []) if not row["ok"]]
    if config.json:
        print(json.dumps(_json_value(result), allow_nan=False))
    else:
        _print_table(result)
    sys.stdout.flush()
    if code and isinstance(config, Verify):
        named = ", ".join(bad or ["same bits of C on all machines"])
        print(
            f"error: {config.folder} fails verification: {named}; expected at most the tolerance in the table; "
            "do not flash it: distil again with a larger --observation-noise, which lowers the gain",
            file=sys.stderr,
        )
    return code


def _compile(config: Compile) -> dict[str, Any]:
    from export.compile import compile_student, compiled_summary

    compiled = compile_student(
        config.student,
        config.out,
        config.threshold,
        weights=config.weights,
        dataset=config.dataset,
        observation_range=config.observation_range,
        target=config.target,
        optimise=config.optimise,
        budget_flash=config.budget_flash,
    )
    _say_what_does_not_fit(config.out, compiled.choice.measurement)
    for warning in compiled.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return compiled_summary(compiled)


def _verify(config: Verify) -> tuple[dict[str, Any], int]:
    from export.policy_file import policy_digest
    from export.verify import verify

    folder = _folder(config.folder)
    verification = verify(folder, config.dataset, config.count, config.target, config.thorough)
    result = {
        "policy_digest": policy_digest(folder),
        "verify_max_error": verification.max_error_fraction,
        "count": verification.count,
        "rows": [dataclasses.asdict(row) for row in verification.rows],
        "same_bits": verification.same_bits,
        "left_out": list(verification.left_out),
    }
    for line in verification.left_out:
        print(f"left out: {line}", file=sys.stderr)
    return result, 0 if verification.ok else 1


def _measure(config: Measure) -> dict[str, Any]:
    from export.measure import measure
    from export.policy_file import policy_digest, read_policy

    folder = _folder(config.folder)
    measurement = measure(folder, read_policy(folder), config.target, config.optimisation, config.inputs)
    _say_what_does_not_fit(folder, measurement)
    return {"policy_digest": policy_digest(folder), **dataclasses.asdict(measurement)}


def _folder(path: Path) -> Path:
    """The folder of a compiled policy, of which a user may name the file."""
    return path.parent if path.name == "policy.safetensors" and path.is_file() else path


def _say_what_does_not_fit(folder: Path, measurement: "Measurement | None") -> None:
    if measurement is not None and measurement.does_not_fit:
        print(f"note: {folder} {measurement.does_not_fit}; the figures stand", file=sys.stderr)


def _package(config: Package) -> dict[str, Any]:
    from export.package import package, packaged_summary

    return packaged_summary(package(_folder(config.folder), config.kind, config.out))


def _json_value(value: Any) -> Any:
    """Replace NaN and infinity by null: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(markup=False)
    if "rows" in result:
        table = Table("backend", "max error", "of the range", "tolerance", "ok")
        for row in result.pop("rows"):
            figures = (f"{row[name]:.3g}" for name in ("max_error", "max_error_fraction", "tolerance"))
            table.add_row(row["backend"], *figures, "yes" if row["ok"] else "NO")
        console.print(table)
    table = Table(Column(), Column(overflow="fold"), show_header=False)
    for key, value in result.items():
        if value is not None and value != []:
            table.add_row(key.replace("_", " "), _cell(value))
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    return str(value)
