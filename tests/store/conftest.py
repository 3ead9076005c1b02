"""The store tests' fixtures: a Store on each of the three kinds of server, emptied."""

from collections.abc import AsyncIterator

import pytest

from gateway.store.store import Store
from tests.proxy import Proxy
from tests.servers import Cluster, Server
from tests.store.acts import Acts


@pytest.fixture
async def acts(any_store: Server | Cluster) -> AsyncIterator[Acts]:
    store = await Store.open(any_store.url)
    yield Acts(store)
    await store.close()


@pytest.fixture
async def proxy(valkey: Server) -> AsyncIterator[Proxy]:
    async with Proxy(valkey.url) as proxy:
        yield proxy
