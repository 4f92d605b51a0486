"""Which of the ways to write a policy in C is taken: each is compiled and counted on the target's core."""

from dataclasses import dataclass
from typing import Literal

from export.c_code.dialect import Dialect
from export.c_code.header import c_code
from export.c_code.layer_tables import layer_tables
from export.c_code.plan import plans
from export.errors import ExportError, TooLargeError
from export.measure import Measurement, count
from export.sparse_policy import SparsePolicy
from export.targets.target import Target

Optimise = Literal["size", "speed", "balanced"]
_FLAGS = ("-Os", "-O2")


@dataclass(frozen=True)
class Choice:
    """The text of policy.h, its plan's name, and the compiler flag it was counted with and the count, or None."""

    header: str
    plan: str
    flag: str | None
    measurement: Measurement | None


def dialect_of(target: Target) -> Dialect:
    """Return how C is written for a target."""
    return Dialect(
        float_unit=target.has_float_unit,
        flash_tables=target.family == "avr",
        float_assembly=target.family == "arm" and target.has_float_unit,
    )


def choose(policy: SparsePolicy, digest: str, target: Target, optimise: Optimise, budget_flash: int | None) -> Choice:
    """Return the header that counts best.

    size: the fewest bytes of flash; speed: the fewest instructions; balanced: the smallest product of the two. With a
    budget, only what fits into so many bytes of flash counts. On the host nothing is counted: size takes the loops, all
    else what is unrolled.

    What does not fit the target's chip is taken only where nothing does, and then the smallest.

    Raises:
        ExportError: nothing fits the budget, the smallest is named; or a budget that none can meet.
        ToolError: compiler or emulator is missing or failed.
    """
    if budget_flash is not None and budget_flash < 1:
        raise ExportError(f"--budget-flash is {budget_flash}, expected a number of bytes above 0; give another")
    candidates = plans(layer_tables(policy))
    dialect = dialect_of(target)
    if target.family == "host":
        if budget_flash is not None:
            raise ExportError(
                f"--budget-flash {budget_flash}: nothing is counted on the host, expected a microcontroller; give "
                "another --target or leave the budget out"
            )
        name = "loop" if optimise == "size" else "unrolled"
        return Choice(c_code(policy, digest, candidates[name], dialect), name, None, None)
    compiled: list[tuple[str, str, Measurement]] = []
    texts = {name: c_code(policy, digest, plan, dialect) for name, plan in candidates.items()}
    refused: TooLargeError | None = None
    for name, text in texts.items():
        for flag in _FLAGS:
            try:
                compiled.append((name, flag, count(target, text, policy, flag)))
            except TooLargeError as error:
                # Straight-line code may be larger than the core's memory; the loops never are, if anything is.
                refused = error
    if not compiled:
        assert refused is not None
        raise refused
    within = [each for each in compiled if budget_flash is None or each[2].flash_bytes <= budget_flash]
    if not within:
        smallest = min(each[2].flash_bytes for each in compiled)
        raise ExportError(
            f"--budget-flash {budget_flash}: the smallest code takes {smallest} bytes on {target.name}; raise the "
            "budget, give --weights int8, or distil a smaller student"
        )
    on_chip = [each for each in within if each[2].does_not_fit is None]
    goal: Optimise = optimise if on_chip else "size"
    name, flag, measurement = min(on_chip or within, key=lambda each: _cost(each[2], goal))
    return Choice(c_code(policy, digest, candidates[name], dialect, flag), name, flag, measurement)


def _cost(measurement: Measurement, optimise: Optimise) -> tuple[float, float]:
    flash, instructions = float(measurement.flash_bytes), float(measurement.instructions or 0.0)
    if optimise == "size":
        return flash, instructions
    return (instructions, flash) if optimise == "speed" else (flash * instructions, flash)
