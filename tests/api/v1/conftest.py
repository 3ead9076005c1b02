"""A node that serves v1, its admin port, and an app server on an old library."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from gateway.node import Node
from tests.api.admin import Admin
from tests.api.conftest import Serve, module_admin
from tests.nodes import running_node
from tests.servers import Server

from .libraries import Old


@pytest.fixture
async def node(valkey: Server) -> AsyncIterator[Node]:
    async with running_node(valkey.url, v1_enabled=True, partitions=8) as node:
        yield node


@pytest.fixture
async def admin(node: Node) -> AsyncIterator[Admin]:
    """The node's own admin port."""
    async with httpx.AsyncClient() as http:
        yield Admin(f"http://127.0.0.1:{node.admin.port}", node.services, node.config, http)


@pytest.fixture
async def served(serve: Serve) -> AsyncIterator[Admin]:
    """v1 over the services alone, without a node."""
    async with serve(v1_enabled=True) as admin:
        yield admin


@pytest.fixture
def old(admin: Admin) -> Old:
    """An app server of the node."""
    return Old(admin.base_url)


@pytest.fixture
def lone(served: Admin) -> Old:
    """An app server of the services alone."""
    return Old(served.base_url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_served(valkey_process: Server) -> AsyncIterator[Admin]:
    """v1 over the services, one for a whole file of tests that do not mind what others left behind."""
    async with module_admin(valkey_process, v1_enabled=True) as admin:
        yield admin
