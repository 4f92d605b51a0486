"""The figures of "Distilling Policy Distillation", every claim with its verdict: docs/results/policy_distillation.json.

    python -m benchmarks.policy_distillation [--jobs 2] [--only fig3 ...]

Runs `python -m distill study` for each figure, and figure 4 once more with larger steps, because the paper states none.
Finished parts are kept under runs/ and not run again. The figures that were run take the place of their earlier ones.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.distillation_tables import load
from benchmarks.provenance import provenance, refuse_dirty
from distill.errors import DistillError
from distill.policy_distillation.study_figure import study_figure
from distill.result_file import write_json
from distill.study_config import StudyConfig

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
TARGET = RESULTS / "policy_distillation.json"
FIGURES: dict[str, dict[str, Any]] = {
    "fig2": {"figure": "fig2"},
    "fig3": {"figure": "fig3"},
    "fig4": {"figure": "fig4"},
    "fig4-large-steps": {"figure": "fig4", "learning_rate": 1.0},
    "fig5": {"figure": "fig5"},
    "fig6": {"figure": "fig6"},
}


def main() -> None:
    """Run what is missing, then write the JSON file and copy the drawings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "policy_distillation")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES), help="these figures alone")
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    refuse_dirty(allowed=arguments.allow_dirty)
    begun = provenance()
    for name in arguments.only:
        out = arguments.out if name == FIGURES[name]["figure"] else arguments.out / name
        try:
            result = study_figure(StudyConfig(**FIGURES[name], out=out, jobs=arguments.jobs))
        except DistillError as error:
            sys.exit(f"error: {name}: {error}")
        files = result.pop("files")
        figures = (load(TARGET) or {"figures": {}})["figures"] | {name: {**begun, **result}}
        drawing = next(Path(file) for file in files if file.endswith(".svg"))
        shutil.copyfile(drawing, RESULTS / f"{name}.svg")
        # after each, so that an interrupt in the next loses nothing
        write_json(TARGET, {"figures": {each: figures[each] for each in FIGURES if each in figures}})
    print(f"wrote {TARGET.relative_to(ROOT)}; tables: make results", file=sys.stderr)


if __name__ == "__main__":
    main()
