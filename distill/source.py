"""What every verb starts from: the environment that the options name, and the teacher fitted to it."""

from __future__ import annotations

import sys

from .config import SourceConfig, environment_spec
from .environment import EnvironmentFacts, EnvironmentSpec
from .teachers import Teacher, read_teacher


def read_source(config: SourceConfig, *, say_notes: bool = True) -> tuple[EnvironmentSpec, EnvironmentFacts, Teacher]:
    """Build the environment once, read the teacher, and say on stderr what had to be assumed about it.

    Raises:
        DistillError: as `EnvironmentSpec.facts` and `read_teacher`.
    """
    spec = environment_spec(config.env, config.env_kwargs, config.wrapper, config.frame_stack)
    facts = spec.facts()
    teacher = read_teacher(config.teacher, facts, config.activation, vecnormalize=config.vecnormalize, spec=spec)
    if say_notes:
        for note in teacher.notes:
            print(f"teacher {config.teacher.name}: {note}", file=sys.stderr)
    return spec, facts, teacher
