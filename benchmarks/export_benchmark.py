"""Send the two benchmark networks through our exporter and through every generator of C that pip installs.

    python -m benchmarks.export_benchmark --install

Writes docs/results/export.json: flash, RAM, stack, instructions and error of every variant on every target, all linked
by the same compiler with the same flags and counted on the same emulated cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

from benchmarks.export_images import COMPARED, COUNTED, cost, host_time, onnxruntime_time
from benchmarks.export_networks import SHAPES, network, observations
from benchmarks.export_ours import OURS, STACKED, Row, host_figures, our_host_row, our_rows
from benchmarks.export_peers import NOT_MEASURED, PEERS, Peer
from benchmarks.provenance import ROOT, commit, machine, refuse_dirty
from export.errors import ExportError
from export.student_file import Student
from export.targets.image import target_compiler_version
from export.targets.target import TARGETS

BOTH = ("cortex-m4f", "cortex-m0plus")
MEASURED_ON = {"teacher": BOTH, "student": (*BOTH, *(name for name in TARGETS if name not in (*BOTH, "host")))}
CALIBRATION_SEED, EVALUATION_SEED = 2, 1
PACKAGES = ("emlearn", "emx-onnx-cgen", "nncc", "bakenn", "onnxruntime", "unicorn", "numpy", "torch")


_SCRATCH = rf"{re.escape(tempfile.gettempdir())}/[^/\s]+/"


class LeftOut:
    """Collects in one line a reason what could not be measured, instead of ending the run."""

    def __init__(self) -> None:
        self._where: dict[str, list[str]] = {}

    def add(self, what: str, where: str, reason: object) -> None:
        """Note and print that `what` has no row for `where`."""
        line = str(reason).strip().splitlines()[-1:] or [type(reason).__name__]
        # Scratch folders have another name every time.
        text = f"{what}: {re.sub(_SCRATCH, '', line[0])}"
        print(f"left out: {where}, {text}", file=sys.stderr, flush=True)
        self._where.setdefault(text, []).append(where)

    def lines(self) -> list[str]:
        """Every reason with what it kept from being measured."""
        return [f"{text} ({', '.join(where)})" for text, where in self._where.items()]


def peer_rows(peer: Peer, name: str, student: Student, scratch: Path, left_out: LeftOut) -> Iterator[Row]:
    """Generate a peer's code once and measure it on every target, then on this machine."""
    what = f"{peer.tool} ({peer.variant})"
    folder = scratch / "code"
    folder.mkdir()
    try:
        code = peer.write(student, observations(1_000, CALIBRATION_SEED), folder)
    except Exception as error:  # whatever foreign code raises is no reason to lose the other rows
        left_out.add(what, name, error.stderr.decode() if isinstance(error, subprocess.CalledProcessError) else error)
        return
    common = {"network": name, "tool": peer.tool, "entry": STACKED}
    evaluation = observations(max(COMPARED.values()), EVALUATION_SEED)
    for target in MEASURED_ON[name]:
        if target == "avr" or (peer.target_names and target not in peer.target_names):
            continue
        compared = evaluation[: COMPARED[TARGETS[target].has_float_unit]]
        flags = ["-O2", "-Os"] if target in BOTH else ["-O2"]
        # Our own code never contracts; what a peer gains by it is shown.
        flags += ["-O2 -ffp-contract=fast"] * (TARGETS[target].has_float_unit and "float32" in peer.variant)
        for optimisation in flags:
            try:
                figures = cost(TARGETS[target], code, student, compared, optimisation=optimisation, scratch=scratch)
            except ExportError as error:
                left_out.add(what, f"{name} on {target}", error)
                continue
            variant = {"variant": f"{peer.variant}, {optimisation}", "target": target}
            yield {**common, **variant, **dataclasses.asdict(figures), "error_inputs": len(compared)}
    if peer.target_names is not None:
        return
    try:
        figures_here = host_figures(*host_time(code, student, evaluation, scratch), len(evaluation))
        yield {**common, "variant": f"{peer.variant}, -O2", **figures_here}
    except ExportError as error:
        left_out.add(what, f"{name} on host", error)


def rows(names: list[str], left_out: LeftOut) -> Iterator[Row]:
    """Every row of the benchmark."""
    evaluation = observations(max(COMPARED.values()), EVALUATION_SEED)
    for name in names:
        student = network(name)
        for ours, target in product(OURS, MEASURED_ON[name]):
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    yield from our_rows(ours, name, student, evaluation, target=target, scratch=Path(scratch))
                except ExportError as error:
                    left_out.add(f"ours ({ours.variant})", f"{name} on {target}", error)
        with tempfile.TemporaryDirectory() as scratch:
            yield our_host_row(name, student, evaluation, Path(scratch))
        for peer in PEERS:
            with tempfile.TemporaryDirectory() as scratch:
                yield from peer_rows(peer, name, student, Path(scratch), left_out)
        try:
            figures = host_figures(*onnxruntime_time(student, evaluation), len(evaluation))
        except ImportError as error:
            left_out.add("onnxruntime", name, error)
            continue
        yield {"network": name, "tool": "onnxruntime", "variant": "float32", "entry": STACKED, **figures}


def install(left_out: LeftOut) -> None:
    """Install the peers that pyproject.toml names, one by one: one that fails costs its own rows only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["optional-dependencies"]["bench"]:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            left_out.add(requirement, "pip", done.stderr)


def installed(name: str) -> str | None:
    """Version of a package, None where it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Measure everything, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="install the peers first (extra `bench`)")
    parser.add_argument("--networks", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "export.json")
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    refuse_dirty(allowed=arguments.allow_dirty)
    left_out = LeftOut()
    if arguments.install:
        install(left_out)
    measured = []
    for row in rows(arguments.networks, left_out):
        print(f"{row['network']}, {row['tool']}, {row['variant']}, {row['target']}", file=sys.stderr, flush=True)
        measured.append(row)
    targets = dict.fromkeys(row["target"] for row in measured)
    result = {
        "machine": machine(),
        "commit": commit(),
        "compilers": {name: target_compiler_version(TARGETS[name]) for name in targets},
        "packages": {name: installed(name) for name in PACKAGES},
        "counted_inputs": COUNTED,
        "left_out": left_out.lines(),
        "not_measured": NOT_MEASURED,
        "rows": measured,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
