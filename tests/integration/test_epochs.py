"""The store's master is another one, or was started anew: sessions go on in a new epoch, and nothing with `sent` is
missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway.metrics import METRICS
from gateway.node import Node
from gateway.store.call import Call
from tests.integration.fleet import BRISK, everything, online, two_nodes
from tests.nodes import Client, login, running_node
from tests.proxy import Proxy
from tests.replicas import BINARIES, Address, followed
from tests.servers import Server, redis7_binary, valkey_binary
from tests.waiting import eventually

DEVICE = "?platform=web&device=d1"


async def ready(*nodes: Node) -> None:
    for node in nodes:
        await eventually(lambda: node.unready() is None, 15)  # noqa: B023


def messages_of(pushes: list[dict[str, Any]]) -> list[str]:
    return [each["body"] for each in pushes if each["type"] == "message"]


async def sent(client: Client, to: str, *bodies: str) -> list[dict[str, Any]]:
    answers = [await client.send(to, body) for body in bodies]
    assert {answer["type"] for answer in answers} == {"sent"}
    return answers


async def until(client: Client, body: str) -> list[dict[str, Any]]:
    """The messages up to and with that one."""
    found = [await client.next("message")]
    while found[-1]["body"] != body:
        found.append(await client.next("message"))
    return found


async def stored_ack(node: Node, user: str, cursor: str) -> bool:
    """Whether the device's ack has come to that place."""
    keys = node.store.keys.user(user)
    stored: bytes = await node.store.execute(Call(keys.partition, ("HGET", keys.ack, "d1")))
    return stored.startswith(cursor.partition(".")[2].encode() + b"@")


async def test_a_restart_loses_nothing_and_says_that_it_cannot_know(fresh_valkey: Server) -> None:
    async with two_nodes(fresh_valkey.url, **BRISK) as (a, b):
        alice, bob = await login(a, "alice", DEVICE), await login(b, "bob", DEVICE)
        token = await b.services.tokens.issue("bob", None)
        await sent(alice, "bob", "acked", "unacked")
        (acked, _) = [await bob.next("message") for _ in range(2)]
        await bob.say({"type": "ack", "cursor": acked["cursor"]})
        await eventually(lambda: stored_ack(a, "bob", acked["cursor"]))
        resynced = METRICS.sessions_resynced
        fresh_valkey.restart()
        push = await bob.next("resync", 15)
        assert push["recovered"] is False
        assert push["cursor"].partition(".")[2] == acked["cursor"].partition(".")[2]
        assert push["cursor"] != acked["cursor"]
        again = await bob.next("message")
        assert again["body"] == "unacked"
        assert push["head"] == again["cursor"]
        await ready(a, b)
        assert METRICS.sessions_resynced == resynced + 2
        # It goes on in the new epoch: pushes, acks, resuming on another node.
        await sent(alice, "bob", "after")
        after = await bob.next("message")
        await bob.say({"type": "ack", "cursor": again["cursor"]})
        await eventually(lambda: stored_ack(a, "bob", again["cursor"]))
        assert await everything(bob) == []
        await bob.close()
        for since, recovered in ((again, True), (acked, False)):
            back = await login(a, "bob", f"{DEVICE}&since={since['cursor']}", token)
            assert back.welcome["recovered"] is recovered
            assert (await back.next("message"))["mid"] == after["mid"]
            assert await everything(back) == []
            await back.close()
        await alice.close()


