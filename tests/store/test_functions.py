"""Loading the Functions, and judging servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.store import accounts, drops, functions
from gateway.store.errors import StoreUnavailable
from gateway.store.functions import SOURCE, VERSION, Fault, inspect, load
from gateway.store.keys import META, Keys
from gateway.store.store import Store, StoreUnfit
from gateway.store.topology import Topology, parse
from tests.servers import Cluster, Server
from tests.store.acts import Acts, session

REDIS_7 = {"redis_version": "7.0.15", "redis_mode": "standalone"}


@pytest.fixture
async def topology(fresh_valkey: Server) -> AsyncIterator[Topology]:
    topology = Topology(parse(fresh_valkey.url), Keys(256), 2.0)
    await topology.discover()
    yield topology
    await topology.close()


# Loading.


async def test_the_library_is_loaded_where_it_is_missing_older_or_other(topology: Topology) -> None:
    master = topology.masters[0]

    async def version() -> int:
        return int(await master.execute("FCALL", "gw1_version", 0))

    assert await load(master)
    assert not await load(master)
    assert await version() == VERSION
    await master.execute("FUNCTION", "LOAD", "REPLACE", SOURCE.replace(f"VERSION = {VERSION}", "VERSION = 0"))
    assert await version() == 0
    assert await load(master)
    assert await version() == VERSION
    await master.execute("FUNCTION", "LOAD", "REPLACE", SOURCE + "\n-- edited")
    assert await load(master)
    # A newer node came first: its library stays.
    newer = SOURCE.replace(f"VERSION = {VERSION}", f"VERSION = {VERSION + 1}")
    await master.execute("FUNCTION", "LOAD", "REPLACE", newer)
    assert not await load(master)
    assert await version() == VERSION + 1


async def test_functions_that_are_gone_are_loaded_again_by_the_call_that_misses_them(acts: Acts) -> None:
    for master in acts.store.topology.masters:
        await master.execute("FUNCTION", "FLUSH")
    await acts.register("alice")
    for master in acts.store.topology.masters:
        await master.execute("FUNCTION", "FLUSH")
    users = [f"u{number}" for number in range(20)]
    replies = await acts.store.execute_all(
        [call for user in users for call in (accounts.register(acts.keys, user), accounts.get(acts.keys, user))]
    )
    assert [reply[2] for reply in replies[::2]] == [1] * 20


async def test_writing_functions_that_must_work_in_a_full_store_do(acts: Acts) -> None:
    """drop, disconnect and ack carry allow-oom; relay and connect are refused before they have done anything."""
    await acts.register("bob")
    who = await acts.joined("bob", "s1", device="d1")
    await acts.joined("bob", "s2")
    masters = acts.store.topology.masters
    try:
        for master in masters:
            await master.execute("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await acts.send("alice", "bob")
        with pytest.raises(StoreUnavailable, match="OOM"):
            await acts.connect(session("bob", "s3"))
        assert await acts.ack("bob", "d1", who.epoch, (5, 0)) == 1
        assert (await acts.do(drops.ban(acts.keys, "bob", "", 0, "")))[0] == 2
        assert await acts.disconnect(who) == 1
        # The answer that the ban's caller waits for, too.
        assert await acts.do(drops.answer(acts.keys, "bob", "call-1", "a.1", {"closed": 1})) == 1
    finally:
        for master in masters:
            await master.execute("CONFIG", "SET", "maxmemory", 0)
    assert await acts.inbox("bob") == []
    assert await acts.online("bob") == ["s2"]


# Judging.


@pytest.mark.parametrize(
    ("information", "problem"),
    [
        (REDIS_7, None),
        ({"redis_version": "7.0.0"}, None),
        ({"redis_version": "8.2.1"}, None),
        ({"redis_version": "10.0.0"}, None),
        ({"redis_version": "6.2.14"}, "Redis 6.2.14: Redis 7.0 or later"),
        ({"redis_version": "6.0.16"}, "Redis 6.0.16"),
        ({"redis_version": "255.255.255"}, None),
        ({}, "Redis 0"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.0"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "7.0.0"}, "Valkey 7.0.0: Valkey 7.2 or later"),
    ],
)
def test_a_server_that_is_too_old_is_named_with_what_is_needed(
    information: dict[str, str], problem: str | None
) -> None:
    faults = functions._judge_version("Redis at h:1", information)
    if problem is None:
        assert faults == []
    else:
        [fault] = faults
        assert fault.fatal
        assert fault.problem.startswith("Redis at h:1 is ")
        assert problem in fault.problem


def test_info_is_read_as_text_or_as_redis_py_reads_it() -> None:
    raw = b"# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\nos:Linux 6.1 x86:64\r\n\r\n"
    assert functions._information(raw) == {
        "redis_version": "7.0.15",
        "redis_mode": "cluster",
        "os": "Linux 6.1 x86:64",
    }
    assert functions._information({"redis_version": "7.0.15", "port": 1}) == {"redis_version": "7.0.15", "port": "1"}


async def test_a_good_server_has_no_faults(any_store: Server | Cluster) -> None:
    store = await Store.open(any_store.url)
    for master in store.topology.masters:
        # The default soft limit is less than what is wanted.
        await master.execute("CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 33554432 60")
    assert await inspect(store.topology) == []
    await store.close()


async def set_config(topology: Topology, name: str, value: str) -> None:
    await topology.masters[0].execute("CONFIG", "SET", name, value)


async def test_all_faults_are_found_at_once(topology: Topology, fresh_valkey: Server) -> None:
    await functions.settle(topology)
    other = Topology(parse(fresh_valkey.url), Keys(128), 2.0)
    await other.discover()
    await set_config(topology, "maxmemory-policy", "allkeys-lru")
    await set_config(topology, "client-output-buffer-limit", "pubsub 1048576 0 60")
    faults = await inspect(other)
    assert [fault.fatal for fault in faults] == [True, False, True]
    assert "allkeys-lru" in faults[0].problem
    assert "pubsub 1048576 0" in faults[1].problem
    assert "256 partitions, the configuration says 128" in faults[2].problem
    await other.close()
    with pytest.raises(StoreUnfit) as caught:
        await Store.open(fresh_valkey.url, partitions=128)
    # What is no reason not to start is left to `gateway check`.
    assert [fault.fatal for fault in caught.value.faults] == [True, True]


@pytest.mark.parametrize(
    ("limit", "fine"),
    [
        ("pubsub 33554432 33554432 60", True),
        ("pubsub 0 0 0", True),
        ("pubsub 0 33554432 60", True),
        ("pubsub 33554431 0 0", False),
        ("pubsub 33554432 8388608 60", False),
    ],
)
async def test_the_pubsub_buffer_is_judged_by_its_smallest_limit(topology: Topology, limit: str, fine: bool) -> None:
    await set_config(topology, "client-output-buffer-limit", limit)
    assert (await inspect(topology) == []) == fine


async def test_where_config_is_forbidden_the_rest_is_still_judged(topology: Topology, fresh_valkey: Server) -> None:
    await topology.masters[0].execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-config")
    await topology.masters[0].execute("HSET", META, "partitions", 64)
    restricted = Topology(parse(fresh_valkey.url.replace("unix://", "unix://app:secret@")), Keys(256), 2.0)
    try:
        await restricted.discover()
        faults = await inspect(restricted)
    finally:
        await restricted.close()
    assert [fault.fatal for fault in faults] == [False, True]
    assert "CONFIG GET" in faults[0].problem
    assert "64 partitions" in faults[1].problem


async def test_a_cluster_behind_a_plain_url_is_said(cluster: Cluster) -> None:
    topology = Topology(parse(cluster.servers[1].url), Keys(256), 2.0)
    await topology.discover()
    faults = await inspect(topology)
    await topology.close()
    assert faults == [
        Fault(f"Redis at {parse(cluster.servers[1].url).shown} is a cluster: use a redis+cluster:// URL", True)
    ]


async def test_the_number_of_partitions_is_fixed_at_the_first_start(topology: Topology) -> None:
    await functions.settle(topology)
    topology.keys = Keys(32)
    await functions.settle(topology)
    assert await topology.masters[0].execute("HGET", META, "partitions") == b"256"
