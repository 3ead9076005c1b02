"""What a failover costs: the master dies with messages that its replica never got."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.faults.test_sent_means_stored import Traffic
from tests.integration.fleet import BRISK
from tests.nodes import login, running_node
from tests.replicas import Address, Followed, followed
from tests.sentinels import watched
from tests.servers import redis7_binary, valkey_binary
from tests.store.acts import Acts
from tests.waiting import eventually


async def through_a_failover(pair: Followed, durability: str) -> tuple[Traffic, list[Any], set[int]]:
    """The traffic, the bodies that the new master has in the end, and what got `sent` before the replica fell back."""
    options = BRISK | {"role": "edge", "durability": durability, "replicated_wait_ms": 200}
    async with Address(pair.master.url) as address, running_node(address.url, **options) as node:
        acts = Acts(node.store)
        await acts.register("bob")
        alice = await login(node, "alice", max_queue=None)
        traffic = Traffic(alice, "bob")
        running = asyncio.create_task(traffic.run())
        await eventually(lambda: len(traffic.of(0)) > 100)
        before = traffic.of(0)
        await pair.in_step()
        pair.way.pause(to_server=False)
        heard = len(traffic.of(0))
        # Either way enough is asked while the replica hears nothing.
        await eventually(lambda: traffic.of(504) or len(traffic.of(0)) > heard + 200)
        pair.fail_over()
        address.move(pair.replica.url)
        await asyncio.to_thread(pair.come_back)
        sent = len(traffic.of(0))
        await eventually(lambda: len(traffic.of(0)) > sent + 100, 20)
        traffic.stop()
        async with asyncio.timeout(10):
            await running
        bodies = await stored_for_bob(acts)
        await alice.close()
        return traffic, bodies, before


async def stored_for_bob(acts: Acts) -> list[int]:
    """The numbers in the inbox."""
    return [int(entry.tail.rpartition(b'"body":')[2][:-1]) for entry in await acts.entries("bob", 100_000)]


@pytest.mark.parametrize("binary", [valkey_binary, redis7_binary], ids=["valkey", "redis7"])
async def test_with_durability_replicated_nothing_that_got_sent_is_missing(binary: Any) -> None:
    async with followed(binary()) as pair:
        traffic, bodies, before = await through_a_failover(pair, "replicated")
    assert bodies == sorted(set(bodies)), "once, and in the order they were sent"
    assert traffic.of(0) <= set(bodies)
    assert not traffic.of(503) & set(bodies)
    # Otherwise there was nothing that could have been lost.
    assert traffic.of(504) - set(bodies)
    assert before < traffic.of(0)


async def test_with_durability_stored_the_last_that_got_sent_may_be_missing_and_nothing_older() -> None:
    """What docs/durability.md says of it; without this the test above would prove nothing."""
    async with followed(redis7_binary()) as pair:
        traffic, bodies, before = await through_a_failover(pair, "stored")
    assert bodies == sorted(set(bodies))
    missing = traffic.of(0) - set(bodies)
    assert missing
    assert not missing & before
    assert max(missing) < max(traffic.of(0))


async def test_with_sentinels_nothing_that_got_sent_is_missing_either() -> None:
    """The whole of it: the master killed under way, the sentinels' choice, the nodes' way there, a new replica."""
    options = BRISK | {"role": "edge", "durability": "replicated", "replicated_wait_ms": 200}
    async with watched() as store, running_node(store.url, **options) as node:
        acts = Acts(node.store)
        await acts.register("bob")
        alice = await login(node, "alice", max_queue=None)
        traffic = Traffic(alice, "bob")
        running = asyncio.create_task(traffic.run())
        await eventually(lambda: len(traffic.of(0)) > 500)
        master = store.master
        await asyncio.to_thread(master.kill)
        sent = len(traffic.of(0))
        await eventually(lambda: store.master is not master, 30)
        await asyncio.to_thread(master.restart)
        await eventually(lambda: len(traffic.of(0)) > sent + 100, 60)
        traffic.stop()
        async with asyncio.timeout(10):
            await running
        bodies = await stored_for_bob(acts)
        assert bodies == sorted(set(bodies))
        assert traffic.of(0) <= set(bodies)
        assert not traffic.of(503) & set(bodies)
        await alice.close()
