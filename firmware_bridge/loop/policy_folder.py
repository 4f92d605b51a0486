"""The folder that `python -m export compile` wrote, as far as the bridge needs it."""

import dataclasses
from pathlib import Path

from export.check_digest import checked_header
from export.errors import ExportError
from export.policy_file import read_policy
from export.sparse_policy import SparsePolicy
from firmware_bridge.errors import HostPolicyError


@dataclasses.dataclass(frozen=True)
class PolicyFolder:
    """A checked policy: `digest` is the sha256 of policy.safetensors; `header` is policy.h, a rendering of it."""

    directory: Path
    digest: str
    policy: SparsePolicy
    header: Path

    @property
    def period_us(self) -> int:
        """Control period [us]."""
        return round(self.policy.control_period_s * 1e6)

    @property
    def history(self) -> int:
        """Stacked frames."""
        return self.policy.history

    @property
    def base_size(self) -> int:
        """Numbers per frame."""
        return self.policy.observation_size // self.policy.history


def open_policy_folder(directory: Path) -> PolicyFolder:
    """Read and check DIR/policy.safetensors and DIR/policy.h. Raises HostPolicyError."""
    if not directory.is_dir():
        raise HostPolicyError(
            f"policy {directory}: no such folder, expected one that holds policy.safetensors and policy.h; "
            "write it with `python -m export compile STUDENT --out DIR`"
        )
    try:
        policy = read_policy(directory)
        digest = checked_header(directory).digest
    except ExportError as error:
        raise HostPolicyError(str(error)) from error
    if policy.action_low.size != 1:
        raise HostPolicyError(
            f"policy {directory}: {policy.action_low.size} actions, expected 1 (the wire's COMMAND carries one "
            "acceleration); export a policy for this plant"
        )
    return PolicyFolder(directory, digest, policy, directory / "policy.h")
