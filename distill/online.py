"""A small network trained online by SAC instead of distilled: what a student's size reaches without a teacher."""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .ablate_config import AblateConfig
from .environment import EnvironmentSpec
from .evaluate import REPORT_SEED, interquartile_mean
from .result_file import write_json
from .rollout import play
from .study import TEACHER_EPISODES
from .teachers import Teacher, read_teacher

_EPISODES = 20


def online_rows(config: AblateConfig, spec: EnvironmentSpec, teacher: Teacher) -> list[dict[str, Any]]:
    """Rows of every seed, trained where they are missing; fields as in `study.run_study`."""
    seeds = range(REPORT_SEED, REPORT_SEED + TEACHER_EPISODES)
    reference = interquartile_mean(play(spec, teacher.policy, seeds).returns)
    work = [
        (spec, config.hidden, config.online_steps, seed, config.out / "arms" / "sac") for seed in range(config.seeds)
    ]
    with ProcessPoolExecutor(min(config.jobs, len(work)), mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_train, work))
    return [
        {
            **row,
            "environment": config.env,
            "teacher": config.teacher.name,
            "method": f"SAC online, {config.online_steps:,} steps",
            "ablation": "h",
            "teacher_return_iqm": reference,
            "teacher_parameters": teacher.chain.parameters,
        }
        for row in found
    ]


def _train(work: tuple[EnvironmentSpec, tuple[int, ...], int, int, Path]) -> dict[str, Any]:
    spec, hidden, steps, seed, folder = work
    path = folder / f"{steps}-{'-'.join(map(str, hidden))}-seed{seed}.json"
    if path.is_file():
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return stored
    import torch
    from stable_baselines3 import SAC

    torch.set_num_threads(1)
    started = time.process_time()
    model = SAC("MlpPolicy", spec.make(), policy_kwargs={"net_arch": list(hidden)}, seed=seed, device="cpu")
    model.learn(steps)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(path.with_suffix(".zip"))
    facts = spec.facts()
    actor = read_teacher(path.with_suffix(".zip"), facts)
    first = REPORT_SEED + _EPISODES * seed
    returns = play(spec, actor.policy, range(first, first + _EPISODES)).returns
    weights = sum(weight.size for weight, _ in actor.chain.layers)
    row = {
        "size": weights,
        "seed": seed,
        "kept_weights": weights,
        "kept_parameters": actor.parameters,
        "density": 1.0,
        "bytes": 4 * actor.parameters,
        "return_iqm": interquartile_mean(returns),
        "cpu_seconds": time.process_time() - started,
        "returns": [round(float(value), 3) for value in returns],
    }
    write_json(path, row)
    return row
