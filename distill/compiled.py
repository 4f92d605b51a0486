"""Compile a step once, or run it as it is where no compiler works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")
_said = False


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """`function`, compiled on its first call; it must be free of side effects.

    Where that fails (no C++ compiler, no room for its files), one line on stderr says so, once a process, and the
    function runs uncompiled. Both round differently, so a run's bytes are those of a machine with or without compiler.
    """
    faster: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)
    chosen: list[Callable[..., Result]] = []

    def call(*tensors: Any, **named: Any) -> Result:
        if chosen:
            return chosen[0](*tensors, **named)
        try:
            result: Result = faster(*tensors, **named)
            chosen.append(faster)
        except Exception as failure:  # the compiler's stages raise errors of many kinds
            _say(failure)
            chosen.append(function)
            result = function(*tensors, **named)
        return result

    return call


def _say(failure: Exception) -> None:
    global _said  # noqa: PLW0603  # once a process
    if not _said:
        first = (str(failure).strip() or type(failure).__name__).splitlines()[0]
        print(f"note: the step could not be compiled, it runs slower without ({first[:160]})", file=sys.stderr)
    _said = True
