"""The bridge and the real firmware with the fault proxy between them, twenty seeds of ten minutes; and shadow mode.

    python -m benchmarks.bridge_faults [--seeds 20] [--minutes 10] [--real-seconds 300] [--shadow-minutes 10] [--jobs 2]

Lock-step, so the figures do not depend on this machine, but for the one run in real time, which has it for itself. The
plant's period is 20 ms: ten minutes are the 30,000 periods of five minutes at 100 Hz, and 10 ms of jitter are as much
of a period as 5 ms are there. Each run's figures are kept in build/bridge_faults; started again at the same commit, it
goes on where it was. It writes
docs/results/bridge_faults.json and the table in docs/faults.md, and ends with 1 where anything was applied that was not
sent, or a log is damaged.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from benchmarks.bridge_fuzz import fuzz
from benchmarks.fault_run import FaultRun, fault_run
from benchmarks.fault_tables import fill
from benchmarks.provenance import ROOT, commit, machine, refuse_dirty
from benchmarks.shadow_agreement import shadow_agreement
from distill.processes import run_all
from distill.result_file import write_json
from export.compile import compile_student
from firmware_bridge.ports.simulated_port import build_image

TARGET = ROOT / "docs" / "results" / "bridge_faults.json"
_KEPT = ROOT / "build" / "bridge_faults"
STUDENT = ROOT / "students" / "cart_rail.safetensors"
ASKED = {"drop": 0.01, "corrupt": 0.005, "jitter_ms": 10.0, "disconnect_every_s": 10.0}
# Beside them what no cable does, but somebody might: frames of other sessions, old ones, and too many.
HOSTILE = {
    **{"duplicate": 0.01, "reorder": 0.002, "truncate": 0.002, "flood": 0.002, "replay": 0.02, "foreign": 0.1},
}


@dataclasses.dataclass(frozen=True)
class _Plan:
    """One run: which rates, which clock, which seed, how long [s of the device]."""

    rates: Literal["asked", "hostile"]
    clock: Literal["real", "lockstep"]
    seed: int
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.rates}_{self.clock}_{self.seed}"

    @property
    def proxy(self) -> dict[str, Any]:
        return {**ASKED, **(HOSTILE if self.rates == "hostile" else {}), "seed": self.seed}


def _measured(policy: Path, image: Path, folder: Path, commit: str, plan: _Plan) -> dict[str, Any]:
    """The run's figures, kept ones where there are some."""
    told = _kept(f"{plan.name}_{plan.seconds:g}", commit)
    if told is None:
        out = folder / plan.name
        told = {"rates": plan.rates, **fault_run(FaultRun(policy, image, out, plan.seconds, plan.clock, plan.proxy))}
        write_json(_KEPT / f"{plan.name}_{plan.seconds:g}.json", {"commit": commit, **told})
        shutil.rmtree(out)
    print(
        f"{plan.rates}, {plan.clock}, seed {plan.seed}: {told['simulated_s']:.0f} s, {told['driven']} periods driven, "
        f"{told['blocks']} times armed, {len(told['violations'])} violations",
        file=sys.stderr,
        flush=True,
    )
    return told


def _kept(name: str, commit: str) -> dict[str, Any] | None:
    """The figures of a run that was made at this commit before, None when there are none."""
    path = _KEPT / f"{name}.json"
    if commit.endswith("-dirty") or not path.is_file():
        return None
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told if told.pop("commit") == commit else None


def main() -> None:
    """Run all, say how it goes, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="of each kind, in lock-step")
    parser.add_argument("--minutes", type=float, default=10.0, help="simulated, of each seed")
    parser.add_argument("--real-seconds", type=float, default=300.0, help="of the run in real time")
    parser.add_argument("--shadow-minutes", type=float, default=10.0, help="simulated, of each run in shadow mode")
    parser.add_argument("--fuzz-bytes", type=int, default=10_000_000, help="hostile bytes for the parser")
    parser.add_argument("--jobs", type=int, default=2, help="runs in lock-step at a time")
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    refuse_dirty(allowed=arguments.allow_dirty)
    result: dict[str, Any] = {"machine": machine(), "commit": commit(), "asked": ASKED, "hostile": HOSTILE}
    with tempfile.TemporaryDirectory(prefix="bridge-faults-") as name:
        folder = Path(name)
        compiled = compile_student(STUDENT, folder / "int8", None, weights="int8")
        compile_student(STUDENT, folder / "float32", None)
        images = {
            kind: build_image(folder / kind, folder / f"{kind}_image", "host").path for kind in ("int8", "float32")
        }
        result["policy_digest"] = compiled.digest
        result["shadow"] = [
            shadow_agreement(folder / kind, image, folder / f"shadow_{kind}", 60.0 * arguments.shadow_minutes)
            for kind, image in images.items()
        ]
        result["fuzz"] = fuzz(arguments.fuzz_bytes, seed=0)
        seeds, seconds = range(arguments.seeds), 60.0 * arguments.minutes
        asked = [_Plan("asked", "lockstep", seed, seconds) for seed in seeds]
        hostile = [_Plan("hostile", "lockstep", seed, seconds) for seed in seeds]
        measure = functools.partial(_measured, folder / "int8", images["int8"], folder, result["commit"])
        result["runs"] = [measure(_Plan("asked", "real", 0, arguments.real_seconds))]
        result["runs"] += run_all(measure, asked + hostile, arguments.jobs)
    write_json(TARGET, result)
    fill(json.loads(TARGET.read_text(encoding="utf-8")))
    wrong = [line for run in result["runs"] for line in run["violations"]]
    wrong += [line for row in result["shadow"] for line in row["differences"]]
    print(f"wrote {TARGET.relative_to(ROOT)} and docs/faults.md; {len(wrong)} violations")
    if wrong:
        sys.exit("error: " + wrong[0])


if __name__ == "__main__":
    main()
