"""A client as bare as can be: fast to open by the thousand, and able to stop reading."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, cast

import orjson

from gateway.node import Node

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class RawClient(asyncio.Protocol):
    """One socket. Frames of a server are unmasked, so what was received can be searched as bytes.

    Attributes:
        received: every byte that came, the HTTP response included.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._changed = asyncio.Event()
        # Said as soon as the upgrade is answered.
        self._first: dict[str, Any] | None = None

    @classmethod
    async def begin(
        cls, node: Node | Any, token: str, way: str = "header", query: str = "", receive_buffer: int = 0
    ) -> RawClient:
        """Sends the opening handshake and the token; nothing is awaited but the TCP connection.

        Args:
            way: how the token goes: "header", "subprotocol" or "auth".
        """
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", node.listener.port))
        _, client = await loop.create_connection(cls, sock=raw)
        offered = f"gateway.v1, gateway.bearer.{token}" if way == "subprotocol" else "gateway.v1"
        request = (
            f"GET /v1/connect{query} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {offered}\r\n"
        )
        if way == "header":
            request += f"Authorization: Bearer {token}\r\n"
        if way == "auth":
            client._first = {"type": "auth", "token": token, "platform": "web"}
        client.write(request.encode() + b"\r\n")
        return client

    @classmethod
    async def open(cls, node: Node | Any, token: str, way: str = "header", **options: Any) -> RawClient:
        """The same, until the welcome is there."""
        client = await cls.begin(node, token, way, **options)
        await client.until(b'"type":"welcome"')
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports only quack like asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self._first is not None and b"\r\n\r\n" in self.received:
            first, self._first = self._first, None
            self.say(first)
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.ended.done():
            self.ended.set_result(None)
        self._changed.set()

    def write(self, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.write(payload)

    def say(self, command: dict[str, Any]) -> None:
        """One masked text frame (RFC 6455 section 5.3)."""
        payload, mask = orjson.dumps(command), os.urandom(4)
        length = len(payload)
        header = bytes((0x81, 0x80 | length)) if length < 126 else bytes((0x81, 0xFE)) + length.to_bytes(2, "big")
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.write(header + mask + masked)

    def pause(self) -> None:
        """Reads no more: what comes waits in the kernel."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    async def until(self, wanted: bytes, deadline_s: float = 5.0, *, or_end: bool = False) -> None:
        """Waits until these bytes are there (or the connection has ended, where that is as good)."""
        async with asyncio.timeout(deadline_s):
            while wanted not in self.received:
                if self.ended.done():
                    assert or_end, bytes(self.received)
                    return
                self._changed.clear()
                await self._changed.wait()

    async def until_end(self, deadline_s: float = 5.0) -> bytes:
        """Everything received, once the connection has ended."""
        async with asyncio.timeout(deadline_s):
            await asyncio.shield(self.ended)
        return bytes(self.received)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
