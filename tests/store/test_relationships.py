"""Lists: edits, their limits and flags, pages."""

from typing import Literal

import orjson
import pytest

from gateway.protocol.codes import Code
from gateway.store import relationships
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


async def test_strict_edits_are_for_the_list_that_binds(acts: Acts) -> None:
    async def strict(name: Literal["block", "allow"], op: str, member: str) -> int:
        return int(await acts.do(relationships.edit(acts.keys, "bob", name, op, [member], LIMIT, strict=True)))

    await acts.register("bob")
    assert await strict("allow", "add", "a1") == 1010
    assert await strict("allow", "remove", "a1") == 1010
    assert await strict("block", "add", "a1") == 0
    await acts.do(relationships.set_allowlist(acts.keys, "bob", True))
    assert await strict("block", "add", "a2") == 1011
    assert await strict("block", "remove", "a1") == 1011
    assert await strict("allow", "add", "a1") == 0
    assert (await listed(acts, "block"), await listed(acts, "allow")) == (["a1"], ["a1"])
