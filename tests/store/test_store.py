"""The store's cold path: one retry where nothing was run, and connections of one's own."""

import asyncio

import pytest

from gateway.store import accounts
from gateway.store.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from gateway.store.store import Store
from tests.proxy import Proxy
from tests.servers import Cluster, Server
from tests.store.acts import Acts
from tests.waiting import eventually


async def test_a_call_that_went_to_the_wrong_master_finds_the_right_one(cluster: Cluster) -> None:
    store = await Store.open(cluster.url)
    try:
        right = list(store.topology.owner)

        def mistake() -> None:
            store.topology.owner = [(owner + 1) % 3 for owner in right]

        mistake()
        await Acts(store).register("bob")
        assert store.topology.owner == right
        mistake()
        calls = [accounts.get(store.keys, f"u{number}") for number in range(20)] + [accounts.get(store.keys, "bob")]
        replies = await store.execute_all(calls)
        assert [accounts.parse_get("", reply).registered for reply in replies] == [False] * 20 + [True]
        assert store.topology.owner == right
    finally:
        await store.close()


async def test_pipelined_replies_come_in_the_order_of_the_calls(acts: Acts) -> None:
    users = [f"u{number}" for number in range(60)]
    await acts.store.execute_all([accounts.register(acts.keys, user, user.upper()) for user in users])
    records = await acts.store.execute_all([accounts.get(acts.keys, user) for user in users])
    assert [accounts.parse_get("", record).name for record in records] == [user.upper() for user in users]
    with pytest.raises(StoreRefused):
        await acts.store.execute_all([accounts.get(acts.keys, "u1")._replace(command=("GET",))])


async def test_a_call_is_not_repeated_when_its_outcome_is_unknown(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy:
        store = await Store.open(proxy.url, timeout_s=0.2)
        try:
            call = accounts.get(store.keys, "bob")._replace(command=("INCR", "n"))
            assert await store.execute(call) == 1
            proxy.pause(to_server=False)
            with pytest.raises(OutcomeUnknown):
                await store.execute(call)
            proxy.cut()
            proxy.resume()
            with valkey.client() as client:
                assert client.get("n") == "2"
            proxy.refuse()
            with pytest.raises(StoreUnavailable):
                await store.execute(call)
            with pytest.raises(StoreUnavailable):
                await store.execute_all([call])
            with pytest.raises(StoreUnavailable):
                async with store.dedicated(call.place) as connection:
                    await connection.execute_command("PING")
            proxy.accept()
            assert await store.execute(call) == 3
        finally:
            await store.close()


async def test_a_connection_that_breaks_before_the_answer_leaves_the_outcome_unknown(valkey: Server) -> None:
    async with Proxy(valkey.url) as proxy:
        store = await Store.open(proxy.url, timeout_s=5)
        try:
            call = accounts.get(store.keys, "bob")._replace(command=("INCR", "n"))
            assert await store.execute(call) == 1
            proxy.pause(to_server=False)
            asked = asyncio.create_task(store.execute(call))
            with valkey.client() as client:
                await eventually(lambda: client.get("n") == "2")
            proxy.cut()
            with pytest.raises(OutcomeUnknown):
                await asked
            proxy.resume()
        finally:
            await store.close()


async def test_a_dedicated_connection_stays_one_and_the_same(acts: Acts) -> None:
    async with acts.store.dedicated(3) as connection:
        first = await connection.execute_command("CLIENT", "ID")
        await asyncio.gather(*(acts.do(accounts.get(acts.keys, f"u{number}")) for number in range(5)))
        assert await connection.execute_command("CLIENT", "ID") == first


async def test_closing_leaves_no_connection_behind(valkey: Server) -> None:
    def gateways() -> int:
        with valkey.client() as client:
            return sum(entry["name"] == "gateway" for entry in client.client_list())

    store = await Store.open(valkey.url)
    await asyncio.gather(*(store.execute(accounts.get(store.keys, f"u{number}")) for number in range(5)))
    assert gateways() > 0
    await store.close()
    await eventually(lambda: gateways() == 0)