async def test_a_break_of_the_link_alone_begins_no_epoch(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(proxy.url, node_id="a", **BRISK) as node:
        alice = await login(node, "alice", DEVICE)
        before = METRICS.sessions_resynced
        reclaimed = METRICS.sessions_reclaimed
        proxy.cut()
        await eventually(lambda: METRICS.sessions_reclaimed == reclaimed + 1)
        await sent(alice, "alice", "hi")
        assert [each["type"] for each in await everything(alice)] == ["message"]
        assert METRICS.sessions_resynced == before
        await alice.close()


async def test_a_session_whose_own_link_held_hears_of_the_epoch_that_another_one_found() -> None:
    """A server's replication id also changes without a failover, and then only who comes anew learns it."""
    with debuggable() as valkey:
        await _one_session_tells_the_other(valkey)


@contextmanager
def debuggable() -> Iterator[Server]:
    server = Server.on_socket(valkey_binary(), **{"enable-debug-command": "yes"})
    try:
        yield server
    finally:
        server.stop()


async def _one_session_tells_the_other(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(valkey.url, node_id="b", **BRISK) as b:
        async with running_node(proxy.url, node_id="a", **BRISK) as a:
            phone = await login(a, "bob", "?platform=ios&device=d1")
            desk = await login(b, "bob", "?platform=desktop&device=d2", await b.services.tokens.issue("bob", None))
            alice = await login(b, "alice")
            await sent(alice, "bob", "before")
            for client in (phone, desk):
                await client.next("message")
            with valkey.client() as client:
                client.execute_command("DEBUG", "CHANGE-REPL-ID")
            # Nobody's link has broken: nothing happens until one does.
            await sent(alice, "bob", "between")
            assert messages_of(await everything(desk)) == ["between"]
            proxy.cut()
            found, told = await phone.next("resync"), await desk.next("resync")
            assert found["cursor"].partition(".")[0] == told["cursor"].partition(".")[0]
            await sent(alice, "bob", "after")
            for client in (phone, desk):
                # Those that came before the resync are set aside as well.
                pushes = await until(client, "after")
                assert [each["body"] for each in pushes][-3:] == ["before", "between", "after"]
                await client.say({"type": "ack", "cursor": pushes[-1]["cursor"]})
                assert messages_of(await everything(client)) == []
            for device in ("d1", "d2"):

                async def acked() -> bool:
                    again = await login(b, "bob", f"?platform=other&device={device}", token)  # noqa: B023
                    await again.close()
                    return bool(again.welcome["cursor"] == again.welcome["head"])

                token = await b.services.tokens.issue("bob", None)
                await eventually(acked)
            for client in (phone, desk, alice):
                await client.close()


@BINARIES
async def test_a_failover_loses_nothing_that_was_replicated_and_ids_given_twice_hide_nothing(
    binary: Callable[[], str],
) -> None:
    async with followed(binary()) as pair, Address(pair.master.url) as address:
        async with two_nodes(address.url, **BRISK) as (a, b):
            alice, bob = await login(a, "alice", DEVICE), await login(b, "bob", DEVICE)
            await sent(alice, "bob", "one", "two")
            await pair.in_step()
            # What the replica never hears of: `sent`, seen by bob, and lost.
            pair.way.pause()
            await sent(alice, "bob", "lost")
            assert [(await bob.next("message"))["body"] for _ in range(3)] == ["one", "two", "lost"]
            pair.fail_over()
            address.move(pair.replica.url)
            push = await bob.next("resync", 15)
            assert push["recovered"] is False
            await ready(a, b)
            await sent(alice, "bob", "three")
            assert [(await bob.next("message"))["body"] for _ in range(3)] == ["one", "two", "three"]
            assert await everything(bob) == []
            for user in ("alice", "bob"):
                await online(a, user)
            for client in (alice, bob):
                await client.close()


async def test_a_demoted_master_takes_nothing_and_a_promoted_one_is_resynced_from() -> None:
    async with followed(redis7_binary()) as pair, running_node(pair.master.url, node_id="a", **BRISK) as node:
        alice = await login(node, "alice", DEVICE)
        await sent(alice, "alice", "before")
        await pair.in_step()
        with pair.replica.client() as replica, pair.master.client() as master:
            replica.execute_command("REPLICAOF", "NO", "ONE")
            port = pair.replica.url.rpartition(":")[2]
            master.execute_command("REPLICAOF", "127.0.0.1", port)
            # The link still stands; the first refusal ends it, and what is no master is not linked to again.
            refused = await alice.send("alice", "to a replica")
            assert refused["code"] == 503
            await eventually(lambda: "replica" in str(node.unready()))
            assert (await alice.send("alice", "still"))["code"] == 503
            await alice.next("message")
            master.execute_command("REPLICAOF", "NO", "ONE")
        assert (await alice.next("resync", 15))["recovered"] is False
        await sent(alice, "alice", "after")
        assert [(await alice.next("message"))["body"] for _ in range(2)] == ["before", "after"]
        await alice.close()


async def test_a_server_that_loads_its_data_takes_nothing_before_it_is_through() -> None:
    slow = {"key-load-delay": "6000", "loading-process-events-interval-bytes": "1024"}
    server = Server.on_socket(redis7_binary(), rdbcompression="no", **slow)
    try:
        async with running_node(server.url, node_id="a", **BRISK) as node:
            alice = await login(node, "alice", DEVICE)
            await sent(alice, "alice", "before")
            with server.client() as client:
                client.mset({f"filler{number}": "x" * 2000 for number in range(50)})
                client.execute_command("SAVE")
            await asyncio.gather(asyncio.to_thread(server.restart), refused_while_loading(node, alice))
            assert (await alice.next("resync", 15))["recovered"] is False
            await ready(node)
            await sent(alice, "alice", "after")
            got = await until(alice, "after")
            assert [each["body"] for each in got] == ["before", "before", "after"]
            await alice.close()
    finally:
        server.stop()


async def refused_while_loading(node: Node, client: Client) -> None:
    await eventually(lambda: "LOADING" in str(node.bus.fault), 15)
    assert (await client.send("alice", "too early"))["code"] == 503
