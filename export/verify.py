"""The same vectors through every backend, against the float64 reference."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.c_backends import CBackend, host_backends, missing_tool, run_backend, target_backends
from export.check_digest import checked_header, compare_digest
from export.errors import ExportError, FileFormatError, ToolError
from export.observations import (
    c_reference,
    dataset_observations,
    extreme_observations,
    perturbed_known_observations,
    range_fractions,
)
from export.policy_file import policy_digest, read_policy
from export.sparse_policy import SparsePolicy
from export.squash import Float32, Float64
from export.targets.target import TARGETS

TOLERANCE = 1e-6
"""Error that is always allowed, as a fraction of each action's range."""

ROUNDING_FACTOR = 4
"""Larger errors are allowed up to this multiple of what scipy's float32 makes on the same observations."""

ROUNDING_LIMIT = 1e-3
"""Above this scipy's float32 itself fails: it is cancellation or overflow, and the tolerance it would give is void."""

COUNT_LIMIT = 100_000
"""Observations at once; the emulated core has no memory for many more."""


@dataclass(frozen=True)
class Row:
    """One backend's largest error: in action units, and as a fraction of the action range."""

    backend: str
    max_error: float
    max_error_fraction: float
    tolerance: float
    ok: bool


@dataclass(frozen=True)
class Verification:
    """All rows, whether all C gave the same bits, and what could not run here, with the reason."""

    rows: tuple[Row, ...]
    count: int
    same_bits: bool
    left_out: tuple[str, ...] = ()

    @property
    def max_error_fraction(self) -> float:
        """Largest error of all backends as a fraction of the action range; NaN if any is NaN."""
        return float(np.max([row.max_error_fraction for row in self.rows]))

    @property
    def ok(self) -> bool:
        """True when every backend is within its tolerance and C gives the same bits everywhere."""
        return self.same_bits and all(row.ok for row in self.rows)


def verify(
    folder: Path,
    dataset: Path | None = None,
    count: int = 1000,
    targets: Sequence[str] = ("cortex-m4f",),
    thorough: bool = False,
) -> Verification:
    """Run observations through scipy, onnxruntime, C on this machine and C on the named targets.

    The first row compares the float64 reference with the stored known answers, which come from the student before
    folding: it is the error of folding and rounding the weights. `thorough` adds gcc and clang at three levels of
    optimisation, a sanitised build and every target; like "all" it leaves out what is not installed. All C must give
    the same bits, soft float included: avr-libc differs from IEEE in quotients below 1.2e-38 alone.

    Observations are `count` random ones around the known answers, and of a dataset as many of its rows and its corners.
    C also gets broken and extreme ones (`extreme_observations`): NaN where the reference has NaN, and nowhere else.

    Raises:
        FileFormatError: a file of the policy or the dataset is missing or unusable.
        MismatchError: policy.onnx or policy.h belong to another policy.safetensors, or C fails its self test.
        ToolError: a backend that was asked for by name cannot run here.
    """
    if not 1 <= count <= COUNT_LIMIT:
        raise ExportError(f"--count is {count}, expected 1 to {COUNT_LIMIT}; give another")
    named = tuple(targets)
    wanted = [*host_backends(thorough), *target_backends((*named, "all") if thorough else named)]
    policy = read_policy(folder)
    checked_header(folder)
    observations = perturbed_known_observations(policy, count)
    if dataset is not None:
        observations = np.concatenate([observations, dataset_observations(dataset, policy, count)])
    extreme = extreme_observations(policy)
    backends, left_out = _installed(wanted, named if not thorough else ())
    # Overflow shows in the table; numpy's warning would add nothing.
    with np.errstate(over="ignore", invalid="ignore"), tempfile.TemporaryDirectory() as scratch:
        others = {
            "scipy float32": policy.evaluate_float32(observations),
            "onnxruntime": run_onnx(folder, observations),
        }
        compiled = {
            backend.name: run_backend(backend, folder, Path(scratch), policy, np.concatenate([observations, extreme]))
            for backend in backends
        }
        rows = _rows(policy, observations, extreme, others, compiled)
    return Verification(
        rows, len(observations) + len(extreme), len({actions.tobytes() for actions in compiled.values()}) == 1, left_out
    )


def _installed(wanted: list[CBackend], needed: tuple[str, ...]) -> tuple[list[CBackend], tuple[str, ...]]:
    """Return the backends that run here and a line for each that does not; what is needed by name is never left out."""
    optional = [backend for backend in wanted if backend.compiler or backend.target.name not in (*needed, "host")]
    missing = {backend.name: reason for backend in optional if (reason := missing_tool(backend))}
    return [backend for backend in wanted if backend.name not in missing], tuple(
        f"{name}: {reason}" for name, reason in missing.items()
    )


def _rows(
    policy: SparsePolicy,
    observations: Float32,
    extreme: Float32,
    others: dict[str, Float32],
    compiled: dict[str, Float32],
) -> tuple[Row, ...]:
    reference = policy.evaluate(observations)
    rounding = float(np.max(range_fractions(policy, others["scipy float32"], reference)))
    tolerance = float(np.maximum(TOLERANCE, ROUNDING_FACTOR * rounding))
    if not rounding <= ROUNDING_LIMIT:
        tolerance = TOLERANCE
    known = c_reference(policy, policy.known_observations)
    rows = [_row("known answers", known, policy.known_actions.astype(np.float64), policy, tolerance)]
    rows += [_row(name, actions, reference, policy, tolerance) for name, actions in others.items()]
    reference = c_reference(policy, np.concatenate([observations, extreme])).astype(np.float64)
    if policy.fixed is not None:
        tolerance = 0.0
    return (*rows, *(_row(name, actions, reference, policy, tolerance) for name, actions in compiled.items()))


def _row(name: str, actions: Float32 | Float64, reference: Float64, policy: SparsePolicy, tolerance: float) -> Row:
    # NaN where both have one is no error.
    same = np.isnan(actions) & np.isnan(reference)
    fraction = float(np.max(np.where(same, 0, range_fractions(policy, actions, reference))))
    error = float(np.max(np.where(same, 0, np.abs(actions.astype(np.float64) - reference))))
    # A NaN compares false and so fails.
    return Row(name, error, fraction, tolerance, bool(fraction <= tolerance))


def run_onnx(folder: Path, observations: Float32) -> Float32:
    """Return onnxruntime's actions for folder/policy.onnx, single-threaded."""
    try:
        import onnxruntime
    except ImportError:
        raise ToolError("cannot import onnxruntime: pip install 'bayesian-policy-distillation[export]'") from None
    path = folder / "policy.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        answers = session.run(["action"], {"observation": observations})
    except Exception as error:  # onnxruntime's exceptions share no base class below Exception
        raise FileFormatError(
            f"{path}: {str(error).splitlines()[0]}; write it with `python -m export compile`"
        ) from None
    found = session.get_modelmeta().custom_metadata_map.get("policy_digest", "none")
    compare_digest(path, found, policy_digest(folder))
    (actions,) = answers
    return np.asarray(actions, dtype=np.float32)


def run_host_c(folder: Path, scratch: Path, policy: SparsePolicy, observations: Float32) -> Float32:
    """Return the actions of policy.h compiled for this machine."""
    return run_backend(CBackend("C on this machine", TARGETS["host"]), folder, scratch, policy, observations)


def run_core(
    folder: Path, scratch: Path, policy: SparsePolicy, observations: Float32, target: str = "cortex-m4f"
) -> Float32:
    """Return the actions of policy.h compiled for a target, run in its emulator."""
    return run_backend(CBackend(target, TARGETS[target]), folder, scratch, policy, observations)
