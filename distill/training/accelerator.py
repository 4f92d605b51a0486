"""Replay a training step on an accelerator as one CUDA graph: one launch, whatever the number of students."""

from __future__ import annotations

from collections.abc import Callable

import torch

_WARM_UP_CALLS = 3  # real steps on a side stream, in which libraries allocate what a capture must not
_BLOCK = 1 << 22  # integers drawn at once: 16 MiB a student


class DeviceBits:
    """A stream of random 32-bit integers on the device; `noise.RandomBits` is its like on the CPU.

    Drawn in blocks: a launch for every student and step would cost more than the step.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._before = self._generator.get_state()
        self._block = torch.empty(0, dtype=torch.int32, device=device)
        self._used = 0

    def draw(self, count: int) -> torch.Tensor:
        """The next `count` integers (count,), int32 over the whole range."""
        if self._used + count > len(self._block):
            self._before = self._generator.get_state()
            self._fill(max(count, _BLOCK))
        self._used += count
        return self._block[self._used - count : self._used]

    def _fill(self, size: int) -> None:
        self._block = torch.empty(size, dtype=torch.int32, device=self._block.device)
        self._block.random_(-(2**31), None, generator=self._generator)
        self._used = 0

    def state(self) -> torch.Tensor:
        """Where the stream stands, uint8: block size, how much of it is used, the generator before it was drawn."""
        place = torch.tensor([len(self._block), self._used], dtype=torch.int64).view(torch.uint8)
        return torch.cat((place, self._before))

    def restore(self, state: torch.Tensor) -> None:
        """Continue where `state` was taken."""
        size, used = state[:16].clone().view(torch.int64).tolist()
        self._before = state[16:].clone()
        self._generator.set_state(self._before)
        self._fill(size)
        self._used = used


class Captured:
    """A function of tensors that changes some in place, captured at its fourth call and replayed from then on.

    Tensors that come again as the same objects are its state and are used where they lie; others are copied in.
    """

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self._function = function
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._result = torch.zeros(())

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Run the function; shapes never change, and the result is overwritten by the next call."""
        self._calls += 1
        if self._calls <= _WARM_UP_CALLS:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own annotation
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                result = self._function(*tensors)
            torch.cuda.current_stream().wait_stream(side)
            return result
        if self._graph is None:
            self._inputs = tensors
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._result = self._function(*tensors)
            self._graph = graph
        for kept, tensor in zip(self._inputs, tensors, strict=True):
            if kept is not tensor:
                kept.copy_(tensor)
        self._graph.replay()
        return self._result
