"""Command line of the distill room: teach, collect, train, evaluate, teacher, ablate."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Annotated, Any

import tyro

from .ablate_config import AblateConfig
from .config import CollectConfig, EvaluateConfig, TeacherConfig, TrainConfig
from .errors import DistillError
from .teach_config import TeachConfig

Command = (
    Annotated[TrainConfig, tyro.conf.subcommand("train")]
    | Annotated[CollectConfig, tyro.conf.subcommand("collect")]
    | Annotated[EvaluateConfig, tyro.conf.subcommand("evaluate")]
    | Annotated[TeacherConfig, tyro.conf.subcommand("teacher")]
    | Annotated[TeachConfig, tyro.conf.subcommand("teach")]
    | Annotated[AblateConfig, tyro.conf.subcommand("ablate")]
)


def _run(command: Command) -> dict[str, Any]:
    # heavy imports (torch, gymnasium) only once the options are known to be good
    if isinstance(command, TrainConfig):
        if command.seeds > 1 or command.device == "cuda":
            from .several_seeds import distil_seeds

            return distil_seeds(command)
        from .distillation import distil

        return distil(command)
    if isinstance(command, TeachConfig):
        from .teach import teach

        return teach(command)
    if isinstance(command, AblateConfig):
        from .ablate import ablate

        return ablate(command)
    from .verbs import collect_verb, evaluate_verb, teacher_verb

    if isinstance(command, CollectConfig):
        return collect_verb(command)
    if isinstance(command, EvaluateConfig):
        return evaluate_verb(command)
    return teacher_verb(command)


def command_line() -> int:
    """Parse, run, print; returns 0, or 1 when refused (usage errors end with 2, an interrupt is the caller's)."""
    # one thread a process: two OpenMP threads collapse on a shared machine, and sums keep their order
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    command: Command = tyro.cli(Command, prog="python -m distill", description=__doc__)
    started = time.perf_counter()
    from export.errors import ExportError

    try:
        result = _run(command)
    except (DistillError, ExportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, MemoryError) as error:
        print(f"error: {error or 'out of memory'}; free space or choose another folder", file=sys.stderr)
        return 1
    result.setdefault("seconds", time.perf_counter() - started)
    if command.json:
        print(json.dumps(result))
        return 0
    from rich.console import Console

    from .tables import result_table

    Console().print(result_table(type(command).__name__.removesuffix("Config").lower(), result))
    return 0
