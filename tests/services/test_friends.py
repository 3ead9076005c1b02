"""Friends under load and in each other's way: two app servers over one store."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Literal

import pytest

from gateway.services.errors import ALREADY_FRIENDS, FRIEND_LIMIT, THEIR_FRIEND_LIMIT, Refused
from gateway.services.friends import Friends
from gateway.services.services import Services
from gateway.store import friends
from gateway.store.errors import StoreUnavailable
from gateway.store.friends import Pair
from gateway.store.store import Store
from tests.nodes import CREDENTIALS, config
from tests.servers import Server
from tests.store.mortal import Mortal
from tests.turns import Turns

LIMIT = 5
FAR_FUTURE_MS = 9_000_000_000_000


@pytest.fixture
async def stores(valkey: Server) -> AsyncIterator[list[Store]]:
    stores = [await Store.open(valkey.url, partitions=16) for _ in range(2)]
    yield stores
    for store in stores:
        await store.close()


def service(store: Store, limit: int = LIMIT) -> Friends:
    return Services.over(store, config(list_max=limit), CREDENTIALS).friends


async def outcome(adding: Friends, user: str, target: str) -> str | int:
    try:
        return await adding.add(user, target)
    except Refused as refused:
        return refused.code


async def listed(reading: Friends, user: str) -> set[str]:
    return {friend.user for friend in (await reading.page(user, page=None, limit=5000)).friends}


async def nothing_left(store: Store, users: Sequence[str]) -> None:
    for partition in range(store.keys.partitions):
        assert friends.parse_todo(await store.execute(friends.todo(store.keys, partition, 100))) == []
    for user in users:
        assert friends.parse_held(user, await store.execute(friends.held_places(store.keys, user))) == []


@pytest.mark.parametrize("popular", ["aaron", "zoe", "mike"])
async def test_neither_sides_limit_is_passed_however_many_add_at_once(stores: list[Store], popular: str) -> None:
    services = [service(store) for store in stores]
    others = [f"{'bn'[number % 2]}{number}" for number in range(24)]
    adds = [
        outcome(services[number % 2], *((popular, other) if number % 3 else (other, popular)))
        for number, other in enumerate(others)
    ]
    outcomes = await asyncio.gather(*adds)
    assert outcomes.count("friends") == LIMIT
    assert set(outcomes) == {"friends", FRIEND_LIMIT, THEIR_FRIEND_LIMIT}
    mine = await listed(services[0], popular)
    assert len(mine) == LIMIT
    for other in others:
        assert await listed(services[1], other) == ({popular} if other in mine else set())
    await nothing_left(stores[0], [popular, *others])


async def test_everybody_adds_and_removes_everybody_at_once(stores: list[Store]) -> None:
    services = [service(store) for store in stores]
    users = [f"u{number}" for number in range(9)]
    chance = random.Random(20261122)

    async def wander(user: str) -> None:
        for _ in range(25):
            other, acting = chance.choice([each for each in users if each != user]), chance.choice(services)
            if chance.random() < 0.7:
                await outcome(acting, user, other)
            elif chance.random() < 0.9:
                await acting.unfriend(user, [other])
            else:
                await acting.unfriend_all(user)
            assert len(await listed(acting, user)) <= LIMIT

    await asyncio.gather(*(wander(user) for user in users))
    lists = {user: await listed(services[0], user) for user in users}
    for user, mine in lists.items():
        assert len(mine) <= LIMIT
        assert {other for other in users if user in lists[other]} == mine
    await nothing_left(stores[0], users)


async def test_processes_die_anywhere_while_a_sweep_takes_over_far_too_early(stores: list[Store]) -> None:
    users = [f"u{number}" for number in range(8)]
    chance = random.Random(11)
    sweeping = service(stores[1])

    async def wander(user: str) -> None:
        for _ in range(20):
            acting = service(Mortal(stores[0], chance.choice([1, 2, 3, 4, 5, 6, 7, 8, 1000])))
            other = chance.choice([each for each in users if each != user])
            with suppress(StoreUnavailable):
                if chance.random() < 0.65:
                    await outcome(acting, user, other)
                elif chance.random() < 0.7:
                    await acting.unfriend(user, [other])
                else:
                    await acting.unfriend_all(user)

    busy = True

    async def sweep() -> None:
        while busy:
            # Whatever is found is taken over at once, from processes that are alive as well.
            await sweeping.sweep(FAR_FUTURE_MS)
            for user in users:
                assert len(await listed(sweeping, user)) <= LIMIT

    sweeps = asyncio.create_task(sweep())
    await asyncio.gather(*(wander(user) for user in users))
    busy = False
    await sweeps
    deadline = time.monotonic() + 20
    while await sweeping.sweep(FAR_FUTURE_MS):
        assert time.monotonic() < deadline
    lists = {user: await listed(sweeping, user) for user in users}
    assert any(lists.values())
    for user, mine in lists.items():
        assert len(mine) <= LIMIT
        assert {other for other in users if user in lists[other]} == mine
    await nothing_left(stores[1], users)


async def test_the_same_pair_added_many_times_at_once_is_added_once(stores: list[Store]) -> None:
    services = [service(store, 1) for store in stores]
    pair = ("alice", "bob")
    adds = [outcome(services[number % 2], *(pair if number % 4 < 2 else pair[::-1])) for number in range(12)]
    outcomes = await asyncio.gather(*adds)
    assert outcomes.count("friends") == 1
    # A place that is held for this very pair does not make the list look full.
    assert set(outcomes) == {"friends", ALREADY_FRIENDS}
    assert (await listed(services[0], "alice"), await listed(services[1], "bob")) == ({"bob"}, {"alice"})
    await nothing_left(stores[0], pair)


async def test_two_who_ask_each_other_at_once_are_friends(stores: list[Store]) -> None:
    one, two = (service(store) for store in stores)
    for number in range(20):
        a, b = f"a{number}", f"b{number}"
        await one.set_permission([a, b], 2)
        outcomes = await asyncio.gather(outcome(one, a, b), outcome(two, b, a))
        assert "accepted" in outcomes
        assert set(outcomes) <= {"accepted", "waits"}
        assert (await listed(one, a), await listed(one, b)) == ({b}, {a})


async def befriend_many(store: Store, user: str, count: int) -> list[str]:
    """Friends of the user on both sides of the alphabet, by the Functions themselves: the set-up is not the test."""
    pairs = [Pair.of(user, f"{'az'[number % 2]}{number}") for number in range(count)]
    for start in range(0, count, 100):
        some = pairs[start : start + 100]
        await store.execute_all([friends.hold(store.keys, pair, "0", count) for pair in some])
        replies = await store.execute_all([friends.befriend(store.keys, pair, "0", count) for pair in some])
        decisions = [friends.parse_decision(pair, "add", reply) for pair, reply in zip(some, replies, strict=True)]
        intents = [intent for _, intent in decisions if intent is not None]
        assert len(intents) == len(some)
        await store.execute_all([friends.half(store.keys, intent) for intent in intents])
        await store.execute_all([friends.befriended(store.keys, intent) for intent in intents])
    return [pair.smaller if pair.larger == user else pair.larger for pair in pairs]


async def test_three_thousand_friendships_end_without_holding_the_loop_up(stores: list[Store]) -> None:
    count = 3000
    ending = service(stores[0], count)
    others = await befriend_many(stores[0], "mike", count)
    assert len(await listed(ending, "mike")) == count
    with Turns() as turns:
        await ending.unfriend_all("mike")
    assert await listed(ending, "mike") == set()
    for start in range(0, count, 100):
        calls = [friends.page(stores[0].keys, other, None, 1) for other in others[start : start + 100]]
        assert {reply[0] for reply in await stores[0].execute_all(calls)} == {0}
    # 3,500: a few hundred friendships at a time.
    assert turns.most < 10_000
    await nothing_left(stores[0], ["mike"])


@pytest.mark.parametrize("lives", [1, 4, 40, 70])
async def test_what_a_dead_process_leaves_of_ending_all_is_finished_by_another_node(
    stores: list[Store], lives: int
) -> None:
    count = 400
    others = await befriend_many(stores[0], "mike", count)
    with pytest.raises(StoreUnavailable):
        await service(Mortal(stores[0], lives), count).unfriend_all("mike")
    assert await listed(service(stores[0]), "mike")
    other_node = service(stores[1], count)
    deadline = time.monotonic() + 20
    while await other_node.sweep(FAR_FUTURE_MS):
        assert time.monotonic() < deadline
    assert await listed(other_node, "mike") == set()
    assert [other for other in others if await listed(other_node, other)] == []
    await nothing_left(stores[1], ["mike"])


@pytest.mark.parametrize("order", ["oldest", "newest"])
async def test_pages_of_many_friends_name_each_once(stores: list[Store], order: Literal["oldest", "newest"]) -> None:
    reading = service(stores[0], 250)
    others = await befriend_many(stores[0], "mike", 250)
    found: list[str] = []
    token = None
    while True:
        page = await reading.page("mike", page=token, limit=100, oldest_first=order == "oldest")
        found += [friend.user for friend in page.friends]
        token = page.page
        if token is None:
            break
    assert sorted(found) == sorted(others)
