"""Sending over broken links, to stores that are away, faster than allowed: once, in order, or an error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.client import (
    Client,
    Closed,
    Kicked,
    OutcomeUnknown,
    QueueFull,
    RateLimited,
    Sent,
    Stopped,
    Unavailable,
)
from gateway.metrics import METRICS
from gateway.node import Node
from tests.client.conftest import Apps
from tests.client.test_upkeep import proxied
from tests.integration.fleet import BRISK, node_process
from tests.nodes import running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually


def stored(server: Server, node: Node, user: str) -> int:
    with server.client() as redis:
        return int(redis.xlen(node.store.keys.user(user).inbox))


async def test_what_is_sent_while_offline_goes_out_later_in_order(apps: Apps) -> None:
    _, inbox = await apps.listening("bob")
    _, others = await apps.listening("carol")
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url)
        proxy.refuse()
        await eventually(lambda: alice.state == "waiting")
        sends = [asyncio.create_task(alice.send("bob", number)) for number in range(50)]
        sends += [asyncio.create_task(alice.send("carol", number)) for number in range(50)]
        proxy.accept()
        await asyncio.gather(*sends)
        await eventually(lambda: len(inbox) + len(others) == 100)
        assert inbox.bodies == others.bodies == list(range(50))


async def test_a_full_queue_is_said_at_once(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url, queue_max=3)
        proxy.refuse()
        await eventually(lambda: alice.state == "waiting")
        sends = [asyncio.create_task(alice.send("alice", number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await alice.send("alice", 3)
        with pytest.raises(QueueFull):
            await alice.send("alice", "typing", ephemeral=True)
        proxy.accept()
        await asyncio.gather(*sends)
        await alice.send("alice", 4)
        proxy.refuse()
        await eventually(lambda: alice.state == "waiting")
        with pytest.raises(Unavailable):
            await alice.send("alice", "typing", ephemeral=True)


async def test_a_message_whose_answer_was_lost_is_stored_once(valkey: Server, apps: Apps) -> None:
    _, inbox = await apps.listening("bob")
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url)
        for number in range(3):
            await eventually(lambda: alice.state == "live")
            proxy.pause(to_server=False)
            sending = asyncio.create_task(alice.send("bob", number))
            await eventually(lambda: len(inbox) == number + 1)  # noqa: B023
            proxy.cut()
            proxy.resume()
            sent = await sending
            assert (sent.mid, sent.sent_at) == (inbox[-1].mid, inbox[-1].sent_at)
        assert inbox.bodies == [0, 1, 2]
        assert stored(valkey, apps.node, "bob") == 3


async def test_no_answer_in_time_is_asked_again_on_the_same_link(valkey: Server, apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url, answer_s=0.3)
        await apps.token("bob")()
        session, before = alice.session, METRICS.messages_relayed
        proxy.pause(to_server=False)
        sending = asyncio.create_task(alice.send("bob", "slow"))
        # Answered twice, and neither answer has come through.
        await eventually(lambda: METRICS.messages_relayed >= before + 2)
        proxy.resume()
        await sending
        assert alice.session == session
        assert stored(valkey, apps.node, "bob") == 1


async def test_messages_keep_their_order_over_breaks(apps: Apps) -> None:
    _, inbox = await apps.listening("bob")
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url)
        sends = [asyncio.create_task(alice.send("bob", number)) for number in range(200)]
        for reached in (30, 90, 150):
            await eventually(lambda: len(inbox) >= reached)  # noqa: B023
            proxy.cut()
        sent = await asyncio.gather(*sends)
        await eventually(lambda: len(inbox) == 200)
        assert inbox.bodies == list(range(200))
        assert [message.mid for message in inbox] == [each.mid for each in sent]


async def test_while_the_store_is_away_a_message_waits(fresh_valkey: Server) -> None:
    async with running_node(fresh_valkey.url, **BRISK) as node:
        url = f"ws://127.0.0.1:{node.listener.port}"
        tokens = [await node.services.tokens.issue(user, None) for user in ("alice", "bob")]
        async with Client(url, tokens[0]) as alice, Client(url, tokens[1]) as bob:
            fresh_valkey.kill()
            await eventually(lambda: not node.bus.up)
            sends = [asyncio.create_task(alice.send("bob", number)) for number in range(5)]
            fresh_valkey.restart()
            await asyncio.gather(*sends)
            assert [(await anext(bob)).body for _ in range(5)] == [0, 1, 2, 3, 4]
            assert alice.session


async def test_a_message_whose_time_is_over_says_what_is_known_of_it(apps: Apps) -> None:
    await apps.token("bob")()
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url, send_s=0.3, answer_s=5.0)
        proxy.pause(to_server=False)
        with pytest.raises(OutcomeUnknown) as unknown:
            await alice.send("bob", 1)
        assert unknown.value.code == 504
        proxy.refuse()
        await eventually(lambda: alice.state == "waiting")
        with pytest.raises(Unavailable, match="not connected in time"):
            await alice.send("bob", 2)


async def test_an_end_fails_what_waits_and_leaves_what_is_out_unknown(apps: Apps) -> None:
    await apps.token("bob")()
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url)
        proxy.pause(to_server=False)
        sends = [asyncio.create_task(alice.send("bob", number)) for number in range(3)]
        await eventually(lambda: apps.node.services.presence.online("alice"))
        await eventually(lambda: out(alice) == 1)
        await apps.node.services.control.kick(users=["alice"])
        proxy.resume()
        outcomes: list[Any] = await asyncio.gather(*sends, return_exceptions=True)
        # The first may have had its answer before the end; what waited behind it was never sent.
        assert isinstance(outcomes[0], Sent | OutcomeUnknown)
        assert {type(each) for each in outcomes[1:]} <= {Kicked, Sent, OutcomeUnknown}
        assert isinstance(outcomes[2], Stopped | Sent)


def out(client: Client) -> int:
    return client._outgoing._window._out


async def test_closing_fails_what_waits(apps: Apps) -> None:
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url)
        proxy.pause()
        sends = [asyncio.create_task(alice.send("alice", number)) for number in range(3)]
        await eventually(lambda: out(alice) == 1)
        closing = asyncio.create_task(alice.close())
        await eventually(lambda: alice.state == "stopped")
        proxy.cut()
        await closing
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(each) for each in outcomes] == [OutcomeUnknown, Closed, Closed]


async def test_too_fast_is_waited_out(valkey: Server) -> None:
    async with running_node(valkey.url, send_rate_per_s=50, send_burst=10) as node:
        url = f"ws://127.0.0.1:{node.listener.port}"
        names = [f"user{number}" for number in range(30)]
        for name in names:
            await node.services.tokens.issue(name, None)
        states: list[str] = []
        async with Client(url, await node.services.tokens.issue("alice", None)) as alice:
            alice.on_state(lambda state, why: states.append(state))
            await asyncio.gather(*(alice.send(name, "hello") for name in names))
            with pytest.raises(RateLimited):
                await alice.watch([f"user{number}" for number in range(200)])
        # Never closed for going on regardless.
        assert states == ["stopped"]


async def test_repeats_get_through_where_the_rate_is_low(valkey: Server) -> None:
    async with Proxy(valkey.url) as store:
        changes = BRISK | {"send_rate_per_s": 50, "send_burst": 12, "store_timeout_ms": 300}
        async with running_node(store.url, **changes) as node:
            url = f"ws://127.0.0.1:{node.listener.port}"
            names = [f"user{number}" for number in range(6)]
            for name in names:
                await node.services.tokens.issue(name, None)
            async with Client(url, await node.services.tokens.issue("alice", None)) as alice:
                store.pause(to_server=False)
                sends = [asyncio.create_task(alice.send(name, "hello")) for name in names]
                # Each is written and stays without an answer: 504, and a repeat costs ten.
                await eventually(lambda: not node.bus.up)
                store.cut()
                store.resume()
                await asyncio.gather(*sends)
            assert [stored(valkey, node, name) for name in names] == [1] * 6


async def test_a_message_of_a_key_is_the_same_message_after_a_restart(valkey: Server, apps: Apps) -> None:
    bob, inbox = await apps.listening("bob")
    first = await (await apps.connected("alice")).send("bob", "once", key="order-7")
    alice = await apps.connected("alice")
    again = await alice.send("bob", "once", key="order-7", retry=True)
    assert (again.mid, again.sent_at) == (first.mid, first.sent_at)
    assert stored(valkey, apps.node, "bob") == 1
    # Nobody said that it is a repeat: stored twice, handed over once.
    assert (await alice.send("bob", "once", key="order-7")).mid == first.mid
    await alice.send("bob", "last")
    await eventually(lambda: inbox.bodies == ["once", "last"])
    assert (stored(valkey, apps.node, "bob"), bob.duplicates) == (3, 1)
    with pytest.raises(ValueError, match="key"):
        await alice.send("bob", "once", retry=True)


async def test_a_node_that_died_is_replaced_by_another_without_loss(valkey: Server, apps: Apps) -> None:
    async with node_process(valkey.url, "first") as first, Proxy(apps.url(first)) as proxy:
        url = proxy.url.replace("redis:", "ws:")
        alice, bob = await apps.connected("alice", url=url), await apps.connected("bob", url=url)
        sends = [asyncio.create_task(alice.send("bob", number)) for number in range(100)]
        assert [(await anext(bob)).body for _ in range(20)] == list(range(20))
        first.kill()
        proxy.towards(apps.url())
        assert [(await anext(bob)).body for _ in range(80)] == list(range(20, 100))
        await asyncio.gather(*sends)
        assert (alice.node, bob.node) == ("test", "test")


async def test_the_body_is_what_it_was_when_it_was_sent(apps: Apps) -> None:
    alice, body = await apps.connected("alice"), {"text": "before"}
    sending = asyncio.create_task(alice.send("alice", body))
    await asyncio.sleep(0)
    body["text"] = "after"
    await sending
    assert (await anext(alice)).body == {"text": "before"}


async def test_a_send_that_the_app_gave_up_holds_nobody_up(apps: Apps) -> None:
    await apps.token("bob")()
    async with proxied(apps.node) as (proxy, url):
        alice = await apps.connected("alice", url=url)
        proxy.pause(to_server=False)
        first = asyncio.create_task(alice.send("bob", 1))
        second = asyncio.create_task(alice.send("bob", 2))
        await eventually(lambda: out(alice) == 1)
        first.cancel()
        await asyncio.wait([first])
        proxy.resume()
        assert isinstance(await second, Sent)
        assert out(alice) == 0
