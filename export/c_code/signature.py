"""The last line of policy.h: by it a text that was cut or changed after `compile` is told."""

import hashlib
import re

_LINE = re.compile(r"/\* sha256 of the text above: ([0-9a-f]{64}) \*/\n\Z")


def signed(text: str) -> str:
    """Return `text` with its signature as the last line."""
    return f"{text}/* sha256 of the text above: {_sha256(text)} */\n"


def unsigned(text: str) -> str | None:
    """Return a signed text without its signature; None when it is not what was signed."""
    found = _LINE.search(text)
    if found is None or found.group(1) != _sha256(text[: found.start()]):
        return None
    return text[: found.start()]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
