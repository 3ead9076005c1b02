"""The store restarts or fails over under SDK clients: apps see every message once, in order, and acks go on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from gateway.store.call import Call
from tests.client.conftest import Apps
from tests.integration.fleet import BRISK
from tests.nodes import running_node
from tests.replicas import Address, followed
from tests.servers import Server, redis7_binary
from tests.waiting import eventually

MESSAGES = 40


async def all_acked(apps: Apps, user: str, device: str) -> bool:
    """Whether the device's ack has come to the end of the inbox."""
    keys = apps.node.store.keys.user(user)
    acked = await apps.node.store.execute(Call(keys.partition, ("HGET", keys.ack, device)))
    last = await apps.node.store.execute(Call(keys.partition, ("XREVRANGE", keys.inbox, "+", "-", "COUNT", 1)))
    return bool(acked and last and acked.startswith(last[0][0] + b"@"))


async def test_an_app_sees_nothing_twice_when_the_store_restarts_and_its_acks_go_on(fresh_valkey: Server) -> None:
    async with running_node(fresh_valkey.url, node_id="a", **BRISK) as node, AsyncExitStack() as stack:
        apps = Apps(node, stack)
        alice = await apps.connected("alice")
        bob, inbox = await apps.listening("bob")
        resumed: list[bool] = []
        bob.on_resumed(resumed.append)

        async def sending() -> None:
            for number in range(MESSAGES):
                await alice.send("bob", number)
                if number == MESSAGES // 2:
                    fresh_valkey.restart()

        await asyncio.wait_for(sending(), 60)
        await eventually(lambda: len(inbox) >= MESSAGES)
        assert inbox.bodies == list(range(MESSAGES))
        assert resumed == [False]
        await eventually(lambda: all_acked(apps, "bob", "bobs-own"))


async def test_an_app_sees_nothing_twice_after_a_failover_and_everything_that_was_replicated() -> None:
    async with followed(redis7_binary()) as pair, Address(pair.master.url) as address:
        async with running_node(address.url, node_id="a", **BRISK) as node, AsyncExitStack() as stack:
            apps = Apps(node, stack)
            alice = await apps.connected("alice")
            _, inbox = await apps.listening("bob")
            for number in range(MESSAGES):
                await alice.send("bob", number)
            await eventually(lambda: len(inbox) == MESSAGES)
            await pair.in_step()
            pair.fail_over()
            address.move(pair.replica.url)
            await alice.send("bob", "after")
            await eventually(lambda: inbox.bodies[-1:] == ["after"], 15)
            assert inbox.bodies == [*range(MESSAGES), "after"]
            await eventually(lambda: all_acked(apps, "bob", "bobs-own"))
