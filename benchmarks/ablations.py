"""Every ablation on Hopper and on the cart: docs/results/ablations_<environment>.json.

    python -m benchmarks.ablations [--jobs 2] [--seeds 5] [--letters abcdefgh] [--only Hopper-BERKELEY ...]

Runs `python -m distill ablate` for each; finished arms are kept under runs/ and not run again. The rows of the
letters that were run take the place of their earlier ones in the file; the others stay.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.ablation_tables import results_path
from benchmarks.distillation_tables import groups, load
from benchmarks.provenance import origin, provenance, refuse_difference, refuse_dirty
from distill.ablate import DENSITIES, LETTERS, ablate
from distill.ablate_config import AblateConfig
from distill.config import SHIPPED_TEACHER
from distill.errors import DistillError
from distill.identity import Identities, as_json
from distill.result_file import write_json
from export.errors import ExportError

ROOT = Path(__file__).resolve().parent.parent
HOPPER, CART = "Hopper-BERKELEY", "CartRail"
_SAME = ("iterations", "fine_tune_iterations", "data_weight", "hidden", "episodes", "exploration_noise", "seeds")


def refuse_mixture(name: str, stored: dict[str, Any] | None, config: AblateConfig) -> None:
    """End the program where some letters would be measured otherwise than the stored ones that stay beside them."""
    if stored is None or {row["ablation"] for row in stored["rows"]} <= set(config.letters):
        return
    file, source = results_path(name).name, as_json(Identities().source(config))
    if stored["source"] != source:
        sys.exit(
            f"error: {name}: {file} has letters with the teacher and environment {stored['source']}, got "
            f"{source} for --letters {config.letters} alone; run all letters"
        )
    options = {key: list(value) if isinstance(value := getattr(config, key), tuple) else value for key in _SAME}
    for key in _SAME:
        where, alone = f"{name}: {file} has letters", f"--letters {config.letters}"
        refuse_difference(where, key, stored["options"][key], options[key], alone)
    sizes = {row["size"] for row in stored["rows"] if row["ablation"] not in {*"eh", *config.letters}}
    expected = {round(density * stored["dense_weights"]) for density in DENSITIES}
    if sizes and sizes != expected:
        sys.exit(
            f"error: {name}: {file} has letters with the sizes {sorted(sizes)}, expected {sorted(expected)} as "
            f"for --letters {config.letters} alone; run all letters"
        )


def merged(
    stored: dict[str, Any] | None, result: dict[str, Any], begun: dict[str, str], letters: str
) -> dict[str, Any]:
    """What an environment's file says: new rows in place of the earlier ones of their letters, the others as they were.

    The path of `ablate`'s own file means nothing elsewhere and is left out.
    """
    earlier: list[dict[str, Any]] = [] if stored is None else stored["rows"]
    rows = [row for row in earlier if row["ablation"] not in letters] + result["rows"]
    before: dict[str, Any] = {} if stored is None else stored["provenance"]
    rows.sort(key=lambda row: LETTERS.index(row["ablation"]))
    origins = {
        letter: origin(begun, own, before.get(letter), earlier)
        for (letter,), own in sorted(groups(rows, "ablation").items())
    }
    told = {"rows": rows, "sources": sorted({row["sources"] for row in rows}), "provenance": origins}
    return {**begun, **{key: value for key, value in result.items() if key != "file"}, **told}


def main() -> None:
    """Run what is missing, then write the JSON files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=Path, default=ROOT.parent / "shared" / "teachers")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ablations")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--letters", default="abcdefgh")
    parser.add_argument("--only", nargs="+", choices=[HOPPER, CART], default=[HOPPER, CART])
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    refuse_dirty(allowed=arguments.allow_dirty)
    begun = provenance()
    hopper = arguments.teachers / "Hopper-BERKELEY.npz"
    if HOPPER in arguments.only and not hopper.is_file():
        sys.exit(f"error: {hopper}: no such file, expected a benchmark teacher; give its folder with --teachers")
    sources = {
        HOPPER: AblateConfig(teacher=hopper, env="Hopper-v5"),
        CART: AblateConfig(teacher=ROOT / SHIPPED_TEACHER, hidden=(32, 32), exploration_noise=0.6),
    }
    for name in arguments.only:
        config = replace(
            sources[name],
            jobs=arguments.jobs,
            seeds=arguments.seeds,
            letters=arguments.letters,
            out=arguments.out / name,
        )
        stored = load(results_path(name))
        refuse_mixture(name, stored, config)
        try:
            result = ablate(config)
        except (DistillError, ExportError) as error:
            sys.exit(f"error: {name}: {error}")
        write_json(results_path(name), merged(stored, result, begun, arguments.letters))
        print(f"wrote {results_path(name).relative_to(ROOT)}; tables: make results", file=sys.stderr)


if __name__ == "__main__":
    main()
