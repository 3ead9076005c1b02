"""The v1 client libraries, byte for byte as far as it matters: how each signs, escapes and joins."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

from tests.nodes import CREDENTIALS

Pairs = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP.
        headers: names in lower case.
        content: the parsed JSON body.
    """

    status: int
    headers: Mapping[str, str]
    content: dict[str, Any]

    @property
    def refusal(self) -> tuple[int, int]:
        """Status and code of an error, after a look at its shape."""
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        assert type(self.content["code"]) is int
        assert isinstance(self.content["errorMessage"], str)
        assert isinstance(self.content["url"], str)
        return self.status, self.content["code"]

    @property
    def fields(self) -> dict[str, Any]:
        """What stands beside the code of a success."""
        assert (self.status, self.content["code"]) == (200, 200), self.content
        assert type(self.content["code"]) is int
        return {name: value for name, value in self.content.items() if name != "code"}


async def exchange(base_url: str, raw: bytes) -> Answer:
    """Sends bytes as they are on a connection of their own and reads the one response."""
    place = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        async with asyncio.timeout(20):
            writer.write(raw)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()
    return Answer(int(status.split()[1]), headers, json.loads(body))


def request(path: str, headers: Mapping[str, str], body: bytes, method: str = "POST") -> bytes:
    """One HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: api.example.com", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def signed(
    nonce: str, timestamp: str, *, prefix: str = "", lower: bool = False, secret: str = CREDENTIALS.app_secret
) -> dict[str, str]:
    """The four headers."""
    signature = hashlib.sha1(f"{secret}{nonce}{timestamp}".encode()).hexdigest()
    values = {"App-Key": CREDENTIALS.app_key, "Nonce": nonce, "Timestamp": timestamp, "Signature": signature}
    return {(prefix + name).lower() if lower else prefix + name: value for name, value in values.items()}


def seconds() -> str:
    return str(int(time.time()))


def escaped(pairs: Pairs) -> bytes:
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs).encode()


def unescaped(pairs: Pairs) -> bytes:
    return "&".join(f"{name}={value}" for name, value in pairs).encode()


FORM = "application/x-www-form-urlencoded"


@dataclasses.dataclass(frozen=True)
class Library:
    """One client library.

    Attributes:
        sign: makes the four headers of a call.
        encode: makes the body of a form.
        content_type: of a form.
    """

    sign: Callable[[], dict[str, str]]
    encode: Callable[[Pairs], bytes] = escaped
    content_type: str = FORM

    def form(self, path: str, pairs: Pairs) -> bytes:
        """The bytes of a call with a form."""
        return request(path, self.sign() | {"Content-Type": self.content_type}, self.encode(pairs))

    def json(self, path: str, content: Any) -> bytes:
        """The bytes of a call with JSON."""
        return request(path, self.sign() | {"Content-Type": "application/json"}, json.dumps(content).encode())


PY = Library(lambda: signed(str(int(time.time() * 7919) % 10**9), seconds()), unescaped)
"""Nothing is percent-encoded."""
GO = Library(lambda: signed("9223372036854775807", seconds()))
"""A random 63-bit number as nonce."""
JAVA = Library(lambda: signed("648210.3320489129", seconds()), content_type=f"{FORM}; charset=utf-8")
"""A decimal fraction as nonce."""
PHP = Library(lambda: signed("1804289383", seconds()))
PY2 = Library(
    lambda: signed("8.4442185152504810e-05", str(int(time.time() * 1000)), prefix="rc-", lower=True),
    lambda pairs: "&".join(f"{name}={quote(value)}" for name, value in pairs).encode(),
)
"""Lower-case ``rc-`` names, milliseconds, a float's text of 22 characters as nonce."""

LIBRARIES = {"PY": PY, "GO": GO, "JAVA": JAVA, "PHP": PHP, "PY2": PY2}


class Old:
    """An app server on a v1 library.

    Args:
        base_url: of the admin port.
        library: which one.
    """

    def __init__(self, base_url: str, library: Library = PHP) -> None:
        self.base_url = base_url
        self._library = library

    async def form(self, path: str, *pairs: tuple[str, str], **fields: Any) -> Answer:
        """Calls with a form: pairs as they stand, then the fields; a list is a repeated key."""
        sent = list(pairs)
        for name, value in fields.items():
            sent += [(name, str(each)) for each in (value if isinstance(value, list) else [value])]
        return await exchange(self.base_url, self._library.form(path, sent))

    async def json(self, path: str, content: Any) -> Answer:
        """Calls with JSON."""
        return await exchange(self.base_url, self._library.json(path, content))

    async def raw(self, path: str, body: bytes, content_type: str | None = FORM, **more: Any) -> Answer:
        """Calls with these bytes."""
        headers = self._library.sign() | ({"Content-Type": content_type} if content_type is not None else {})
        return await exchange(self.base_url, request(path, headers, body, **more))
