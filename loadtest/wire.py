"""A client's socket, cheap enough that the generator is not what is measured: frames by hand, one write per read."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from typing import TYPE_CHECKING, cast

from loadtest import stamp

if TYPE_CHECKING:
    from loadtest.crowd import Choice, Crowd, User
    from loadtest.dialect import Dialect
    from loadtest.ledger import Heard

HEAD_BYTES_MAX = 16_384
FRAME_BYTES_MAX = 4 * 1024 * 1024
KEY = base64.b64encode(b"load test client").decode()
"""Of every opening handshake: it protects proxies, of which there are none here."""


class Wire(asyncio.Protocol):
    """One socket of one user; speaks RFC 6455 and leaves what is said to the dialect.

    Attributes:
        waiting: what was said and has no answer yet, by the message's number; the crowd's.
        heard: streams of messages that arrive here; the crowd's.
        came_us: when it was welcomed, or put into another epoch: what was sent before that is replayed here.
        repeated: of each stream the last number that came again, since the service said that it sends again what was
            not acked; None = it did not say so.
        cursor: the last push that carries a place in the inbox; the dialect's.
    """

    __slots__ = (
        "_buffer",
        "_dialect",
        "_open",
        "_out",
        "_reading",
        "came_us",
        "close_code",
        "close_reason",
        "crowd",
        "cursor",
        "device",
        "heard",
        "kept",
        "last_id",
        "listed",
        "name",
        "opened",
        "repeated",
        "transport",
        "unacked",
        "user",
        "waiting",
        "welcomed",
    )

    def __init__(self, crowd: Crowd, dialect: Dialect, user: User, device: int) -> None:
        self.crowd, self._dialect, self.user, self.device = crowd, dialect, user, device
        self.transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.welcomed = False
        self.came_us = 0
        self.repeated: dict[bytes, int] | None = None
        self.name = b""
        self.waiting: dict[int, tuple[Choice, int, int]] = {}
        self.heard: dict[bytes, Heard] = {}
        self.cursor = b""
        self.unacked = 0
        self.listed = True
        self.last_id = stamp.LAST_ID
        self.kept: object = None  # of the dialect, where it needs a state
        self.close_code: int | None = None
        self.close_reason = b""
        self._buffer = b""
        self._open = False
        self._reading = False
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports only quack like asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._dialect.opening(self))

    def data_received(self, data: bytes) -> None:
        self.crowd.now = time.monotonic_ns() // 1000
        self._reading = True
        try:
            if self._buffer:
                data = self._buffer + data
                self._buffer = b""
            if self._open:
                self._frames(data, 0)
            else:
                self._head(data)
        finally:
            self._reading = False
            if self._out:
                self._flush()

    def _flush(self) -> None:
        out = self._out
        if self.transport is not None:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    def _head(self, data: bytes) -> None:
        """Reads the answer to the opening handshake."""
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) <= HEAD_BYTES_MAX:
            self._buffer = data
            return
        status = data[9:12]
        if data[:5] != b"HTTP/" or not status.isdigit() or end < 0:
            self.fail(None, b"what answers is no HTTP server")
        elif status == b"101":
            self._open = True
            self._dialect.opened(self)
            self._frames(data, end + 4)
        else:
            self.fail(-int(status), data[end + 4 :])

    def _frames(self, data: bytes, position: int) -> None:
        size = len(data)
        received = self._dialect.received
        while size - position >= 2:
            first, length = data[position], data[position + 1]
            start = position + 2
            if length > 125:
                wide = 2 if length == 126 else 8
                if size < start + wide:
                    break
                length = int.from_bytes(data[start : start + wide], "big")
                start += wide
                if length > FRAME_BYTES_MAX:
                    self.fail(None, b"the server sent a frame of %d bytes" % length)
                    return
            if size < start + length:
                break
            position = start + length
            if first == 0x81:
                received(self, data[start:position])
            elif not self._other(first, data[start:position]):
                return
        if position < size:
            self._buffer = data[position:]

    def _other(self, first: int, payload: bytes) -> bool:
        """A frame that is no whole text message; False = nothing more is read."""
        if first == 0x82:
            self._dialect.received(self, payload)
        elif first == 0x89:
            self.frame(frame(payload, 0x8A))
        elif first == 0x88:
            # RFC 6455 section 5.5.1: answer a close with a close; the server then ends the connection.
            self.close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self.close_reason = payload[2:]
            self.frame(frame(payload[:2], 0x88))
            self.crowd.closing(self)
            return False
        elif first != 0x8A:
            self.fail(None, b"the server sent a frame that begins with 0x%02x" % first)
            return False
        return True

    def frame(self, whole: bytes) -> None:
        """Sends the bytes of frames; those of one turn of reading go out together."""
        if self._reading:
            self._out.append(whole)
        elif self.transport is not None:
            self.transport.write(whole)

    def fail(self, code: int | None, reason: bytes) -> None:
        """Gives the connection up, for a reason that is told as a close's would be."""
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Says goodbye."""
        if self.transport is not None:
            self.transport.write(frame(struct.pack("!H", 1000), 0x88) if self._open else b"")
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.close_code is None and exc is not None:
            self.close_reason = str(exc).encode()
        self.crowd.gone(self)
        if not self.opened.done():
            self.opened.set_result(False)


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """One frame of a client.

    RFC 6455 section 5.3 wants a mask; the server takes off that of four zero bytes as any other, and putting it on
    costs nothing here.
    """
    length = len(payload)
    if length < 126:
        return bytes((first, 0x80 | length)) + b"\0\0\0\0" + payload
    if length < 65_536:
        return struct.pack("!BBH", first, 0x80 | 126, length) + b"\0\0\0\0" + payload
    return struct.pack("!BBQ", first, 0x80 | 127, length) + b"\0\0\0\0" + payload


def request(host: str, path: str, *headers: str) -> bytes:
    """The opening handshake's request."""
    lines = [
        *(f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"),
        *(f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", *headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
