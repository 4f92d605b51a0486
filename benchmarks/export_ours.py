"""Our exporter in the benchmark: its own command line compiles and measures, as a user would."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.export_images import COMPARED, cost, host_time
from benchmarks.export_peers import PeerCode
from benchmarks.provenance import ROOT
from export.errors import ExportError
from export.squash import Float64
from export.student_file import Student, write_student
from export.targets.image import build_image
from export.targets.open_core import open_core, run_vectors
from export.targets.target import TARGETS, find_target

Row = dict[str, Any]
STACKED, STEP = "stacked observation", "policy_step with ring"
FIGURES = ("flash_bytes", "ram_bytes", "stack_bytes", "instructions", "instructions_max")
_EVALUATE = """\
#include "policy.h"

static void peer_evaluate(const float *observation, float *action) {
    policy_evaluate(observation, action);
}
"""


@dataclass(frozen=True)
class Ours:
    """One way to call our exporter: options of compile; the target is added to them."""

    variant: str
    options: tuple[str, ...]


OURS = (
    Ours("nothing counted, -O2", ()),
    *(
        Ours(f"{weights}, {goal}", ("--weights", weights, "--optimise", goal))
        for weights in ("float32", "int16", "int8")
        for goal in ("size", "balanced", "speed")
    ),
    Ours("float32, fastest under 10 KB", ("--weights", "float32", "--budget-flash", "10240")),
    Ours("int8, fastest under 5 KB", ("--weights", "int8", "--budget-flash", "5120")),
)


def export_command(*arguments: str) -> Row:
    """Run `python -m export ... --json` and return its answer.

    Raises:
        ExportError: it failed; the message is its own last line.
    """
    command = [sys.executable, "-m", "export", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == 2:
        names = [option for option in arguments if option.startswith("--") and option not in ("--out", "--target")]
        raise ExportError(f"`export {arguments[0]}` refuses {' '.join(names)}")
    if done.returncode:
        raise ExportError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    answer: Row = json.loads(done.stdout)
    return answer


def our_rows(
    ours: Ours, name: str, student: Student, observations: Float64, *, target: str, scratch: Path
) -> Iterator[Row]:
    """Measure a network compiled by us: the step with its ring, then the bare network in the peers' image.

    Raises:
        ExportError: compile or measure failed.
    """
    out, flag = _compiled(student, scratch, (*ours.options, "--target", target))
    # Where soft float varies, as many inputs as `measure` takes by itself; the teacher's would take hours.
    few = () if name == "student" else ("--inputs", "0")
    step = export_command("measure", str(out), "--target", target, "--optimisation", flag, *few)
    common = {"network": name, "tool": "ours", "variant": ours.variant, "target": target}
    figures = {**{key: step[key] for key in FIGURES}, "counted_inputs": step["inputs"]}
    compared = observations[: COMPARED[TARGETS[target].has_float_unit]]
    if target == "avr":
        # Its memory is not the one that the peers' image is linked for.
        error = _error(target, out, student, compared, scratch)
        yield {**common, "entry": STEP, **figures, "max_error": error, "error_inputs": len(compared)}
        return
    code = PeerCode(scratch, includes=(out,))
    stacked = cost(find_target(target), code, student, compared, optimisation=flag, scratch=scratch)
    inputs = {"error_inputs": len(compared)}
    yield {**common, "entry": STEP, **figures, "max_error": stacked.max_error, **inputs}
    yield {**common, "entry": STACKED, **dataclasses.asdict(stacked), **inputs}


def _error(target: str, folder: Path, student: Student, observations: Float64, scratch: Path) -> float:
    image = scratch / "harness.elf"
    build_image(TARGETS[target], folder, image, "harness.c", ("-O2",))
    actions = run_vectors(open_core(TARGETS[target], image), observations.astype(np.float32), 1)
    return float(np.abs(actions - student.evaluate(observations)).max())


def our_host_row(name: str, student: Student, observations: Float64, scratch: Path) -> Row:
    """Time our code, compiled without options, on this machine."""
    code = PeerCode(scratch, includes=(_compiled(student, scratch, ())[0],))
    common = {"network": name, "tool": "ours", "entry": STACKED, "variant": OURS[0].variant}
    return {**common, **host_figures(*host_time(code, student, observations, scratch), len(observations))}


def host_figures(microseconds: float, error: float, inputs: int) -> Row:
    """What is measured on this machine; what is only counted on emulated cores is None."""
    return {
        "target": "host",
        **dict.fromkeys(FIGURES),
        "max_error": error,
        "error_inputs": inputs,
        "microseconds": microseconds,
    }


def _compiled(student: Student, scratch: Path, options: tuple[str, ...]) -> tuple[Path, str]:
    """Return the compiled folder, and the compiler's flag that it was counted best with (-O2 when nothing was)."""
    file, out = scratch / "student.safetensors", scratch / "policy"
    write_student(file, student)
    compiled = export_command("compile", str(file), "--out", str(out), *options)
    (scratch / "peer.h").write_text(_EVALUATE, encoding="utf-8")
    return out, compiled["compile_with"] or "-O2"
