"""The short verbs: collect, evaluate, teacher."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from export.compile import build_policy
from export.student_file import read_student

from .config import CollectConfig, EvaluateConfig, TeacherConfig, in_range
from .datasets.collect import Collection, checked
from .datasets.dataset import flat_layout, flat_metadata, write_flat
from .datasets.parallel_collect import play_shards
from .datasets.shards import ShardFolder
from .datasets.write_minari import Origin, replaceable, write_minari
from .errors import DistillError
from .evaluate import LARGEST_EPISODES, REPORT_SEED, TRAINING_SEED, compare, summarise
from .progress import TrainingProgress
from .result_file import writable
from .rollout import longest_episode, play
from .source import check_fits, load_policy, read_source
from .teachers.responds import ActionRange

LARGEST_COLLECTION = 900_000  # episodes; a seed moves the first by a million
LARGEST_JOBS = 1_024


def collect_verb(config: CollectConfig) -> dict[str, Any]:
    """Write a Minari dataset and say what is in it."""
    in_range("--episodes", config.episodes, 1, LARGEST_COLLECTION)
    in_range("--exploration-noise", config.exploration_noise, 0.0, 10.0)
    in_range("--jobs", config.jobs, 1, LARGEST_JOBS)
    in_range("--seed", config.seed, 0, 10_000)
    writable(config.out)
    target = config.out / "data"
    replaceable(target)
    spec, _, teacher = read_source(config)
    collection = Collection(spec, config.episodes, TRAINING_SEED * (1 + config.seed), config.exploration_noise)
    origin = Origin(spec, teacher.sha256, config.seed, collection.first_seed, tuple(collection.noise()))
    asked = {
        key: value for key, value in dataclasses.asdict(config).items() if key not in ("out", "jobs", "flat", "json")
    }
    with ShardFolder(config.out / ".partial", collection, asked | {"teacher": teacher.sha256}) as folder:
        with TrainingProgress() as progress:
            progress.stage("collect", config.episodes * longest_episode(spec))
            play_shards(folder, partial(load_policy, config, teacher.sha256), config.jobs, progress.advance)
            progress.stage("write", collection.shards)
            rows = 0
            try:
                for part in checked(folder.parts()):
                    rows += len(part)
                    progress.advance(1)
            except DistillError:
                folder.remove()  # nothing of it is worth going on with
                raise
        write_minari(target, folder.folder / "data", folder.parts(), teacher.policy, origin)
        result = {"dataset": str(config.out), "rows": rows, "episodes": config.episodes}
        if config.flat:
            flat = config.out / "dataset.safetensors"
            first = folder.read(0)
            widths = first.observations.shape[1], first.executed_actions.shape[1]
            layout = flat_layout(rows, config.episodes, *widths, labelled=True)
            write_flat(flat, layout, flat_metadata(config.env, teacher.sha256, config.seed), folder.parts())
            result["flat"] = str(flat)
        folder.remove()
    return result


def evaluate_verb(config: EvaluateConfig) -> dict[str, Any]:
    """Teacher and student on the same held-out episodes."""
    in_range("--episodes", config.episodes, 1, LARGEST_EPISODES)
    spec, facts, teacher = read_source(config)
    student = read_student(config.student)
    check_fits(config.student, student, config.env, facts)
    teacher_return, student_return = compare(
        spec, teacher.policy, build_policy(student).evaluate_float32, config.episodes
    )
    return {"teacher_return": teacher_return, "student_return": student_return, "episodes": config.episodes}


def teacher_verb(config: TeacherConfig) -> dict[str, Any]:
    """What the file holds, and its return.

    Raises:
        DistillError: as `read_source`, or a teacher that gave the same action at every state.
    """
    in_range("--episodes", config.episodes, 1, LARGEST_EPISODES)
    spec, facts, teacher = read_source(config, say_notes=False)
    actions = ActionRange(teacher.policy)
    with TrainingProgress() as progress:
        progress.stage("play", config.episodes * longest_episode(spec))
        episodes = play(spec, actions, range(REPORT_SEED, REPORT_SEED + config.episodes), on_step=progress.advance)
    actions.refuse_constant()
    summary = summarise(episodes)
    return {
        "kind": teacher.kind,
        "observation_size": facts.observation_size,
        "action_size": len(facts.action_low),
        "sizes": list(teacher.sizes),
        "activations": list(teacher.chain.activations),
        "parameters": teacher.parameters,
        "parameters_in_use": teacher.chain.parameters,
        "return_mean": summary["mean"],
        "return_iqm": summary["iqm"],
        "return": summary,
        "episodes": config.episodes,
        "environment": spec.record(),
        "notes": list(teacher.notes),
        "sha256": teacher.sha256,
    }
