"""The check that a file belongs to the policy.safetensors beside it."""

import re
from pathlib import Path

from export.errors import FileFormatError, MismatchError
from export.sparse_policy import policy_digest

_DIGEST_LINE = re.compile(r'^#define POLICY_DIGEST_HEX "([0-9a-f]{64})"', re.MULTILINE)


def check_header_digest(folder: Path) -> str:
    """Return the digest of folder/policy.safetensors if folder/policy.h carries it (policy.onnx: see `run_onnx`).

    Raises:
        FileFormatError: there is no policy.h.
        MismatchError: policy.h was made from another policy.safetensors.
    """
    digest = policy_digest(folder)
    header = folder / "policy.h"
    if not header.is_file():
        raise FileFormatError(
            f"{header}: no such file; write it with `python -m export compile STUDENT --out {folder}`"
        )
    found = _DIGEST_LINE.search(header.read_text(encoding="utf-8", errors="replace"))
    compare_digest(header, found.group(1) if found else "none", digest)
    return digest


def compare_digest(path: Path, found: str, digest: str) -> None:
    """Raise MismatchError unless `found`, the digest that `path` carries, is the policy's."""
    if found != digest:
        raise MismatchError(
            f"{path} was made from another policy.safetensors: it carries digest {found[:12]}, expected {digest[:12]}; "
            f"run `python -m export compile STUDENT --out {path.parent}` again"
        )
