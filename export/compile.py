"""student.safetensors -> policy.safetensors, policy.onnx, policy.h."""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from export.c_code.header import c_code, observation_limit
from export.calibration import calibration
from export.choose import Choice, Optimise, choose, dialect_of
from export.errors import ExportError
from export.fixed_point.bounds import SUM_LIMIT, bounds
from export.fixed_point.network import ACTIVATION_LIMIT, FixedNetwork
from export.integer_policy import FLOAT, integer_policy
from export.known_answers import SELF_TEST_TOLERANCE, known_answers
from export.observations import range_fractions
from export.onnx_model import onnx_model
from export.policy_file import POLICY_FILE, encode_policy
from export.prune import prune
from export.replace_files import replace_files
from export.simplify import centre, simplify
from export.sparse_policy import SparsePolicy, ordered, sparse_layers
from export.squash import Float32
from export.student_file import Student, read_student, student_digest
from export.targets.target import find_target

DEFAULT_TARGET = "cortex-m4f"


@dataclass(frozen=True)
class Compiled:
    """The policy, its digest, the files written, warnings for the user, and how the C was chosen."""

    policy: SparsePolicy
    digest: str
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    choice: Choice


def build_policy(
    student: Student,
    parents: dict[str, str] | None = None,
    *,
    weights: str = FLOAT,
    dataset: Path | None = None,
    observation_range: tuple[tuple[float, float], ...] | None = None,
) -> SparsePolicy:
    """Simplify a pruned student into a policy with known answers; writes nothing.

    weights: float32, int8, int16, or a list of the last two; dataset, observation_range: what integers are fitted to
    and how far they reach (calibration.py).

    Raises:
        ExportError: the network cannot be folded into float32, or not be written in these integers.
    """
    if weights == FLOAT and (dataset is not None or observation_range is not None):
        raise ExportError(
            "--dataset and --observation-range are what integers are fitted to, but --weights is float32; give "
            "--weights int8 or int16, or leave them out"
        )
    simple = ordered(simplify(student))
    draft = SparsePolicy(
        centre=centre(student),
        layers=sparse_layers(simple, student.history),
        known_observations=np.zeros((0, student.widths[0]), np.float32),
        known_actions=np.zeros((0, student.widths[-1]), np.float32),
        student_widths=student.widths,
        **{**student.interface(), "parents": {**student.parents, **(parents or {})}},
    )
    observations, actions = known_answers(student, draft)
    if not np.isfinite(actions).all():
        raise ExportError("the pruned student computes NaN on ordinary observations; check its weights' magnitudes")
    # Weights that overflow floats on ordinary observations are no better as integers.
    observation_limit(draft)
    if weights == FLOAT:
        _check_floats(draft, observations, actions)
    else:
        draft = integer_policy(draft, simple, weights, calibration(student, dataset, observation_range))
        actions = draft.evaluate_exact(observations)
    return replace(draft, known_observations=observations, known_actions=actions)


def _check_floats(policy: SparsePolicy, observations: Float32, actions: Float32) -> None:
    """Refuse a policy that would fail its self test, or `verify`, on every machine."""
    found = policy.evaluate_float32(observations)
    references = (actions, policy.evaluate(observations))
    error = float(np.max([range_fractions(policy, found, reference) for reference in references]))
    if not error <= SELF_TEST_TOLERANCE:
        raise ExportError(
            f"in float32 the policy is off by {error:.2g} of the action range, expected at most {SELF_TEST_TOLERANCE:g}"
            f"; look for action limits ({policy.action_low.tolist()} to {policy.action_high.tolist()}) that float32 "
            "hardly tells apart, or for extreme weights or scales"
        )


def compile_student(
    path: Path,
    folder: Path,
    threshold: float | None = None,
    *,
    weights: str = FLOAT,
    dataset: Path | None = None,
    observation_range: tuple[tuple[float, float], ...] | None = None,
    target: str = DEFAULT_TARGET,
    optimise: Optimise | None = None,
    budget_flash: int | None = None,
) -> Compiled:
    """Compile a student file into `folder`; the three files there are replaced once all are made and written.

    optimise, budget_flash: see `choose`; with neither nothing is counted and `default_plan` decides.

    Raises:
        ExportError: the student, an option or the folder is unusable; the message says what was replaced.
    """
    if path.exists() and (folder / POLICY_FILE).exists() and (folder / POLICY_FILE).samefile(path):
        raise ExportError(f"--out {folder}: {POLICY_FILE} there is the student itself; choose another folder")
    pruned = prune(read_student(path), threshold)
    policy = build_policy(
        pruned.student,
        {"student": student_digest(path)},
        weights=weights,
        dataset=dataset,
        observation_range=observation_range,
    )
    data = encode_policy(policy)
    digest = hashlib.sha256(data).hexdigest()
    wanted = find_target(target)
    if optimise is None and budget_flash is None:
        choice = Choice(c_code(policy, digest, dialect=dialect_of(wanted)), "default", None, None)
    else:
        choice = choose(policy, digest, wanted, optimise or "speed", budget_flash)
    contents = {
        POLICY_FILE: data,
        "policy.onnx": onnx_model(policy, digest),
        "policy.h": choice.header.encode(),
    }
    saturation = None if policy.quantisation is None else policy.quantisation.warning
    warnings = tuple(warning for warning in (pruned.warning, saturation) if warning)
    return Compiled(policy, digest, tuple(replace_files(folder, contents)), warnings, choice)


def proven(network: FixedNetwork) -> dict[str, object]:
    """Return what interval analysis says: the observations that do not saturate, and what every layer reaches."""
    reached = bounds(network)
    return {
        "observation_range": network.range().tolist(),
        "largest_sums": [layer.largest_sum for layer in reached],
        "largest_products": [layer.largest_product for layer in reached],
        "largest_activations": [layer.largest_activation for layer in reached[:-1]],
        "limits": {"sum": SUM_LIMIT, "activation": ACTIVATION_LIMIT},
    }


def compiled_summary(compiled: Compiled) -> dict[str, object]:
    """Return the figures of a compiled policy, ready for JSON."""
    policy = compiled.policy
    size = policy.byte_count
    student_parameters = sum(
        (a + 1) * b for a, b in zip(policy.student_widths, policy.student_widths[1:], strict=False)
    )
    return {
        "policy_digest": compiled.digest,
        "weights": policy.weight_format,
        "kept_weights": policy.kept_weights,
        "kept_parameters": policy.kept_parameters,
        "density": policy.density,
        "bytes": size.total,
        "bytes_parts": asdict(size),
        "policy_widths": list(policy.widths),
        "student": {"role": policy.role, "widths": list(policy.student_widths), "parameters": student_parameters},
        "teacher_parameters": policy.config.get("teacher_parameters"),
        "quantisation": None if policy.quantisation is None else asdict(policy.quantisation),
        "proven": None if policy.fixed is None else proven(policy.fixed),
        "files": [str(path) for path in compiled.files],
        "code": compiled.choice.plan,
        "compile_with": compiled.choice.flag,
        "counted": None if compiled.choice.measurement is None else asdict(compiled.choice.measurement),
        "warnings": list(compiled.warnings),
    }
