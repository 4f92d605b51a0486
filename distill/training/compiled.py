"""Compile a step once, or run it as it is where no compiler works."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

Function = Callable[..., torch.Tensor]
_said = False


class Compiled:
    """A function of tensors, which it may change in place, compiled for the shapes of its first call.

    It is traced as it runs, without a look at Python's side of it, so that a call costs no check of what may have
    changed: everything that is not a tensor must stay what it was. Where compiling fails (no C++ compiler, no room for
    its files), one line on stderr says so, once a process, and the function runs as it is. Both round differently: a
    run's bytes are those of a machine with, or without, a compiler.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._chosen: Function | None = None

    @torch.no_grad()
    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Run it."""
        if self._chosen is None:
            try:
                self._chosen = compile_for(self._function, tensors)
            except Exception as failure:  # the compiler's stages raise errors of many kinds
                _say(failure)
                self._chosen = self._function
        return self._chosen(*tensors)


def compile_for(function: Function, tensors: tuple[torch.Tensor, ...]) -> Function:
    """`function` for tensors of these shapes; the given ones are only looked at."""
    from torch._inductor import compile as compile_graph
    from torch.fx.experimental.proxy_tensor import make_fx

    examples = [tensor.clone() for tensor in tensors]
    graph = make_fx(function)(*examples)
    faster = compile_graph(graph, list(examples))

    def call(*arguments: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = faster(*arguments)
        return result

    return call


def _say(failure: Exception) -> None:
    global _said  # noqa: PLW0603  # once a process
    if not _said:
        first = (str(failure).strip() or type(failure).__name__).splitlines()[0]
        print(f"note: the step could not be compiled, it runs slower without ({first[:160]})", file=sys.stderr)
    _said = True
