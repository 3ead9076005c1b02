from __future__ import annotations

import httpx
import pytest

from gateway.store import nodes
from gateway.store.store import Store
from tests.api.admin import Admin
from tests.api.conftest import PARTITIONS
from tests.nodes import login, running_node
from tests.servers import Server
from tests.waiting import eventually


@pytest.mark.operation("/v4/app/stats")
async def test_users_are_counted_once_whatever_they_have_open(valkey: Server) -> None:
    async with running_node(valkey.url, node_id="one") as one, running_node(valkey.url, node_id="two") as two:
        phone = await login(one, "alice", "?platform=ios")
        laptop = await login(two, "alice", "?platform=desktop")
        bob = await login(two, "bob")
        for _ in range(5):
            assert (await bob.send("alice"))["type"] == "sent"
        async with httpx.AsyncClient() as http:
            admin = Admin(f"http://127.0.0.1:{one.admin.port}", one.services, one.config, http)
            stats = await admin.result("/v4/app/stats")
            assert (stats["sessions"], stats["usersOnline"], stats["usersRegistered"]) == (3, 2, 2)
            # Both nodes are in this process and so count together; that they ask each other is what is seen here.
            rates = {node["messagesPerSecond"] for node in stats["nodes"]}
            assert all(rate > 0 for rate in rates)
            assert stats["messagesPerSecond"] == pytest.approx(sum(n["messagesPerSecond"] for n in stats["nodes"]))
            assert stats["loginsPerSecond"] > 0
            await phone.close()
            await bob.close()

            async def one_left() -> bool:
                stats = await admin.result("/v4/app/stats")
                return (stats["sessions"], stats["usersOnline"]) == (1, 1)

            await eventually(one_left)
        await laptop.close()


async def test_without_nodes_there_is_nothing(admin: Admin) -> None:
    await admin.services.tokens.issue("alice", "Alice", None)
    assert await admin.result("/v4/app/stats") == {
        "nodes": [],
        "connections": 0,
        "sessions": 0,
        "usersOnline": 0,
        "usersRegistered": 1,
        "messagesPerSecond": 0.0,
        "loginsPerSecond": 0.0,
    }


async def test_a_node_that_does_not_answer_is_still_named(admin: Admin, valkey: Server) -> None:
    store = await Store.open(valkey.url, partitions=PARTITIONS)
    await store.execute(nodes.renew(store.keys, "quiet.1", 60_000, "first"))
    await store.close()
    result = await admin.result("/v4/app/stats", {})
    (node,) = result["nodes"]
    assert (node["nodeId"], node["answered"], result["connections"]) == ("quiet.1", False, 0)
