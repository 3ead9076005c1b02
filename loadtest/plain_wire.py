"""A client cheap enough that the generator is not what is measured.

For throughput, memory and latencies under a millisecond; what an app notices is measured with the SDK: in probe, api
and sdk.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import cast

from websockets.client import ClientProtocol
from websockets.http11 import Response
from websockets.uri import parse_uri


class Wire(asyncio.Protocol):
    """One client socket: the library's handshake, then frames by hand.

    Args:
        url: the gateway's socket URL.
        token: the access token.
        on_text: called with every text message.
        on_end: called when the socket ends.
    """

    def __init__(
        self, url: str, token: str, on_text: Callable[[Wire, bytes], None], on_end: Callable[[Wire], None]
    ) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self.user = ""
        self._on_text = on_text
        self._on_end = on_end
        self._token = token
        self._ws: ClientProtocol | None = ClientProtocol(parse_uri(url), subprotocols=["gateway.v1"])  # type: ignore[list-item]
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._ws is not None
        # uvloop's transports only quack like asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        request = self._ws.connect()
        request.headers["Authorization"] = f"Bearer {self._token}"
        self._ws.send_request(request)
        self.transport.write(b"".join(self._ws.data_to_send()))

    def data_received(self, data: bytes) -> None:
        if self._ws is not None:
            data = self._handshake(data)
        self._frames(self._buffer + data if self._buffer else data)

    def _handshake(self, data: bytes) -> bytes:
        assert self._ws is not None
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._ws.receive_data(data)
            return b""
        self._ws.receive_data(data[: end + 4])
        for event in self._ws.events_received():
            if isinstance(event, Response):
                fault = self._ws.handshake_exc
                if fault is not None and not self.opened.done():
                    self.opened.set_exception(fault)
        self._ws = None
        return data[end + 4 :]

    def _frames(self, data: bytes) -> None:
        position, size = 0, len(data)
        while size - position >= 2:
            opcode, length = data[position] & 0x0F, data[position + 1]
            start = position + 2
            if length == 126:
                if size < start + 2:
                    break
                length = int.from_bytes(data[start : start + 2], "big")
                start += 2
            elif length == 127:
                if size < start + 8:
                    break
                length = int.from_bytes(data[start : start + 8], "big")
                start += 8
            if size < start + length:
                break
            payload = data[start : start + length]
            position = start + length
            if opcode == 1:
                if not self.opened.done():
                    self.opened.set_result(None)
                self._on_text(self, payload)
            elif opcode == 8 and self.transport is not None:
                # RFC 6455 section 5.5.1: answer a close with a close; the server then ends the connection.
                self.transport.write(_frame(0x88, payload[:2]))
            elif opcode == 9 and self.transport is not None:
                self.transport.write(_frame(0x8A, payload))
        self._buffer = data[position:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("the gateway closed the connection"))
            self.opened.exception()
        self._on_end(self)

    def send(self, payload: bytes) -> None:
        """Sends one text message."""
        if self.transport is not None:
            self.transport.write(_frame(0x81, payload))


def _frame(first: int, payload: bytes) -> bytes:
    # RFC 6455 section 5.3 wants a mask; that of four zero bytes costs nothing to apply.
    length = len(payload)
    if length < 126:
        return bytes((first, 0x80 | length)) + b"\0\0\0\0" + payload
    return struct.pack("!BBH", first, 0x80 | 126, length) + b"\0\0\0\0" + payload
