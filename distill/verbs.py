"""The short verbs: collect, evaluate, teacher."""

from __future__ import annotations

from typing import Any

from export.compile import build_policy
from export.student_file import read_student

from .collect import collect
from .config import CollectConfig, EvaluateConfig, TeacherConfig, environment_spec, in_range
from .dataset import Dataset, write_dataset
from .errors import DistillError
from .evaluate import LARGEST_EPISODES, REPORT_SEED, TRAINING_SEED, compare, summarise
from .progress import TrainingProgress
from .result_file import writable
from .rollout import play
from .teacher import read_teacher


def collect_verb(config: CollectConfig) -> dict[str, Any]:
    """Write dataset.safetensors and say what is in it."""
    in_range("--episodes", config.episodes, 1, LARGEST_EPISODES)
    in_range("--noise", config.noise, 0.0, 10.0)
    in_range("--seed", config.seed, 0, 10_000)
    writable(config.out)
    spec = environment_spec(config.env, config.env_kwargs)
    teacher = read_teacher(config.teacher, spec.facts(), config.activation)
    with TrainingProgress() as progress:
        progress.stage("collect", None)
        rows = collect(
            spec,
            teacher.policy,
            episodes=config.episodes,
            first_seed=TRAINING_SEED * (1 + config.seed),
            noise=config.noise,
            on_step=progress.advance,
        )
    path = config.out / "dataset.safetensors"
    write_dataset(path, Dataset(rows, config.env, teacher.sha256, config.seed))
    return {"dataset": str(path), "rows": len(rows), "episodes": config.episodes}


def evaluate_verb(config: EvaluateConfig) -> dict[str, Any]:
    """Teacher and student on the same held-out episodes."""
    in_range("--episodes", config.episodes, 1, LARGEST_EPISODES)
    spec = environment_spec(config.env, config.env_kwargs)
    facts = spec.facts()
    teacher = read_teacher(config.teacher, facts, config.activation)
    student = read_student(config.student)
    if student.widths[0] != facts.observation_size or student.widths[-1] != len(facts.action_low):
        raise DistillError(
            f"student {config.student}: got {student.widths[0]} inputs and {student.widths[-1]} actions, the "
            f"environment has {facts.observation_size} and {len(facts.action_low)}; check --env"
        )
    teacher_return, student_return = compare(
        spec, teacher.policy, build_policy(student).evaluate_float32, config.episodes
    )
    return {"teacher_return": teacher_return, "student_return": student_return, "episodes": config.episodes}


def teacher_verb(config: TeacherConfig) -> dict[str, Any]:
    """What the file holds, and its return."""
    in_range("--episodes", config.episodes, 1, LARGEST_EPISODES)
    spec = environment_spec(config.env, config.env_kwargs)
    teacher = read_teacher(config.teacher, spec.facts(), config.activation)
    summary = summarise(play(spec, teacher.policy, range(REPORT_SEED, REPORT_SEED + config.episodes)))
    return {
        "observation_size": teacher.sizes[0],
        "action_size": teacher.sizes[-1],
        "sizes": list(teacher.sizes),
        "parameters": teacher.parameters,
        "kind": teacher.kind,
        "return_mean": summary["mean"],
        "return_iqm": summary["iqm"],
        "return": summary,
        "episodes": config.episodes,
        "sha256": teacher.sha256,
    }
