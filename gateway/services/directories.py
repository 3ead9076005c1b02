"""Pages of what is spread over the partitions, in one order, with bounded work whatever the page and the number.

A directory is a sorted set a partition. Users fall evenly over the partitions, so a page deep inside a listing begins
in each partition at about the same fraction of its entries: the entry there is a sample of the time at which the page
begins. From a time that is surely early enough, each partition then says how many of its entries are before it, which
gives that time's exact place, and what follows it, of which the page is the smallest.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from gateway.services.errors import PARAMETER_INVALID, Refused
from gateway.store import directories
from gateway.store.directories import DirectoryName, Entry, Place, Window
from gateway.store.store import Store

SAMPLE_QUANTILES = (0.4, 0.1)
"""Which of the samples is taken for the beginning of a page, should the one before prove too late. With 256 partitions
the first is so in one page of a thousand."""

PACE = 32
"""Partitions whose entries are decoded in one go: a fraction of a millisecond."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, and how much there is in all."""

    entries: list[Entry]
    total: int


class Directory:
    """One directory over all partitions."""

    def __init__(self, store: Store, name: DirectoryName) -> None:
        self._store = store
        self._name = name

    async def count(self) -> int:
        """How many entries there are."""
        return sum(await self._counts())

    async def page(self, offset: int, limit: int, *, newest_first: bool = False) -> Page:
        """The entries from a place on, in the order of time."""
        counts = await self._counts()
        total = sum(counts)
        start, stop = offset, min(offset + limit, total)
        if newest_first:
            start, stop = max(total - offset - limit, 0), max(total - offset, 0)
        if start >= stop:
            return Page([], total)
        entries = [directories.entry_of(place) for place in await self._slice(counts, start, stop)]
        return Page(entries[::-1] if newest_first else entries, total)

    async def after(self, entry: Entry | None, limit: int) -> list[Entry]:
        """The entries that follow one, None = the first ones; one more than ``limit`` where there are more."""

        def end(_: int, places: Sequence[Place]) -> int:
            return (0 if entry is None else bisect_right(places, directories.place_of(entry))) + limit + 1

        least = None if entry is None else entry.at_ms
        below, places = await self._smallest(least, limit + 1, end)
        stop = end(below, places)
        return [directories.entry_of(place) for place in places[stop - limit - 1 : stop]]

    async def _counts(self) -> list[int]:
        keys = self._store.keys
        calls = [directories.count(keys, partition, self._name) for partition in range(keys.partitions)]
        return [int(reply) for reply in await self._store.execute_all(calls)]

    async def _slice(self, counts: Sequence[int], start: int, stop: int) -> list[Place]:
        """What stands there in the listing, less where entries have gone meanwhile."""
        fraction = start / sum(counts)
        # How far before the page's beginning the sample is, about: a third of the spread of the places in a partition.
        early = math.sqrt(sum(counts) * fraction * (1 - fraction) * len(counts)) / 3
        for least in await self._beginnings(counts, start):
            expected = stop if least is None else stop - start + int(early)
            below, places = await self._smallest(least, expected, lambda below, _: stop - below)
            if below <= start:
                return places[start - below : stop - below]
        raise AssertionError("from the first entry on nothing is too late")

    async def _beginnings(self, counts: Sequence[int], start: int) -> list[int | None]:
        """Times at which a listing that is to reach a place may begin, each surer than the one before."""
        if start <= len(counts):
            return [None]
        keys, total = self._store.keys, sum(counts)
        calls = [
            directories.at_rank(keys, partition, self._name, start * count // total)
            for partition, count in enumerate(counts)
            if count
        ]
        found = [directories.parse_at_rank(reply) for reply in await self._store.execute_all(calls)]
        samples = sorted(at_ms for at_ms in found if at_ms is not None)
        return [*(samples[int(len(samples) * quantile)] for quantile in SAMPLE_QUANTILES if samples), None]

    async def _smallest(
        self, least: int | None, expected: int, end: Callable[[int, Sequence[Place]], int]
    ) -> tuple[int, list[Place]]:
        """How many entries are before the least time, and what follows, in order as far as it was asked for.

        Args:
            least: the time from which on.
            expected: how many will be needed, about.
            end: (entries before the least time, those found after it) → how many of the latter are needed.
        """
        partitions = self._store.keys.partitions
        share = expected / partitions
        most = math.ceil(share + 2 * math.sqrt(share) + 2)
        windows = [Window(0, []) for _ in range(partitions)]
        open_ended = list(range(partitions))
        while open_ended:
            await self._extend(windows, open_ended, least, most)
            below = sum(window.below for window in windows)
            places = sorted(chain.from_iterable(window.places for window in windows))
            stop = end(below, places)
            if stop <= 0:
                break
            # A partition that gave all it was asked for may hold more of what is wanted, unless its last is past it.
            last = places[stop - 1] if stop <= len(places) else None
            open_ended = [
                each
                for each in open_ended
                if len(windows[each].places) >= most and (last is None or windows[each].places[-1] < last)
            ]
            most *= 2
        return below, places

    async def _extend(self, windows: list[Window], which: Sequence[int], least: int | None, most: int) -> None:
        """Reads on in these partitions until each window has so many entries, or all."""
        for start in range(0, len(which), PACE):
            some = [(each, len(windows[each].places)) for each in which[start : start + PACE]]
            calls = [
                directories.window(self._store.keys, each, self._name, least, have, most - have) for each, have in some
            ]
            for (each, _), reply in zip(some, await self._store.execute_all(calls), strict=True):
                found = directories.parse_window(reply)
                windows[each] = Window(found.below, windows[each].places + found.places)


def entry_of(token: str | None) -> Entry | None:
    """The entry behind a page token. Raises Refused 1002 for what was never given out."""
    if token is None:
        return None
    at, _, user = token.partition(".")
    try:
        at_ms = int(at, 16)
    except ValueError:
        at_ms = -1
    if not user or not 0 <= at_ms < 1 << 53 or at != f"{at_ms:x}":
        raise Refused(PARAMETER_INVALID, "page: not a page that was given out", "page")
    return Entry(at_ms, user)


def token_of(entry: Entry) -> str:
    """The token of the page that starts after an entry."""
    return f"{entry.at_ms:x}.{entry.user}"
