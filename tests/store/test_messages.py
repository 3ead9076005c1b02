"""relay and ack on every kind of store: verdicts, the inbox, idempotence, limits."""

import re
import time

import orjson
import pytest

from gateway.protocol import pushes
from gateway.protocol.codes import Code
from gateway.store import accounts, drops, friends, messages, relationships
from tests.store.acts import DAY_MS, NODE, NOW_MS, OTHER, RETENTION_MS, Acts, exactly

AWKWARD = "a+b=c_d.e@f-G"
"""A user id of every character that the default pattern allows."""


async def block(acts: Acts, user: str, target: str, op: str = "add") -> None:
    assert await acts.do(relationships.edit(acts.keys, user, "block", op, [target], 100)) == 0


async def allow(acts: Acts, user: str, target: str) -> None:
    assert await acts.do(relationships.edit(acts.keys, user, "allow", "add", [target], 100)) == 0


async def befriend(acts: Acts, a: str, b: str) -> None:
    pair = friends.Pair.of(a, b)
    known = friends.parse_look(await acts.do(friends.look(acts.keys, *pair))).version
    assert await acts.do(friends.hold(acts.keys, pair, known, 100)) == 0
    _, intent = friends.parse_decision(pair, "add", await acts.do(friends.befriend(acts.keys, pair, known, 100)))
    assert intent is not None
    assert await acts.do(friends.half(acts.keys, intent)) == 1


async def test_each_reason_to_refuse_gives_way_to_the_next_in_the_documented_order(acts: Acts) -> None:
    async def verdict(flags: str = "") -> int:
        return int((await acts.send("alice", "bob", flags=flags))[0])

    assert await verdict("mf") == Code.NO_SUCH_USER
    await acts.register("bob")
    await block(acts, "bob", "alice")
    await acts.do(relationships.set_allowlist(acts.keys, "bob", True))
    # Deactivation takes the lists away, so they are made again behind it: only the order is looked at here.
    await acts.do(drops.deactivate(acts.keys, "bob", ""))
    await block(acts, "bob", "alice")
    await acts.do(relationships.set_allowlist(acts.keys, "bob", True))
    assert await verdict("mf") == Code.DEACTIVATED
    await acts.do(accounts.reactivate(acts.keys, "bob", 0))
    assert await verdict("mf") == Code.MUTED
    assert await verdict("f") == Code.BLOCKED
    await block(acts, "bob", "alice", "remove")
    assert await verdict("f") == Code.NOT_ALLOWED
    await allow(acts, "bob", "alice")
    assert await verdict("f") == Code.NOT_FRIENDS
    await befriend(acts, "alice", "bob")
    assert await verdict("f") == 0
    assert await acts.inbox("bob") == ["m"]


async def test_one_may_write_to_oneself_whatever_the_own_lists_say(acts: Acts) -> None:
    await acts.register("alice")
    await acts.do(relationships.set_allowlist(acts.keys, "alice", True))
    assert (await acts.send("alice", "alice", flags="f"))[0] == 0


async def test_lists_edited_before_the_user_registers_bind_from_the_first_message_on(acts: Acts) -> None:
    await block(acts, "bob", "alice")
    await acts.do(relationships.set_allowlist(acts.keys, "bob", True))
    await acts.register("bob")
    assert (await acts.send("alice", "bob"))[0] == Code.BLOCKED
    assert (await acts.send("carol", "bob"))[0] == Code.NOT_ALLOWED
    assert accounts.parse_get("bob", await acts.do(accounts.get(acts.keys, "bob"))).allowlist_enabled


async def test_a_message_reaches_the_inbox_and_every_node_with_a_session_in_one_form(acts: Acts) -> None:
    await acts.register(AWKWARD)
    one = await acts.joined(AWKWARD, "s1", NODE)
    await acts.joined(AWKWARD, "s2", NODE)
    await acts.joined(AWKWARD, "s3", OTHER)
    async with acts.hearing(AWKWARD, NODE, OTHER, "c.1") as (mine, other, nobodys):
        code, place, reached = await acts.send(AWKWARD, AWKWARD, mid="m1", body='{"text": "ü\\n\\u0000"}')
        assert (code, reached) == (0, 2)
        live = [await mine.heard(), await other.heard()]
        assert await nobodys.heard() == []
    assert live[0] == live[1]
    [payload] = live[0]
    user, at, push = payload[1:].split(b"\n", 2)
    assert (payload[:1], user.decode(), at) == (b"m", AWKWARD, place)
    message = exactly(push, pushes.Message)
    assert message.from_ == message.to == AWKWARD
    assert bytes(message.body) == '{"text": "ü\\n\\u0000"}'.encode()
    assert message.cursor == f"{one.epoch}.{place.decode()}"
    assert message.sent_at == messages.parse_id(place)[0]
    [entry] = await acts.entries(AWKWARD)
    # The replay composes in Python what the live push is composed of in Lua.
    assert messages.push(one.epoch, entry) == push


