"""Plain HTTP on the client port: one request a connection."""

from __future__ import annotations

from gateway.node import Node
from tests.transport.wire import Response, raw_socket


def get(path: str, method: str = "GET", **headers: str) -> bytes:
    """A request as bytes. Headers are given with `_` for `-`."""
    fields = {"Host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


async def ask(node: Node, data: bytes) -> Response:
    """Sends bytes on a fresh connection; the answer, after which the connection must end."""
    async with raw_socket(node) as client:
        client.send(data)
        response = await client.response()
        assert await client.ended() == b""
        return response
