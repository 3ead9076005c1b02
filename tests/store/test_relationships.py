"""Lists and friends: edits, their limits and flags, and the two halves of a friendship."""

from typing import Literal

import orjson
import pytest

from gateway.protocol.codes import Code
from gateway.services.relationships import INTENT_AGE_MS, Relationships
from gateway.store import relationships
from gateway.store.relationships import Intent
from tests.store.acts import Acts

LIMIT = 3


async def edit(acts: Acts, name: Literal["block", "allow"], op: str, *members: str, user: str = "bob") -> int:
    return int(await acts.do(relationships.edit(acts.keys, user, name, op, members, LIMIT)))


async def listed(acts: Acts, name: relationships.ListName, user: str = "bob", oldest_first: bool = False) -> list[str]:
    reply = await acts.do(relationships.page(acts.keys, user, name, None, 100, oldest_first))
    return [entry.user for entry in relationships.parse_page(reply, 100)[0]]


@pytest.mark.parametrize("name", ["block", "allow"])
async def test_a_list_takes_up_to_its_limit_and_an_edit_is_whole_or_nothing(
    acts: Acts, name: Literal["block", "allow"]
) -> None:
    await acts.register("bob")
    assert await edit(acts, name, "add", "a1", "a2") == 0
    assert await edit(acts, name, "add", "a3", "a4") == Code.LIST_FULL
    assert await listed(acts, name) == ["a2", "a1"]
    assert await edit(acts, name, "add", "a2", "a3") == 0
    assert await listed(acts, name) == ["a3", "a2", "a1"]
    # Nothing new is no reason to refuse, not even after the limit was lowered.
    assert await acts.do(relationships.edit(acts.keys, "bob", name, "add", ["a1"], 1)) == 0
    assert await edit(acts, name, "remove", "a2", "nobody") == 0
    assert await listed(acts, name, oldest_first=True) == ["a1", "a3"]
    scores = await acts.do(relationships.check(acts.keys, "bob", name, ["a1", "a2", "a3"]))
    assert [score is not None for score in scores] == [True, False, True]
    assert await acts.do(relationships.count(acts.keys, "bob", name)) == 2


async def test_the_flags_follow_the_lists(acts: Acts) -> None:
    await acts.register("bob")

    async def policy() -> str | None:
        return await acts.field("bob", "policy")

    assert await policy() == "-"
    await edit(acts, "allow", "add", "a1")
    assert await policy() == "-"
    await edit(acts, "block", "add", "a1", "a2")
    await acts.do(relationships.set_allowlist(acts.keys, "bob", True))
    await acts.do(relationships.set_allowlist(acts.keys, "bob", True))
    assert await policy() == "-ba"
    await edit(acts, "block", "remove", "a1")
    assert await policy() == "-ba"
    await edit(acts, "block", "remove", "a2")
    assert await policy() == "-a"
    assert await acts.do(relationships.allowlist_enabled(acts.keys, "bob")) == b"1"
    await acts.do(relationships.set_allowlist(acts.keys, "bob", False))
    assert await policy() == "-"
    assert await acts.do(relationships.allowlist_enabled(acts.keys, "bob")) == b"0"


async def test_the_watchers_nodes_hear_who_was_really_blocked_or_unblocked(acts: Acts) -> None:
    await acts.register("bob")
    async with acts.watching("bob") as ear:

        async def said() -> list[tuple[bytes, list[str]]]:
            return [(head, orjson.loads(rest)) for head, rest in (p.split(b"\n", 1) for p in await ear.heard())]

        await edit(acts, "block", "add", "a+1@x", "a2")
        assert await said() == [(b"bbob", ["a+1@x", "a2"])]
        await edit(acts, "block", "add", "a2", "a3")
        assert await said() == [(b"bbob", ["a3"])]
        await edit(acts, "block", "add", "a2")
        await edit(acts, "block", "remove", "nobody")
        await edit(acts, "allow", "add", "a9")
        assert await said() == []
        await edit(acts, "block", "remove", "a2", "nobody")
        assert await said() == [(b"ubob", ["a2"])]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_pages_name_every_entry_once_though_the_clock_stands_still_or_goes_back(
    acts: Acts, oldest_first: bool
) -> None:
    ids = [f"u{number}" for number in range(7)]
    await acts.do(relationships.edit(acts.keys, "bob", "block", "add", ids[:4], 100))
    # The newest entry is far ahead of Redis' clock, as after a failover to a server whose clock is behind.
    key = acts.keys.user("bob").block
    ahead = int(float(await acts.raw("bob", "ZSCORE", key, ids[3]))) + 10**12
    await acts.raw("bob", "ZADD", key, ahead, ids[3])
    await acts.do(relationships.edit(acts.keys, "bob", "block", "add", ids[4:], 100))
    found: list[str] = []
    place = None
    while True:
        reply = await acts.do(relationships.page(acts.keys, "bob", "block", place, 2, oldest_first))
        entries, place = relationships.parse_page(reply, 2)
        found += [entry.user for entry in entries]
        if place is None:
            break
    assert found == (ids if oldest_first else ids[::-1])


# Friends. "alice" < "bob", so alice's partition owns the pair.


