"""Direct messages of the past, read out of the two users' inboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from gateway.services.errors import PARAMETER_INVALID, Refused
from gateway.services.messages import UPDATE_AGE_MS
from gateway.store import recalls
from gateway.store.messages import Entry
from gateway.store.store import Store

SPAN_MS = 14 * 24 * 3_600_000
"""The longest time that one call looks at."""


class Past(NamedTuple):
    """A message as histories show it.

    Attributes:
        content: as it was given: a JSON string gives its text, any other body its JSON text.
        sent_at: Unix ms.
        metadata: what was given along with it; None = the message has none.
    """

    mid: str
    sender: str
    to: str
    kind: str
    content: str
    sent_at: int
    metadata: dict[str, str] | None


class _Tail(Struct):
    mid: str
    from_: str = msgspec.field(name="from")
    to: str
    body: Raw
    kind: str = ""
    metadata: dict[str, str] | None = None


_tail = msgspec.json.Decoder(_Tail).decode
_text = msgspec.json.Decoder(str).decode


class Histories:
    """Reads histories. They reach back as far as inboxes are kept.

    Args:
        store: where the inboxes are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def direct(
        self, user: str, other: str, *, latest_ms: int, earliest_ms: int, include_latest: bool, limit: int
    ) -> list[Past]:
        """The messages between two users in that time, newest first, at most ``limit``.

        Recalled ones are gone, changed ones have their last body. ``include_latest`` is about those sent exactly at
        ``latest_ms``.

        Raises:
            Refused: 1002 the end lies behind the start, or more than 14 days before it.
        """
        if earliest_ms > latest_ms:
            raise Refused(PARAMETER_INVALID, "must not be before endAt: histories are read backwards", "startAt")
        if latest_ms - earliest_ms > SPAN_MS:
            raise Refused(PARAMETER_INVALID, "must lie at most 14 days before startAt", "endAt")
        if not include_latest:
            latest_ms -= 1
        if earliest_ms > latest_ms:
            return []
        # What a user got lies in that user's inbox. One who writes to oneself has but one.
        ways = dict.fromkeys([(other, user), (user, other)])
        found = await asyncio.gather(*(self._one_way(*way, latest_ms, earliest_ms, limit) for way in ways))
        merged = sorted((each for way in found for each in way), key=lambda each: each[0], reverse=True)
        return [past for _, past in merged][:limit]

    async def _one_way(
        self, sender: str, to: str, latest_ms: int, earliest_ms: int, limit: int
    ) -> list[tuple[tuple[int, int], Past]]:
        entries: list[Entry] = []
        onward, missing = b"", limit
        while missing > 0:
            call = recalls.history(
                self._store.keys, sender, to, onward, latest_ms, earliest_ms, latest_ms + UPDATE_AGE_MS, missing
            )
            onward, some = recalls.parse_history(await self._store.execute(call))
            entries += some
            missing -= sum(entry.kind == b"m" for entry in some)
            if not onward:
                break
        return list(_shown(entries))


def _shown(entries: Iterable[Entry]) -> Iterable[tuple[tuple[int, int], Past]]:
    """Messages with their last bodies, each once. Changes stand before what they change: the newest comes first."""
    bodies: dict[str, Raw] = {}
    shown: set[str] = set()
    for entry in entries:
        tail = _tail(b"{" + entry.tail)
        if entry.kind == b"u":
            bodies.setdefault(tail.mid, tail.body)
        elif tail.mid not in shown:
            # A message that a client sent twice under one key is there twice.
            shown.add(tail.mid)
            body = bytes(bodies.get(tail.mid, tail.body))
            yield (
                entry.place,
                Past(tail.mid, tail.from_, tail.to, tail.kind, _content(body), entry.place[0], tail.metadata),
            )


def _content(body: bytes) -> str:
    if body.startswith(b'"'):
        try:
            return _text(body)
        except msgspec.DecodeError:
            # A client may write what is no text, half of a surrogate pair, say.
            pass
    return body.decode()
