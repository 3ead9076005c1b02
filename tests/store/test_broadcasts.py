"""Broadcasts on every kind of store: the stream, what a user takes of it, and what is put off."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from gateway.core.session import START
from gateway.protocol import pushes
from gateway.store import broadcasts, drops, messages
from gateway.store.broadcasts import Broadcast, Taken
from gateway.store.keys import BROADCAST_ENDS, BROADCASTS
from tests.store.acts import NODE, OTHER, RETENTION_MS, Acts, exactly

HOUR_MS = 3_600_000


async def send(acts: Acts, op: str, mid: str, *, lifetime_ms: int = HOUR_MS, most: int = 100) -> bytes:
    return await acts.do(  # type: ignore[no-any-return]
        broadcasts.send(acts.keys, op, mid, "news", "note", b'{"a":1}', lifetime_ms=lifetime_ms, broadcasts_max=most)  # type: ignore[arg-type]
    )


async def known(acts: Acts) -> list[Broadcast]:
    return broadcasts.parse_read(await acts.do(broadcasts.read(acts.keys, START)))


async def take(acts: Acts, user: str, some: Sequence[Broadcast], inbox_max: int = 100) -> Taken:
    call = broadcasts.take(acts.keys, user, some, inbox_max, 1 << 26, RETENTION_MS)
    return broadcasts.parse_take(await acts.do(call))


async def test_a_user_takes_each_once_in_the_order_of_the_stream(acts: Acts) -> None:
    await acts.register("alice")
    who = await acts.joined("alice", "s1")
    await send(acts, "all", "m1")
    await send(acts, "online", "m2")
    await send(acts, "all", "m3")
    some = await known(acts)
    assert [each.op for each in some] == [b"all", b"online", b"all"]
    async with acts.hearing("alice", NODE, OTHER) as (ear, nobody):
        assert await take(acts, "alice", some[:1]) == Taken(some[0].place, 1, False)
        # Another node offers the same, and more.
        assert await take(acts, "alice", some) == Taken(some[2].place, 2, False)
        assert await take(acts, "alice", some[:2]) == Taken(some[2].place, 0, False)
        first, second, third = await ear.heard()
        assert await nobody.heard() == []
    assert (first[:6], second[:7], third[:6]) == (b"malice", b"aalice\n", b"malice")
    assert messages.parse_id(second.split(b"\n")[1]) == some[1].place
    pushed = exactly(second.split(b"\n", 2)[2], pushes.Message)
    # What the node says itself after a break is composed as the Function composes it.
    assert broadcasts.push(some[1], "alice") == second.split(b"\n", 2)[2]
    assert (pushed.mid, pushed.to, pushed.system, pushed.cursor) == ("m2", "alice", True, None)
    assert pushed.sent_at == some[1].place[0]
    entries = await acts.entries("alice")
    assert [each.kind for each in entries] == [b"n", b"n"]
    assert [messages.push(who.epoch, each) for each in entries] == [
        payload.split(b"\n", 2)[2] for payload in (first, third)
    ]
    # The next session is told what the user has had.
    reply = await acts.connect(await acts.joined("alice", "s2"))
    assert messages.parse_id(reply[9]) == some[2].place


async def test_who_is_offline_deactivated_or_unknown_takes_nothing_and_loses_nothing(acts: Acts) -> None:
    await acts.register("alice")
    await send(acts, "all", "m1")
    some = await known(acts)
    for user in ("alice", "nobody"):
        assert await take(acts, user, some) == Taken(START, 0, True)
    who = await acts.joined("alice", "s1")
    assert (await take(acts, "alice", some)).taken == 1
    await acts.disconnect(who)
    await acts.do(drops.deactivate(acts.keys, "alice", ""))
    await send(acts, "all", "m2")
    assert (await take(acts, "alice", await known(acts))).stopped


async def test_what_nobody_heard_is_put_off_with_all_that_follows(acts: Acts) -> None:
    await acts.register("alice")
    await acts.joined("alice", "s1")
    await send(acts, "all", "m1")
    await send(acts, "online", "m2")
    await send(acts, "all", "m3")
    some = await known(acts)
    # The user's node is not subscribed: it has died, and its lease has not ended yet.
    assert await take(acts, "alice", some) == Taken(some[0].place, 1, True)
    assert await acts.inbox("alice") == ["m1"]
    async with acts.hearing("alice", NODE) as (ear,):
        assert await take(acts, "alice", some) == Taken(some[2].place, 2, False)
        assert len(await ear.heard()) == 2
    assert await acts.inbox("alice") == ["m1", "m3"]


async def test_a_full_inbox_puts_off_and_registering_late_passes_over(acts: Acts) -> None:
    at_ms = messages.parse_id(await send(acts, "all", "m1"))[0]
    while await acts.store.now_ms() <= at_ms:
        pass
    await acts.register("alice")
    await acts.joined("alice", "s1")
    await send(acts, "all", "m2")
    await send(acts, "all", "m3")
    some = await known(acts)
    assert await take(acts, "alice", some[:1]) == Taken(some[0].place, 0, False)
    assert await acts.inbox("alice") == []
    assert await take(acts, "alice", some, inbox_max=1) == Taken(some[1].place, 1, True)
    assert await acts.inbox("alice") == ["m2"]
    assert await take(acts, "alice", some) == Taken(some[2].place, 1, False)


async def test_what_has_ended_leaves_the_stream_and_reaches_nobody(acts: Acts) -> None:
    await acts.register("alice")
    await acts.joined("alice", "s1")
    await send(acts, "all", "m1", lifetime_ms=1)
    (ended,) = await known(acts)
    while await acts.store.now_ms() <= ended.ends_ms:
        pass
    assert await take(acts, "alice", [ended]) == Taken(ended.place, 0, False)
    assert await acts.inbox("alice") == []
    assert await send(acts, "all", "m2", most=1)
    assert [each.head for each in await known(acts)] == [b'"mid":"m2","from":"news"']
    assert await send(acts, "online", "m3", most=1) == b""


async def test_a_recall_finds_its_broadcast_in_the_inbox_of_those_who_took_it(acts: Acts) -> None:
    await acts.register("alice", "bob")
    for user in ("alice", "bob"):
        await acts.joined(user, user)
    await send(acts, "all", "m1")
    await send(acts, "all", "m2")
    before = await known(acts)
    await take(acts, "alice", before)
    assert await acts.do(broadcasts.recall(acts.keys, "m1", "other", b"")) == broadcasts.NOT_THERE
    assert await acts.do(broadcasts.recall(acts.keys, "m1", "news", b',"extra":"x"')) == broadcasts.DONE
    assert await acts.do(broadcasts.recall(acts.keys, "m1", "news", b"")) == broadcasts.RECALLED_BEFORE
    second, recall = await known(acts)
    assert (recall.op, broadcasts.target_of(recall), recall.ends_ms) == (b"recall", before[0].place, before[0].ends_ms)
    async with acts.hearing("alice", NODE) as (ear,):
        assert await take(acts, "alice", [second, recall]) == Taken(recall.place, 1, False)
        (payload,) = await ear.heard()
    push = exactly(payload.split(b"\n", 2)[2], pushes.Recalled)
    assert (push.mid, push.from_, push.to, push.extra) == ("m1", "news", "alice", "x")
    assert [(each.kind, orjson.loads(b"{" + each.tail)["mid"]) for each in await acts.entries("alice")] == [
        (b"n", "m2"),
        (b"r", "m1"),
    ]
    # Who learns of both at once never has the message, nor hears of the recall.
    assert await take(acts, "bob", [second, recall]) == Taken(recall.place, 1, False)
    assert await acts.inbox("bob") == ["m2"]
    # A node that has not learnt of the recall yet brings the message to nobody who has.
    assert (await take(acts, "bob", before)).taken == 0


async def test_the_stream_and_its_ends_share_a_slot(acts: Acts) -> None:
    await send(acts, "all", "m1")
    place = acts.keys.broadcasts_place
    assert await acts.store.topology.master(place).execute("EXISTS", BROADCASTS, BROADCAST_ENDS) == 2
