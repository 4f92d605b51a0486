"""What a core is: a linked harness whose functions can be called, counted, and given memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.errors import ToolError
from export.squash import Float32
from export.targets.target import Target


@dataclass(frozen=True)
class Call:
    """What one call returned and cost; None is what the core cannot tell or was not asked for.

    result: the 32 bits returned; instructions: executed, exact; cycles: exact on the simulated AVR, elsewhere an
    estimate (see `cycle_model`); stack_bytes: high-water mark.
    """

    result: int
    instructions: int | None = None
    cycles: int | None = None
    stack_bytes: int | None = None


class Core(Protocol):
    """A harness on one core. `data_bytes` of memory take test vectors."""

    data_bytes: int

    def call(self, name: str, *arguments: int, count: bool = False) -> Call:
        """Call a function of the harness with integers or addresses; `count` also measures what it costs."""

    def write(self, offset: int, values: NDArray[Any]) -> int:
        """Copy an array into the data memory at `offset` bytes and return its address."""

    def read_float32(self, address: int, shape: tuple[int, ...]) -> Float32:
        """Copy a float32 array out of the core's memory."""


def open_core(target: Target, image: Path) -> Core:
    """Load a harness that `build_image` linked for the target.

    Raises:
        ToolError: the emulator for this target is not installed.
    """
    if target.family == "host":
        from export.targets.host_core import HostCore

        return HostCore(image)
    if target.family == "avr":
        from export.targets.avr_core import AvrCore

        return AvrCore(image)
    from export.targets.emulated_core import EmulatedCore

    return EmulatedCore(image, target)


def require_core(target: Target) -> None:
    """Check that the emulator for this target is installed.

    Raises:
        ToolError: it is not; the message says what to install.
    """
    if target.family == "avr":
        from export.targets.avr_core import avr_runner

        avr_runner()
    elif target.family != "host":
        from export.targets.emulated_core import load_package

        load_package("unicorn")


def vector_bytes(offset: int, values: NDArray[Any], limit: int) -> bytes:
    """Return the bytes of an array that goes to `offset` of a data memory of `limit` bytes.

    Raises:
        ToolError: there is no room.
    """
    data = np.ascontiguousarray(values).tobytes()
    if offset + len(data) > limit:
        raise ToolError(f"{offset + len(data)} bytes of test vectors, expected at most {limit}; use a smaller --count")
    return data


def run_vectors(core: Core, observations: Float32, action_size: int) -> Float32:
    """Return the actions (n, action) of `run_batch` for stacked observations (n, history*base)."""
    row_bytes = 4 * (observations.shape[1] + action_size)
    rows = max(1, core.data_bytes // row_bytes)
    results = []
    for start in range(0, len(observations), rows):
        some = observations[start : start + rows]
        shape = (len(some), action_size)
        inputs = core.write(0, some)
        actions = core.write(some.nbytes, np.full(shape, np.nan, np.float32))
        core.call("run_batch", inputs, actions, len(some))
        results.append(core.read_float32(actions, shape))
    return np.concatenate(results)
