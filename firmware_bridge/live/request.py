"""One HTTP request to the live page: read with bounds, and judged before anything is done for it.

Refused, in this order: what is too long, too slow or not HTTP/1; another method than GET or POST; a body; a Host that
is a name which is not ours (a page from elsewhere whose name was made to point here: DNS rebinding); an Origin that is
not this page; a token that is not the run's. GET carries the token in the query, POST in `Authorization: Bearer`: a
form of another site cannot send that header.
"""

import asyncio
import dataclasses
import hmac
import ipaddress
from urllib.parse import parse_qs, urlsplit

HEAD_LIMIT_BYTES = 8192
HEAD_TIMEOUT_S = 5.0
_HEAD_LINES = 100


class RequestError(Exception):
    """The request is answered with `status` and nothing else happens."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked, once it may be answered."""

    method: str
    path: str


@dataclasses.dataclass(frozen=True)
class Gate:
    """Who may ask: the run's `token`, and the host names this server answers to beside addresses and localhost."""

    token: str
    names: tuple[str, ...]

    async def admit(self, reader: asyncio.StreamReader) -> Request:
        """Read and judge one request. Raises RequestError."""
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise RequestError(431, f"the request is longer than {HEAD_LIMIT_BYTES} bytes") from error
        except TimeoutError as error:
            raise RequestError(408, f"the request was not complete within {HEAD_TIMEOUT_S:g} s") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            raise RequestError(400, "the request ends in its middle") from error
        return self.judge(head)

    def judge(self, head: bytes) -> Request:
        """The request in `head`, up to its empty line. Raises RequestError."""
        method, target, headers = _parsed(head)
        if method not in ("GET", "POST"):
            raise RequestError(405, "expected GET or POST")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            raise RequestError(413, "expected no body")
        host = headers.get("host", "")
        if not self._ours(host):
            raise RequestError(421, "this host name is not this server's; open the address that the bridge printed")
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            raise RequestError(403, "asked by a page of another origin")
        if method == "GET":
            token = parse_qs(target.query).get("token", [""])[0]
        else:
            token = headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            raise RequestError(403, "wrong token; open the address that the bridge printed")
        return Request(method, target.path)

    def _ours(self, host: str) -> bool:
        """An address cannot be rebound, so any will do, with any port (it may be a tunnel's); names must be known."""
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "80")
        if not port.isascii() or not port.isdigit():
            return False
        if name.lower() in ("localhost", *self.names):
            return True
        try:
            ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
        except ValueError:
            return False
        return True


def _parsed(head: bytes) -> tuple[str, "SplitTarget", dict[str, str]]:
    try:
        first, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = first.split(" ")
        split = urlsplit(target)
    except ValueError as error:
        raise RequestError(400, "not an HTTP request") from error
    if version not in ("HTTP/1.0", "HTTP/1.1") or not target.startswith("/") or len(lines) > _HEAD_LINES:
        raise RequestError(400, "expected a request of HTTP/1.1 to a path")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip() or name in headers:
            raise RequestError(400, "a header is damaged or there twice")
        headers[name] = value.strip()
    return method, SplitTarget(split.path, split.query), headers


@dataclasses.dataclass(frozen=True)
class SplitTarget:
    """Path and query of a request's first line."""

    path: str
    query: str
