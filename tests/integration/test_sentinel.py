"""Nodes behind sentinels: the master is killed, or cut off, and they follow to the next."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from redis import Redis
from redis.exceptions import RedisError

from gateway.node import Node
from gateway.store import bus
from gateway.store.errors import StoreUnavailable
from gateway.store.store import Store
from tests.integration.fleet import BRISK, everything, two_nodes
from tests.nodes import login, running_node
from tests.sentinels import SERVICE, Watched, watched
from tests.servers import Server, free_ports
from tests.waiting import eventually


def follows(node: Node, server: Server) -> bool:
    """Whether that is the master for the node."""
    return server.url.endswith(str(node.store.topology.masters[0].endpoint))


async def test_a_killed_master_is_followed_and_nothing_with_sent_is_missing() -> None:
    async with watched() as store, two_nodes(store.url, **BRISK) as (a, b):
        alice, bob = await login(a, "alice", "?platform=web&device=d"), await login(b, "bob", "?platform=web&device=d")
        bodies = [f"before {n}" for n in range(50)]
        for body in bodies:
            assert (await alice.send("bob", body))["type"] == "sent"
        await store.settled()
        successor = store.replica
        store.master.kill()
        await eventually(lambda: not a.bus.up and not b.bus.up)
        assert (await alice.send("bob", "while nobody is the master"))["code"] in (503, 504)
        assert (await bob.next("resync", 30))["recovered"] is False
        for node in (a, b):
            await eventually(lambda: follows(node, successor) and node.unready() is None, 30)  # noqa: B023
        assert (await alice.send("bob", "after"))["type"] == "sent"
        got = [each["body"] for each in await everything(bob) if each["type"] == "message"]
        while got[-1] != "after":
            got.append((await bob.next("message"))["body"])
        # Once before, once again behind the resync.
        assert got == [*bodies, *bodies, "after"]
        # Admins' calls go there too.
        assert (await b.services.bans.ban(["alice"], minutes=1)).sessions_closed == 1
        assert (await alice.closed())[0] == 4502
        await bob.close()


async def test_a_master_that_its_sentinels_have_given_up_is_left_although_it_answers() -> None:
    async with watched() as store, two_nodes(store.url, **BRISK) as (a, b):
        alice = await login(a, "alice", "?platform=web&device=d")
        assert (await alice.send("alice", "before"))["type"] == "sent"
        await store.settled()
        deposed, successor = store.master, store.replica
        fail_over(store)
        assert (await alice.next("resync", 30))["recovered"] is False
        for node in (a, b):
            await eventually(lambda: follows(node, successor) and node.unready() is None, 30)  # noqa: B023
        assert store.master is successor is not deposed
        assert (await alice.send("alice", "after"))["type"] == "sent"
        await alice.close()


async def test_a_former_master_is_not_taken_back_because_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody asks but the link that is made anew.
    monkeypatch.setattr(bus, "SENTINELS_S", 1000.0)
    monkeypatch.setattr(bus, "SETTLE_S", 1000.0)
    async with watched() as store, running_node(store.url, **BRISK) as node:
        alice = await login(node, "alice", "?platform=web&device=d")
        deposed, successor = store.master, store.replica
        fail_over(store)
        await eventually(lambda: store.master is successor, 30)
        # Who is made a replica breaks with its clients.
        await eventually(lambda: is_replica(deposed), 30)
        with deposed.client() as client:
            # As if it had been away and come back: it knows nothing of its successor.
            client.execute_command("REPLICAOF", "NO", "ONE")
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)
        await eventually(lambda: follows(node, successor) and node.unready() is None, 30)
        assert (await alice.next("resync", 30))["recovered"] is False
        assert (await alice.send("alice", "after"))["type"] == "sent"
        with successor.client() as client:
            assert client.xlen(node.store.keys.user("alice").inbox) == 1
        await alice.close()


async def test_a_sentinel_that_missed_the_failover_leads_nobody_back() -> None:
    async with watched() as store, running_node(store.url, **BRISK) as node:
        alice = await login(node, "alice", "?platform=web&device=d")
        await store.settled()
        deposed, successor = store.master, store.replica
        store.kill(2)
        deposed.kill()
        await eventually(lambda: store.master is successor, 30)
        await eventually(lambda: follows(node, successor) and node.unready() is None, 30)
        assert (await alice.next("resync", 30))["recovered"] is False
        # The two that know are gone before they have told the third; the former master is back, and empty.
        for index in range(2):
            store.kill(index)
        store.start(2)
        await asyncio.to_thread(deposed.restart)
        await eventually(lambda: misled(node))
        node.bus.links[0].rebuild("as if it had broken")
        await eventually(lambda: node.bus.up)
        assert follows(node, successor)
        assert (await alice.send("alice", "after"))["type"] == "sent"
        # Who starts now has heard of nothing else.
        found = await Store.connect(store.url)
        assert deposed.url.endswith(str(found.topology.masters[0].endpoint))
        await found.close()
        await alice.close()


async def misled(node: Node) -> bool:
    """Whether only sentinels answer that have not heard of the failover."""
    try:
        await node.store.topology.discover()
    except StoreUnavailable as error:
        return "heard of the last failover" in str(error)
    return False


def is_replica(server: Server) -> bool:
    with server.client() as client, suppress(RedisError):
        return bool(client.info("replication")["role"] == "slave")
    return False


def fail_over(store: Watched) -> None:
    """Tells the sentinels to make the replica the master, though nothing is wrong with the one they have."""
    with Redis(port=store.sentinels[0], socket_timeout=5) as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)


async def test_sentinels_of_which_one_is_away_and_one_knows_another_service() -> None:
    async with watched() as store:
        first = f"127.0.0.1:{store.sentinels[0]}"
        found = await Store.connect(f"redis+sentinel://127.0.0.1:{free_ports(1)[0]},{first}/{SERVICE}")
        assert store.master.url.endswith(str(found.topology.masters[0].endpoint))
        await found.close()
        with pytest.raises(StoreUnavailable, match="no sentinel tells the master of nobody"):
            await Store.connect(f"redis+sentinel://{first}/nobody")
