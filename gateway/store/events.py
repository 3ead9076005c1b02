"""The queue of events for the app's own server: one bounded stream, from which any node takes and sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.store.call import Call, function, text
from gateway.store.keys import DEAD_EVENTS, EVENT_COUNTS, EVENTS, Keys


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        kind: its type, or ``v1:…`` where it goes out in an older form.
        id: the same for every telling of it, so that the receiver can tell a repetition.
        user: whom it is about; events of one user are sent one after the other.
        data: the object that tells it, as JSON.
        timed: whether the data bear a time; else they get the time at which the event was queued.
    """

    kind: str
    id: str
    user: str
    data: bytes
    timed: bool = True


class Queued(NamedTuple):
    """An event with its place in the queue, whose first part is the store's time in Unix ms."""

    place: str
    event: Event

    @property
    def at_ms(self) -> int:
        return int(self.place.partition("-")[0])


class Taken(NamedTuple):
    """What a consumer got.

    Attributes:
        lost: events that overflow has dropped since anybody last asked.
        backlog: how many wait, those taken included.
        cursor: where the search for what others left unfinished goes on.
    """

    lost: int
    backlog: int
    cursor: str
    queued: list[Queued]


def queue(keys: Keys, event: Event, queue_max: int) -> Call:
    """Appends an event; over the limit the oldest go."""
    kind, event_id, user, data, timed = event
    field = "d" if timed else "u"
    return Call(
        keys.events_place,
        ("XADD", EVENTS, "MAXLEN", "~", queue_max, "*", "k", kind, "i", event_id, "w", user, field, data),
    )


def take(keys: Keys, consumer: str, room: int, idle_ms: int, cursor: str) -> Call:
    """Takes up to ``room`` events, first those that others took and have not finished for ``idle_ms``."""
    return function(keys.events_place, "events_take", (EVENTS, EVENT_COUNTS), consumer, room, idle_ms, cursor)


def parse_taken(reply: Any) -> Taken:
    lost, backlog, cursor, *entries = reply
    return Taken(lost, backlog, text(cursor), [_queued(text(place), fields) for place, fields in entries])


def _queued(place: str, flat: list[bytes]) -> Queued:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    timed = b"d" in fields
    data = fields[b"d"] if timed else fields.get(b"u", b"{}")
    # Replaced where it is no text: what somebody has put there by hand must not keep the rest from being taken.
    kind, event_id, user = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"k", b"i", b"w"))
    return Queued(place, Event(kind, event_id, user, data, timed))


def told(keys: Keys, places: Iterable[str]) -> Call:
    """The receiver has these: they leave the queue."""
    return function(keys.events_place, "events_told", (EVENTS, EVENT_COUNTS), *places)


def shelve(keys: Keys, place: str, why: str, dead_max: int) -> Call:
    """An event is given up: it leaves the queue for a shelf of the last ``dead_max``."""
    return function(keys.events_place, "events_shelve", (EVENTS, EVENT_COUNTS, DEAD_EVENTS), place, why, dead_max)


def release(keys: Keys, consumer: str, places: Iterable[str]) -> Call:
    """The consumer will not send these: anybody may take them over at once."""
    return function(keys.events_place, "events_release", (EVENTS,), consumer, *places)


def tidy(keys: Keys) -> Call:
    """Forgets consumers that are gone."""
    return function(keys.events_place, "events_tidy", (EVENTS,))
