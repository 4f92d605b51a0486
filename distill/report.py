"""The end of a run: choose a student, play the held-out episodes, and put the results in place of earlier ones."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.compile import build_policy
from export.student_file import read_student, write_student

from .errors import DistillError
from .evaluate import compare
from .result_file import replace_with_copy, write_json
from .select import Candidate

if TYPE_CHECKING:
    from .distillation import Distillation


def refuse_obstacles(out: Path) -> None:
    """Refuse what could not be replaced by results, before hours are spent on them.

    Raises:
        DistillError: a folder stands where a file is to be, or anything else where the folder `sizes` is to be.
    """
    for name in ("student.safetensors", "dataset.safetensors", "distill.json"):
        if (out / name).is_dir():
            raise DistillError(f"--out: got {out}, where {name} is a folder, expected a file or none; move it away")
    sizes = out / "sizes"
    if sizes.is_symlink() or (sizes.exists() and not sizes.is_dir()):
        raise DistillError(f"--out: got {out}, where sizes is no folder, expected one or none; move it away")


def write_results(run: Distillation) -> dict[str, Any]:
    """Choose, play the held-out episodes, and put the results in place of earlier ones."""
    config, shrinking = run.config, run.shrinking
    assert shrinking is not None
    chosen = choose(run)
    shortcomings = run.selection.shortcomings(chosen, config.target_return)
    run.progress.stage("evaluate", None)
    student = read_student(run.sizes_folder / chosen.name)
    policy = build_policy(student)
    teacher_return, student_return = compare(
        run.spec, run.teacher.policy, policy.evaluate_float32, config.evaluation_episodes
    )
    run.mark("evaluate")
    path = config.out / "student.safetensors"
    evaluation = {"teacher": teacher_return, "student": student_return, "fine_tuned": chosen.fine_tuned}
    result: dict[str, Any] = {
        "student": str(path),
        "dataset": str(config.dataset or config.out / "dataset.safetensors"),
        "environment": config.env,
        "teacher_parameters": run.teacher.chain.parameters,
        "teacher_kind": run.teacher.kind,
        "method": config.method,
        "kept_weights": chosen.kept_weights,
        "kept_parameters": chosen.kept_parameters,
        "bytes": chosen.bytes,
        "density": policy.density,
        "threshold": config.threshold if shrinking.ranked else None,
        "fine_tuned": chosen.fine_tuned,
        "chosen": chosen.row(),
        "target_held": not shortcomings,
        "return_iqm": student_return["iqm"],
        "teacher_return_iqm": teacher_return["iqm"],
        "teacher_return": teacher_return,
        "student_return": student_return,
        "iterations": run.steps,
        "options": run.options,
        **run.told,
        "rows": len(run.replay),
        "candidates": [candidate.row() for candidate in shrinking.candidates],
        "sizes": [{"asked": size, **_best_at(run, size).row()} for size in config.kept_weights],
        "curve": run.curve,
        "stage_seconds": run.seconds,
        "cpu_seconds": run.cpu(),
        "seconds": sum(run.seconds.values()),
    }
    write_student(path, dataclasses.replace(student, evaluation=evaluation))
    # copies: until the last file is written the checkpoint stays whole, and --resume comes back to this point
    if config.dataset is None:
        replace_with_copy(run.checkpoint.folder / "dataset.safetensors", config.out / "dataset.safetensors")
    replace_with_copy(run.sizes_folder, config.out / "sizes")
    write_json(config.out / "distill.json", result)
    run.checkpoint.clear()
    run.scalars.close()
    if chosen.kept_weights == 0:
        print("warning: the chosen student has no weights left, it always acts alike", file=sys.stderr)
    if shortcomings:
        which = f"the student of {chosen.kept_weights} weights does not hold" if config.kept_weights else "none holds"
        print(f"warning: {which} the target: {'; '.join(shortcomings)}{run.way_on(path)}", file=sys.stderr)
    return result


def choose(run: Distillation) -> Candidate:
    """The best at the smallest size asked for, or the smallest that holds the target."""
    assert run.shrinking is not None
    if run.config.kept_weights:
        return _best_at(run, min(run.config.kept_weights))
    return run.selection.choose(run.shrinking.candidates, run.config.target_return)


def _best_at(run: Distillation, size: int) -> Candidate:
    """The best student at a size asked for, or at the largest below it where Bayesian training left fewer."""
    assert run.shrinking is not None
    tuned = [each for each in run.shrinking.candidates if each.fine_tuned and each.size <= size]
    largest = max(each.size for each in tuned)
    return run.selection.best_of([each for each in tuned if each.size == largest], run.config.target_return)