@pytest.mark.parametrize("flags", ["", "s", "sn"])
async def test_a_plain_send_costs_these_calls_and_no_other(acts: Acts, flags: str) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s1", NODE)
    await acts.raw("bob", "CONFIG", "RESETSTAT")
    assert (await acts.send("alice", "bob", flags=flags))[0] == 0
    counted = re.findall(r"cmdstat_(\w+):calls=(\d+)", (await acts.raw("bob", "INFO", "commandstats")).decode())
    beside = {"info", "ping", "cluster", "replconf"}
    calls = {name: int(calls) for name, calls in counted if name not in beside}
    assert calls == dict.fromkeys(("fcall", "hmget", "xlen", "xadd", "spublish"), 1)


async def test_the_senders_other_devices_get_a_copy_that_names_where_it_came_from(acts: Acts) -> None:
    await acts.register(AWKWARD)
    one = await acts.joined(AWKWARD, "s1", NODE, device="d1")
    await acts.joined(AWKWARD, "s2", OTHER, device="d2")
    tail = f'"mid":"m1","from":"{AWKWARD}","to":"bob","kind":"text","body":1,"device":"d1"}}'.encode()
    async with acts.hearing(AWKWARD, NODE, OTHER) as ears:
        call = messages.echo(acts.keys, AWKWARD, one.id, tail, 2, RETENTION_MS, 1 << 26)
        place = (await acts.do(call)).decode()
        heard = [await ear.heard() for ear in ears]
        # Echoes fill half of the inbox; beyond it one is only pushed.
        assert await acts.do(call) == b""
        unstored = await ears[1].heard()
    assert heard[0] == heard[1]
    user, origin, at, push = heard[0][0][1:].split(b"\n", 3)
    assert (user.decode(), origin.decode(), at.decode()) == (AWKWARD, "s1", place)
    message = exactly(push, pushes.Message)
    assert (message.device, message.to, message.cursor) == ("d1", "bob", f"{one.epoch}.{place}")
    user, origin, at, push = unstored[0][1:].split(b"\n", 3)
    assert (user.decode(), origin.decode(), at) == (AWKWARD, "s1", b"")
    message = exactly(push, pushes.Message)
    assert (message.device, message.mid, message.cursor) == ("d1", "m1", None)
    assert await acts.inbox(AWKWARD) == ["m1"]
    assert await acts.do(messages.echo(acts.keys, "nobody", "s9", tail, 2, RETENTION_MS, 1 << 26)) == Code.NO_SUCH_USER


async def test_nobody_online_means_stored_and_not_reached(acts: Acts) -> None:
    await acts.register("bob")
    assert (await acts.send("alice", "bob"))[2] == 0
    assert await acts.inbox("bob") == ["m"]


