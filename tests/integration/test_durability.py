"""`durability`: what `sent` waits for, on whole nodes over a master with a replica."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.metrics import METRICS
from gateway.node import Node
from gateway.services.messages import Draft
from gateway.store.errors import OutcomeUnknown
from tests.integration.fleet import BRISK, everything, two_nodes
from tests.nodes import Client, login, running_node
from tests.proxy import Proxy
from tests.replicas import BINARIES, Followed, followed
from tests.servers import Cluster, Server, redis7_binary
from tests.store.links import frozen
from tests.turns import Calls
from tests.waiting import eventually

REPLICATED = {"durability": "replicated", "replicated_wait_ms": 150}


@asynccontextmanager
async def two_people(binary: str, **changes: Any) -> AsyncIterator[tuple[Followed, Node, Node, Client, Client]]:
    """alice on node a, bob on node b, replicated."""
    async with followed(binary) as pair, two_nodes(pair.master.url, **(REPLICATED | changes)) as (a, b):
        alice, bob = await login(a, "alice"), await login(b, "bob")
        yield pair, a, b, alice, bob
        for client in (alice, bob):
            await client.close()


@BINARIES
async def test_sent_waits_for_the_replica_and_a_repeat_is_no_way_around_it(binary: Callable[[], str]) -> None:
    async with two_people(binary()) as (pair, _, b, alice, bob):
        assert (await alice.send("bob", "first"))["type"] == "sent"
        assert (await bob.next("message"))["body"] == "first"
        token = await b.services.tokens.issue("alice", None)
        with frozen(pair.replica):
            refused = await alice.send("bob", "second", key="k")
            assert (refused["type"], refused["code"]) == ("error", 504)
            # Through another node, whose connection has not written it.
            other = await login(b, "alice", "?platform=desktop", token)
            refused = await other.send("bob", "second", key="k", retry=True)
            assert (refused["type"], refused["code"]) == ("error", 504)
            await b.services.relationships.block("bob", ["alice"])
            assert (await alice.send("bob", "unwanted"))["code"] == 405, "nothing was written, nothing is waited for"
            await b.services.relationships.unblock("bob", ["alice"])
            assert (await alice.send("bob", "typing", ephemeral=True))["type"] == "sent"
        await pair.in_step()
        sent = await other.send("bob", "second", key="k", retry=True)
        assert sent["type"] == "sent"
        stored = [each for each in await everything(bob) if each["body"] == "second"]
        assert [each["mid"] for each in stored] == [sent["mid"]], "it was stored once"
        await other.close()


async def test_what_the_server_api_sends_waits_as_well() -> None:
    async with two_people(redis7_binary()) as (pair, a, _, _, bob):
        draft = Draft("alice", "text", "hello")
        (stored,) = await a.services.messages.send(draft, ["bob"])
        with frozen(pair.replica), pytest.raises(OutcomeUnknown, match="not known to be replicated"):
            await a.services.messages.send(draft, ["bob"])
        assert (await bob.next("message"))["mid"] == stored.mid


async def test_a_ban_is_acknowledged_when_what_its_user_has_outstanding_is_answered() -> None:
    async with two_people(redis7_binary(), replicated_wait_ms=900) as (pair, a, b, alice, bob):
        (session,) = a.hub.of("alice")
        pair.way.pause(to_server=False)
        await alice.say({"type": "send", "id": "x", "to": "bob", "body": "outstanding"})
        assert (await bob.next("message"))["body"] == "outstanding"
        assert session.pending == 1
        (done, pending) = await b.services.bans.ban(["alice"], minutes=1), session.pending
        assert (done.sessions_closed, done.nodes_silent, pending) == (1, [], 0)
        pair.way.resume()
        assert (await alice.closed())[0] == 4502


async def test_copies_for_the_senders_other_devices_go_the_same_way() -> None:
    async with two_people(redis7_binary()) as (pair, a, _, alice, _bob):
        token = await a.services.tokens.issue("alice", None)
        other = await login(a, "alice", "?platform=desktop&device=desk", token)
        await eventually(lambda: alice_echoes(a))
        waits, stored, lost = pair.waits(), METRICS.messages_echoed, METRICS.echoes_lost
        assert (await alice.send("bob", "both"))["type"] == "sent"
        assert (await other.next("message"))["body"] == "both"
        await eventually(lambda: METRICS.messages_echoed == stored + 1)
        assert pair.waits() - waits == 2
        assert METRICS.echoes_lost == lost
        await other.close()


def alice_echoes(node: Node) -> bool:
    return any(session.echoes for session in node.hub.of("alice"))


async def test_a_node_without_its_second_connection_is_not_ready_and_refuses() -> None:
    async with followed(redis7_binary()) as pair, Proxy(pair.master.url) as proxy:
        async with running_node(proxy.url, **REPLICATED, role="edge") as node:
            alice = await login(node, "alice")
            (storing,) = node.bus._storing
            with pair.master.client() as client:
                client.execute_command("ACL", "SETUSER", "default", "-wait")
            storing.rebuild("the test wants it so")
            await eventually(lambda: "no permissions" in storing.last_fault)
            assert "takes no replicated messages" in str(node.unready())
            refused = await alice.send("alice", "lost")
            assert (refused["type"], refused["code"]) == ("error", 503)
            assert (await alice.ask("ping"))["type"] == "pong"
            with pair.master.client() as client:
                client.execute_command("ACL", "SETUSER", "default", "+wait")
            await eventually(lambda: node.unready() is None)
            assert (await alice.send("alice", "kept"))["type"] == "sent"
            # When the link that is watched by a probe breaks, the other is not trusted either.
            accepted = proxy.accepted
            node.bus.links[0].rebuild("the test wants it so")
            assert not storing.up
            await eventually(lambda: node.unready() is None)
            assert proxy.accepted == accepted + 2
            await alice.close()


async def test_where_redis_refuses_writes_without_replicas_nothing_is_stored_and_sockets_stay() -> None:
    async with two_people(redis7_binary(), **BRISK) as (pair, a, b, alice, bob):
        with pair.master.client() as client:
            client.config_set("min-replicas-max-lag", "1")
            client.config_set("min-replicas-to-write", "1")
        with frozen(pair.replica):

            async def refused() -> bool:
                return (await alice.send("bob", "unknown")).get("code") == 503

            await eventually(refused, 10)
            assert (await alice.send("bob", "refused"))["code"] == 503
        for node in (a, b):
            await eventually(lambda: node.unready() is None)  # noqa: B023

        async def taken() -> bool:
            return (await alice.send("bob", "taken"))["type"] == "sent"

        await eventually(taken)
        bodies = [each["body"] for each in await everything(bob)]
        assert "refused" not in bodies
        assert bodies[-1] == "taken"


async def test_in_a_cluster_each_master_has_a_second_connection_and_a_mark_of_its_own(cluster: Cluster) -> None:
    async with running_node(cluster.url, **REPLICATED, role="edge") as node:
        keys, owner = node.store.keys, node.store.topology.owner
        alice = await login(node, "alice")
        for master in range(3):
            user = next(name for name in map(str, range(100)) if owner[keys.partition(name)] == master)
            await node.services.tokens.issue(user, None)
            # These masters have no replicas.
            assert (await alice.send(user, "hello"))["code"] == 504
        for server in cluster.servers:
            with server.client() as client:
                assert len(client.keys("gw:{*}:mark")) == 1
        await alice.close()


async def test_stored_is_the_link_itself_and_costs_one_call_more_than_it(valkey: Server) -> None:
    async with running_node(valkey.url, role="edge") as node:
        assert node.bus._storing is node.bus.links
        command, answered = ("ECHO", "x"), []

        def put(_: object, reply: object) -> None:
            answered.append(reply)

        # The first of a turn arranges for its write.
        node.bus.store(0, command, put)
        with Calls() as through_the_bus:
            node.bus.store(0, command, put)
        with Calls() as on_the_link:
            node.bus.links[0].post(command, put)
        assert through_the_bus.count == on_the_link.count + 1
        await eventually(lambda: len(answered) == 3)
