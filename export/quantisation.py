"""How far a policy of integers is from the float policy that it was made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.squash import Float32, Float64
from export.tensor_file import TensorFile

_SATURATED_LIMIT = 0.01


@dataclass(frozen=True)
class Quantisation:
    """Over observations that the integers were not fitted to.

    largest_error, rms_error: |integers - floats| of the actions, as shares of the action range, where no observation
    saturates; saturated: the share of those that do, because they lie beyond what the integers represent.
    """

    observations: int
    largest_error: float
    rms_error: float
    saturated: float

    @property
    def warning(self) -> str | None:
        """A line for the user where more observations saturate than a few."""
        if self.saturated <= _SATURATED_LIMIT:
            return None
        return (
            f"{self.saturated:.1%} of {self.observations} observations lie beyond what the integers represent and "
            "saturate; widen --observation-range"
        )


def quantisation(exact: Float32, floats: Float64, action_range: Float64, beyond: np.ndarray) -> Quantisation:
    """Return the figures of actions (n, action) both ways; beyond (n,): which observations saturate.

    Where all of them do, they are what is compared.
    """
    within = ~beyond if not beyond.all() else beyond
    share = np.nan_to_num((exact.astype(np.float64) - floats)[within] / action_range, nan=1.0)
    largest, rms = np.abs(share).max(), np.sqrt((share**2).mean())
    return Quantisation(len(beyond), _three_digits(largest), _three_digits(rms), float(beyond.mean()))


def read_quantisation(file: TensorFile) -> Quantisation:
    """Read it from the metadata of an integer policy.

    Raises:
        FileFormatError: it is missing or no such figures.
    """
    entry: dict[str, Any] = file.json("quantisation", dict)
    shares: list[Any] = [entry.get(name) for name in ("largest_error", "rms_error", "saturated")]
    count = entry.get("observations")
    good = all(isinstance(value, int | float) and 0 <= value <= 1 for value in shares)
    if not good or type(count) is not int or count < 1 or len(entry) != 4:
        raise file.complain(f"metadata 'quantisation' is {str(entry)[:80]}, expected observations and three shares")
    return Quantisation(count, *map(float, shares))


def _three_digits(value: float) -> float:
    """Machines may differ in the last digits of a sum; the policy's digest may not."""
    return float(f"{value:.2e}")
