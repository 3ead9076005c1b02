"""A store without memory left: nothing is accepted that could be lost, and revocations still work."""

from collections.abc import Iterator

import pytest

from gateway.services.messages import Draft
from gateway.store.errors import StoreUnavailable
from gateway.store.recalls import Target
from tests.nodes import login, running_node
from tests.servers import Server


@pytest.fixture
def fillable(valkey: Server) -> Iterator[Server]:
    yield valkey
    with valkey.client() as client:
        client.config_set("maxmemory", 0)


async def test_a_full_store_refuses_sends_and_logins_but_still_bans_and_lets_go(fillable: Server) -> None:
    async with running_node(fillable.url) as node:
        alice, bob = await login(node, "alice"), await login(node, "bob")
        with fillable.client() as client:
            client.config_set("maxmemory", 1)
            assert (await alice.send("bob"))["code"] == 503
            ban = await node.services.bans.ban(["bob"], minutes=5)
            assert (ban.sessions_closed, ban.nodes_silent) == (1, [])
            code, _ = await bob.closed()
            assert code == 4502
            assert not await node.services.presence.online("bob")
            client.config_set("maxmemory", 0)
        assert (await alice.send("bob"))["type"] == "sent"
        await alice.close()


async def test_a_full_store_still_takes_a_message_back(fillable: Server) -> None:
    async with running_node(fillable.url) as node:
        alice, bob = await login(node, "alice"), await login(node, "bob")
        mid = (await alice.send("bob"))["mid"]
        target = Target(mid, "alice", "bob")
        with fillable.client() as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(StoreUnavailable):
                await node.services.messages.send(Draft("alice", "own", "text"), ["bob"])
            with pytest.raises(StoreUnavailable):
                await node.services.messages.update(target, "changed")
            await node.services.messages.recall(target)
            for client_app in (bob, alice):
                assert (await client_app.next("recalled"))["mid"] == mid
            client.config_set("maxmemory", 0)
        await alice.close()
        await bob.close()
