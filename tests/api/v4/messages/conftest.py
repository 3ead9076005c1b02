"""Two nodes, an admin port, and a client of alice's and one of bob's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.node import Node
from tests.api.admin import Admin
from tests.nodes import Client, login, running_node
from tests.servers import Server


@pytest.fixture
async def nodes(valkey: Server) -> AsyncIterator[tuple[Node, Node]]:
    async with (
        running_node(valkey.url, node_id="a", rate_limits=False, inbox_max=50) as a,
        running_node(valkey.url, node_id="b", rate_limits=False, inbox_max=50) as b,
    ):
        yield a, b


@pytest.fixture
async def admin(nodes: tuple[Node, Node]) -> AsyncIterator[Admin]:
    """The first node's own admin port; clients are on the second."""
    node, _ = nodes
    async with httpx.AsyncClient(timeout=30) as http:
        yield Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)


@pytest.fixture
async def alice(nodes: tuple[Node, Node]) -> AsyncIterator[Client]:
    client = await login(nodes[1], "alice", "?platform=web&device=browser")
    yield client
    await client.close()


@pytest.fixture
async def bob(nodes: tuple[Node, Node]) -> AsyncIterator[Client]:
    client = await login(nodes[1], "bob", "?platform=web&device=browser")
    yield client
    await client.close()
