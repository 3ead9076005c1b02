"""A node's links to all masters together, on every kind of store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.store import accounts, messages, sessions
from gateway.store.bus import Bus
from gateway.store.call import Call
from gateway.store.errors import OutcomeUnknown, StoreUnavailable
from gateway.store.relaying import RelayLimits
from gateway.store.store import Store
from tests.proxy import Proxy
from tests.servers import Cluster, Server
from tests.store.acts import RETENTION_MS, TIMES, Acts
from tests.waiting import eventually


@asynccontextmanager
async def running_bus(store: Store, incarnation: str = "a.1", **times: float) -> AsyncIterator[tuple[Bus, list[bytes]]]:
    """A bus that is ready, and what is pushed to it."""
    bus = Bus(store.topology, TIMES._replace(**times), 10_000)
    bus.incarnation = incarnation
    pushes: list[bytes] = []
    bus.on_push = pushes.append

    async def tick() -> None:
        while True:
            bus.tick(asyncio.get_running_loop().time())
            await asyncio.sleep(0.02)

    assert not bus.ready
    bus.start()
    ticking = asyncio.create_task(tick())
    try:
        await eventually(lambda: bus.ready)
        yield bus, pushes
    finally:
        ticking.cancel()
        await bus.close()


async def asked(bus: Bus, call: Call) -> Any:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    bus.call(call, lambda _, reply: answer.set_result(reply))
    return await asyncio.wait_for(answer, 10)


async def test_every_partition_is_reached_and_heard_on_its_own_link(acts: Acts) -> None:
    async with running_bus(acts.store) as (bus, pushes):
        assert bus.fault is None
        assert len(bus.links) == len(acts.store.topology.masters)
        channels = [bus.keys.node_channel(partition, "a.1") for partition in range(256)]
        replies = await asyncio.gather(
            *(asked(bus, Call(place, ("SPUBLISH", channel, f"m{place}"))) for place, channel in enumerate(channels))
        )
        assert replies == [1] * 256
        await eventually(lambda: len(pushes) == 256)
        assert {push.decode() for push in pushes} == {f"m{place}" for place in range(256)}
        # What people PUBLISH, on whichever master, is heard once and kept apart from what Functions publish.
        said: list[bytes] = []
        bus.on_control = said.append
        for master in acts.store.topology.masters:
            await master.execute("PUBLISH", "gw:control", "dbob")
        await eventually(lambda: len(said) == len(acts.store.topology.masters))
        assert set(said) == {b"dbob"}
        assert len(pushes) == 256


async def test_messages_of_one_turn_to_many_partitions_are_each_stored_and_heard_in_order(acts: Acts) -> None:
    users = [f"u{index}" for index in range(100)]
    await acts.register(*users)
    for user in users:
        await acts.joined(user, f"s-{user}", "a.1m")
    limits = RelayLimits(100, RETENTION_MS, 1 << 26)
    async with running_bus(acts.store, "a.1m") as (bus, pushes):
        answers: list[tuple[str, Any]] = []
        for mid in ("m1", "m2"):
            for user in users:
                tail = f'"mid":"{mid}","from":"alice","to":"{user}","kind":"text","body":1}}'.encode()
                bus.relay("alice", user, "", tail, limits, lambda at, answer: answers.append((at, answer)), user)
        await eventually(lambda: len(answers) == 200)
        assert [answer for _, answer in answers if not (isinstance(answer, bytes) and answer[:1] == b"+")] == []
        # A push may come behind its answer.
        await eventually(lambda: b"".join(pushes).count(b'"mid":') == 200)
        heard = b"".join(pushes)
        for user in users:
            assert await acts.inbox(user) == ["m1", "m2"]
            places = [messages.parse_id(answer[1:]) for at, answer in answers if at == user]
            assert places == sorted(places)
            first, second = (
                heard.index(f'"mid":"{mid}","from":"alice","to":"{user}"'.encode()) for mid in ("m1", "m2")
            )
            assert first < second
        assert any(push.startswith(b"M") for push in pushes)


async def test_functions_lost_by_the_server_are_loaded_again(acts: Acts) -> None:
    async with running_bus(acts.store) as (bus, _):
        for index, master in enumerate(acts.store.topology.masters):
            await master.execute("FUNCTION", "FLUSH")
            user = next(f"u{n}" for n in range(1000) if bus.topology.owner[bus.keys.partition(f"u{n}")] == index)
            call = accounts.register(bus.keys, user)
            assert isinstance(await asked(bus, call), StoreUnavailable)

            async def registered(call: Call = call) -> bool:
                reply = await asked(bus, call)
                return not isinstance(reply, Exception) and reply[0] == 0

            await eventually(registered)


async def test_a_watched_channel_is_heard_again_after_a_break_until_it_is_let_go(acts: Acts) -> None:
    user = acts.keys.user("bob")
    async with running_bus(acts.store) as (bus, pushes):
        answered: list[Any] = []
        bus.watch(user.partition, user.watch_channel, lambda context, reply: answered.append((context, reply)), 1)
        await eventually(lambda: answered == [(1, None)])

        async def said(payload: str) -> int:
            return int(await asked(bus, Call(user.partition, ("SPUBLISH", user.watch_channel, payload))))

        assert await said("p1") == 1
        bus.links[bus.topology.owner[user.partition]].rebuild("test")
        assert bus.gate(user.partition).away
        await eventually(lambda: bus.ready)
        assert not bus.gate(user.partition).shut
        assert await said("p2") == 1
        bus.unwatch(user.watch_channel)
        bus.unwatch(user.watch_channel)
        assert await said("p3") == 0
        assert pushes == [b"p1", b"p2"]


async def test_under_a_new_incarnation_the_node_hears_its_new_channels_only(acts: Acts) -> None:
    async with running_bus(acts.store) as (bus, pushes):
        bus.rename("a.2")
        await eventually(lambda: bus.ready)
        for incarnation, heard in (("a.1", 0), ("a.2", 1)):
            channel = bus.keys.node_channel(7, incarnation)
            assert await asked(bus, Call(7, ("SPUBLISH", channel, incarnation))) == heard
        await eventually(lambda: pushes == [b"a.2"])


async def test_a_barrier_opens_when_everything_before_it_has_been_heard(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy:
        store = await Store.open(proxy.url)
        try:
            async with running_bus(store, probe_s=60) as (bus, pushes):
                opened: list[object] = []
                bus.on_open = opened.append
                proxy.pause(to_server=False)
                with valkey.client() as client:
                    client.execute_command("SPUBLISH", bus.keys.node_channel(9, "a.1"), "drop")
                bus.barrier()
                assert bus.gate(9).shut
                assert not bus.gate(9).away
                assert not opened
                proxy.resume()
                await eventually(lambda: opened)
                assert pushes == [b"drop"]
                assert not bus.gate(9).shut
                # A barrier that is not answered is a link that is not there.
                proxy.pause(to_server=False)
                bus.barrier()
                proxy.cut()
                proxy.resume()
                await eventually(lambda: bus.gate(9).away)
                await eventually(lambda: bus.ready)
                assert not bus.gate(9).shut
        finally:
            await store.close()


async def test_readiness_names_the_server_that_is_away_or_deaf(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy:
        store = await Store.open(proxy.url)
        try:
            async with running_bus(store, probe_s=0.05, probe_timeout_s=0.2) as (bus, _):
                proxy.refuse()
                await eventually(lambda: not bus.ready)
                fault = bus.fault
                assert fault is not None
                assert "127.0.0.1" in fault
                assert isinstance(await asked(bus, Call(0, ("PING",))), StoreUnavailable)
                assert not bus.up
                proxy.accept()
                await eventually(lambda: bus.ready)
                assert bus.fault is None
        finally:
            await store.close()


async def test_one_master_away_leaves_the_partitions_of_the_others(cluster: Cluster) -> None:
    store = await Store.open(cluster.url)
    try:
        async with running_bus(store, timeout_s=1, probe_s=0.05, probe_timeout_s=1) as (bus, _):
            downs: list[frozenset[int]] = []
            bus.on_down = downs.append
            away = bus.topology.owner[0]
            near = next(place for place in range(256) if bus.topology.owner[place] != away)
            port = bus.links[away].endpoint.port
            server = next(server for server in cluster.servers if server.url.endswith(f":{port}"))
            server.pause()
            try:
                await eventually(lambda: downs)
                assert downs[0] == {place for place in range(256) if bus.topology.owner[place] == away}
                assert not bus.ready
                assert isinstance(await asked(bus, Call(0, ("PING",))), StoreUnavailable | OutcomeUnknown)
                assert await asked(bus, Call(near, ("PING",))) == b"PONG"
            finally:
                server.resume()
            await eventually(lambda: bus.ready)
    finally:
        await store.close()


async def test_a_map_that_has_become_wrong_is_read_again_and_all_links_are_rebuilt(cluster: Cluster) -> None:
    store = await Store.open(cluster.url)
    try:
        # As after slots have moved while nobody looked.
        store.topology.owner[:] = [0] * len(store.topology.owner)
        bus = Bus(store.topology, TIMES, 1000)
        bus.incarnation = "a.1"
        bus.start()
        try:
            # SSUBSCRIBE is answered MOVED: the bus discovers, and comes up on the right links.
            await eventually(lambda: bus.up)
            assert set(bus.topology.owner) == {0, 1, 2}
            call = sessions.count_of(bus.keys, "bob")
            assert await asked(bus, call) == 0
        finally:
            await bus.close()
    finally:
        await store.close()


async def test_a_change_that_an_admin_call_found_first_rebuilds_the_links_all_the_same(cluster: Cluster) -> None:
    store = await Store.open(cluster.url)
    try:
        right = store.topology.owner[:]
        store.topology.owner = [(owner + 1) % 3 for owner in right]
        async with running_bus_over_a_wrong_map(store) as bus:
            # The admin's call is answered MOVED and reads the map that the bus shares, before the bus does.
            await store.execute(sessions.count_of(bus.keys, "bob"))
            assert store.topology.owner == right
            await eventually(lambda: bus.up)
            assert await asked(bus, sessions.count_of(bus.keys, "bob")) == 0
    finally:
        await store.close()


@asynccontextmanager
async def running_bus_over_a_wrong_map(store: Store) -> AsyncIterator[Bus]:
    """A bus that has begun to connect, its links' partitions all on other masters."""
    bus = Bus(store.topology, TIMES, 1000)
    bus.incarnation = "a.1"
    bus.start()
    try:
        yield bus
    finally:
        await bus.close()
