"""Real nodes for tests: a Node in this process over a real store, and clients on real sockets."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.config import Config, Credentials
from gateway.node import Node
from gateway.services.clock import Clock
from gateway.store.store import Store

CREDENTIALS = Credentials("test-app", "test-secret-of-more-than-32-bytes-length")


def config(**changes: Any) -> Config:
    """A config for tests: free ports, loopback, generous rates."""
    base: dict[str, Any] = {
        "client_host": "127.0.0.1",
        "client_port": 0,
        "admin_port": 0,
        "data_dir": Path(tempfile.gettempdir()),
        "drain_s": 0.0,
        "connect_rate_per_address_s": 0,
        "send_rate_per_s": 0,
        "reconnect_min_ms": 10,
        "reconnect_max_ms": 100,
        "node_id": "test",
    }
    return Config(**(base | changes))


@asynccontextmanager
async def running_node(url: str, clock: Clock | None = None, **changes: Any) -> AsyncIterator[Node]:
    """A node, started; stopped at the end whatever happened."""
    settings = config(**changes)
    store = await Store.open(url, partitions=settings.partitions, timeout_s=settings.store_timeout_ms / 1000)
    node = Node(settings, CREDENTIALS, store, clock)
    try:
        await node.start()
        yield node
    finally:
        await node.abandon()


class Client:
    """A client app on the websockets library's own client."""

    def __init__(self, socket: ClientConnection, welcome: dict[str, Any]) -> None:
        self.socket = socket
        self.welcome = welcome
        self.received: list[dict[str, Any]] = []
        self._ids = 0

    async def say(self, command: dict[str, Any]) -> None:
        await self.socket.send(orjson.dumps(command).decode())

    async def next(self, kind: str | None = None, deadline_s: float = 5.0) -> dict[str, Any]:
        """The next message, or the next of a type; others are kept in ``received``."""
        for index, message in enumerate(self.received):
            if kind is None or message["type"] == kind:
                return self.received.pop(index)
        async with asyncio.timeout(deadline_s):
            while True:
                message = orjson.loads(await self.socket.recv())
                if kind is None or message["type"] == kind:
                    return message  # type: ignore[no-any-return]
                self.received.append(message)

    async def ask(self, type_: str, **fields: Any) -> dict[str, Any]:
        """A command with an id, and its reply; pushes that come meanwhile are kept."""
        self._ids += 1
        command_id = f"c{self._ids}"
        await self.say({"type": type_, "id": command_id, **fields})
        async with asyncio.timeout(5):
            while True:
                message = orjson.loads(await self.socket.recv())
                if message.get("id") == command_id:
                    return message  # type: ignore[no-any-return]
                self.received.append(message)

    async def send(self, to: str, body: Any = "hello", **fields: Any) -> dict[str, Any]:
        return await self.ask("send", to=to, body=body, **fields)

    async def closed(self, deadline_s: float = 5.0) -> tuple[int, dict[str, Any]]:
        """Waits for the end; (close code, reason). What came before it is in ``received``."""
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    self.received.append(orjson.loads(await self.socket.recv()))
                except ConnectionClosed:
                    break
        reason = self.socket.close_reason or ""
        return self.socket.close_code or 1006, orjson.loads(reason) if reason.startswith("{") else {"text": reason}

    async def close(self) -> None:
        await self.socket.close()


def address(node: Node, query: str = "") -> str:
    return f"ws://127.0.0.1:{node.listener.port}/v1/connect{query}"


async def open_socket(node: Node, token: str | None = None, query: str = "", **options: Any) -> ClientConnection:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return await connect(
        address(node, query),
        additional_headers=headers,
        subprotocols=options.pop("subprotocols", ["gateway.v1"]),  # type: ignore[arg-type]
        compression=None,
        open_timeout=5,
        proxy=None,
        ping_interval=None,
        **options,
    )


async def login(
    node: Node, user: str, query: str = "?platform=web", token: str | None = None, **options: Any
) -> Client:
    """A connected client that has had its welcome."""
    socket = await open_socket(node, token or await node.services.tokens.issue(user, user.title()), query, **options)
    async with asyncio.timeout(5):
        welcome = orjson.loads(await socket.recv())
    assert welcome["type"] == "welcome", welcome
    return Client(socket, welcome)
