from __future__ import annotations

from gateway.store import nodes
from gateway.store.store import Store
from tests.api.admin import Admin
from tests.api.conftest import PARTITIONS
from tests.servers import Server


async def test_without_nodes_there_is_nothing(admin: Admin) -> None:
    assert await admin.result("/v4/app/stats") == {"nodes": [], "connections": 0, "sessions": 0}


async def test_a_node_that_does_not_answer_is_still_named(admin: Admin, valkey: Server) -> None:
    store = await Store.open(valkey.url, partitions=PARTITIONS)
    await store.execute(nodes.renew(store.keys, "quiet.1", 60_000, "first"))
    await store.close()
    result = await admin.result("/v4/app/stats", {})
    (node,) = result["nodes"]
    assert (node["nodeId"], node["answered"], result["connections"]) == ("quiet.1", False, 0)
