"""An opening handshake as nearly all clients send it, read and answered past the library; any other is the library's.

What ``read`` accepts the library accepts as well, and its answer is the library's to the byte. It refuses nothing.
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple

from websockets.http11 import Response
from websockets.utils import accept_key

from gateway.protocol import PATH

REQUEST_BYTES_MAX = 8192
"""Longer ones are the library's: up to here no line can be too long."""

_FIELDS_MAX = 128

_TOKEN = r"[-!#$%&'*+.^_`|~0-9a-zA-Z]++"
"""RFC 9110 section 5.6.2."""

_REQUEST = re.compile(
    rf"GET ({re.escape(PATH)}(?:\?[\x21-\x7e]*+)?+) HTTP/1\.1\r\n((?:{_TOKEN}:[\t\x20-\x7e\x80-\xff]*+\r\n)++)\r\n"
)
"""The whole of it, nothing behind, in latin-1; lines end as RFC 9112 section 2.2 has it."""

_KEY = re.compile(r"[+/0-9A-Za-z]{21}[AQgw]==")
"""16 bytes in base64 (RFC 6455 section 4.1)."""

_PROTOCOLS = re.compile(rf"{_TOKEN}(?:, ?{_TOKEN})*+")

_CONNECTIONS = frozenset(("upgrade", "keep-alive, upgrade"))

_OF_A_BODY = frozenset(("content-length", "transfer-encoding"))


class Fields(dict[str, str]):
    """A request's header fields, each there once, by their names in small letters."""

    __slots__ = ()

    def get_all(self, name: str) -> list[str]:
        """As the library's Headers, but for a name in small letters."""
        value = self.get(name)
        return [] if value is None else [value]


class Upgrade(NamedTuple):
    """A request for a socket on the connect path that the library would accept.

    Attributes:
        path: with its query.
        fields: the header.
        key: its ``Sec-WebSocket-Key``.
    """

    path: str
    fields: Fields
    key: str

    def answer(self, subprotocol: str | None) -> bytes:
        """The response that opens the socket."""
        chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol is not None else ""
        return (
            f"HTTP/1.1 101 Switching Protocols\r\nDate: {_date(int(time.time()))}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(self.key)}\r\n{chosen}\r\n"
        ).encode()


def read(data: bytes) -> Upgrade | None:
    """Reads the first bytes of a connection; None = the library shall judge them."""
    if len(data) > REQUEST_BYTES_MAX:
        return None
    request = _REQUEST.fullmatch(data.decode("latin-1"))
    if request is None:
        return None
    path, header = request.groups()
    lines = header[:-2].split("\r\n")
    fields = Fields()
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip(" \t")
    if len(fields) < len(lines) or len(lines) > _FIELDS_MAX or not _OF_A_BODY.isdisjoint(fields):
        return None
    key, offered = fields.get("sec-websocket-key", ""), fields.get("sec-websocket-protocol")
    if (
        fields.get("sec-websocket-version") != "13"
        or fields.get("upgrade", "").lower() != "websocket"
        or fields.get("connection", "").lower() not in _CONNECTIONS
        or not _KEY.fullmatch(key)
        or (offered is not None and not _PROTOCOLS.fullmatch(offered))
    ):
        return None
    return Upgrade(path, fields, key)


def answer_of(response: Response, subprotocol: str | None) -> bytes:
    """The same of a response that the library has made."""
    if subprotocol is not None:
        response.headers["Sec-WebSocket-Protocol"] = subprotocol
    return response.serialize()


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
