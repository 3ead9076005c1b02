"""Whatever runs in the background, a node stops in time."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.node import Node
from gateway.services.background import Background
from gateway.store.store import Store
from tests.nodes import CREDENTIALS, config, login
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

STOPS_WITHIN_S = 8.0


async def test_what_swallows_its_cancellation_is_cancelled_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)

    background = Background()
    task = background.begin(stubborn())
    assert task is not None
    await asyncio.sleep(0)
    await background.end(5)
    assert (swallowed, task.cancelled(), background.running) == (3, True, set())


async def test_what_never_ends_is_left_alone_in_time() -> None:
    released = asyncio.Event()

    async def deaf() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    background = Background()
    task = background.begin(deaf())
    assert task is not None
    await asyncio.sleep(0)
    started = time.monotonic()
    await asyncio.wait_for(background.end(0.3), 10)
    assert time.monotonic() - started >= 0.3
    released.set()
    await task


async def test_nothing_begins_once_it_has_ended(recwarn: pytest.WarningsRecorder) -> None:
    background = Background()
    await background.end(1)
    assert background.begin(asyncio.sleep(0)) is None
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


async def test_a_node_stops_in_time_while_its_background_is_inside_store_calls(valkey: Server) -> None:
    """The store stands still, so that every call hangs: sweeps, reaps, comparisons, commands by hand."""
    before = asyncio.all_tasks()
    async with Proxy(valkey.url) as proxy:
        opened = asyncio.all_tasks()
        store = await Store.open(proxy.url, timeout_s=30)
        node = Node(config(store_timeout_ms=30_000), CREDENTIALS, store)
        await node.start()
        await (await login(node, "bob")).socket.close()
        proxy.pause()
        node.context.spawn(node._sweep_once())
        for number in range(20):
            node.context.spawn(node.leases._reap(f"dead.{number}"))
            node.context.spawn(node.resync._compare(frozenset(range(16)), node.bus.incarnation))
            node.control.received(b'{"cmd":"kick","user":"u%d"}' % number)
        # Those before this line are on the hot link, those after it in redis-py.
        store.bus = None
        for number in range(20):
            node.context.spawn(node.leases._reap(f"gone.{number}"))
        await eventually(lambda: len(node.context.background.running) > 60)
        running = set(node.context.background.running)
        started = time.monotonic()
        await node.abandon()
        assert time.monotonic() - started < STOPS_WITHIN_S
        assert all(task.done() for task in running)
        assert asyncio.all_tasks() - opened - before == set()
