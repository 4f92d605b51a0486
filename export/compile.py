"""student.safetensors -> policy.safetensors, policy.onnx, policy.h."""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from export.c_code import c_code
from export.errors import ExportError
from export.known_answers import known_answers
from export.onnx_model import onnx_model
from export.prune import prune
from export.replace_files import replace_files
from export.simplify import centre, simplify
from export.sparse_policy import POLICY_FILE, SparsePolicy, encode_policy, sparse_layers
from export.student_file import Student, read_student, student_digest


@dataclass(frozen=True)
class Compiled:
    """The policy, its digest, the files written, and a warning for the user or None."""

    policy: SparsePolicy
    digest: str
    files: tuple[Path, ...]
    warning: str | None


def build_policy(student: Student, parents: dict[str, str] | None = None) -> SparsePolicy:
    """Simplify a pruned student into a policy with known answers; writes nothing.

    Raises:
        ExportError: the network cannot be folded into float32.
    """
    draft = SparsePolicy(
        centre=centre(student),
        layers=sparse_layers(simplify(student), student.history),
        known_observations=np.zeros((0, student.widths[0]), np.float32),
        known_actions=np.zeros((0, student.widths[-1]), np.float32),
        student_widths=student.widths,
        **{**student.interface(), "parents": {**student.parents, **(parents or {})}},
    )
    observations, actions = known_answers(student, draft)
    if not np.isfinite(actions).all():
        raise ExportError("the pruned student computes NaN on ordinary observations; check its weights' magnitudes")
    return replace(draft, known_observations=observations, known_actions=actions)


def compile_student(path: Path, folder: Path, threshold: float | None = None) -> Compiled:
    """Compile a student file into `folder`; the three files there are replaced once all are made and written.

    Raises:
        ExportError: the student, the threshold or the folder is unusable; the message says what was replaced.
    """
    pruned = prune(read_student(path), threshold)
    policy = build_policy(pruned.student, {"student": student_digest(path)})
    data = encode_policy(policy)
    digest = hashlib.sha256(data).hexdigest()
    contents = {
        POLICY_FILE: data,
        "policy.onnx": onnx_model(policy, digest),
        "policy.h": c_code(policy, digest).encode(),
    }
    return Compiled(policy, digest, tuple(replace_files(folder, contents)), pruned.warning)


def compiled_summary(compiled: Compiled) -> dict[str, object]:
    """Return the figures of a compiled policy, ready for JSON."""
    policy = compiled.policy
    size = policy.byte_count
    student_parameters = sum(
        (a + 1) * b for a, b in zip(policy.student_widths, policy.student_widths[1:], strict=False)
    )
    return {
        "policy_digest": compiled.digest,
        "kept_weights": policy.kept_weights,
        "kept_parameters": policy.kept_parameters,
        "density": policy.density,
        "bytes": size.total,
        "bytes_parts": asdict(size),
        "policy_widths": list(policy.widths),
        "student": {"role": policy.role, "widths": list(policy.student_widths), "parameters": student_parameters},
        "teacher_parameters": policy.config.get("teacher_parameters"),
        "files": [str(path) for path in compiled.files],
        "warning": compiled.warning,
    }
