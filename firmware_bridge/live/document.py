"""The live page as one document: page.html with its style and script put in, and a policy that allows only those."""

import base64
import dataclasses
import hashlib
from importlib.resources import files


@dataclasses.dataclass(frozen=True)
class Document:
    """`body` is sent as text/html, `security_policy` as Content-Security-Policy."""

    body: bytes
    security_policy: str


def live_document() -> Document:
    """Read the three files of live/. Nothing is loaded from elsewhere: the page works without a network."""
    folder = files("firmware_bridge.live")
    html, style, script = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    body = html.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Document(body.encode(), policy)


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
