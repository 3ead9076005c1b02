"""Calls of those who wait, carried by a node's hot links: shape, order, deadlines, and what becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.store import accounts, messages
from gateway.store.bus import Bus
from gateway.store.call import Call
from gateway.store.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from gateway.store.store import TOGETHER, Store
from tests.proxy import Proxy
from tests.servers import Server
from tests.store.acts import Acts
from tests.store.test_bus import asked, running_bus
from tests.waiting import eventually

WHO = Call(3, ("CLIENT", "ID"))


@asynccontextmanager
async def carried(url: str, timeout_s: float = 5.0, **times: float) -> AsyncIterator[tuple[Store, Bus]]:
    """A store whose calls a bus carries."""
    store = await Store.open(url, timeout_s=timeout_s)
    try:
        async with running_bus(store, **times) as (bus, _):
            store.bus = bus
            yield store, bus
    finally:
        await store.close()


async def test_calls_go_on_the_link_and_what_blocks_does_not(valkey: Server) -> None:
    async with carried(valkey.url) as (store, bus):
        link = await asked(bus, WHO)
        assert await store.execute(WHO) == link
        assert await store.execute_all([WHO] * 3) == [link] * 3
        blocked = asyncio.create_task(store.execute(Call(3, ("BLPOP", "nothing", 1))))
        assert await store.execute(Call(3, ("ECHO", "meanwhile"))) == b"meanwhile"
        assert not blocked.done()
        assert await blocked is None


async def test_both_ways_give_the_same_shapes(acts: Acts) -> None:
    await acts.register("bob")
    await acts.send("alice", "bob", mid="m1")
    user = acts.keys.user("bob")
    calls = [
        messages.read(acts.keys, "bob", (0, 0), 10),
        accounts.get(acts.keys, "bob"),
        Call(user.partition, ("HGETALL", user.user)),
        Call(user.partition, ("ZRANGE", acts.keys.directory(user.partition, "users"), 0, -1, "WITHSCORES")),
        Call(user.partition, ("ZMSCORE", acts.keys.directory(user.partition, "users"), "bob", "nobody")),
        Call(user.partition, ("SSCAN", acts.keys.held(user.partition, "a.1"), 0)),
        Call(user.partition, ("XINFO", "STREAM", user.inbox)),
    ]
    alone = await acts.store.execute_all(calls)
    assert [await acts.store.execute(call) for call in calls] == alone
    async with running_bus(acts.store) as (bus, _):
        acts.store.bus = bus
        assert await acts.store.execute_all(calls) == alone
        assert [await acts.store.execute(call) for call in calls] == alone


async def test_callers_that_give_up_leave_the_others_their_own_answers(proxy: Proxy) -> None:
    async with carried(proxy.url, timeout_s=5) as (store, _):
        proxy.pause(to_server=False)
        callers = [asyncio.create_task(store.execute(Call(3, ("ECHO", str(number))))) for number in range(60)]
        await asyncio.sleep(0)
        for caller in callers[::2]:
            caller.cancel()
        await asyncio.sleep(0)
        proxy.resume()
        answers = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 5)
        assert answers[1::2] == [str(number).encode() for number in range(1, 60, 2)]
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
        assert await store.execute(Call(3, ("ECHO", "after"))) == b"after"


async def test_an_answer_that_does_not_come_is_an_unknown_outcome_and_not_repeated(
    proxy: Proxy, valkey: Server
) -> None:
    async with carried(proxy.url, timeout_s=0.3, probe_s=60, probe_timeout_s=60) as (store, bus):
        bus.links[0].times = bus.links[0].times._replace(timeout_s=0.3)
        proxy.pause(to_server=False)
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(store.execute(Call(3, ("INCR", "n"))), 5)
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(store.execute_all([Call(3, ("INCR", "n"))] * 2), 5)
        with valkey.client() as client:
            assert client.get("n") == "3"
        proxy.resume()


async def test_a_link_that_is_down_is_gone_round_and_an_outage_is_said(proxy: Proxy) -> None:
    async with carried(proxy.url) as (store, bus):
        proxy.refuse()
        proxy.cut()
        await eventually(lambda: not bus.links[0].up)
        for attempt in (store.execute(WHO), store.execute_all([WHO])):
            with pytest.raises(StoreUnavailable):
                await attempt
        proxy.accept()
        assert isinstance(await store.execute(WHO), int)
        await eventually(lambda: bus.ready)
        assert await store.execute(WHO) == await asked(bus, WHO)


async def test_admins_leave_half_of_the_link_to_clients(proxy: Proxy) -> None:
    async with carried(proxy.url, probe_s=60, probe_timeout_s=60) as (store, bus):
        link = bus.links[0]
        link.pending_max = 40
        proxy.pause(to_server=False)
        first = bus.ask([WHO] * 20)
        assert first is not None
        assert bus.ask([WHO]) is None
        clients = [asyncio.create_task(asked(bus, WHO)) for _ in range(20)]
        # Redis itself is there: whoever finds no room on the link goes the other way.
        proxy.resume()
        assert isinstance(await store.execute(WHO), int)
        assert len({*await asyncio.wait_for(first, 5), *await asyncio.gather(*clients)}) == 1


async def test_a_long_list_of_calls_lets_others_pass_between(valkey: Server) -> None:
    async with carried(valkey.url) as (store, bus):
        order: list[str] = []

        async def listing() -> None:
            await store.execute_all([Call(3, ("ECHO", "x"))] * TOGETHER * 8)
            order.append("list")

        task = asyncio.create_task(listing())
        await asyncio.sleep(0)
        await asked(bus, WHO)
        order.append("client")
        await task
        assert order == ["client", "list"]


async def test_functions_lost_by_the_server_cost_nobody_an_answer(acts: Acts) -> None:
    async with running_bus(acts.store) as (bus, _):
        acts.store.bus = bus
        for master in acts.store.topology.masters:
            await master.execute("FUNCTION", "FLUSH")
        users = [f"u{number}" for number in range(40)]
        replies = await acts.store.execute_all([accounts.register(acts.keys, user) for user in users])
        assert [reply[0] for reply in replies] == [0] * len(users)


@pytest.mark.parametrize("with_bus", [True, False])
async def test_what_was_carried_out_in_part_is_an_unknown_outcome(fresh_valkey: Server, with_bus: bool) -> None:
    async with carried(fresh_valkey.url) as (store, bus):
        store.bus = bus if with_bus else None
        read, write = Call(3, ("GET", "n")), Call(3, ("SET", "n", "x" * 100))
        master = store.topology.masters[0]
        await master.execute("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            await store.execute_all([write, write])
        with pytest.raises(OutcomeUnknown, match="in part"):
            await store.execute_all([read, write])
        await master.execute("CONFIG", "SET", "maxmemory", 0)
        with pytest.raises(StoreRefused):
            await store.execute_all([read, Call(3, ("GET",)), read])
