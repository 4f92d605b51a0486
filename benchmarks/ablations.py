"""Every ablation on Hopper and on the cart: docs/results/ablations.json.

    python -m benchmarks.ablations [--jobs 2] [--seeds 5] [--letters abcdefgh] [--only Hopper-BERKELEY ...]

Runs `python -m distill ablate` for each; finished arms are kept under runs/ and not run again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.provenance import provenance
from distill.ablate import ablate
from distill.ablate_config import AblateConfig
from distill.config import SHIPPED_TEACHER
from distill.errors import DistillError
from distill.result_file import write_json

ROOT = Path(__file__).resolve().parent.parent
HOPPER, CART = "Hopper-BERKELEY", "CartRail"


def main() -> None:
    """Run what is missing, then write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=Path, default=ROOT.parent / "shared" / "teachers")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ablations")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--letters", default="abcdefgh")
    parser.add_argument("--only", nargs="+", choices=[HOPPER, CART], default=[HOPPER, CART])
    arguments = parser.parse_args()
    hopper = arguments.teachers / "Hopper-BERKELEY.npz"
    if HOPPER in arguments.only and not hopper.is_file():
        sys.exit(f"error: {hopper}: no such file, expected a benchmark teacher; give its folder with --teachers")
    sources = {
        HOPPER: AblateConfig(teacher=hopper, env="Hopper-v5"),
        CART: AblateConfig(teacher=ROOT / SHIPPED_TEACHER, hidden=(32, 32), exploration_noise=0.6),
    }
    results = {}
    for name in arguments.only:
        options = vars(arguments)
        config = AblateConfig(
            **{
                **sources[name].__dict__,
                **{key: options[key] for key in ("jobs", "seeds", "letters")},
                "out": arguments.out / name,
            }
        )
        try:
            results[name] = ablate(config)
        except DistillError as error:
            sys.exit(f"error: {name}: {error}")
    write_json(ROOT / "docs" / "results" / "ablations.json", {**provenance(), "environments": results})
    print("wrote docs/results/ablations.json; tables: make results", file=sys.stderr)


if __name__ == "__main__":
    main()
