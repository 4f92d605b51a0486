"""A compiled policy as two C files, as a library for three build systems, or as another ONNX."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.check_digest import checked_header
from export.errors import ExportError, MismatchError
from export.observations import perturbed_known_observations, range_fractions
from export.onnx_model import onnx_model
from export.packages.arduino import arduino_library
from export.packages.cmake import cmake_library
from export.packages.onnx_qdq import qdq_onnx
from export.packages.onnx_sparse import sparse_onnx
from export.packages.pair import pair
from export.packages.platformio import platformio_library
from export.packages.trial import Trial, run_model
from export.policy_file import POLICY_FILE, read_policy
from export.replace_files import replace_files
from export.sparse_policy import SparsePolicy

_LIBRARIES: dict[str, Callable[[SparsePolicy, str, str], bytes]] = {
    "arduino": arduino_library,
    "platformio": platformio_library,
    "cmake": cmake_library,
}
_MODELS: dict[str, Callable[[SparsePolicy, str], bytes]] = {
    "onnx-sparse": sparse_onnx,
    "onnx-sparse-constant": lambda policy, digest: sparse_onnx(policy, digest, constants=True),
    "onnx-qdq": qdq_onnx,
}
KINDS = ("split", *_LIBRARIES, *_MODELS)
_TRIED = 1000
# Rounding stays far below; a wrong scale does not.
_QDQ_LIMIT = 0.05


@dataclass(frozen=True)
class Packaged:
    """What was written; for ONNX also what onnxruntime made of it.

    max_difference: the largest one on 1,000 observations around the known ones, as a fraction of the action range: from
    the integer reference for onnx-qdq, from the dense policy.onnx for the sparse kinds, where it is 0.
    """

    kind: str
    digest: str
    files: tuple[Path, ...]
    size: int
    trial: Trial | None = None
    max_difference: float | None = None


def package(folder: Path, kind: str, out: Path) -> Packaged:
    """Render the policy in `folder`, which `compile` wrote, as `kind` to `out`: a folder for split, else one file.

    Raises:
        ExportError: unknown kind, or `out` is unusable; what was there is unchanged.
        FileFormatError: a file in `folder` is missing or damaged.
        MismatchError: policy.h or the new model do not belong to policy.safetensors.
        ToolError: onnx is not installed, or it or onnxruntime refuses the model.
    """
    if kind not in KINDS:
        raise ExportError(f"unknown kind {kind!r}, expected one of {', '.join(KINDS)}; give it as --as KIND")
    _check_out(kind, out)
    policy = read_policy(folder)
    header = checked_header(folder)
    if kind in _MODELS:
        return _model(policy, header.digest, kind, out)
    if kind == "split":
        contents = {name: text.encode() for name, text in pair(policy, header.digest, header.text).items()}
        files = replace_files(out, contents)
    else:
        contents = {out.name: _LIBRARIES[kind](policy, header.digest, header.text)}
        files = replace_files(out.parent, contents)
    return Packaged(kind, header.digest, tuple(files), sum(map(len, contents.values())))


def packaged_summary(packaged: Packaged) -> dict[str, object]:
    """Return what was written, ready for JSON."""
    trial = packaged.trial
    return {
        "policy_digest": packaged.digest,
        "kind": packaged.kind,
        "files": [str(path) for path in packaged.files],
        "bytes": packaged.size,
        "onnxruntime": None if trial is None else trial.version or trial.reason,
        "max_difference": packaged.max_difference,
    }


def _check_out(kind: str, out: Path) -> None:
    if kind == "split":
        if (out / POLICY_FILE).exists():
            raise ExportError(
                f"--out {out} holds a compiled policy, whose policy.h has all code in it; choose another folder, such "
                f"as {out / 'split'}"
            )
        return
    suffix = ".zip" if kind in _LIBRARIES else ".onnx"
    if out.suffix != suffix:
        raise ExportError(f"--out {out} ends in {out.suffix or 'nothing'!r}, expected a file name with {suffix}")
    if out.name == "policy.onnx" and (out.parent / POLICY_FILE).exists():
        raise ExportError(f"--out {out} is the dense model, which `verify` reads; choose another name")


def _model(policy: SparsePolicy, digest: str, kind: str, out: Path) -> Packaged:
    data = _MODELS[kind](policy, digest)
    observations = perturbed_known_observations(policy, _TRIED)
    trial = run_model(data, observations)
    difference = None
    if trial.actions is not None:
        if kind == "onnx-qdq":
            reference = policy.evaluate_exact(observations)
        else:
            dense = run_model(onnx_model(policy, digest), observations).actions
            assert dense is not None
            reference = dense
        # An observation that neither side can use is no difference; one that only one side can use is.
        agreed = np.isnan(trial.actions) & np.isnan(reference)
        fractions = np.where(agreed, 0.0, range_fractions(policy, trial.actions, reference))
        difference = float(fractions.max())
        limit = _QDQ_LIMIT if kind == "onnx-qdq" else 0.0
        if not difference <= limit:
            raise MismatchError(
                f"{kind} differs from the policy by {difference:.3g} of the action range in onnxruntime "
                f"{trial.version}, expected at most {limit:g}; please report this policy"
            )
    files = replace_files(out.parent, {out.name: data})
    return Packaged(kind, digest, tuple(files), len(data), trial, difference)
