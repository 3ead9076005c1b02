"""What a broadcast costs a node with very many users."""

from __future__ import annotations

import asyncio

from gateway.core.session import START
from gateway.services.messages import Draft
from tests.nodes import login, running_node
from tests.servers import Server
from tests.turns import Turns


async def test_learning_of_a_broadcast_does_not_hold_up_a_node_with_many_users(valkey: Server) -> None:
    async with running_node(valkey.url, broadcast_users_per_s=1000) as node:
        alice = await login(node, "alice")
        announcing = node.announcing
        # Users whose sockets the test does without: the store knows none of them, so they take nothing.
        announcing._seen.update(dict.fromkeys((f"user{number}" for number in range(50_000)), START))
        mid = await node.services.broadcasts.to_online(Draft("news", "note", "hello"))
        with Turns() as turns:
            async with asyncio.timeout(10):
                while not announcing.due:
                    await asyncio.sleep(0)
        assert (await alice.next("message"))["mid"] == mid
        # 60; a single call for each user would make 50,000.
        assert turns.most < 1000
        await alice.close()