def intent_of(op: str, reply: list[object]) -> Intent:
    assert isinstance(reply[2], bytes)
    return Intent("alice", "bob", op, str(reply[1]), reply[2].decode())


async def decide(acts: Acts, op: str, limit: int = LIMIT) -> list[object]:
    return list(await acts.do(relationships.befriend(acts.keys, op, "bob", "alice", limit)))


async def halves(acts: Acts) -> tuple[list[str], list[str]]:
    return await listed(acts, "friends", "alice"), await listed(acts, "friends", "bob")


async def waiting(acts: Acts) -> list[Intent]:
    return relationships.parse_intents(await acts.do(relationships.intents(acts.keys, acts.keys.partition("alice"))))


async def test_a_friendship_has_two_halves_and_an_intent_between_them(acts: Acts) -> None:
    intent = intent_of("add", await decide(acts, "add"))
    assert await halves(acts) == (["bob"], [])
    assert await waiting(acts) == [intent]
    assert await acts.do(relationships.befriend_half(acts.keys, intent)) == 1
    assert await halves(acts) == (["bob"], ["alice"])
    assert await acts.do(relationships.befriended(acts.keys, intent)) == 1
    assert await waiting(acts) == []
    # Both halves bear the same time, in the order of which lists are read.
    scores = [
        await acts.raw(user, "ZSCORE", acts.keys.user(user).friends, other)
        for user, other in (("alice", "bob"), ("bob", "alice"))
    ]
    assert float(scores[0]) == float(scores[1])


async def test_a_half_that_comes_late_loses_against_a_newer_one(acts: Acts) -> None:
    added = intent_of("add", await decide(acts, "add"))
    removed = intent_of("remove", await decide(acts, "remove"))
    # The intent is the newest version's: the older writer may not clear it.
    assert await acts.do(relationships.befriended(acts.keys, added)) == 0
    assert await waiting(acts) == [removed]
    assert await acts.do(relationships.befriend_half(acts.keys, removed)) == 1
    assert await acts.do(relationships.befriend_half(acts.keys, added)) == 0
    assert await halves(acts) == ([], [])
    again = intent_of("add", await decide(acts, "add"))
    assert await acts.do(relationships.befriend_half(acts.keys, again)) == 1
    assert await acts.do(relationships.befriend_half(acts.keys, removed)) == 0
    assert await acts.do(relationships.befriend_half(acts.keys, again)) == 0
    assert await halves(acts) == (["bob"], ["alice"])


async def test_the_end_of_a_friendship_that_never_was_leaves_nothing(acts: Acts) -> None:
    assert await decide(acts, "remove") == [0, 0, b""]
    assert await waiting(acts) == []
    user = acts.keys.user("alice")
    assert await acts.raw("alice", "EXISTS", user.friends, user.friend_versions) == 0


async def test_the_limit_binds_new_friends_only(acts: Acts) -> None:
    assert (await decide(acts, "add", 1))[0] == 0
    # Once more: allowed, for the other half may be missing.
    assert (await decide(acts, "add", 1))[0] == 0
    reply = await acts.do(relationships.befriend(acts.keys, "add", "alice", "carol", 1))
    assert reply == [Code.LIST_FULL]


async def test_a_sweep_finishes_what_a_process_that_died_left_half_done(acts: Acts) -> None:
    service = Relationships(acts.store, 100)
    intent = intent_of("add", await decide(acts, "add"))
    at_ms = int(intent.at) // 1000
    # Too young: whoever began it is still at it.
    assert await service.sweep(at_ms + INTENT_AGE_MS - 1) == 0
    assert await halves(acts) == (["bob"], [])
    assert await service.sweep(at_ms + INTENT_AGE_MS + 1) == 1
    assert await halves(acts) == (["bob"], ["alice"])
    assert await waiting(acts) == []
    intent_of("remove", await decide(acts, "remove"))
    assert await service.sweep(at_ms + 60 * INTENT_AGE_MS) == 1
    assert await halves(acts) == ([], [])


async def test_friendships_made_in_one_microsecond_do_not_share_a_place(acts: Acts) -> None:
    for name in ("a1", "a2"):
        intent = Intent(name, "bob", "add", "1", "1753000000000000")
        assert await acts.do(relationships.befriend_half(acts.keys, intent)) == 1
    first, place = relationships.parse_page(await acts.do(relationships.page(acts.keys, "bob", "friends", None, 1)), 1)
    rest, end = relationships.parse_page(await acts.do(relationships.page(acts.keys, "bob", "friends", place, 1)), 1)
    assert [entry.user for entry in first + rest] == ["a2", "a1"]
    assert end is None


async def test_the_service_makes_and_ends_friendships_both_ways(acts: Acts) -> None:
    service = Relationships(acts.store, 100)
    assert await service.befriend("bob", "alice")
    assert not await service.befriend("alice", "bob")
    assert await service.are_friends("alice", ["bob"]) == {"bob": True}
    assert await service.are_friends("bob", ["alice"]) == {"alice": True}
    await service.unfriend("bob", ["alice", "stranger", "bob"])
    assert await halves(acts) == ([], [])
    assert await waiting(acts) == []
