"""Command line of the distill room: every verb of `python -m distill`."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from typing import Annotated, Any

import tyro

from .ablate_config import AblateConfig
from .config import CollectConfig, CompareConfig, EvaluateConfig, TeacherConfig, TrainConfig
from .errors import DistillError
from .refine_config import RefineConfig
from .robustness_config import RobustnessConfig
from .smallest_config import SmallestConfig
from .standard_output import printed_to_stderr
from .study_config import StudyConfig
from .teach_config import TeachConfig

# torch raises RuntimeError for want of memory, its own subclass on a GPU
_TORCH_OUT_OF_MEMORY = re.compile(r"DefaultCPUAllocator: (can't|not enough)|(CUDA|HIP) out of memory")

Command = (
    Annotated[TrainConfig, tyro.conf.subcommand("train")]
    | Annotated[RefineConfig, tyro.conf.subcommand("refine")]
    | Annotated[SmallestConfig, tyro.conf.subcommand("smallest")]
    | Annotated[CollectConfig, tyro.conf.subcommand("collect")]
    | Annotated[EvaluateConfig, tyro.conf.subcommand("evaluate")]
    | Annotated[CompareConfig, tyro.conf.subcommand("compare")]
    | Annotated[RobustnessConfig, tyro.conf.subcommand("robustness")]
    | Annotated[TeacherConfig, tyro.conf.subcommand("teacher")]
    | Annotated[TeachConfig, tyro.conf.subcommand("teach")]
    | Annotated[AblateConfig, tyro.conf.subcommand("ablate")]
    | Annotated[StudyConfig, tyro.conf.subcommand("study")]
)


def _run(command: Command) -> dict[str, Any]:
    # heavy imports (torch, gymnasium) only once the options are known to be good
    if isinstance(command, TrainConfig):
        if command.seeds > 1 or command.device == "cuda":
            from .several_seeds import distil_seeds

            return distil_seeds(command)
        from .distillation import distil

        return distil(command)
    if isinstance(command, RefineConfig):
        from .refinement.refinement import refine

        return refine(command)
    if isinstance(command, SmallestConfig):
        from .smallest import smallest

        return smallest(command)
    if isinstance(command, RobustnessConfig):
        from .robustness import robustness

        return robustness(command)
    if isinstance(command, TeachConfig):
        from .teach import teach

        return teach(command)
    if isinstance(command, AblateConfig):
        from .ablate import ablate

        return ablate(command)
    if isinstance(command, StudyConfig):
        from .policy_distillation.study_figure import study_figure

        return study_figure(command)
    if isinstance(command, CompareConfig):
        from .compare import compare_verb

        return compare_verb(command)
    from .verbs import collect_verb, evaluate_verb, teacher_verb

    if isinstance(command, CollectConfig):
        return collect_verb(command)
    if isinstance(command, EvaluateConfig):
        return evaluate_verb(command)
    return teacher_verb(command)


def _out_of_memory(error: BaseException) -> str:
    asked = re.search(r"(?i)(?:tried to allocate|unable to allocate) [\d.]+ \w+", str(error))
    return (
        f"out of memory{f' ({asked[0]})' if asked else ''}, expected room for the run; free memory, or ask for less "
        "(--hidden, --batch, --episodes, --jobs)"
    )


def command_line() -> int:
    """Parse, run, print; returns 0, or 1 when refused (usage errors end with 2, an interrupt is the caller's)."""
    # one thread a process: two OpenMP threads collapse on a shared machine, and sums keep their order
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    command: Command = tyro.cli(Command, prog="python -m distill", description=__doc__)
    started = time.perf_counter()
    from export.errors import ExportError

    try:
        with printed_to_stderr():
            result = _run(command)
    except (DistillError, ExportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"error: {_out_of_memory(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; free space or choose another folder", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not _TORCH_OUT_OF_MEMORY.search(str(error)):
            raise
        print(f"error: {_out_of_memory(error)}", file=sys.stderr)
        return 1
    result.setdefault("seconds", time.perf_counter() - started)
    try:
        _print(command, result)
    except DistillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        # what is still buffered would fail once more at exit, with a traceback
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reason = error.strerror or error
        print(
            f"error: standard output: {reason}, expected a place for the result; redirect it elsewhere", file=sys.stderr
        )
        return 1
    if "refused" in result:
        print(f"error: {result['refused']}", file=sys.stderr)
        return 1
    return 0


def _print(command: Command, result: dict[str, Any]) -> None:
    from .result_file import as_text

    if command.json:
        print(as_text(result, "the result"))
    else:
        from .tables import Terminal, result_table, robustness_table

        if isinstance(command, RobustnessConfig):
            table = robustness_table(result)
        else:
            table = result_table(type(command).__name__.removesuffix("Config").lower(), result)
        Terminal().print(table)
    if sys.stdout is not None:
        sys.stdout.flush()  # at exit it would fail with a traceback
