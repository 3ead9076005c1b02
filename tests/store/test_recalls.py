"""recall, update and history on every kind of store."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson
import pytest

from gateway.protocol import pushes
from gateway.store import drops, messages, recalls
from gateway.store.call import Call
from gateway.store.recalls import DONE, NOT_THERE, RECALLED_BEFORE, TOO_OLD, WHOLE, Stretch, Target
from tests.store.acts import DAY_MS, NODE, OTHER, RETENTION_MS, Acts, exactly

AWKWARD = "a+b=c_d.e@f-G"
TARGET = Target("m1", "alice", "bob")
HOUR_MS = 3_600_000


def now_ms() -> int:
    return int(time.time() * 1000)


async def carried_out(acts: Acts, call: Callable[[bytes, int], Call]) -> tuple[int, int]:
    """(what it has come to, how many calls it took)."""
    state, onward, calls = NOT_THERE, b"", 0
    while True:
        state, onward = recalls.parse_change(await acts.do(call(onward, state)))
        calls += 1
        if not onward:
            return state, calls


async def recall(
    acts: Acts,
    target: Target = TARGET,
    user: str = "bob",
    *,
    more: bytes = b"",
    within: Stretch = WHOLE,
    notice_max: int = 0,
    once: bool = False,
) -> int:
    def call(onward: bytes, state: int) -> Call:
        return recalls.recall(acts.keys, user, target, more, within, onward, state, notice_max, once)

    state, _ = await carried_out(acts, call)
    return state


async def update(
    acts: Acts,
    body: str = '"new"',
    target: Target = TARGET,
    user: str = "bob",
    *,
    within: Stretch = WHOLE,
    age_ms: int = DAY_MS,
    notice_max: int = 0,
) -> int:
    more = f',"body":{body}'.encode()
    state, _ = await carried_out(
        acts, lambda onward, _: recalls.update(acts.keys, user, target, more, within, onward, age_ms, notice_max)
    )
    return state


async def kinds(acts: Acts, user: str = "bob") -> list[tuple[str, str]]:
    """What waits: kind and mid of each entry."""
    return [(each.kind.decode(), orjson.loads(b"{" + each.tail)["mid"]) for each in await acts.entries(user)]


async def placed(acts: Acts, at_ms: int, mid: str, *, kind: str = "m", sender: str = "alice") -> None:
    """An entry of another time."""
    tail = f'"mid":"{mid}","from":"{sender}","to":"bob","kind":"text","body":1}}'
    await acts.raw("bob", "XADD", acts.keys.user("bob").inbox, f"{at_ms}-0", kind, tail)


async def test_a_recalled_message_goes_and_a_note_and_a_push_stay(acts: Acts) -> None:
    await acts.register(AWKWARD)
    one = await acts.joined(AWKWARD, "s1", NODE)
    await acts.joined(AWKWARD, "s2", OTHER)
    for mid in ("m0", "m1", "m2"):
        await acts.send("alice", AWKWARD, mid=mid)
    target = Target("m1", "alice", AWKWARD)
    more = b',"admin":true,"extra":"f\xc3\xbcr \\"alle\\""'
    async with acts.hearing(AWKWARD, NODE, OTHER) as ears:
        assert await recall(acts, target, AWKWARD, more=more) == DONE
        heard = [await ear.heard() for ear in ears]
    assert heard[0] == heard[1]
    [payload] = heard[0]
    user, place, push = payload[1:].split(b"\n", 2)
    assert (payload[:1], user.decode()) == (b"m", AWKWARD)
    recalled = exactly(push, pushes.Recalled)
    assert (recalled.mid, recalled.from_, recalled.to) == ("m1", "alice", AWKWARD)
    assert (recalled.admin, recalled.extra) == (True, 'für "alle"')
    assert recalled.cursor == f"{one.epoch}.{place.decode()}"
    assert recalled.at == messages.parse_id(place)[0]
    assert await kinds(acts, AWKWARD) == [("m", "m0"), ("m", "m2"), ("r", "m1")]
    # The replay composes in Python what the live push is composed of in Lua.
    assert messages.push(one.epoch, (await acts.entries(AWKWARD))[-1]) == push


async def test_an_updated_message_stays_and_the_last_note_alone_follows_it(acts: Acts) -> None:
    await acts.register("bob")
    one = await acts.joined("bob", "s1", NODE)
    await acts.send("alice", "bob", mid="m1")
    async with acts.hearing("bob", NODE) as (ear,):
        assert await update(acts, '{"text": "ü"}') == DONE
        assert await update(acts, '"newer"') == DONE
        heard = await ear.heard()
    updated = [exactly(payload.split(b"\n", 2)[2], pushes.Updated) for payload in heard]
    assert [bytes(each.body) for each in updated] == ['{"text": "ü"}'.encode(), b'"newer"']
    assert await kinds(acts) == [("m", "m1"), ("u", "m1")]
    assert messages.push(one.epoch, (await acts.entries("bob"))[-1]) == heard[-1].split(b"\n", 2)[2]


async def test_a_recall_takes_the_updates_with_it(acts: Acts) -> None:
    await acts.register("bob")
    await acts.send("alice", "bob", mid="m1")
    await update(acts, '"secret"')
    assert await recall(acts) == DONE
    assert await kinds(acts) == [("r", "m1")]


async def test_a_second_recall_changes_nothing_and_an_update_comes_too_late(acts: Acts) -> None:
    await acts.register("bob")
    await acts.joined("bob", "s1", NODE)
    await acts.send("alice", "bob", mid="m1")
    assert await recall(acts) == DONE
    async with acts.hearing("bob", NODE) as (ear,):
        assert await recall(acts) == RECALLED_BEFORE
        assert await update(acts) == RECALLED_BEFORE
        assert await ear.heard() == []
    assert await kinds(acts) == [("r", "m1")]


@pytest.mark.parametrize(
    "target",
    [
        Target("m2", "alice", "bob"),
        Target("m1", "mallory", "bob"),
        Target("m1", "alice", "bobby"),
        Target("m1", "alice", "bob", system=True),
        Target('m1","from":"alice","to":"bob', "alice", "bob"),
    ],
)
async def test_only_the_message_meant_is_touched(acts: Acts, target: Target) -> None:
    await acts.register("bob")
    await acts.send("alice", "bob", mid="m1")
    assert await recall(acts, target) == NOT_THERE
    assert await update(acts, target=target) == NOT_THERE
    assert await kinds(acts) == [("m", "m1")]


async def test_a_system_message_is_recalled_as_one(acts: Acts) -> None:
    await acts.register("bob")
    tail = messages.tail("m1", "alice", "bob", "text", b"1", system=True)
    place, command = messages.relay(acts.keys, "alice", "bob", "s", "m1", tail, 100, RETENTION_MS, 0, 1 << 26)
    await acts.do(Call(place, command))
    assert await recall(acts) == NOT_THERE
    assert await recall(acts, TARGET._replace(system=True)) == DONE
    assert await kinds(acts) == [("r", "m1")]


async def test_nobody_is_nobody_and_a_deleted_inbox_stays_deleted(acts: Acts) -> None:
    assert await recall(acts) == NOT_THERE
    await acts.register("bob")
    await acts.send("alice", "bob", mid="m1")
    await acts.do(drops.deactivate(acts.keys, "bob", ""))
    assert await recall(acts) == NOT_THERE
    assert await recall(acts, notice_max=100) == NOT_THERE
    assert await update(acts) == NOT_THERE
    assert await kinds(acts) == []


async def test_a_message_stored_twice_under_one_key_goes_twice(acts: Acts) -> None:
    await acts.register("bob")
    for mid in ("m1", "m0", "m1"):
        await acts.send("alice", "bob", mid=mid)
    assert await recall(acts) == DONE
    assert await kinds(acts) == [("m", "m0"), ("r", "m1")]


async def test_a_retry_does_not_bring_a_recalled_message_back(acts: Acts) -> None:
    await acts.register("bob")
    first = await acts.send("alice", "bob", mid="m1")
    await update(acts)
    # Of what was only changed the answer is still the first one.
    assert await acts.send("alice", "bob", mid="m1", flags="r") == first
    await recall(acts)
    assert (await acts.send("alice", "bob", mid="m1", flags="r"))[0] == 0
    assert await kinds(acts) == [("r", "m1")]


async def test_a_time_narrows_the_search_and_never_hides_what_came_of_it(acts: Acts) -> None:
    await acts.register("bob")
    sent_at = now_ms() - HOUR_MS
    await placed(acts, sent_at, "m1")
    around, elsewhere = Stretch(str(sent_at), str(sent_at)), Stretch(str(sent_at + 1), str(sent_at + 1))
    assert await recall(acts, within=elsewhere) == NOT_THERE
    assert await update(acts, within=elsewhere) == NOT_THERE
    assert await update(acts, within=around) == DONE
    # The note of the update lies an hour behind the stretch, and is found all the same.
    assert await recall(acts, within=around) == DONE
    assert await kinds(acts) == [("r", "m1")]
    assert await recall(acts, within=around) == RECALLED_BEFORE


async def test_a_message_of_more_than_a_day_is_not_changed(acts: Acts) -> None:
    await acts.register("bob")
    await placed(acts, now_ms() - 25 * HOUR_MS, "m0")
    await placed(acts, now_ms() - 23 * HOUR_MS, "m1")
    assert await update(acts, target=TARGET._replace(mid="m0")) == TOO_OLD
    assert await update(acts) == DONE
    assert await update(acts, target=TARGET._replace(mid="m0"), age_ms=0) == DONE
    assert await kinds(acts) == [("m", "m0"), ("m", "m1"), ("u", "m1"), ("u", "m0")]


async def test_a_long_inbox_is_searched_in_turns(acts: Acts) -> None:
    await acts.register("bob")
    await acts.send("alice", "bob", mid="m1")
    await update(acts, '"early"')
    # By count, and by size: a mebibyte ends a turn as well.
    for number in range(700):
        await acts.send("alice", "bob", mid=f"n{number}", inbox_max=1000)
    for number in range(24):
        await acts.send("alice", "bob", mid=f"l{number}", body=f'"{"x" * 131_000}"', inbox_max=1000)
    await update(acts, '"late"')

    def call(onward: bytes, state: int) -> Call:
        return recalls.recall(acts.keys, "bob", TARGET, b"", WHOLE, onward, state, 0, True)

    state, calls = await carried_out(acts, call)
    assert (state, calls >= 4) == (DONE, True)
    assert [each for each in await kinds(acts) if each[1] == "m1"] == [("r", "m1")]


@pytest.mark.parametrize(("once", "expected"), [(True, 1), (False, 2)])
async def test_a_message_that_is_there_once_is_not_looked_for_behind_itself(
    acts: Acts, once: bool, expected: int
) -> None:
    await acts.register("bob")
    for number in range(300):
        await acts.send("alice", "bob", mid=f"n{number}", inbox_max=1000)
    await acts.send("alice", "bob", mid="m1", inbox_max=1000)

    def call(onward: bytes, state: int) -> Call:
        return recalls.recall(acts.keys, "bob", TARGET, b"", WHOLE, onward, state, 0, once)

    assert await carried_out(acts, call) == (DONE, expected)


async def test_whoever_has_no_copy_is_told_while_there_is_somebody_to_tell_and_room(acts: Acts) -> None:
    await acts.register("alice")
    assert await recall(acts, user="alice", notice_max=100) == NOT_THERE
    assert await kinds(acts, "alice") == []
    await acts.joined("alice", "s1", NODE)
    async with acts.hearing("alice", NODE) as (ear,):
        assert await update(acts, user="alice", age_ms=0, notice_max=100) == DONE
        assert await update(acts, '"newer"', user="alice", age_ms=0, notice_max=100) == DONE
        assert len(await ear.said(b"m", pushes.Updated)) == 2
        assert await kinds(acts, "alice") == [("u", "m1")]
        await acts.send("bob", "alice", mid="m2")
        assert len(await ear.said(b"m", pushes.Message)) == 1
        assert await recall(acts, TARGET._replace(mid="m3"), "alice", notice_max=2) == NOT_THERE
        assert await recall(acts, user="alice", notice_max=2) == DONE
        assert await recall(acts, user="alice", notice_max=100) == RECALLED_BEFORE
        [pushed] = await ear.said(b"m", pushes.Recalled)
        assert (pushed.from_, pushed.to) == ("alice", "bob")
    assert await kinds(acts, "alice") == [("m", "m2"), ("r", "m1")]


async def test_a_device_that_is_away_is_somebody_to_tell(acts: Acts) -> None:
    await acts.register("alice")
    who = await acts.joined("alice", "s1", NODE, device="phone")
    await acts.ack("alice", "phone", who.epoch, (1, 0))
    await acts.disconnect(who)
    assert await recall(acts, user="alice", notice_max=100) == DONE
    assert await kinds(acts, "alice") == [("r", "m1")]


async def test_the_senders_copy_goes_with_the_message(acts: Acts) -> None:
    await acts.register("alice")
    tail = b'"mid":"m1","from":"alice","to":"bob","kind":"text","body":1,"device":"phone"}'
    await acts.do(messages.echo(acts.keys, "alice", "", tail, 100, RETENTION_MS, 1 << 26))
    assert await update(acts, user="alice", age_ms=0) == DONE
    assert await recall(acts, user="alice") == DONE
    assert await kinds(acts, "alice") == [("r", "m1")]


async def history(
    acts: Acts, latest_ms: int, earliest_ms: int = 0, *, wanted: int = 100, changes_ms: int = 2**53
) -> list[tuple[str, str]]:
    """Kind and mid of what is found of alice's messages to bob, in the order in which it is found."""
    found: list[messages.Entry] = []
    onward = b""
    while True:
        left = wanted - sum(each.kind == b"m" for each in found)
        call = recalls.history(acts.keys, "alice", "bob", onward, latest_ms, earliest_ms, changes_ms, left)
        onward, some = recalls.parse_history(await acts.do(call))
        found += some
        if not onward:
            return [(each.kind.decode(), orjson.loads(b"{" + each.tail)["mid"]) for each in found]


