"""Many runs that are compared: each trained once, resumable, its students scored on held-out episodes.

A study is a list of arms. An arm's folder keeps its rows once it is finished, so a study that was cut off goes on where
it stopped; rows do not depend on how many arms run at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .config import TrainConfig
from .errors import DistillError
from .evaluate import REPORT_SEED, interquartile_mean, share_kept
from .result_file import writable, write_json
from .train_options import check_config, recorded_options

TEACHER_EPISODES = 100
_ROWS = "rows.json"


@dataclass(frozen=True)
class Arm:
    """One run of a study; its config's `out` is its folder and its `seed` the training seed."""

    environment: str  # what tables call it
    method: str
    config: TrainConfig
    episodes: int = 20  # held-out ones, disjoint between the seeds of an arm


def run_study(arms: Sequence[Arm], jobs: int) -> list[dict[str, Any]]:
    """Train and score every arm that is not finished yet; returns the rows of all, in the order of `arms`.

    A row is one student: environment, teacher, method, size (weights asked for), seed, kept_weights, kept_parameters,
    bytes, returns (episodes,), return_iqm, teacher_return_iqm, teacher_returns' digest, cpu_seconds up to this size.

    Raises:
        DistillError: the first arm that fails; what was finished stays.
    """
    for arm in arms:
        check_config(arm.config)
    waiting = [arm for arm in arms if _finished(arm) is None]
    print(f"study: {len(arms)} runs, {len(arms) - len(waiting)} of them finished earlier", file=sys.stderr)
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(jobs, len(waiting))), mp_context=context) as pool:
        pending = {pool.submit(_run, arm): arm for arm in waiting}
        try:
            for count, future in enumerate(as_completed(pending), 1):
                arm, rows = pending[future], future.result()
                best = max(share_kept(row["return_iqm"], row["teacher_return_iqm"]) for row in rows)
                print(
                    f"study: {count} of {len(waiting)} done after {time.perf_counter() - started:.0f} s: "
                    f"{arm.environment}, {arm.method}, seed {arm.config.seed}: best size {best:.1%}",
                    file=sys.stderr,
                )
        except BaseException:
            for future in pending:
                future.cancel()
            raise
    return [row for arm in arms for row in (_finished(arm) or [])]


def dense_bytes(widths: Sequence[int]) -> int:
    """Bytes of a dense float32 network of these widths: weights and biases, no indices."""
    return 4 * sum(outputs * (inputs + 1) for inputs, outputs in pairwise(widths))


def dense_width(inputs: int, actions: int, budget_bytes: int) -> int:
    """Largest width of two equal hidden layers whose dense network fits; 0 where none does."""
    width = 0
    while dense_bytes((inputs, width + 1, width + 1, actions)) <= budget_bytes:
        width += 1
    return width


def _fingerprint(arm: Arm) -> str:
    teacher = hashlib.sha256(arm.config.teacher.read_bytes()).hexdigest() if arm.config.teacher.is_file() else ""
    facts = recorded_options(arm.config) | {"teacher": teacher, "episodes": arm.episodes}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _finished(arm: Arm) -> list[dict[str, Any]] | None:
    path = arm.config.out / _ROWS
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored["fingerprint"] != _fingerprint(arm):
        return None  # other options: the run is made again
    rows: list[dict[str, Any]] = stored["rows"]
    return rows


def _run(arm: Arm) -> list[dict[str, Any]]:
    from export.compile import build_policy
    from export.student_file import read_student

    from .distillation import distil
    from .rollout import play
    from .source import read_source

    config = arm.config
    writable(config.out)
    (config.out / "distill.json").unlink(missing_ok=True)
    started = time.process_time()
    try:
        result = distil(dataclasses.replace(config, resume=True))
    except DistillError as error:
        if not str(error).startswith("--resume: "):
            raise
        result = distil(config)  # the checkpoint belongs to other options
    spec, _, teacher = read_source(config, say_notes=False)
    reference = _teacher_returns(arm)
    rows = []
    for candidate in result["sizes"] or [{"asked": None, **result["chosen"]}]:
        policy = build_policy(read_student(config.out / "sizes" / candidate["name"]))
        first = REPORT_SEED + arm.episodes * config.seed
        returns = play(spec, policy.evaluate_float32, range(first, first + arm.episodes)).returns
        rows.append(
            {
                "environment": arm.environment,
                "teacher": config.teacher.name,
                "method": arm.method,
                "size": candidate["asked"],
                "seed": config.seed,
                "kept_weights": candidate["kept_weights"],
                "kept_parameters": candidate["kept_parameters"],
                "density": policy.density,
                "bytes": min(candidate["bytes"], dense_bytes(policy.widths)),
                "return_iqm": interquartile_mean(returns),
                "teacher_return_iqm": interquartile_mean(reference),
                "teacher_parameters": teacher.chain.parameters,
                "cpu_seconds": candidate["cpu_seconds"],
                "returns": [round(float(value), 3) for value in returns],
            }
        )
    write_json(
        config.out / _ROWS,
        {"fingerprint": _fingerprint(arm), "rows": rows, "total_cpu_seconds": time.process_time() - started},
    )
    return rows


def teacher_returns_path(arm: Arm) -> Path:
    """Where the teacher's returns on the report episodes are kept: beside the arms of one environment."""
    digest = hashlib.sha256(
        arm.config.teacher.read_bytes() + repr((arm.config.env, arm.config.env_kwargs)).encode()
    ).hexdigest()
    return arm.config.out.parent.parent / f"teacher-{digest[:12]}.json"


def _teacher_returns(arm: Arm) -> Any:
    """The teacher's returns on the report episodes, played once an environment: (episodes,)."""
    import numpy as np

    from .rollout import play
    from .source import read_source

    path = teacher_returns_path(arm)
    if not path.is_file():
        spec, _, teacher = read_source(arm.config, say_notes=False)
        seeds = range(REPORT_SEED, REPORT_SEED + TEACHER_EPISODES)
        write_json(path, {"returns": play(spec, teacher.policy, seeds).returns.tolist()})
    return np.array(json.loads(path.read_text(encoding="utf-8"))["returns"])
