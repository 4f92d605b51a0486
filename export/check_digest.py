"""The check that a file belongs to the policy.safetensors beside it."""

import re
from dataclasses import dataclass
from pathlib import Path

from export.c_code.signature import unsigned
from export.errors import FileFormatError, MismatchError
from export.policy_file import policy_digest

_DIGEST_LINE = re.compile(r'^#define POLICY_DIGEST_HEX "([0-9a-f]{64})"', re.MULTILINE)


@dataclass(frozen=True)
class Header:
    """The text of policy.h, and the digest of the policy that it carries."""

    text: str
    digest: str


def checked_header(folder: Path) -> Header:
    """Return folder/policy.h if it is what `compile` wrote for folder/policy.safetensors (policy.onnx: see `run_onnx`).

    Raises:
        FileFormatError: there is no policy.h.
        MismatchError: policy.h was made from another policy.safetensors, or was changed since.
    """
    digest = policy_digest(folder)
    header = folder / "policy.h"
    if not header.is_file():
        raise FileFormatError(
            f"{header}: no such file; write it with `python -m export compile STUDENT --out {folder}`"
        )
    text = header.read_text(encoding="utf-8", errors="replace")
    found = _DIGEST_LINE.search(text)
    compare_digest(header, found.group(1) if found else "none", digest)
    if unsigned(text) is None:
        raise MismatchError(
            f"{header} was changed after `compile` wrote it, expected the sha256 in its last line; run `python -m "
            f"export compile STUDENT --out {folder}` again"
        )
    return Header(text, digest)


def compare_digest(path: Path, found: str, digest: str) -> None:
    """Raise MismatchError unless `found`, the digest that `path` carries, is the policy's."""
    if found != digest:
        raise MismatchError(
            f"{path} was made from another policy.safetensors: it carries digest {found[:12]}, expected {digest[:12]}; "
            f"run `python -m export compile STUDENT --out {path.parent}` again"
        )
