"""Swing the rod up again and again through the real firmware in lock-step, and count what goes wrong.

    python benchmarks/swing_ups.py --policy build/policy --image build/firmware/firmware --runs 360

Every run draws new plant parameters (mass and length +-20 %, friction and damping within a factor of two, drive
stiffness +-40 %, homing error +-2 counts) and starts hanging at rest. 360 runs of 10 s are one simulated hour: there
must be no safety stop in it. Writes docs/results/swing_ups.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DURATION_S = 10.0
PERIOD_S = 0.02


def run(policy: Path, image: Path, seed: int, mode: str, log: Path) -> dict[str, Any]:
    """One swing-up; the bridge's JSON. A stop by the firmware is an answer too (exit code 1 with JSON)."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "firmware_bridge", "run", "--port", "sim:", "--image", image, "--policy", policy),
            *("--mode", mode, "--clock", "lockstep", "--randomise", "--seed", str(seed)),
            *("--duration-s", str(DURATION_S), "--log", log, "--json"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    if not done.stdout.strip():
        raise SystemExit(f"error: seed {seed}: {done.stderr.strip().splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Play, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, default=Path("build/policy"))
    parser.add_argument("--image", type=Path, default=Path("build/firmware/firmware"))
    parser.add_argument("--runs", type=int, default=360)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "swing_ups.json")
    arguments = parser.parse_args()
    held, stops, digest = 0, [], ""
    counters = {"steps": 0, "crc_errors": 0, "lost": 0, "deadline_misses": 0}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.runs):
            mode = ("host", "device")[seed % 2]
            answer = run(arguments.policy, arguments.image, seed, mode, Path(folder) / "log")
            if answer["ended_by"] != "duration" and not answer["faults"]:
                raise SystemExit(
                    f"error: seed {seed}: the run ended by {answer['ended_by']}, expected duration or a fault"
                )
            held += answer["upright_fraction_last_3s"] == 1.0
            stops += [{"seed": seed, **fault} for fault in answer["faults"]]
            digest = answer["policy_digest"]
            for name in counters:
                counters[name] += answer[name]
            if seed % 20 == 19:
                print(f"{seed + 1} runs, {held} held, {len(stops)} safety stops", file=sys.stderr, flush=True)
    result = {
        "policy_digest": digest,
        "runs": arguments.runs,
        "simulated_seconds": counters["steps"] * PERIOD_S,
        "held_last_3s": held,
        "safety_stops": stops,
        **counters,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    sys.exit(1 if stops else 0)


if __name__ == "__main__":
    main()
