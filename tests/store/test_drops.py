"""Drops of every kind: the record, the sessions selected, and the nodes that are told."""

import time

import pytest

from gateway.protocol.codes import Code
from gateway.store import accounts, directories, drops, sessions
from gateway.store.call import Call
from gateway.store.drops import Drop
from tests.store.acts import NODE, NOW_MS, OTHER, Acts

THIRD = "c.1"


async def scene(acts: Acts, user: str) -> None:
    """Three sessions on two nodes, with tokens of different ages."""
    await acts.register(user)
    await acts.joined(user, "s1", NODE, device="d1", issued_at=NOW_MS, jti="t1")
    await acts.joined(user, "s2", NODE, device="d2", issued_at=NOW_MS + 10, jti="t2")
    await acts.joined(user, "s3", OTHER, device="d3", issued_at=NOW_MS, jti="t3")
    # A session of somebody else on a third node.
    await acts.register("carol")
    await acts.joined("carol", "x", THIRD)


async def told(acts: Acts, user: str, call: Call) -> tuple[tuple[int, list[str]], dict[str, Drop]]:
    """(what the caller learns, what each node hears)."""
    async with acts.hearing(user, NODE, OTHER, THIRD) as ears:
        reply = drops.parse_dropped(await acts.do(call))
        heard = {}
        for node, ear in zip((NODE, OTHER, THIRD), ears, strict=True):
            for drop in await ear.drops():
                assert node not in heard
                assert (drop.user, drop.call) == (user, "call-1")
                heard[node] = drop
    assert sorted(heard) == sorted(reply[1])
    return (reply[0], sorted(reply[1])), heard


@pytest.mark.parametrize("until", [0, 1_999_999_999_999])
async def test_a_ban_tells_every_node_that_holds_a_session_and_only_those(acts: Acts, until: int) -> None:
    await scene(acts, "a+b=c_d.e@f-G")
    reason = 'he said "no"\nand left \\ ü'
    reply, heard = await told(acts, "a+b=c_d.e@f-G", drops.ban(acts.keys, "a+b=c_d.e@f-G", "call-1", until, reason))
    assert reply == (3, [NODE, OTHER])
    for drop in heard.values():
        assert (drop.close_code, drop.code, drop.reason, drop.ends, drop.all) == (4502, 31011, reason, until, True)
    assert heard[NODE].sessions == {"s1", "s2"}
    assert heard[OTHER].sessions == {"s3"}


async def test_an_expiry_selects_the_sessions_of_older_tokens(acts: Acts) -> None:
    await scene(acts, "bob")
    reply, heard = await told(acts, "bob", drops.expire(acts.keys, "bob", "call-1", NOW_MS + 10, False))
    assert reply == (2, [NODE, OTHER])
    assert heard[NODE].sessions == {"s1"}
    assert heard[OTHER].sessions == {"s3"}
    assert (heard[NODE].close_code, heard[NODE].code, heard[NODE].all) == (4501, Code.TOKEN_EXPIRED, False)
    # The hosted service's way: the record alone.
    reply, heard = await told(acts, "bob", drops.expire(acts.keys, "bob", "call-1", NOW_MS + 99, True))
    assert (reply, heard) == ((0, []), {})
    assert await acts.field("bob", "void_before") == str(NOW_MS + 99)


async def test_a_revocation_selects_the_sessions_of_one_token(acts: Acts) -> None:
    await scene(acts, "bob")
    reply, heard = await told(acts, "bob", drops.revoke(acts.keys, "bob", "call-1", "t3"))
    assert reply == (1, [OTHER])
    assert heard[OTHER].sessions == {"s3"}


async def test_a_revocation_outlives_any_token(acts: Acts) -> None:
    await acts.register("bob")
    await acts.do(drops.revoke(acts.keys, "bob", "", "t1"))
    forget_at = float(await acts.raw("bob", "ZSCORE", acts.keys.user("bob").revoked, "t1"))
    assert forget_at > (time.time() + 5 * 365 * 86_400) * 1000
    # What may be forgotten goes with the next revocation.
    await acts.raw("bob", "ZADD", acts.keys.user("bob").revoked, 1, "ancient")
    await acts.do(drops.revoke(acts.keys, "bob", "", "t2"))
    assert int(await acts.raw("bob", "ZCARD", acts.keys.user("bob").revoked)) == 2


@pytest.mark.parametrize(
    ("by", "wanted", "selected"),
    [
        ("", "", {NODE: {"s1", "s2"}, OTHER: {"s3"}}),
        ("session", "s2", {NODE: {"s2"}}),
        ("device", "d3", {OTHER: {"s3"}}),
        ("session", "nobody", {}),
        ("device", "s1", {}),
    ],
)
async def test_a_kick_selects_all_one_session_or_one_device(
    acts: Acts, by: str, wanted: str, selected: dict[str, set[str]]
) -> None:
    await scene(acts, "bob")
    reply, heard = await told(acts, "bob", drops.kick(acts.keys, "bob", "call-1", "bye", by, wanted))
    assert reply == (sum(map(len, selected.values())), sorted(selected))
    assert {node: set(drop.sessions) for node, drop in heard.items()} == selected
    for drop in heard.values():
        assert (drop.close_code, drop.reason, drop.all) == (4505, "bye", by == "")
    # A kick leaves no record: whoever comes back is let in.
    await acts.joined("bob", "again", device="d9")


