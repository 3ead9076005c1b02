"""Directories: who is registered, deactivated, muted or banned, each a sorted set a partition."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from gateway.store.call import Call, function
from gateway.store.keys import Keys

DirectoryName = Literal["users", "deactivated", "muted", "bans"]

FOREVER = 1 << 62
"""The time of what has no end; in Redis it is infinite."""


class Entry(NamedTuple):
    """One entry; directories are in this order. ``at_ms`` is Unix ms: since when the user is in it, or until when."""

    at_ms: int
    user: str


Place = tuple[int, bytes]
"""An entry as it is merged: thousands are for one page, of which a hundred become an ``Entry``."""


def place_of(entry: Entry) -> Place:
    """Where an entry stands in its directory."""
    return entry.at_ms, entry.user.encode()


def entry_of(place: Place) -> Entry:
    """The entry that stands there."""
    at_ms, user = place
    return Entry(at_ms, user.decode())


class Window(NamedTuple):
    """What one partition holds of a listing.

    Attributes:
        below: how many of its entries are before the listing's least time.
        places: the entries asked for, in order.
    """

    below: int
    places: list[Place]


def count(keys: Keys, partition: int, name: DirectoryName) -> Call:
    """How many entries one partition has."""
    return Call(partition, ("ZCARD", keys.directory(partition, name)))


def at_rank(keys: Keys, partition: int, name: DirectoryName, rank: int) -> Call:
    """The entry with so many before it in its partition."""
    return Call(partition, ("ZRANGE", keys.directory(partition, name), rank, rank, "WITHSCORES"))


def parse_at_rank(reply: Any) -> int | None:
    """Its time; None where there is none."""
    if not reply:
        return None
    row = reply[0] if isinstance(reply[0], list | tuple) else reply
    at = float(row[1])
    return FOREVER if at == float("inf") else int(at)


def window(keys: Keys, partition: int, name: DirectoryName, least_ms: int | None, skip: int, most: int) -> Call:
    """A partition's entries from a time on (None = from the first), without the first ``skip``."""
    least = "-inf" if least_ms is None else str(least_ms)
    return function(partition, "window", (keys.directory(partition, name),), least, skip, most)


def parse_window(reply: Any) -> Window:
    below, *flat = reply
    return Window(below, list(zip(map(_at_ms, flat[1::2]), flat[::2], strict=True)))


def _at_ms(score: bytes) -> int:
    return FOREVER if score == b"inf" else int(score)
