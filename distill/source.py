"""What every verb starts from: the environment that the options name, and the teacher fitted to it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .config import ShrinkConfig, SourceConfig
from .environment import EnvironmentFacts, EnvironmentSpec
from .errors import DistillError
from .teachers import Teacher, read_teacher
from .teachers.critics import read_critics
from .teachers.error_costs import ErrorCosts

if TYPE_CHECKING:
    from export.student_file import Student

    from .rollout import Policy


def read_source(config: SourceConfig, *, say_notes: bool = True) -> tuple[EnvironmentSpec, EnvironmentFacts, Teacher]:
    """Build the environment once, read the teacher, and say on stderr what had to be assumed about it.

    Raises:
        DistillError: as `EnvironmentSpec.facts` and `read_teacher`.
    """
    spec = config.spec()
    facts = spec.facts()
    teacher = read_teacher(config.teacher, facts, config.activation, vecnormalize=config.vecnormalize, spec=spec)
    if say_notes:
        for note in teacher.notes:
            print(f"teacher {config.teacher.name}: {note}", file=sys.stderr)
    return spec, facts, teacher


def read_error_costs(config: ShrinkConfig, facts: EnvironmentFacts) -> ErrorCosts | None:
    """What --cost-sensitive asks for: weights of errors by the critics in the teacher's file; None: all weigh the same.

    Raises:
        DistillError: they are asked for, and the file has none that can be read.
    """
    if config.cost_sensitive is False:
        return None
    inputs = facts.observation_size + len(facts.action_low)
    try:
        critics = read_critics(config.teacher, config.vecnormalize, config.activation, inputs)
    except DistillError as error:
        if config.cost_sensitive is None:
            return None
        raise DistillError(f"--cost-sensitive: {error}") from error
    return ErrorCosts(critics, facts.action_low, facts.action_high)


def check_fits(path: Path, student: Student, environment: str, facts: EnvironmentFacts) -> None:
    """Refuse a student that the environment cannot take; one made for another that it can is said on stderr.

    Raises:
        DistillError: its inputs, their frames, its actions or their bounds are not the environment's.
    """
    if (student.widths[0], student.widths[-1]) != (facts.observation_size, len(facts.action_low)):
        raise DistillError(
            f"student {path}: got {student.widths[0]} inputs and {student.widths[-1]} actions, the environment has "
            f"{facts.observation_size} and {len(facts.action_low)}; check --env"
        )
    if student.history != facts.history:
        raise DistillError(
            f"student {path}: got inputs of {student.history} frames, the environment stacks {facts.history}; check "
            "--env-kwargs and --frame-stack"
        )
    if not (np.allclose(student.action_low, facts.action_low) and np.allclose(student.action_high, facts.action_high)):
        raise DistillError(
            f"student {path}: got actions within {student.action_low.tolist()} and {student.action_high.tolist()}, the "
            f"environment takes {facts.action_low.tolist()} to {facts.action_high.tolist()}; check --env"
        )
    if student.environment.rpartition(":")[2] != environment.rpartition(":")[2]:
        print(f"note: student {path} was made for {student.environment}, it plays in {environment}", file=sys.stderr)


def load_policy(config: SourceConfig, sha256: str) -> Policy:
    """The teacher's policy, read again in a worker.

    Raises:
        DistillError: the file is no longer the one that the collection began with.
    """
    teacher = read_source(config, say_notes=False)[2]
    if teacher.sha256 != sha256:
        raise DistillError(
            f"teacher {config.teacher}: the file changed while episodes were played, expected sha256 {sha256[:12]}; "
            "collect again"
        )
    return teacher.policy