async def test_a_deactivation_takes_what_the_user_owned_and_changes_the_epoch(acts: Acts) -> None:
    await scene(acts, "bob")
    await acts.do(accounts.register(acts.keys, "bob", "Bob", "https://example.org/b.png"))
    before = await acts.field("bob", "epoch")
    await acts.send("alice", "bob")
    reply, heard = await told(acts, "bob", drops.deactivate(acts.keys, "bob", "call-1"))
    assert reply == (3, [NODE, OTHER])
    assert (heard[OTHER].close_code, heard[OTHER].code, heard[OTHER].all) == (4503, Code.DEACTIVATED, True)
    account = accounts.parse_get("bob", await acts.do(accounts.get(acts.keys, "bob")))
    assert (account.name, account.avatar_url) == ("", "")
    assert account.deactivated_at is not None
    assert await acts.inbox("bob") == []
    directory = acts.keys.directory(acts.keys.partition("bob"), "deactivated")
    assert await acts.raw("bob", "ZRANGE", directory, 0, -1) == [b"bob"]
    assert await acts.do(accounts.reactivate(acts.keys, "bob", 0)) == 1
    assert await acts.do(accounts.reactivate(acts.keys, "bob", 0)) == 0
    assert await acts.raw("bob", "ZRANGE", directory, 0, -1) == []
    who = await acts.joined("bob", "again")
    assert who.epoch not in (before, "")
    assert (await acts.send("alice", "bob"))[0] == 0


async def test_a_drop_of_somebody_who_is_not_there_tells_nobody(acts: Acts) -> None:
    keys = acts.keys
    for call in (
        drops.ban(keys, "ghost", "call-1", 0, ""),
        drops.expire(keys, "ghost", "call-1", NOW_MS, False),
        drops.revoke(keys, "ghost", "call-1", "t"),
        drops.kick(keys, "ghost", "call-1", ""),
        drops.deactivate(keys, "ghost", "call-1"),
    ):
        assert await told(acts, "ghost", call) == ((0, []), {})


async def test_the_directory_lists_bans_and_a_new_ban_replaces_the_end(acts: Acts) -> None:
    keys, now = acts.keys, int(time.time() * 1000)
    partition = keys.partition("bob")

    async def listed() -> list[tuple[int, bytes]]:
        return directories.parse_window(await acts.do(directories.window(keys, partition, "bans", None, 0, 10))).places

    await acts.do(drops.ban(keys, "bob", "", now + 60_000, "one"))
    assert await listed() == [(now + 60_000, b"bob")]
    await acts.do(drops.ban(keys, "bob", "", now + 30_000, "two"))
    assert await listed() == [(now + 30_000, b"bob")]
    assert await acts.field("bob", "ban_reason") == "two"
    await acts.do(drops.ban(keys, "bob", "", 0, "three"))
    assert await listed() == [(directories.FOREVER, b"bob")]
    await acts.do(drops.forget_ended_bans(keys, partition, now))
    assert await listed() == [(directories.FOREVER, b"bob")]
    assert await acts.do(drops.unban(keys, "bob")) == 1
    assert await acts.do(drops.unban(keys, "bob")) == 0
    assert await listed() == []
    await acts.do(drops.ban(keys, "bob", "", now - 1, "over"))
    assert await listed() == [(now - 1, b"bob")]
    await acts.do(drops.forget_ended_bans(keys, partition, now))
    assert await listed() == []


async def test_answers_gather_in_a_list_that_goes_away_by_itself(acts: Acts) -> None:
    await acts.do(drops.answer(acts.keys, "bob", "call-1", NODE, {"closed": 2}))
    key = acts.keys.reply(acts.keys.partition("bob"), "call-1")
    assert await acts.raw("bob", "LRANGE", key, 0, -1) == [b'{"node":"a.1","closed":2}']
    assert 0 < await acts.raw("bob", "TTL", key) <= 30


async def test_one_of_many_nodes_wins_a_control_command(acts: Acts) -> None:
    assert [await acts.do(drops.once(acts.keys, "call-1")) for _ in range(3)] == [1, 0, 0]
    assert await acts.do(drops.once(acts.keys, "call-2")) == 1


async def test_a_dropped_session_stays_registered_until_its_node_has_cut_it(acts: Acts) -> None:
    """So that a second act, or a reaper, still finds it when the node never hears the first."""
    await scene(acts, "bob")
    await acts.do(drops.kick(acts.keys, "bob", "", ""))
    assert [record.session for record in sessions.parse_list(await acts.do(sessions.list_of(acts.keys, "bob")))] == [
        "s1",
        "s2",
        "s3",
    ]
