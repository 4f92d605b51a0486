"""What a run trains on: the teacher's episodes, rolled out now, or a dataset that is there."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from .config import TrainConfig
from .datasets.collect import collect
from .datasets.dataset import Dataset, read_dataset
from .environment import EnvironmentFacts, EnvironmentSpec
from .evaluate import TRAINING_SEED
from .progress import TrainingProgress
from .source import load_policy
from .teachers import Teacher


def collect_rows(config: TrainConfig, spec: EnvironmentSpec, teacher: Teacher, progress: TrainingProgress) -> Dataset:
    """Roll the teacher out."""
    progress.stage("collect", None)
    rows = collect(
        spec,
        teacher.policy,
        episodes=config.episodes,
        first_seed=TRAINING_SEED * (1 + config.seed),
        exploration_noise=config.exploration_noise,
        on_step=progress.advance,
        jobs=config.jobs,
        load=partial(load_policy, config, teacher.sha256),
    )
    return Dataset(rows, config.env, teacher.sha256, config.seed)


def read_rows(config: TrainConfig, facts: EnvironmentFacts, teacher: Teacher, own: Path) -> Dataset:
    """--dataset, or `own`, what this run has collected; says on stderr what a person must know of it.

    Raises:
        DistillError: as `read_dataset`, or rows of another environment.
    """
    path = config.dataset or own
    dataset = read_dataset(path, cache=config.out)
    dataset.check_environment(path, config.env, facts)
    notes = list(dataset.notes)
    if dataset.teacher_sha256 not in ("", teacher.sha256):
        notes.append("its labels are those of another teacher")
    for note in notes:
        print(f"dataset {path}: {note}", file=sys.stderr)
    return dataset
