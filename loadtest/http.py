"""An HTTP client for the Server API that is cheap enough not to be what is measured: one request at a time, by hand."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from typing import cast

import orjson

from gateway.config import Credentials

_nonces = itertools.count(1)


def request(path: str, body: bytes, credentials: Credentials) -> bytes:
    """A signed request's bytes, with the headers that the vendor's client sends."""
    nonce, stated = str(next(_nonces)), str(time.time_ns() // 1_000_000)
    signature = hashlib.sha1(f"{credentials.app_secret}{nonce}{stated}".encode()).hexdigest()
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        f"User-Agent: nexconn-sdk-python/0.1.2\r\nX-Request-ID: 00000000-0000-4000-8000-{int(nonce):012d}\r\n"
        f"App-Key: {credentials.app_key}\r\nNonce: {nonce}\r\nTimestamp: {stated}\r\nSignature: {signature}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Caller(asyncio.Protocol):
    """One keep-alive connection; reads answers that state their length (all of the Server API's do)."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def to(cls, port: int, host: str = "127.0.0.1") -> Caller:
        """Connects."""
        _, caller = await asyncio.get_running_loop().create_connection(cls, host, port)
        return caller

    @property
    def connected(self) -> bool:
        """Whether it can be asked."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, sent: bytes) -> tuple[int, bytes]:
        """Sends a request and returns status and body of its answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(sent)
        return await self._answer

    async def call(self, path: str, asked: object, credentials: Credentials) -> dict[str, object]:
        """Calls an operation that must succeed, and returns what it answered."""
        status, body = await self.ask(request(path, orjson.dumps(asked), credentials))
        if status != 200:
            raise SystemExit(f"{path} answered {status}: {body.decode()}")
        return cast("dict[str, object]", orjson.loads(body))

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports only quack like asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        received = self._buffer + data if self._buffer else data
        head = received.find(b"\r\n\r\n")
        if head < 0:
            self._buffer = received
            return
        start = received.find(b"content-length: ") + 16
        end = head + 4 + int(received[start : received.find(b"\r\n", start)])
        if len(received) < end:
            self._buffer = received
            return
        self._buffer = received[end:]
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result((int(received[9:12]), received[head + 4 : end]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the gateway closed the connection"))
