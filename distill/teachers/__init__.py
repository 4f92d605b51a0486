"""Read a teacher: a policy file of any supported kind, without executing anything in it.

Each kind has its reader beside this file; all give an `Actor`, a chain of linear layers, which is fitted to the
environment here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..environment import EnvironmentFacts, EnvironmentSpec
from ..errors import DistillError
from ..file_kind import no_file
from ..network import Chain, chain_policy, network_policy
from .actor import LARGEST_FILE
from .fit import check_bounds, check_chain, fitted, with_statistics

if TYPE_CHECKING:
    from export.student_file import Student

    from ..rollout import Policy

KINDS = {
    ".zip": "Stable-Baselines3 or sb3-contrib (SAC, TQC, TD3, DDPG, PPO, A2C, TRPO, ARS)",
    ".onnx": "ONNX",
    ".pt": "TorchScript",
    ".pth": "TorchScript",
    ".ts": "TorchScript",
    ".npz": "plain matrices (docs/formats.md)",
    ".safetensors": "this project's network file",
}


@dataclass(frozen=True)
class Teacher:
    """A policy to imitate and what is known about it.

    `parameters` counts the actor's weights and biases as stored in the file; `chain` holds the matrices in use, after
    inputs that were constant in training were folded away; `sizes` are the chain's. `sha256` is the file's, with
    --vecnormalize that of both files one after the other.
    """

    policy: Policy
    parameters: int
    sizes: tuple[int, ...]
    kind: str
    sha256: str
    chain: Chain
    notes: tuple[str, ...] = ()


def read_teacher(
    path: Path,
    facts: EnvironmentFacts,
    activation: str | None = None,
    *,
    vecnormalize: Path | None = None,
    spec: EnvironmentSpec | None = None,
) -> Teacher:
    """Read `path` for an environment.

    Args:
        path: the file; its suffix says which kind it is.
        facts: the environment's sizes and bounds.
        activation: relu or tanh, for a zip that does not state its own readably.
        vecnormalize: statistics that the observations were normalised with, for files that carry none.
        spec: where given, a file of another size is refused with the keyword argument that would make it fit.

    Raises:
        DistillError: unreadable file, unknown kind, or sizes or bounds that disagree with the environment's.
    """
    try:
        return _read(path, facts, activation, vecnormalize, spec)
    except DistillError as error:
        # names out of a foreign file end up in messages: no second line, no terminal sequences
        line = " ".join(str(error).split())
        raise DistillError("".join(letter if letter.isprintable() else "?" for letter in line)) from error


def _read(
    path: Path, facts: EnvironmentFacts, activation: str | None, vecnormalize: Path | None, spec: EnvironmentSpec | None
) -> Teacher:
    if not path.is_file():
        raise DistillError(
            f"teacher {path}: {no_file(path)}, expected a file, {', '.join(KINDS)}; train one with: "
            "python -m distill teach"
        )
    if path.stat().st_size > LARGEST_FILE:
        raise DistillError(
            f"teacher {path}: got {path.stat().st_size} bytes, expected at most {LARGEST_FILE}; save the actor alone"
        )
    data = path.read_bytes()
    if not data and path.suffix in KINDS:
        raise DistillError(f"teacher {path}: is empty (0 bytes), expected {KINDS[path.suffix]}; save it again")
    digest = hashlib.sha256(data)
    student: Student | None = None
    if activation is not None and path.suffix != ".zip":
        raise DistillError(
            f"--activation: got {activation} for {path.name}, which states its own, expected a .zip; leave it out"
        )
    if path.suffix == ".safetensors":
        from .network_file import read_network_file

        actor, student = read_network_file(path)
    elif path.suffix == ".zip":
        from .stable_baselines import read_stable_baselines

        actor = read_stable_baselines(path, data, activation)
    elif path.suffix == ".onnx":
        from .onnx_file import read_onnx

        actor = read_onnx(path, data, facts)
    elif path.suffix == ".npz":
        from .plain_matrices import read_plain_matrices

        actor = read_plain_matrices(path, data)
    elif path.suffix in KINDS:
        from .torch_script import read_torch_script

        actor = read_torch_script(path, data, facts)
    else:
        kinds = ", ".join(f"{suffix} ({words})" for suffix, words in KINDS.items())
        raise DistillError(f"teacher {path}: got suffix {path.suffix!r}, expected {kinds}; convert it to one of them")
    check_chain(path, actor.chain)
    actor = with_statistics(path, actor, vecnormalize)
    if vecnormalize is not None:
        digest.update(vecnormalize.read_bytes())
    actor = fitted(path, actor, facts, spec)
    check_bounds(path, actor, facts)
    if student is not None:
        act = network_policy(student)  # the same function as its chain, rounded as students' answers are
    else:
        act = chain_policy(actor.chain, facts.action_low, facts.action_high)
    return Teacher(act, actor.parameters, actor.chain.sizes, actor.kind, digest.hexdigest(), actor.chain, actor.notes)
