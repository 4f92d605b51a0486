"""A small actor trained online by SAC instead of distilled: what a student's size reaches without a teacher."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ablate_config import AblateConfig
from .commit import own_code
from .environment import EnvironmentSpec
from .evaluate import interquartile_mean
from .identity import as_json
from .processes import run_all
from .result_file import read_json, write_json
from .rollout import play
from .study import EPISODES, dense_bytes, held_out
from .teachers import Teacher, read_teacher

_CRITIC_WIDTHS = (256, 256)  # as in the published algorithm: only the actor is deployed, so only it is small


@dataclass(frozen=True)
class _Work:
    """One seed's training; `identity` says what must agree for its stored row to be taken."""

    spec: EnvironmentSpec
    hidden: tuple[int, ...]
    steps: int
    seed: int
    folder: Path

    @property
    def path(self) -> Path:
        """Its row, beside the zip of the same name."""
        return self.folder / f"{self.steps}-{'-'.join(map(str, self.hidden))}-seed{self.seed}.json"

    @property
    def identity(self) -> dict[str, Any]:
        """As JSON values."""
        numbers = {"hidden": self.hidden, "critics": _CRITIC_WIDTHS, "steps": self.steps, "seed": self.seed}
        return as_json({"environment": self.spec.record(), **numbers, "episodes": EPISODES})

    def stored(self) -> dict[str, Any] | None:
        """Its row; None where it has not been trained."""
        if not self.path.is_file():
            return None
        stored = read_json(self.path, "identity", "row")
        row: dict[str, Any] = stored["row"]
        return row if stored["identity"] == self.identity else None


def online_rows(
    config: AblateConfig, spec: EnvironmentSpec, teacher: Teacher, teacher_return_iqm: float
) -> list[dict[str, Any]]:
    """Rows of every seed, trained where they are missing; fields as in `study.run_study`.

    Raises:
        DistillError: the first seed that fails; what was finished stays.
    """
    folder = config.out / "arms" / "sac"
    work = [_Work(spec, config.hidden, config.online_steps, seed, folder) for seed in range(config.seeds)]

    def say(each: _Work, row: dict[str, Any]) -> None:
        print(f"online: seed {each.seed}: return {row['return_iqm']:.1f}", file=sys.stderr)

    run_all(_train, [each for each in work if each.stored() is None], config.jobs, say)
    return [
        {
            **(each.stored() or {}),
            "environment": config.env,
            "teacher": config.teacher.name,
            "method": f"SAC online, {config.online_steps:,} steps",
            "ablation": "h",
            "teacher_return_iqm": teacher_return_iqm,
            "teacher_parameters": teacher.chain.parameters,
        }
        for each in work
    ]


def _train(work: _Work) -> dict[str, Any]:
    import torch
    from scipy.sparse import csr_array

    from export.sparse_policy import csr_arrays

    from .training.soft_actor_critic import SoftActorCritic

    torch.set_num_threads(1)
    code, started = own_code(), time.process_time()
    model = SoftActorCritic(work.spec.make(), work.hidden, _CRITIC_WIDTHS, work.seed)
    model.learn(work.steps)
    seconds = time.process_time() - started
    work.folder.mkdir(parents=True, exist_ok=True)
    model.save(work.path.with_suffix(".zip"))
    actor = read_teacher(work.path.with_suffix(".zip"), work.spec.facts())
    returns = play(work.spec, actor.policy, held_out(work.seed, EPISODES)).returns
    layers = actor.chain.layers
    weights = sum(weight.size for weight, _ in layers)
    arrays = [array for weight, _ in layers for array in csr_arrays(csr_array(weight))]
    row = {
        "size": weights,
        "threshold": None,
        "seed": work.seed,
        "pruned_to": weights,
        "kept_weights": weights,
        "kept_parameters": actor.parameters,
        "density": 1.0,
        "bytes": sum(array.nbytes for array in arrays) + 4 * sum(bias.size for _, bias in layers),
        "dense_bytes": dense_bytes(actor.sizes),
        "steps": work.steps,
        "return_iqm": interquartile_mean(returns),
        "cpu_seconds": seconds,
        **code,
        "returns": [round(float(value), 3) for value in returns],
    }
    write_json(work.path, {"identity": work.identity, "row": row})
    return row
