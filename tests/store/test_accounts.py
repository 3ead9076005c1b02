"""Registering users and muting them."""

import time

from gateway.protocol.codes import Code
from gateway.store import accounts, directories, drops
from tests.store.acts import NODE, OTHER, Acts


async def read(acts: Acts, user: str) -> accounts.Account:
    return accounts.parse_get(user, await acts.do(accounts.get(acts.keys, user)))


async def test_registering_is_idempotent_and_changes_only_what_is_given(acts: Acts) -> None:
    assert not (await read(acts, "bob")).registered
    code, now, fresh = await acts.do(accounts.register(acts.keys, "bob", "Bob", "https://example.org/b.png"))
    assert (code, fresh) == (0, 1)
    assert abs(now - time.time() * 1000) < 60_000
    first = await read(acts, "bob")
    assert (first.name, first.avatar_url, first.registered_at) == ("Bob", "https://example.org/b.png", now)
    epoch = await acts.field("bob", "epoch")
    assert (await acts.do(accounts.register(acts.keys, "bob")))[2] == 0
    assert await read(acts, "bob") == first
    await acts.do(accounts.register(acts.keys, "bob", "Robert"))
    assert (await read(acts, "bob")).name == "Robert"
    assert (await read(acts, "bob")).avatar_url == first.avatar_url
    await acts.do(accounts.register(acts.keys, "bob", None, ""))
    assert (await read(acts, "bob")).avatar_url == ""
    assert await acts.field("bob", "epoch") == epoch
    assert await acts.do(directories.count(acts.keys, acts.keys.partition("bob"), "users")) == 1


async def test_a_deactivated_user_is_not_registered_again(acts: Acts) -> None:
    await acts.register("bob")
    await acts.do(drops.deactivate(acts.keys, "bob", ""))
    assert await acts.do(accounts.register(acts.keys, "bob", "Bob")) == [Code.DEACTIVATED, 0]
    assert (await read(acts, "bob")).name == ""


async def test_the_nodes_of_a_muted_sender_are_told_in_the_same_step(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s1", NODE)
    await acts.joined("bob", "s2", OTHER)
    async with acts.hearing("bob", NODE, OTHER, "c.1") as (one, two, nobodys):
        await acts.do(accounts.mute(acts.keys, "bob", True))
        assert await one.heard() == await two.heard() == [b"sbob\n1"]
        await acts.do(accounts.mute(acts.keys, "bob", False))
        assert await one.heard() == await two.heard() == [b"sbob\n0"]
        assert await nobodys.heard() == []


async def test_muted_is_known_to_who_connects_later_and_listed(acts: Acts) -> None:
    await acts.do(accounts.mute(acts.keys, "bob", True))
    await acts.register("bob")
    who = await acts.joined("bob", "s1")
    assert (await read(acts, "bob")).muted
    directory = acts.keys.directory(acts.keys.partition("bob"), "muted")
    assert await acts.raw("bob", "ZRANGE", directory, 0, -1) == [b"bob"]
    assert (await acts.connect(who))[6] == 1
    await acts.do(accounts.mute(acts.keys, "bob", False))
    assert (await acts.connect(who))[6] == 0
    assert await acts.raw("bob", "ZRANGE", directory, 0, -1) == []


async def test_a_ban_is_told_with_its_end_and_reason(acts: Acts) -> None:
    await acts.do(drops.ban(acts.keys, "bob", "", 1_999_999_999_999, "spam"))
    banned = await read(acts, "bob")
    assert (banned.banned_until, banned.ban_reason, banned.registered) == (1_999_999_999_999, "spam", False)
