"""Rates on each kind of server: windows of slices, several at once, and a full store."""

from __future__ import annotations

from gateway.store import rates
from gateway.store.store import Store
from tests.servers import Server
from tests.store.acts import Acts
from tests.waiting import eventually


async def take(acts: Acts, operation: str, *windows: tuple[int, int], weight: int = 1) -> int:
    return int(await acts.do(rates.take(acts.keys, operation, windows, weight)))


async def test_a_window_holds_its_number_and_says_when_it_has_room(acts: Acts) -> None:
    assert [await take(acts, "/a", (2, 1)) for _ in range(2)] == [0, 0]
    assert 0 < await take(acts, "/a", (2, 1)) <= 1020
    assert await take(acts, "/b", (2, 1)) == 0

    async def passes() -> bool:
        return await take(acts, "/a", (2, 1)) == 0

    await eventually(passes, deadline_s=3)


async def test_a_refused_call_is_counted_in_no_window(acts: Acts) -> None:
    outcomes = [await take(acts, "/a", (1, 3600), (5, 86_400)) for _ in range(3)]
    assert [wait > 0 for wait in outcomes] == [False, True, True]
    partition = acts.keys.partition("/a")
    held = await acts.raw("/a", "HVALS", acts.keys.rate(partition, "/a", 86_400))
    assert [int(count) for count in held] == [1]


async def test_the_longest_wait_is_told(acts: Acts) -> None:
    await take(acts, "/a", (1, 1), (1, 3600))
    assert 3_500_000 < await take(acts, "/a", (1, 1), (1, 3600)) <= 3600 * 1020


async def test_weights(acts: Acts) -> None:
    assert await take(acts, "/a", (10, 3600), weight=7) == 0
    assert await take(acts, "/a", (10, 3600), weight=4) > 0
    assert await take(acts, "/a", (10, 3600), weight=3) == 0
    assert await take(acts, "/b", (10, 3600), weight=99) == 0
    assert await take(acts, "/b", (10, 3600)) > 0


async def test_a_window_leaves_nothing_behind(acts: Acts) -> None:
    await take(acts, "/a", (5, 1))
    key = acts.keys.rate(acts.keys.partition("/a"), "/a", 1)
    assert 0 < await acts.raw("/a", "PTTL", key) <= 2000


async def test_slices_that_are_over_are_removed(acts: Acts) -> None:
    key = acts.keys.rate(acts.keys.partition("/a"), "/a", 1)
    await acts.raw("/a", "HSET", key, 1, 5, 2, 5)
    assert await take(acts, "/a", (5, 1)) == 0
    assert [int(count) for count in await acts.raw("/a", "HVALS", key)] == [1]


async def test_a_full_store_still_counts(valkey: Server) -> None:
    store = await Store.open(valkey.url)
    acts = Acts(store)
    try:
        await acts.raw("x", "CONFIG", "SET", "maxmemory", "1")
        assert await take(acts, "/a", (1, 60)) == 0
        assert await take(acts, "/a", (1, 60)) > 0
        assert await acts.do(rates.use_signature(acts.keys, "ab", 60)) == 1
        assert await acts.do(rates.use_signature(acts.keys, "ab", 60)) == 0
    finally:
        await acts.raw("x", "CONFIG", "SET", "maxmemory", "0")
        await store.close()