async def test_an_ephemeral_message_is_handed_on_and_not_kept(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s1")
    async with acts.hearing("bob", NODE) as (ear,):
        assert await acts.send("alice", "bob", flags="e") == [0, b"", 1]
        [payload] = await ear.heard()
    assert payload.startswith(b"mbob\n\n")
    message = exactly(payload.split(b"\n", 2)[2], pushes.Message)
    assert (message.cursor, message.sent_at) == (None, NOW_MS)
    assert await acts.inbox("bob") == []
    await block(acts, "bob", "alice")
    assert (await acts.send("alice", "bob", flags="e"))[0] == Code.BLOCKED


async def test_a_retry_finds_the_first_try_and_says_what_it_said(acts: Acts) -> None:
    await acts.register("bob")
    first = await acts.send("alice", "bob", mid="m1", flags="r")
    await acts.send("alice", "bob", mid="m2")
    again = await acts.send("alice", "bob", mid="m1", flags="r")
    assert again == first
    await acts.joined("bob", "s1")
    assert await acts.send("alice", "bob", mid="m1", flags="r") == [0, first[1], 1]
    assert await acts.inbox("bob") == ["m1", "m2"]
    # Without the mark nothing is searched: the duplicate bears the same mid.
    await acts.send("alice", "bob", mid="m1")
    assert await acts.inbox("bob") == ["m1", "m2", "m1"]


async def test_a_retry_of_what_is_stored_is_not_refused_by_a_policy_made_since(acts: Acts) -> None:
    await acts.register("bob")
    first = await acts.send("alice", "bob", mid="m1")
    await block(acts, "bob", "alice")
    assert await acts.send("alice", "bob", mid="m1", flags="rm") == first
    assert (await acts.send("alice", "bob", mid="m2", flags="r"))[0] == Code.BLOCKED


async def test_a_retry_searches_the_last_256_entries_of_ten_minutes(acts: Acts) -> None:
    await acts.register("bob")
    now = int(time.time() * 1000)
    inbox = acts.keys.user("bob").inbox
    old = b'"mid":"old","from":"alice","to":"bob","kind":"text","body":1}'
    await acts.raw("bob", "XADD", inbox, f"{now - 601_000}-0", "m", old)
    await acts.raw("bob", "XADD", inbox, f"{now - 590_000}-0", "m", old.replace(b"old", b"recent"))
    assert (await acts.send("alice", "bob", mid="old", flags="r"))[1] != f"{now - 601_000}-0".encode()
    assert (await acts.send("alice", "bob", mid="recent", flags="r"))[1] == f"{now - 590_000}-0".encode()
    # 255 newer ones (one of them is "old" again) leave "recent" in sight; one more hides it.
    for number in range(254):
        await acts.send("alice", "bob", mid=f"n{number}", inbox_max=1000)
    assert (await acts.send("alice", "bob", mid="recent", flags="r"))[1] == f"{now - 590_000}-0".encode()
    await acts.send("alice", "bob", mid="one more", inbox_max=1000)
    assert (await acts.send("alice", "bob", mid="recent", flags="r", inbox_max=1000))[
        1
    ] != f"{now - 590_000}-0".encode()


async def test_a_full_inbox_gives_up_the_expired_then_what_all_have_acked_then_what_any_has(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", device="d1")
    inbox = acts.keys.user("bob").inbox
    now = int(time.time() * 1000)
    for age_days in (9, 8):
        await acts.raw("bob", "XADD", inbox, f"{now - age_days * DAY_MS}-0", "m", '"mid":"expired","from":"x"}')
    places = [messages.parse_id((await acts.send("alice", "bob", mid=f"m{n}", inbox_max=6))[1]) for n in range(4)]
    assert await acts.ack("bob", "d1", who.epoch, places[0], retention_ms=30 * DAY_MS) == 1
    assert await acts.ack("bob", "d2", who.epoch, places[2], retention_ms=30 * DAY_MS) == 1
    assert len(await acts.inbox("bob")) == 6

    async def sent(mid: str, inbox_max: int) -> list[str]:
        assert (await acts.send("alice", "bob", mid=mid, inbox_max=inbox_max))[0] == 0
        return await acts.inbox("bob")

    assert await sent("m4", 6) == ["m0", "m1", "m2", "m3", "m4"]
    assert await acts.field("bob", "floor") == f"{now - 8 * DAY_MS}-0"
    assert await sent("m5", 5) == ["m1", "m2", "m3", "m4", "m5"]
    assert await acts.field("bob", "floor") == "{}-{}".format(*places[0])
    assert await sent("m6", 5) == ["m3", "m4", "m5", "m6"]
    assert await acts.field("bob", "floor") == "{}-{}".format(*places[2])
    await sent("m7", 5)
    # What nobody has taken over is never flushed by strangers.
    assert await acts.send("alice", "bob", mid="m8", inbox_max=5) == [Code.INBOX_FULL]
    assert await acts.inbox("bob") == ["m3", "m4", "m5", "m6", "m7"]
    assert (await acts.send("alice", "bob", flags="e", inbox_max=5))[0] == 0


async def test_an_ack_is_cumulative_never_goes_back_and_is_of_this_epoch_only(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", device="d1")
    key = acts.keys.user("bob").ack
    assert await acts.ack("bob", "d1", who.epoch, (50, 10)) == 1
    for place in ((50, 10), (50, 9), (49, 99)):
        assert await acts.ack("bob", "d1", who.epoch, place) == 0
    assert await acts.ack("bob", "d1", "other" + who.epoch, (60, 0)) == 0
    assert (await acts.raw("bob", "HGET", key, "d1")).startswith(b"50-10@")
    # As numbers, not as text: 100 is later than 50.
    assert await acts.ack("bob", "d1", who.epoch, (100, 0)) == 1


async def test_acks_are_kept_of_sixteen_devices_the_least_recently_seen_goes_first(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", device="d1")
    key = acts.keys.user("bob").ack
    now = int(time.time() * 1000)
    for number in range(16):
        await acts.raw("bob", "HSET", key, f"d{number}", f"1-{number}@{now - 1000 + (number + 3) % 16}")
    assert await acts.ack("bob", "new", who.epoch, (5, 0)) == 1
    kept = {name.decode() for name in await acts.raw("bob", "HKEYS", key)}
    assert kept == {"new"} | {f"d{number}" for number in range(16)} - {"d13"}
    # A device not heard of for the retention is forgotten as soon as another one is new.
    for number in range(3):
        await acts.raw("bob", "HSET", key, f"d{number}", f"1-{number}@{now - 8 * DAY_MS}")
    await acts.raw("bob", "HDEL", key, "new")
    assert await acts.ack("bob", "newer", who.epoch, (5, 0)) == 1
    kept = {name.decode() for name in await acts.raw("bob", "HKEYS", key)}
    assert kept == {"newer"} | {f"d{number}" for number in range(3, 16)} - {"d13"}


async def test_an_ack_trims_what_has_expired_and_remembers_the_floor(acts: Acts) -> None:
    await acts.register("bob")
    who = await acts.joined("bob", "s1", device="d1")
    inbox = acts.keys.user("bob").inbox
    now = int(time.time() * 1000)
    await acts.raw("bob", "XADD", inbox, f"{now - 8 * DAY_MS}-3", "m", '"mid":"expired"}')
    await acts.send("alice", "bob")
    await acts.ack("bob", "d1", who.epoch, (5, 0))
    assert await acts.inbox("bob") == ["m"]
    assert await acts.field("bob", "floor") == f"{now - 8 * DAY_MS}-3"


def test_a_cursor_is_read_back_and_anything_else_is_none() -> None:
    assert messages.parse_cursor(messages.cursor("6a", (5, 7))) == ("6a", (5, 7))
    for wrong in (
        "",
        ".",
        "6a",
        "6a.",
        "6a.5",
        "6a.5-",
        "6a.-7",
        "6a.5-7-8",
        "6 a.5-7",
        "é.5-7",
        "6a.\u0665-7",
        f"6a.{'9' * 21}-0",
    ):
        assert messages.parse_cursor(wrong) is None, wrong


def test_the_replayed_push_is_valid_json() -> None:
    tail = b'"mid":"m","from":"a","to":"b","kind":"text","body":[1]}'
    assert orjson.loads(messages.push("6a", messages.Entry((5, 7), b"m", tail)))["cursor"] == "6a.5-7"


def test_a_place_beyond_what_a_stream_can_hold_is_none() -> None:
    most = 2**64 - 1
    assert messages.parse_id(f"{most}-{most}") == (most, most)
    for raw in (f"{most + 1}-0", f"0-{most + 1}"):
        with pytest.raises(ValueError, match="stream id"):
            messages.parse_id(raw)
        assert messages.parse_cursor(f"epoch.{raw}") is None


@pytest.mark.parametrize("metadata", [None, {}, {"body": "{", 'q"': '\\","body":', "ü": "\u2028\n"}])
@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("body", [b"1", b'{"a": [1, "\\""]}', b'"text, \\"body\\":"', b"[" * 5000 + b"]" * 5000])
def test_a_tail_is_taken_apart_as_it_was_put_together(
    metadata: dict[str, str] | None, system: bool, body: bytes
) -> None:
    tail = messages.tail("m", 'a"b', "b\\", 'k","body":1', body, system=system, metadata=metadata)
    before, found = messages.parse_tail(tail)
    assert found == body
    expected: dict[str, object] = {"mid": "m", "from": 'a"b', "to": "b\\", "kind": 'k","body":1'}
    expected |= ({"system": True} if system else {}) | ({} if metadata is None else {"metadata": metadata})
    assert orjson.loads(before) == expected
    with pytest.raises(ValueError, match="tail"):
        messages.parse_tail(b'"mid":"m","from":"a","to":"b"}')
