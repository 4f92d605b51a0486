"""The same vectors through every backend, against the float64 reference."""

import ctypes
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.check_digest import check_header_digest, compare_digest
from export.emulated_core import EmulatedCore
from export.errors import ExportError, FileFormatError, MismatchError, ToolError
from export.sparse_policy import SparsePolicy, policy_digest, read_policy
from export.squash import Float32
from export.tensor_file import TensorFile
from export.toolchain import build_core_image, build_host_library

TOLERANCE = 1e-6
"""Largest error allowed, as a fraction of each action's range."""

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
    """All rows, and whether the host's C and the Cortex-M4F's gave the same bits."""

    rows: tuple[Row, ...]
    count: int
    same_bits: bool

    @property
    def max_error_fraction(self) -> float:
        """Largest error of all backends as a fraction of the action range; NaN if any is NaN."""
        return float(np.max([row.max_error_fraction for row in self.rows]))

    @property
    def ok(self) -> bool:
        """True when every backend is within its tolerance and C gives the same bits everywhere."""
        return self.same_bits and all(row.ok for row in self.rows)


def verify(folder: Path, dataset: Path | None = None, count: int = 1000) -> Verification:
    """Run `count` observations through scipy, onnxruntime, C on this machine and C on an emulated Cortex-M4F.

    The first row compares the float64 reference with the stored known answers, which come from the student before
    folding: it is the error of folding and rounding the weights.

    Raises:
        FileFormatError: a file of the policy or the dataset is missing or unusable.
        MismatchError: policy.onnx or policy.h belong to another policy.safetensors.
        ToolError: a backend cannot run here.
    """
    if not 1 <= count <= COUNT_LIMIT:
        raise ExportError(f"--count is {count}, expected 1 to {COUNT_LIMIT}")
    policy = read_policy(folder)
    check_header_digest(folder)
    observations = (
        perturbed_known_observations(policy, count) if dataset is None else dataset_observations(dataset, policy, count)
    )
    reference = policy.evaluate(observations)
    with tempfile.TemporaryDirectory() as scratch:
        backends: dict[str, Callable[[], Float32]] = {
            "scipy float32": lambda: policy.evaluate_float32(observations),
            "onnxruntime": lambda: run_onnx(folder, observations),
            "C on this machine": lambda: run_host_c(folder, Path(scratch), policy, observations),
            "C on Cortex-M4F": lambda: run_core(folder, Path(scratch), policy, observations),
        }
        # Overflow shows in the table; numpy's warning would add nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            actions = {name: backend() for name, backend in backends.items()}
    rows = [
        _row(
            "known answers", policy.evaluate(policy.known_observations), policy.known_actions.astype(np.float64), policy
        )
    ]
    rows += [_row(name, result.astype(np.float64), reference, policy) for name, result in actions.items()]
    same_bits = actions["C on this machine"].tobytes() == actions["C on Cortex-M4F"].tobytes()
    return Verification(tuple(rows), len(observations), same_bits)


def _row(name: str, actions: np.ndarray, reference: np.ndarray, policy: SparsePolicy) -> Row:
    error = np.abs(actions - reference)
    action_range = policy.action_high.astype(np.float64) - policy.action_low
    fraction = float(np.max(error / action_range))
    # A NaN compares false and so fails.
    return Row(name, float(np.max(error)), fraction, TOLERANCE, bool(fraction <= TOLERANCE))


def perturbed_known_observations(policy: SparsePolicy, count: int) -> Float32:
    """Return (count, history*base) observations around the known ones: random mixtures of pairs, column by column."""
    generator = np.random.default_rng(7)
    known = policy.known_observations.astype(np.float64)
    first = known[generator.integers(len(known), size=count)]
    second = known[generator.integers(len(known), size=count)]
    mixed = first + generator.uniform(-0.25, 1.25, first.shape) * (second - first)
    return mixed.astype(np.float32)


def dataset_observations(path: Path, policy: SparsePolicy, count: int) -> Float32:
    """Return `count` evenly spaced rows of the tensor `observations` (n, history*base) of a safetensors file."""
    file = TensorFile(path, None, "write it with `python -m distill collect --flat`", only=("observations",))
    observations = file.array("observations", (None, policy.observation_size))
    rows = np.unique(np.linspace(0, len(observations) - 1, min(count, len(observations))).astype(np.int64))
    return np.asarray(observations[rows], dtype=np.float32)


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
    except Exception as error:  # onnxruntime's exceptions share no base class below Exception
        raise FileFormatError(
            f"{path}: {str(error).splitlines()[0]}; write it with `python -m export compile`"
        ) from None
    found = session.get_modelmeta().custom_metadata_map.get("policy_digest", "none")
    compare_digest(path, found, policy_digest(folder))
    (actions,) = session.run(None, {"observation": observations})
    return np.asarray(actions, dtype=np.float32)


def run_host_c(folder: Path, scratch: Path, policy: SparsePolicy, observations: Float32) -> Float32:
    """Return the actions of policy.h compiled for this machine."""
    library_path = scratch / "policy.so"
    build_host_library(folder, library_path)
    library = ctypes.CDLL(str(library_path))
    if library.run_self_test() != 0:
        raise MismatchError(
            f"{folder / 'policy.h'}: self test fails on this machine; compile the student again, then report this"
        )
    inputs = np.ascontiguousarray(observations, dtype=np.float32)
    actions = np.empty((len(inputs), policy.widths[-1]), np.float32)
    pointer = ctypes.c_void_p
    library.run_batch(pointer(inputs.ctypes.data), pointer(actions.ctypes.data), ctypes.c_uint32(len(inputs)))
    return actions


def run_core(folder: Path, scratch: Path, policy: SparsePolicy, observations: Float32) -> Float32:
    """Return the actions of policy.h compiled for a Cortex-M4F, run in the emulator."""
    image = scratch / "policy.elf"
    build_core_image(folder, image, "harness.c")
    core = EmulatedCore(image)
    if core.call("run_self_test").result != 0:
        raise MismatchError(
            f"{folder / 'policy.h'}: self test fails on the Cortex-M4F; compile the student again, then report this"
        )
    shape = (len(observations), policy.widths[-1])
    inputs = core.write(0, observations)
    actions = core.write(observations.nbytes, np.zeros(shape, np.float32))
    core.call("run_batch", inputs, actions, len(observations))
    return core.read_float32(actions, shape)
