"""Acks: however many a client sends, the store hears the newest, a few times a second."""

import time
from typing import Any

from gateway.metrics import METRICS
from gateway.node import Node
from gateway.services.acks import AGAIN_S
from tests.integration.fleet import everything
from tests.nodes import Client, login, running_node
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

QUERY = "?platform=web&device=d"


async def sent_some(node: Node, alice: Client, count: int) -> list[str]:
    """Cursors of messages that alice has been sent."""
    bob = await login(node, "bob")
    for number in range(count):
        assert (await bob.send("alice", number))["type"] == "sent"
    await bob.close()
    return [(await alice.next("message"))["cursor"] for _ in range(count)]


def acked(redis: Any, node: Node) -> str:
    """The place that the store has for the device."""
    value: str = redis.hget(node.store.keys.user("alice").ack, "d")
    return value.partition("@")[0]


def place(cursor: str) -> str:
    return cursor.partition(".")[2]


async def test_a_flood_of_acks_reaches_the_store_as_a_few_and_the_newest_counts(valkey: Server) -> None:
    # No renewal of the lease comes in between, so that nothing else calls a Function.
    async with running_node(valkey.url, lease_s=60.0, lease_renew_s=20.0) as node:
        alice = await login(node, "alice", QUERY)
        cursors = await sent_some(node, alice, 20)
        with valkey.client() as redis:
            await everything(alice)
            await eventually(lambda: not node.admission.leaving)
            redis.config_resetstat()
            began = time.monotonic()
            for number in range(2000):
                await alice.say({"type": "ack", "cursor": cursors[min(number // 100, 19)]})
                if number % 500 == 499:
                    assert await everything(alice) == []
            await eventually(lambda: acked(redis, node) == place(cursors[19]))
            calls = redis.info("commandstats")["cmdstat_fcall"]["calls"]
            assert 2 <= calls <= 2 + (time.monotonic() - began) / AGAIN_S
        await alice.close()


async def test_an_ack_that_waited_is_told_before_the_device_can_come_back(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        alice = await login(node, "alice", QUERY)
        cursors = await sent_some(node, alice, 5)
        for again in range(5):
            await alice.say({"type": "ack", "cursor": cursors[0]})
            # Right behind another one, so it waits; the end of the socket does not.
            await alice.say({"type": "ack", "cursor": cursors[again]})
            await alice.close()
            alice = await login(node, "alice", QUERY)
            # What has not been brought again yet cannot be acked.
            await eventually(lambda: [each.catching_up for each in node.hub.of("alice")] == [False])
        await alice.close()
        alice = await login(node, "alice", QUERY)
        assert alice.welcome["cursor"] == cursors[4]
        await alice.close()


async def test_an_ack_outlives_a_broken_link(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(proxy.url, probe_timeout_s=30.0) as node:
        alice = await login(node, "alice", QUERY)
        cursors = await sent_some(node, alice, 3)
        with valkey.client() as redis:
            await alice.say({"type": "ack", "cursor": cursors[0]})
            await eventually(lambda: acked(redis, node) == place(cursors[0]))
            before = METRICS.acks_lost
            # It waits for its turn, or is on its way when the link breaks: both come to the same.
            proxy.pause(to_client=False)
            await alice.say({"type": "ack", "cursor": cursors[1]})
            await everything(alice)
            proxy.refuse()
            await eventually(lambda: node.unready() is not None)
            proxy.resume()
            assert acked(redis, node) == place(cursors[0])
            proxy.accept()
            await eventually(lambda: acked(redis, node) == place(cursors[1]))
            assert METRICS.acks_lost == before
        await alice.close()


async def test_an_ack_whose_answer_is_lost_is_told_again(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(proxy.url, probe_timeout_s=30.0) as node:
        alice = await login(node, "alice", QUERY)
        cursors = await sent_some(node, alice, 1)
        with valkey.client() as redis:
            # It goes nowhere: the link breaks with the command on its way.
            proxy.pause(to_client=False)
            await alice.say({"type": "ack", "cursor": cursors[0]})
            await eventually(lambda: node.acks.waiting == 1)
            proxy.cut()
            proxy.resume()
            await eventually(lambda: acked(redis, node) == place(cursors[0]))
            await eventually(lambda: node.acks.waiting == 0)
        await alice.close()


async def test_an_ack_that_the_store_does_not_answer_in_time_is_told_again(valkey: Server) -> None:
    """The link stays up: only this command's answer is late, and nothing else says that it got lost."""
    async with Proxy(valkey.url) as proxy, running_node(proxy.url, store_timeout_ms=600, probe_timeout_s=30.0) as node:
        alice = await login(node, "alice", QUERY)
        cursors = await sent_some(node, alice, 1)
        before, late = METRICS.acks_lost, METRICS.store_timeouts
        proxy.pause(to_server=False)
        await alice.say({"type": "ack", "cursor": cursors[0]})
        await eventually(lambda: METRICS.store_timeouts > late and node.acks.waiting == 1)
        proxy.resume()
        await eventually(lambda: node.acks.waiting == 0)
        assert METRICS.acks_lost == before
        with valkey.client() as redis:
            assert acked(redis, node) == place(cursors[0])
        await alice.close()


async def test_an_ack_of_an_ended_session_that_the_store_did_not_take_is_counted(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy, running_node(proxy.url, probe_timeout_s=30.0) as node:
        alice = await login(node, "alice", QUERY)
        cursors = await sent_some(node, alice, 2)
        await alice.say({"type": "ack", "cursor": cursors[0]})
        with valkey.client() as redis:
            await eventually(lambda: acked(redis, node) == place(cursors[0]))
        before = METRICS.acks_lost
        proxy.pause(to_client=False)
        await alice.say({"type": "ack", "cursor": cursors[1]})
        await everything(alice)
        proxy.refuse()
        await eventually(lambda: node.unready() is not None)
        await alice.close()
        proxy.resume()
        await eventually(lambda: METRICS.acks_lost == before + 1)
        proxy.accept()
        await eventually(lambda: node.unready() is None)
        # It comes again what was not known to be taken over.
        alice = await login(node, "alice", QUERY)
        assert alice.welcome["cursor"] == cursors[0]
        await alice.close()


async def test_what_all_devices_have_acked_goes_at_once_where_that_is_set(valkey: Server) -> None:
    async with running_node(valkey.url) as node:
        await node.services.settings.set({"devicePolicy": "unlimited", "trimAcked": True})
        token = await node.services.tokens.issue("alice", "Alice")
        phone = await login(node, "alice", "?platform=ios&device=phone", token)
        laptop = await login(node, "alice", QUERY, token)
        cursors = await sent_some(node, phone, 3)
        with valkey.client() as redis:
            inbox = node.store.keys.user("alice").inbox
            await laptop.next("message")
            await phone.say({"type": "ack", "cursor": cursors[2]})
            await everything(phone)
            assert redis.xlen(inbox) == 3
            await laptop.say({"type": "ack", "cursor": cursors[1]})
            await eventually(lambda: redis.xlen(inbox) == 1)
        await laptop.close()
        laptop = await login(node, "alice", f"{QUERY}&since={cursors[1]}", token)
        assert laptop.welcome["recovered"] is True
        assert (await laptop.next("message"))["cursor"] == cursors[2]
        await laptop.close()
        laptop = await login(node, "alice", f"{QUERY}&since={cursors[0]}", token)
        assert laptop.welcome["recovered"] is False
        for client in (phone, laptop):
            await client.close()
