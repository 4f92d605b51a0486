"""Replay a training step on an accelerator as one CUDA graph: no launch costs, whatever the number of students."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

_WARM_UP_CALLS = 3  # real steps on a side stream, in which libraries allocate what a capture must not


class DeviceBits:
    """A stream of random 32-bit integers on the device; `noise.RandomBits` is its like on the CPU."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def draw(self, count: int) -> torch.Tensor:
        """The next `count` integers (count,), int32 over the whole range."""
        bits = torch.empty(count, dtype=torch.int32, device=self._device)
        return bits.random_(-(2**31), None, generator=self.generator)

    def state(self) -> torch.Tensor:
        """Where the stream stands."""
        return self.generator.get_state()

    def restore(self, state: torch.Tensor) -> None:
        """Continue where `state` was taken."""
        self.generator.set_state(state)


class Captured:
    """A function of tensors that changes state in place, captured at its fourth call and replayed from then on."""

    def __init__(self, function: Callable[..., None], generators: Sequence[torch.Generator]) -> None:
        """`generators` are the random streams that the function draws from."""
        self._function = function
        self._generators = generators
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[torch.Tensor] = []

    def __call__(self, *tensors: torch.Tensor) -> None:
        """Run the function on the contents of `tensors`, whose shapes never change."""
        self._calls += 1
        if self._calls <= _WARM_UP_CALLS:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own annotation
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._function(*tensors)
            torch.cuda.current_stream().wait_stream(side)
            return
        if self._graph is None:
            self._inputs = [tensor.clone() for tensor in tensors]
            graph = torch.cuda.CUDAGraph()
            for generator in self._generators:
                graph.register_generator_state(generator)
            with torch.cuda.graph(graph):
                self._function(*self._inputs)
            self._graph = graph
        for kept, tensor in zip(self._inputs, tensors, strict=True):
            kept.copy_(tensor)
        self._graph.replay()
