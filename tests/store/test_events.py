"""The queue of events: bounded, shared by all nodes, and nothing in it is lost with one of them."""

from gateway.store import events
from gateway.store.call import Call
from gateway.store.events import Event, Taken
from gateway.store.keys import DEAD_EVENTS, EVENTS
from tests.store.acts import Acts
from tests.waiting import eventually

NEVER_MS = 3_600_000


def event(number: int, user: str = "alice") -> Event:
    return Event("user:connection_status", f"id-{number}", user, b'{"n":%d}' % number)


async def put(acts: Acts, *numbers: int, limit: int = 1000) -> None:
    for number in numbers:
        await acts.do(events.queue(acts.keys, event(number), limit))


async def take(acts: Acts, consumer: str, room: int = 10, idle_ms: int = NEVER_MS, cursor: str = "0-0") -> Taken:
    return events.parse_taken(await acts.do(events.take(acts.keys, consumer, room, idle_ms, cursor)))


def ids(taken: Taken) -> list[str]:
    return [each.event.id for each in taken.queued]


async def test_events_are_taken_once_in_order_with_all_they_bear(acts: Acts) -> None:
    assert (await take(acts, "a")).queued == []
    await put(acts, 1, 2, 3)
    await acts.do(events.queue(acts.keys, event(4)._replace(timed=False), 1000))
    first = await take(acts, "a", 2)
    assert [each.event for each in first.queued] == [event(1), event(2)]
    assert first.backlog == 4
    second = await take(acts, "b")
    assert [each.event for each in second.queued] == [event(3), event(4)._replace(timed=False)]
    assert abs(second.queued[0].at_ms - await acts.store.now_ms()) < 5000
    assert (await take(acts, "b")).queued == []


async def test_no_room_takes_nothing(acts: Acts) -> None:
    await put(acts, 1)
    taken = await take(acts, "a", 0)
    assert (taken.queued, taken.backlog) == ([], 1)
    assert ids(await take(acts, "a")) == ["id-1"]


async def test_what_was_told_is_gone(acts: Acts) -> None:
    await put(acts, 1, 2)
    taken = await take(acts, "a")
    assert await acts.do(events.told(acts.keys, [taken.queued[0].place])) == 1
    # A second teller of the same event counts nothing.
    assert await acts.do(events.told(acts.keys, [taken.queued[0].place])) == 0
    later = await take(acts, "b", idle_ms=0)
    assert (ids(later), later.backlog, later.lost) == (["id-2"], 1, 0)


async def test_what_a_dead_node_took_is_taken_over_after_a_while(acts: Acts) -> None:
    await put(acts, *range(25))
    assert len((await take(acts, "dead", 25)).queued) == 25
    assert (await take(acts, "heir")).queued == []
    heard: list[str] = []
    cursor = "0-0"

    async def all_heard() -> bool:
        nonlocal cursor
        taken = await take(acts, "heir", 10, 50, cursor)
        cursor = taken.cursor
        heard.extend(ids(taken))
        return len(heard) >= 25

    await eventually(all_heard)
    assert heard == [f"id-{number}" for number in range(25)]


async def test_what_is_released_can_be_taken_at_once(acts: Acts) -> None:
    await put(acts, 1, 2)
    taken = await take(acts, "a")
    assert await acts.do(events.release(acts.keys, "a", [taken.queued[1].place])) == 1
    assert ids(await take(acts, "b", idle_ms=60_000)) == ["id-2"]


async def test_over_the_limit_the_oldest_go_and_are_counted_once(acts: Acts) -> None:
    limit = 200
    for number in range(1000):
        await acts.do(events.queue(acts.keys, event(number), limit))
        if number == 0:
            # Somebody holds the oldest: it goes with the others.
            assert ids(await take(acts, "slow", 1)) == ["id-0"]
    left = int(await acts.do(_length(acts)))
    # Whole nodes of the stream are cut off, of 100 entries.
    assert limit <= left < limit + 100
    first = await take(acts, "a", 0)
    assert first.lost == 1000 - left
    assert (await take(acts, "b", 0)).lost == 0
    rest = await take(acts, "a", 1000, idle_ms=0)
    assert ids(rest)[0] == f"id-{1000 - left}"
    assert len(rest.queued) == left
    for each in rest.queued:
        await acts.do(events.told(acts.keys, [each.place]))
    empty = await take(acts, "a")
    assert (empty.lost, empty.backlog) == (0, 0)


async def test_a_stream_removed_by_hand_counts_anew(acts: Acts) -> None:
    await put(acts, 1, 2)
    await acts.do(events.told(acts.keys, [each.place for each in (await take(acts, "a")).queued]))
    await acts.store.topology.master(acts.keys.events_place).execute("DEL", EVENTS)
    await put(acts, 3)
    taken = await take(acts, "a")
    assert (ids(taken), taken.lost) == (["id-3"], 0)
    assert (await take(acts, "a")).lost == 0


async def test_what_is_given_up_stays_on_a_bounded_shelf(acts: Acts) -> None:
    await put(acts, 1, 2, 3)
    for each in (await take(acts, "a")).queued:
        assert await acts.do(events.shelve(acts.keys, each.place, "HTTP 500", 2)) == 1
    taken = await take(acts, "a", idle_ms=0)
    assert (taken.queued, taken.backlog, taken.lost) == ([], 0, 0)
    shelf = await acts.store.topology.master(acts.keys.events_place).execute("XRANGE", DEAD_EVENTS, "-", "+")
    fields = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in shelf]
    assert [each[b"i"] for each in fields] == [b"id-2", b"id-3"]
    assert fields[0][b"why"] == b"HTTP 500"


async def test_consumers_that_still_hold_something_or_are_young_stay(acts: Acts) -> None:
    await put(acts, 1)
    await take(acts, "a")
    assert await acts.do(events.tidy(acts.keys)) == 0
    assert ids(await take(acts, "b", idle_ms=0)) == ["id-1"]


async def test_an_entry_that_somebody_put_there_by_hand_keeps_no_other_from_being_taken(acts: Acts) -> None:
    await acts.store.topology.master(acts.keys.events_place).execute("XADD", EVENTS, "*", "k", b"\xff", "what", "ever")
    await put(acts, 1)
    assert ids(await take(acts, "a")) == ["", "id-1"]


async def test_a_full_store_still_gives_its_events_away(acts: Acts) -> None:
    await put(acts, 1, 2)
    masters = acts.store.topology.masters
    try:
        for master in masters:
            await master.execute("CONFIG", "SET", "maxmemory", 1)
        one, two = (await take(acts, "a")).queued
        assert await acts.do(events.told(acts.keys, [one.place])) == 1
        assert await acts.do(events.shelve(acts.keys, two.place, "HTTP 500", 10)) == 1
    finally:
        for master in masters:
            await master.execute("CONFIG", "SET", "maxmemory", 0)


def _length(acts: Acts) -> Call:
    return Call(acts.keys.events_place, ("XLEN", EVENTS))
