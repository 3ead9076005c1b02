"""Several nodes for tests: two in this process, one in a process of its own that can be frozen or killed."""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed

from gateway.node import Node
from gateway.services.clock import Clock
from gateway.store.embedded import end_with_parent
from tests.nodes import Client, running_node
from tests.waiting import eventually

BRISK = {
    "lease_s": 2.0,
    "lease_renew_s": 0.4,
    "probe_s": 0.3,
    "probe_timeout_s": 0.8,
    "store_timeout_ms": 800,
    "drop_wait_s": 3.0,
}
"""Short deadlines, so that outages and their ends are noticed in test time."""


class MovableClock(Clock):
    """The real clocks, and as much further as a test says."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.wall_ahead_ms = 0

    def now(self) -> float:
        return super().now() + self.ahead_s

    def wall_ms(self) -> int:
        return super().wall_ms() + self.wall_ahead_ms

    def jump(self, seconds: float) -> None:
        """Both clocks go forward, as after a suspend."""
        self.ahead_s += seconds
        self.wall_ahead_ms += int(seconds * 1000)


@asynccontextmanager
async def two_nodes(url: str, **changes: Any) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes, ``a`` and ``b``, over one store; their admin ports stay shut."""
    changes = {"role": "edge"} | changes
    async with running_node(url, node_id="a", **changes) as a, running_node(url, node_id="b", **changes) as b:
        yield a, b


class NodeProcess:
    """A node in a process of its own; goes where a Node does as far as opening sockets is concerned."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.listener = SimpleNamespace(port=port)

    def freeze(self) -> None:
        """It stands still; its sockets stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """It ends without a goodbye."""
        self._process.kill()

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def node_process(url: str, node_id: str, **changes: Any) -> AsyncIterator[Any]:
    """Starts a NodeProcess; it is gone at the end whatever happened."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.worker",
        url,
        orjson.dumps({"node_id": node_id, **changes}).decode(),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        preexec_fn=end_with_parent(),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            port = int(await process.stdout.readline())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    node = NodeProcess(process, port)
    try:
        yield node
    finally:
        await node.end()


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, its signature not looked at."""
    body = token.split(".")[1]
    claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def sessions_on(node: Node, user: str) -> int:
    """How many sessions of a user this node's hub holds."""
    return len(node.hub.of(user))


async def online(node: Node, user: str, expected: bool = True, deadline_s: float = 5.0) -> None:
    """Waits until the store says so."""

    async def agrees() -> bool:
        return await node.services.presence.online(user) is expected

    await eventually(agrees, deadline_s)


async def everything(client: Client, deadline_s: float = 5.0) -> list[dict[str, Any]]:
    """All that has arrived by the time a ping is answered, the pong excepted."""
    pong = await client.ask("ping")
    assert pong["type"] == "pong"
    received, client.received = client.received, []
    return received


async def until_closed(client: Client, deadline_s: float = 5.0) -> tuple[list[dict[str, Any]], int]:
    """What still arrives until the socket's end, and the close code."""
    received, client.received = client.received, []
    async with asyncio.timeout(deadline_s):
        while True:
            try:
                received.append(orjson.loads(await client.socket.recv()))
            except ConnectionClosed:
                return received, client.socket.close_code or 1006
