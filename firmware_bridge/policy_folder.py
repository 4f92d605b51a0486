"""The folder that `python -m export compile` wrote, as far as the bridge needs it."""

import dataclasses
import re
from pathlib import Path

from export.errors import ExportError
from export.sparse_policy import SparsePolicy, policy_digest, read_policy
from firmware_bridge.errors import HostPolicyError

_DIGEST_LINE = re.compile(r'^#define\s+POLICY_DIGEST_HEX\s+"([0-9a-f]{64})"', re.MULTILINE)


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
        digest = policy_digest(directory)
    except ExportError as error:
        raise HostPolicyError(str(error)) from error
    if policy.action_low.size != 1:
        raise HostPolicyError(
            f"policy {directory}: {policy.action_low.size} actions, expected 1 (the wire's COMMAND carries one "
            "acceleration); export a policy for this plant"
        )
    header = directory / "policy.h"
    if not header.is_file():
        raise HostPolicyError(f"policy {directory}: no policy.h; write it with `python -m export compile`")
    match = _DIGEST_LINE.search(header.read_text(encoding="utf-8", errors="replace"))
    found = match.group(1) if match else "none"
    if found != digest:
        raise HostPolicyError(
            f"policy {directory}: policy.h was made from another policy.safetensors (digest {found[:12]}, expected "
            f"{digest[:12]}); run `python -m export compile STUDENT --out {directory}` again"
        )
    return PolicyFolder(directory, digest, policy, header)