async def test_a_history_is_one_way_newest_first_within_its_time(acts: Acts) -> None:
    await acts.register("bob")
    start = now_ms() - HOUR_MS
    for number in range(5):
        await placed(acts, start + number, f"m{number}")
        await acts.raw(
            "bob",
            "XADD",
            acts.keys.user("bob").inbox,
            f"{start + number}-1",
            "m",
            '"mid":"x","from":"carol","to":"bob"}',
        )
    await placed(acts, start + 5, "hidden", kind="n")
    await placed(acts, start + 6, "gone", kind="r")
    assert await history(acts, 2**53) == [("m", f"m{number}") for number in (4, 3, 2, 1, 0)]
    assert await history(acts, start + 3, start + 1) == [("m", "m3"), ("m", "m2"), ("m", "m1")]
    assert await history(acts, start + 3, wanted=2) == [("m", "m3"), ("m", "m2")]
    assert await history(acts, start - 1) == []


async def test_a_history_tells_what_changed_a_message_later(acts: Acts) -> None:
    await acts.register("bob")
    start = now_ms() - HOUR_MS
    await placed(acts, start, "m1")
    await placed(acts, start + 1, "m2")
    await update(acts)
    assert await history(acts, start) == [("u", "m1"), ("m", "m1")]
    assert await history(acts, start + 1) == [("u", "m1"), ("m", "m2"), ("m", "m1")]
    await recall(acts)
    assert await history(acts, start + 1) == [("m", "m2")]


async def test_a_history_shows_no_system_messages(acts: Acts) -> None:
    await acts.register("bob")
    for system in (True, False):
        tail = messages.tail(f"m{system}", "alice", "bob", "text", b"1", system=system)
        place, command = messages.relay(acts.keys, "alice", "bob", "s", "m", tail, 100, RETENTION_MS, 0, 1 << 26)
        await acts.do(Call(place, command))
    assert await history(acts, 2**53) == [("m", "mFalse")]


async def test_a_long_inbox_is_read_in_turns(acts: Acts) -> None:
    await acts.register("bob")
    await acts.send("alice", "bob", mid="first")
    for number in range(600):
        await acts.send("carol", "bob", mid=f"n{number}", inbox_max=1000)
    await acts.send("alice", "bob", mid="last", inbox_max=1000)
    assert await history(acts, 2**53) == [("m", "last"), ("m", "first")]
