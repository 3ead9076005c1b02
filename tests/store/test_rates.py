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
    assert (await held(acts, acts.keys.rate(acts.keys.partition("/a"), "/a", 86_400)))["sum"] == 1


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


async def held(acts: Acts, key: str) -> dict[str, int]:
    """What a window's hash holds, by its fields."""
    flat = await acts.raw("/a", "HGETALL", key)
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): int(value) for name, value in pairs}


async def test_slices_leave_the_window_one_by_one(acts: Acts) -> None:
    key = acts.keys.rate(acts.keys.partition("/a"), "/a", 3600)
    slice_ms = 3_600_000 // 50
    now = await acts.store.now_ms() // slice_ms
    # Two slices hold calls: the oldest is over by now, the newest is not.
    written = {"at": now - 1, "sum": 5, (now - 51) % 51: 3, (now - 1) % 51: 2}
    await acts.raw("/a", "HSET", key, *[part for pair in written.items() for part in pair])
    assert await take(acts, "/a", (3, 3600)) == 0
    after = await held(acts, key)
    assert after.pop("at") >= now
    assert after.pop("sum") == 3
    assert sorted(after.values()) == [1, 2]
    assert 0 < await take(acts, "/a", (3, 3600)) <= 50 * slice_ms


async def test_a_window_that_is_over_starts_anew(acts: Acts) -> None:
    key = acts.keys.rate(acts.keys.partition("/a"), "/a", 1)
    await acts.raw("/a", "HSET", key, "at", 1, "sum", 5, 1, 5)
    assert await take(acts, "/a", (5, 1)) == 0
    assert (await held(acts, key))["sum"] == 1


async def test_a_clock_that_was_set_back_loses_no_count(acts: Acts) -> None:
    key = acts.keys.rate(acts.keys.partition("/a"), "/a", 3600)
    ahead = await acts.store.now_ms() // (3_600_000 // 50) + 5
    await acts.raw("/a", "HSET", key, "at", ahead, "sum", 2, ahead % 51, 2)
    assert await take(acts, "/a", (3, 3600)) == 0
    assert await take(acts, "/a", (3, 3600)) > 0


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
