"""The client port as bytes: what no well-behaved client library would send."""

import asyncio
import base64
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import orjson

from gateway.node import Node

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
DEADLINE_S = 5.0


class Response(NamedTuple):
    """An HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"].startswith("application/json"), self
        return orjson.loads(self.body)


class Ended(Exception):
    """The peer has ended the connection: politely (``reset`` is False) or by a reset."""

    def __init__(self, reset: bool) -> None:
        super().__init__(f"ended, reset={reset}")
        self.reset = reset


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes | None = b"\x01\x02\x03\x04") -> bytes:
    """One frame as a client sends it; ``mask=None`` breaks RFC 6455 section 5.1."""
    first = (0x80 if fin else 0) | opcode
    masked = 0x80 if mask is not None else 0
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", first, masked | size)
    elif size < 65536:
        header = struct.pack("!BBH", first, masked | 126, size)
    else:
        header = struct.pack("!BBQ", first, masked | 127, size)
    if mask is None:
        return header + payload
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return header + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def upgrade_request(path: str = "/v1/connect", token: str | None = None, **headers: str | None) -> bytes:
    """An opening handshake. Headers are given with `_` for `-`; None leaves one out."""
    lines: dict[str, str | None] = {
        "Host": "gateway.test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "gateway.v1",
        "Authorization": f"Bearer {token}" if token is not None else None,
    }
    for name, value in headers.items():
        wanted = name.replace("_", "-").lower()
        known = next((each for each in lines if each.lower() == wanted), name.replace("_", "-"))
        lines[known] = value
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1")


class RawSocket:
    """One TCP connection to the client port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.frames: list[tuple[int, bytes]] = []

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def text(self, payload: bytes | dict[str, Any]) -> None:
        self.send(frame(TEXT, payload if isinstance(payload, bytes) else orjson.dumps(payload)))

    @contextmanager
    def at_once(self) -> Iterator[socket.socket]:
        """The socket itself: what is done with it does not wait for the event loop to come round."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as raw:
            yield raw

    async def _read(self, size: int) -> bytes:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise Ended(False) from error
        except ConnectionError as error:
            raise Ended(True) from error

    async def response(self) -> Response:
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += await self._read(1)
        status, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._read(int(headers.get("content-length", "0")))
        return Response(int(status.split(" ")[1]), headers, body)

    async def frame(self) -> tuple[int, bytes]:
        """(opcode, payload) of the next frame. A server's are whole and unmasked."""
        first, size = await self._read(2)
        assert first & 0x80
        if size == 126:
            (size,) = struct.unpack("!H", await self._read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._read(8))
        return first & 0x0F, await self._read(size)

    async def message(self, kind: str | None = None) -> dict[str, Any]:
        """The next text message (of a type)."""
        while True:
            opcode, payload = await self.frame()
            if opcode == TEXT:
                message: dict[str, Any] = orjson.loads(payload)
                if kind in (None, message["type"]):
                    return message

    async def closed(self) -> tuple[int, dict[str, Any]]:
        """(code, reason) of the close frame, which is not answered; what came before it is in ``frames``."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0], orjson.loads(payload[2:])
            self.frames.append((opcode, payload))

    async def ended(self) -> bytes:
        """What comes until the connection is gone, politely or not."""
        rest = bytearray()
        async with asyncio.timeout(DEADLINE_S):
            try:
                while chunk := await self.reader.read(65536):
                    rest += chunk
            except ConnectionError:
                pass
        return bytes(rest)


@asynccontextmanager
async def raw_socket(
    node: Node, receive_buffer: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawSocket]:
    """A TCP connection; ``receive_buffer`` makes the kernel take little of what nobody reads."""
    raw = socket.socket()
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, node.listener.port))
    # A small limit, so that the stream stops reading where the test does.
    reader, writer = await asyncio.open_connection(
        sock=raw, limit=4096 if receive_buffer else 2**20, ssl=tls, server_hostname=host if tls else None
    )
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.transport.abort()
        try:
            await writer.wait_closed()
        except OSError:
            pass


@asynccontextmanager
async def raw_session(node: Node, user: str = "alice", **options: Any) -> AsyncIterator[RawSocket]:
    """A live session on a raw socket; its welcome has been read."""
    token = await node.services.tokens.issue(user, user.title())
    async with raw_socket(node, **options) as client:
        client.send(upgrade_request("/v1/connect?platform=web", token))
        response = await client.response()
        assert response.status == 101, response
        assert (await client.message())["type"] == "welcome"
        yield client
