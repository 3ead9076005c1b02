"""The Server API over real services on a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from gateway.config import Config
from gateway.core.session import Session, SessionLimits
from gateway.services.services import Services
from gateway.store import sessions
from gateway.store.store import Store
from tests.nodes import CREDENTIALS
from tests.servers import Server

from .admin import Admin, serving
from .vendor import Vendor

PARTITIONS = 8
"""Few, so that listings over all partitions are quick."""

Serve = Callable[..., AbstractAsyncContextManager[Admin]]


@pytest.fixture
def serve(valkey: Server) -> Serve:
    """Serves the API over the emptied Valkey: ``serve(setting=…)``; ``build`` arguments go in ``app``."""
    return lambda app=None, **settings: _served(valkey, Config(admin_port=0, **settings), **(app or {}))


@pytest.fixture
async def admin(serve: Serve) -> AsyncIterator[Admin]:
    """The API with the default settings."""
    async with serve() as admin:
        yield admin


@pytest.fixture
async def small_admin(serve: Serve) -> AsyncIterator[Admin]:
    """The API where two users and lists of 25 are the most."""
    async with serve(environment="development", users_development_max=2, list_max=25) as admin:
        yield admin


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_admin(valkey_process: Server) -> AsyncIterator[Admin]:
    """One API for a whole file of tests that leave nothing behind that another would see."""
    async with module_admin(valkey_process) as admin:
        yield admin


@asynccontextmanager
async def module_admin(server: Server, **settings: Any) -> AsyncIterator[Admin]:
    """The API over a store that is emptied once."""
    server.empty()
    async with _served(server, Config(admin_port=0, **settings)) as admin:
        yield admin


@pytest.fixture
def vendor(admin: Admin) -> Iterator[Vendor]:
    """The vendor's client of ``admin``."""
    vendor = Vendor(admin.base_url)
    yield vendor
    vendor.close()


@pytest.fixture
async def connected(admin: Admin, valkey: Server) -> str:
    """A user with a session on a node that will not answer: it has no lease."""
    session = Session("s1", _Socket(), SessionLimits(0, 0, 0, 0), {}, 0.0)
    session.user, session.device, session.platform = "alice", "phone", "ios"
    session.issued_at = 1_790_000_000_000
    await admin.services.tokens.issue("alice", "Alice", None)
    store = await Store.open(valkey.url, partitions=PARTITIONS)
    call = sessions.connect(
        store.keys, session, "gone.1", device_policy="platform", sessions_max=16, since=None, retention_ms=1000
    )
    code, *_ = await store.execute(call)
    await store.close()
    assert code == 0
    return session.user


class _Socket:
    """Where the session's socket would be."""

    address = "192.0.2.7"
    peer = "192.0.2.7:5000"

    def wake(self) -> None: ...
    def close(self, closing: object) -> None: ...
    def admitted(self) -> None: ...
    def refused(self, refusal: object) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


@asynccontextmanager
async def _served(server: Server, config: Config, **app: Any) -> AsyncIterator[Admin]:
    store = await Store.open(server.url, partitions=PARTITIONS)
    try:
        async with serving(Services.over(store, config, CREDENTIALS), config, **app) as admin:
            yield admin
    finally:
        await store.close()
