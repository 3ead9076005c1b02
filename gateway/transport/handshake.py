"""What an opening handshake asks for: where the token is, which device, and whether the Origin may come."""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct
from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders

from gateway.core.close import Refusal
from gateway.protocol import BEARER_SUBPROTOCOL_PREFIX, PATH, SUBPROTOCOL
from gateway.protocol.codes import Code
from gateway.protocol.commands import Cursor, DeviceId, Platform

_LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")

_CODED = re.compile(r"[^!$&'()*,./0-9:;=?@A-Z_a-z~-]")
"""What a query may hold that does not stand for itself, and what the library may think of in its own way."""


class _Query(Struct, frozen=True):
    device: DeviceId | None = None
    platform: Platform = "other"
    since: Cursor | None = None


class Opening(NamedTuple):
    """An opening handshake, read.

    Attributes:
        token: the access token, None = it comes by ``auth``.
        in_header: whether the token came in a way that only non-browsers have, so that a refusal can be an HTTP status.
        subprotocol: what to answer, None = the client offered none.
        fault: why it is refused, None = it is not.
    """

    token: str | None
    in_header: bool
    subprotocol: str | None
    device: str | None
    platform: str
    since: str | None
    fault: Refusal | None


class Header(Protocol):
    """A request's header fields: the library's Headers, or what is read past it."""

    def get_all(self, name: str, /) -> list[str]:
        """The values of a field; its name in small letters."""


def read(path: str, header: Header, *, allow_token_in_url: bool) -> Opening:
    """Reads a handshake on the connect path; faults in it are part of the result."""
    offered = [name.strip() for value in header.get_all("sec-websocket-protocol") for name in value.split(",")]
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
    query = query_of(path)
    token, in_header = _token(header, offered)
    try:
        if offered and subprotocol is None:
            raise Refusal(Code.MALFORMED, f"the subprotocol offered must include {SUBPROTOCOL}")
        if "token" in query:
            if not allow_token_in_url:
                raise Refusal(Code.MALFORMED, "a token in the URL is refused (URLs end in logs): use the header")
            # A browser may have opened this URL, and it sees no HTTP status: refused by a close.
            token = token or query["token"] or None
        asked = msgspec.convert(query, _Query)
    except msgspec.ValidationError as error:
        fault = Refusal(Code.MALFORMED, f"query string: {error}")
        return Opening(token, in_header, subprotocol, None, "other", None, fault)
    except Refusal as refusal:
        return Opening(token, in_header, subprotocol, None, "other", None, refusal)
    return Opening(token, in_header, subprotocol, asked.device, asked.platform, asked.since, None)


def query_of(path: str) -> dict[str, str]:
    """The parameters of a request's query; of those with the same name the first."""
    query = path.partition("?")[2]
    if _CODED.search(query):
        parsed = parse_qs(urlsplit(path).query, keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}
    found: dict[str, str] = {}
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        if parameter and name not in found:
            found[name] = value
    return found


def _token(header: Header, offered: list[str]) -> tuple[str | None, bool]:
    for value in header.get_all("authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip(), True
    for name in offered:
        if name.startswith(BEARER_SUBPROTOCOL_PREFIX):
            return name.removeprefix(BEARER_SUBPROTOCOL_PREFIX), False
    return None, False


def refusal_of_fault(fault: BaseException) -> tuple[int, Refusal]:
    """The (HTTP status, refusal) for bytes that are no request this port reads."""
    if isinstance(fault, RequestLineTooLong):
        return 414, Refusal(Code.MALFORMED, "the request line is too long")
    if isinstance(fault, HeaderLineTooLong | TooManyHeaders):
        return 431, Refusal(Code.MALFORMED, "the header is too large")
    return 400, Refusal(Code.MALFORMED, "not an HTTP/1.1 request without a body")


def is_connect(path: str) -> bool:
    """Whether the request is for the socket path."""
    return path.partition("?")[0] == PATH


def origin_allowed(header: Header, origins: tuple[str, ...], development: bool) -> bool:
    """Whether a request with this Origin may open a socket (protection against cross-site hijacking).

    Args:
        origins: the allowlist; "*" = any. Empty = no Origin (no browser), or the host's own.
        development: lets every Origin of this machine in.
    """
    stated = header.get_all("origin")
    if not stated:
        return True
    if len(stated) > 1:
        return False
    (origin,) = stated
    if "*" in origins or origin in origins:
        return True
    if development and _LOCAL_ORIGIN.fullmatch(origin):
        return True
    if origins:
        return False
    try:
        return [urlsplit(origin).netloc] == header.get_all("host")
    except ValueError:
        return False
