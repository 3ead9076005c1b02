"""Listings over all partitions: the same as one sorted list, whatever the page, with bounded work."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from gateway.services.directories import Directory, entry_of, token_of
from gateway.services.errors import Refused
from gateway.store import directories
from gateway.store.call import Call
from gateway.store.directories import Entry
from gateway.store.store import Store
from tests.servers import Server

PARTITIONS = 32


@pytest.fixture
async def store(valkey: Server) -> AsyncIterator[Store]:
    store = await Store.open(valkey.url, partitions=PARTITIONS)
    yield store
    await store.close()


async def fill(store: Store, entries: list[Entry]) -> None:
    keys = store.keys
    for start in range(0, len(entries), 500):
        await store.execute_all(
            [
                Call(partition, ("ZADD", keys.directory(partition, "users"), entry.at_ms, entry.user))
                for entry in entries[start : start + 500]
                for partition in (keys.partition(entry.user),)
            ]
        )


def spread(kind: str, count: int) -> list[Entry]:
    """Users and the times of their registration."""
    chance = random.Random(7)
    if kind == "one a millisecond":
        return [Entry(1_790_000_000_000 + index, f"user{index}") for index in range(count)]
    if kind == "all at once":
        return [Entry(1_790_000_000_000, f"user{index}") for index in range(count)]
    if kind == "in bursts":
        return [Entry(1_790_000_000_000 + index // 700 * 86_400_000, f"user{index}") for index in range(count)]
    return [Entry(chance.randrange(1, 1 << 41), f"{chance.randrange(1 << 60):x}") for _ in range(count)]


@pytest.mark.parametrize("kind", ["one a millisecond", "all at once", "in bursts", "at random"])
@pytest.mark.parametrize("count", [0, 1, 31, 3000])
async def test_pages_are_those_of_one_sorted_list(store: Store, kind: str, count: int) -> None:
    entries = spread(kind, count)
    await fill(store, entries)
    entries.sort()
    directory = Directory(store, "users")
    assert await directory.count() == count
    offsets = {0, 1, 7, 20, 32, 33, 100, 700, 1499, 1500, 2950, 2999, 3000, 5000, max(count - 3, 0)}
    for offset in sorted(offsets):
        for limit in (1, 20, 100):
            page = await directory.page(offset, limit)
            assert (page.entries, page.total) == (entries[offset : offset + limit], count), (offset, limit)
        newest = await directory.page(offset, 20, newest_first=True)
        assert newest.entries == entries[::-1][offset : offset + 20], offset


@pytest.mark.parametrize("kind", ["all at once", "in bursts", "at random"])
async def test_going_on_after_each_page_meets_everybody_once(store: Store, kind: str) -> None:
    entries = spread(kind, 1000)
    await fill(store, entries)
    directory, met = Directory(store, "users"), list[Entry]()
    place: Entry | None = None
    while True:
        found = await directory.after(place, 90)
        met += found[:90]
        if len(found) <= 90:
            break
        place = entry_of(token_of(found[89]))
    assert met == sorted(entries)


async def test_all_in_one_partition(store: Store) -> None:
    mine = [Entry(index, f"u{index}") for index in range(20_000) if store.keys.partition(f"u{index}") == 3]
    await fill(store, mine)
    directory = Directory(store, "users")
    for offset in (0, 40, 300, len(mine) - 1):
        assert (await directory.page(offset, 20)).entries == mine[offset : offset + 20]


async def test_what_has_no_end_comes_last(store: Store) -> None:
    keys = store.keys
    ends = {f"u{index}": index + 1 if index % 3 else directories.FOREVER for index in range(300)}
    calls = [
        Call(keys.partition(user), ("ZADD", keys.directory(keys.partition(user), "bans"), score, user))
        for user, end in ends.items()
        for score in ("+inf" if end == directories.FOREVER else end,)
    ]
    await store.execute_all(calls)
    expected = sorted(Entry(end, user) for user, end in ends.items())
    directory = Directory(store, "bans")
    for offset in (0, 150, 195, 205, 290):
        assert (await directory.page(offset, 20)).entries == expected[offset : offset + 20]
        newest = await directory.page(offset, 20, newest_first=True)
        assert newest.entries == expected[::-1][offset : offset + 20]


async def test_who_registers_or_leaves_meanwhile_moves_nobody_else(store: Store) -> None:
    entries = [Entry(index * 10, f"user{index:04}") for index in range(200)]
    await fill(store, entries)
    directory = Directory(store, "users")
    first = (await directory.after(None, 50))[:50]
    gone = first[10]
    partition = store.keys.partition(gone.user)
    await store.execute(Call(partition, ("ZREM", store.keys.directory(partition, "users"), gone.user)))
    await fill(store, [Entry(5, "latecomer")])
    second = (await directory.after(first[-1], 50))[:50]
    assert second == entries[50:100]


async def test_the_work_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads a few entries more than it has, not the whole listing."""
    await fill(store, spread("one a millisecond", 10_000))
    read = 0
    execute_all = store.execute_all

    async def counted(calls: list[Call]) -> list[object]:
        nonlocal read
        replies = await execute_all(calls)
        read += sum(len(reply) for reply in replies if isinstance(reply, list))
        return replies

    monkeypatch.setattr(store, "execute_all", counted)
    for offset in (0, 500, 5_000, 9_900):
        read = 0
        await Directory(store, "users").page(offset, 100)
        assert 200 < read < 2_500, offset


@pytest.mark.parametrize("token", ["", ".", "5", "5.", "g.u", "-5.u", "05.u", "0x5.u", "20000000000000.u", " 5.u"])
async def test_tokens_that_were_never_given_out(token: str) -> None:
    with pytest.raises(Refused) as refused:
        entry_of(token)
    assert refused.value.code == 1002
