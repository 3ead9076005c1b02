"""Direct messages of the past, read out of the two users' inboxes."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gateway.core.session import StreamId
from gateway.services.errors import PARAMETER_INVALID, Refused
from gateway.services.messages import UPDATE_AGE_MS
from gateway.store import messages, recalls
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


class _Head(Struct):
    mid: str
    from_: str = msgspec.field(name="from")
    to: str
    kind: str = ""
    metadata: dict[str, str] | None = None


_head = msgspec.json.Decoder(_Head).decode
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
    ) -> list[tuple[StreamId, Past]]:
        reading, onward = _Reading(), b""
        while True:
            call = recalls.history(
                self._store.keys,
                sender,
                to,
                onward,
                latest_ms,
                earliest_ms,
                latest_ms + UPDATE_AGE_MS,
                limit - reading.taken,
            )
            onward, entries = recalls.parse_history(await self._store.execute(call))
            # Decoded here and not in the end: large bodies take their time, and others get theirs in between.
            for entry in entries:
                reading.take(entry)
            if not onward or reading.taken >= limit:
                return reading.found


class _Reading:
    """Puts messages together with what changed them, which stands before them: the newest comes first.

    Attributes:
        taken: messages seen.
        found: them, each once and with its last body.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.found: list[tuple[StreamId, Past]] = []
        self._bodies: dict[str, bytes] = {}
        self._shown: set[str] = set()

    def take(self, entry: Entry) -> None:
        raw, body = messages.parse_tail(entry.tail)
        head = _head(raw)
        if entry.kind == b"u":
            self._bodies.setdefault(head.mid, body)
            return
        self.taken += 1
        # A message that a client sent twice under one key is there twice.
        if head.mid not in self._shown:
            self._shown.add(head.mid)
            content = _content(self._bodies.get(head.mid, body))
            past = Past(head.mid, head.from_, head.to, head.kind, content, entry.place[0], head.metadata)
            self.found.append((entry.place, past))


def _content(body: bytes) -> str:
    if body.startswith(b'"'):
        try:
            return _text(body)
        except msgspec.DecodeError:
            # A client may write what is no text, half of a surrogate pair, say.
            pass
    return body.decode()
