"""The two halves of a friendship: who decides, what a process that dies leaves, and who finishes it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.services.pairs import INTENT_AGE_MS, Pairs
from gateway.store import drops, friends
from gateway.store.errors import StoreUnavailable
from gateway.store.friends import ACCOUNT_ENDED, CONFLICT, ENDED, Hold, Intent, Pair
from tests.store.acts import Acts
from tests.store.mortal import Mortal
from tests.waiting import eventually

LIMIT = 3
PAIR = Pair("alice", "bob")
FRIENDS_ALREADY, NO_SUCH_FRIEND, LIST_FULL = 25460, 25472, 25467
FAR_FUTURE_MS = 9_000_000_000_000


async def version(acts: Acts, pair: Pair = PAIR) -> str:
    return friends.parse_look(await acts.do(friends.look(acts.keys, *pair))).version


async def hold(acts: Acts, pair: Pair = PAIR, limit: int = LIMIT) -> int:
    return int(await acts.do(friends.hold(acts.keys, pair, await version(acts, pair), limit)))


async def decide(
    acts: Acts, op: friends.Op = "add", pair: Pair = PAIR, limit: int = LIMIT
) -> tuple[int, Intent | None]:
    if op == "remove":
        return friends.parse_decision(pair, op, await acts.do(friends.unfriend(acts.keys, pair)))
    known = await version(acts, pair)
    return friends.parse_decision(pair, op, await acts.do(friends.befriend(acts.keys, pair, known, limit)))


async def decided(acts: Acts, op: friends.Op = "add", pair: Pair = PAIR) -> Intent:
    code, intent = await decide(acts, op, pair)
    assert code == 0
    assert intent is not None
    return intent


async def listed(acts: Acts, user: str, limit: int = 100) -> list[str]:
    page = friends.parse_page(await acts.do(friends.page(acts.keys, user, None, limit)), limit)
    return [friend.user for friend in page.friends]


async def halves(acts: Acts) -> tuple[list[str], list[str]]:
    return await listed(acts, "alice"), await listed(acts, "bob")


async def left(acts: Acts) -> list[Any]:
    """Everything that waits in todo, and every held place."""
    found: list[Any] = []
    for partition in range(acts.keys.partitions):
        found += friends.parse_todo(await acts.do(friends.todo(acts.keys, partition, 1000)))
    return found


async def held(acts: Acts, user: str) -> list[str]:
    return [each.pair.smaller for each in friends.parse_held(user, await acts.do(friends.held_places(acts.keys, user)))]


async def test_a_friendship_is_a_held_place_two_halves_and_an_intent_between_them(acts: Acts) -> None:
    assert await hold(acts) == 0
    assert await held(acts, "bob") == ["alice"]
    (place,) = await left(acts)
    assert isinstance(place, Hold)
    intent = await decided(acts)
    assert await halves(acts) == (["bob"], [])
    assert {type(each) for each in await left(acts)} == {Hold, Intent}
    assert await acts.do(friends.half(acts.keys, intent)) == 1
    assert await halves(acts) == (["bob"], ["alice"])
    assert await held(acts, "bob") == []
    assert await left(acts) == [intent]
    assert await acts.do(friends.befriended(acts.keys, intent)) == 1
    assert await left(acts) == []
    # Both halves bear the same time, by which lists are ordered.
    scores = [await acts.raw(user, "ZSCORE", acts.keys.user(user).friends, other) for user, other in (PAIR, PAIR[::-1])]
    assert float(scores[0]) == float(scores[1])


async def test_a_half_that_comes_late_loses_against_a_newer_one(acts: Acts) -> None:
    added = await decided(acts)
    removed = await decided(acts, "remove")
    # The intent is the newest version's: the older writer may not clear it.
    assert await acts.do(friends.befriended(acts.keys, added)) == 0
    assert await left(acts) == [removed]
    assert await acts.do(friends.half(acts.keys, removed)) == 1
    assert await acts.do(friends.half(acts.keys, added)) == 0
    assert await halves(acts) == ([], [])
    again = await decided(acts)
    assert await acts.do(friends.half(acts.keys, again)) == 1
    assert await acts.do(friends.half(acts.keys, removed)) == 0
    assert await acts.do(friends.half(acts.keys, again)) == 0
    assert await halves(acts) == (["bob"], ["alice"])


async def test_the_end_of_a_friendship_that_never_was_leaves_nothing(acts: Acts) -> None:
    assert await decide(acts, "remove") == (0, None)
    assert await left(acts) == []
    mine = acts.keys.friend("alice")
    assert await acts.raw("alice", "EXISTS", mine.friends, mine.versions) == 0


async def test_who_ends_what_another_has_not_finished_ending_finishes_it(acts: Acts) -> None:
    await Pairs(acts.store, LIMIT).make(PAIR, "0")
    removed = await decided(acts, "remove")
    assert await halves(acts) == ([], ["alice"])
    assert await decided(acts, "remove") == removed


async def test_nobody_decides_on_an_old_look(acts: Acts) -> None:
    seen = await version(acts)
    await Pairs(acts.store, LIMIT).make(PAIR, seen)
    assert await decide(acts) == (FRIENDS_ALREADY, None)
    await Pairs(acts.store, LIMIT).end([(PAIR, False)])
    reply = await acts.do(friends.befriend(acts.keys, PAIR, seen, LIMIT))
    assert friends.parse_decision(PAIR, "add", reply) == (CONFLICT, None)
    # Nor does an old look take the place that a newer one holds.
    assert await hold(acts) == 0
    assert await acts.do(friends.hold(acts.keys, PAIR, seen, LIMIT)) == CONFLICT


async def test_the_limit_counts_held_places_on_both_sides(acts: Acts) -> None:
    # bob is the larger id towards alice, and the smaller one towards carol.
    assert await hold(acts, limit=1) == 0
    assert await hold(acts, limit=1) == 0
    assert await hold(acts, Pair("aaron", "bob"), limit=1) == LIST_FULL
    assert await decide(acts, pair=Pair("bob", "carol"), limit=1) == (LIST_FULL, None)
    assert (await decide(acts, limit=1))[0] == 0
    assert await decide(acts, pair=Pair("alice", "zoe"), limit=1) == (LIST_FULL, None)


async def test_a_sweep_finishes_what_a_process_that_died_left_half_done(acts: Acts) -> None:
    pairs = Pairs(acts.store, LIMIT)
    await hold(acts)
    intent = await decided(acts)
    at_ms = int(intent.at) // 1000
    # Too young: whoever began it is still at it.
    assert await pairs.sweep(at_ms - 1000 + INTENT_AGE_MS) == 0
    assert await halves(acts) == (["bob"], [])
    assert await pairs.sweep(at_ms + 1 + INTENT_AGE_MS) in (1, 2)
    assert await halves(acts) == (["bob"], ["alice"])
    assert (await left(acts), await held(acts, "bob")) == ([], [])
    await decided(acts, "remove")
    assert await pairs.sweep(FAR_FUTURE_MS) == 1
    assert await halves(acts) == ([], [])


async def test_a_place_that_a_dead_process_holds_is_let_go_and_can_never_be_used(acts: Acts) -> None:
    seen = await version(acts)
    await hold(acts)
    assert await Pairs(acts.store, LIMIT).sweep(FAR_FUTURE_MS) == 1
    assert (await left(acts), await held(acts, "bob")) == ([], [])
    # The process was only slow.
    reply = await acts.do(friends.befriend(acts.keys, PAIR, seen, LIMIT))
    assert friends.parse_decision(PAIR, "add", reply) == (CONFLICT, None)
    assert await halves(acts) == ([], [])


async def test_no_friendship_with_an_account_that_has_ended(acts: Acts) -> None:
    await acts.register("alice", "bob")
    pairs = Pairs(acts.store, LIMIT)
    await hold(acts)
    intent = await decided(acts)
    await acts.do(drops.deactivate(acts.keys, "bob", "c"))
    # Decided before the account ended: the half that is there goes again.
    assert await acts.do(friends.half(acts.keys, intent)) == ENDED
    assert await pairs.sweep(FAR_FUTURE_MS) >= 1
    assert await pairs.sweep(FAR_FUTURE_MS) == 0
    assert await halves(acts) == ([], [])
    assert await held(acts, "bob") == []
    assert await hold(acts) == ACCOUNT_ENDED
    assert await decide(acts, pair=Pair("bob", "carol")) == (ACCOUNT_ENDED, None)
    assert await acts.do(friends.ask(acts.keys, "alice", "bob", 10, 1000)) == ACCOUNT_ENDED


async def test_friendships_made_in_one_microsecond_do_not_share_a_place(acts: Acts) -> None:
    for name in ("a1", "a2"):
        intent = Intent(Pair(name, "bob"), "add", "1", "1753000000000000")
        assert await acts.do(friends.half(acts.keys, intent)) == 1
    first = friends.parse_page(await acts.do(friends.page(acts.keys, "bob", None, 1)), 1)
    rest = friends.parse_page(await acts.do(friends.page(acts.keys, "bob", first.following, 1)), 1)
    assert [friend.user for friend in first.friends + rest.friends] == ["a2", "a1"]
    assert (first.total, rest.following) == (2, None)


async def test_notes_are_of_friends_and_go_with_them(acts: Acts) -> None:
    async def noted(alias: str, attributes: str | None) -> tuple[str, str]:
        assert await acts.do(friends.note(acts.keys, "bob", "alice", alias, attributes)) == 0
        (friend,) = friends.parse_page(await acts.do(friends.page(acts.keys, "bob", None, 10)), 10).friends
        return friend.alias, friend.attributes

    assert await acts.do(friends.note(acts.keys, "bob", "alice", "Al", None)) == NO_SUCH_FRIEND
    pairs = Pairs(acts.store, LIMIT)
    assert (await pairs.make(PAIR, "0")).code == 0
    assert await noted("Älice: 2\n", '{"ext_a":"1"}') == ("Älice: 2\n", '{"ext_a":"1"}')
    assert await noted("", None) == ("", '{"ext_a":"1"}')
    assert await noted("Al", "") == ("Al", "")
    assert await noted("", None) == ("", "")
    assert await acts.raw("bob", "EXISTS", acts.keys.friend("bob").notes) == 0
    await noted("Al", None)
    await pairs.end([(PAIR, False)])
    assert await acts.raw("bob", "EXISTS", acts.keys.friend("bob").notes) == 0


async def test_requests_are_bounded_expire_and_end_with_the_friendship(acts: Acts) -> None:
    async def asks(user: str, lifetime_ms: int = 60_000) -> int:
        return int(await acts.do(friends.ask(acts.keys, user, "bob", 2, lifetime_ms)))

    async def waits(user: str) -> bool:
        return friends.parse_look(await acts.do(friends.look(acts.keys, "bob", user))).asked

    assert [await asks("alice"), await asks("zoe"), await asks("carol"), await asks("zoe")] == [0, 0, -2, 0]
    assert [await waits(user) for user in ("alice", "zoe", "carol")] == [True, True, False]
    await Pairs(acts.store, LIMIT).make(PAIR, "0")
    await Pairs(acts.store, LIMIT).make(Pair("bob", "zoe"), "0")
    assert [await waits(user) for user in ("alice", "zoe")] == [False, False]
    assert await asks("dora", 1) == 0

    async def forgotten() -> bool:
        return not await acts.raw("bob", "EXISTS", acts.keys.friend("bob").requests)

    await eventually(forgotten)
    assert not await waits("dora")


async def test_tombstones_of_long_ago_are_forgotten_when_they_are_many(acts: Acts) -> None:
    mine, pairs = acts.keys.friend("alice"), Pairs(acts.store, LIMIT)
    old: list[Any] = [word for number in range(10_050) for word in (f"x{number}", "1000")]
    await acts.raw("alice", "HSET", mine.versions, *old)
    await pairs.make(PAIR, "0")
    await pairs.end([(PAIR, False)])
    # 10,051 less the few that one end of a friendship looks at; the newest stays.
    assert 10_040 <= await acts.raw("alice", "HLEN", mine.versions) <= 10_050
    assert await acts.raw("alice", "HEXISTS", mine.versions, "bob") == 1


async def test_tombstones_of_who_has_no_friend_are_forgotten_after_a_day(acts: Acts) -> None:
    async def forgotten_in_ms(user: str) -> int:
        return int(await acts.raw(user, "PTTL", acts.keys.friend(user).versions))

    pairs = Pairs(acts.store, LIMIT)
    for number in range(2):
        await pairs.make(PAIR, await version(acts))
        assert [await forgotten_in_ms(user) for user in PAIR] == [-1, -1]
        await pairs.end([(PAIR, False)])
        for user in PAIR:
            assert 86_000_000 < await forgotten_in_ms(user) <= 86_400_000, number
    await hold(acts, Pair("carol", "dave"))
    await pairs.sweep(FAR_FUTURE_MS)
    assert await forgotten_in_ms("carol") > 0


@pytest.mark.parametrize("lives", range(5))
@pytest.mark.parametrize("op", ["add", "remove"])
async def test_wherever_a_process_dies_both_halves_agree_in_the_end(acts: Acts, op: str, lives: int) -> None:
    if op == "remove":
        await Pairs(acts.store, LIMIT).make(PAIR, "0")
    dying = Pairs(Mortal(acts.store, lives), LIMIT)
    try:
        await (dying.make(PAIR, "0") if op == "add" else dying.end([(PAIR, False)]))
    except StoreUnavailable:
        pass
    await Pairs(acts.store, LIMIT).sweep(FAR_FUTURE_MS)
    mine, theirs = await halves(acts)
    assert (mine == ["bob"]) == (theirs == ["alice"])
    assert (await left(acts), await held(acts, "bob")) == ([], [])


async def many(acts: Acts, user: str, count: int) -> list[str]:
    """Friends of the user, on both sides of the alphabet."""
    pairs = Pairs(acts.store, count)
    others = [f"{'a' if number % 2 else 'z'}{number}" for number in range(count)]
    for start in range(0, count, 20):
        verdicts = await asyncio.gather(
            *(pairs.make(Pair.of(user, other), "0") for other in others[start : start + 20])
        )
        assert {verdict.code for verdict in verdicts} == {0}
    return others


async def test_all_friendships_end_though_the_process_dies_on_the_way(acts: Acts) -> None:
    others = await many(acts, "mike", 45)
    lives = 1
    while len(await listed(acts, "mike")) == 45:
        dying = Pairs(Mortal(acts.store, lives), 45)
        with pytest.raises(StoreUnavailable):
            await dying.clear("mike")
        lives += 1
    # Friends who come later stay, whoever finishes.
    assert (await Pairs(acts.store, 100).make(Pair("late", "mike"), "0")).code == 0
    await Pairs(acts.store, 100).sweep(FAR_FUTURE_MS)
    assert await listed(acts, "mike") == ["late"]
    for other in others:
        assert await listed(acts, other) == []
    assert await left(acts) == []
