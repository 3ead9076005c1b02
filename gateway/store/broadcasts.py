"""Broadcasts: the stream that all nodes read, and what a user takes of it (lua/broadcasts.lua)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.core.session import StreamId
from gateway.store.call import Call, function
from gateway.store.keys import BROADCAST_ENDS, BROADCASTS, Keys
from gateway.store.messages import following, parse_id
from gateway.store.pipeline import Part

READ_BATCH = 16
"""Entries read at a time: of the largest bodies 2 MiB."""

NOT_THERE, DONE, RECALLED_BEFORE = range(3)
"""What ``recall`` has come to."""

_STREAM = (BROADCASTS, BROADCAST_ENDS)
_json = msgspec.json.Encoder().encode


class Broadcast(NamedTuple):
    """One entry of the stream.

    Attributes:
        place: its stream id; the first part is the time, Unix ms.
        op: ``all``, ``online`` or ``recall``.
        target: the place of the one that a recall takes back, as text; empty for others.
        ends_ms: from when on it reaches nobody any more.
        head: the push's tail up to its ``from``.
        rest: the push's tail behind its ``to``.
    """

    place: StreamId
    op: bytes
    target: bytes
    ends_ms: int
    head: bytes
    rest: bytes


def send(
    keys: Keys,
    op: Literal["all", "online"],
    mid: str,
    sender: str,
    kind: str,
    body: bytes,
    *,
    lifetime_ms: int,
    broadcasts_max: int,
) -> Call:
    """Appends a broadcast; replies with its stream id, or empty when there are ``broadcasts_max``."""
    rest = b'%b%b,"body":%b}' % (following(True), _json(kind), body)
    return function(
        keys.broadcasts_place,
        "broadcast",
        _STREAM,
        op,
        mid,
        sender,
        lifetime_ms,
        broadcasts_max,
        _head(mid, sender),
        rest,
    )


def recall(keys: Keys, mid: str, sender: str, more: bytes) -> Call:
    """Takes a broadcast to all back; ``more`` is what the push says beside, with its leading comma."""
    return function(keys.broadcasts_place, "recall_broadcast", _STREAM, mid, sender, _head(mid, sender), b"%b}" % more)


def _head(mid: str, sender: str) -> bytes:
    return b'"mid":%b,"from":%b' % (_json(mid), _json(sender))


def read(keys: Keys, after: StreamId) -> Call:
    """The entries after a place, oldest first, at most ``READ_BATCH``."""
    place = f"({after[0]}-{after[1]}"
    return Call(keys.broadcasts_place, ("XRANGE", BROADCASTS, place, "+", "COUNT", READ_BATCH))


def parse_read(reply: Any) -> list[Broadcast]:
    """The entries, in their order."""
    found = []
    for place, flat in reply:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        found.append(
            Broadcast(
                parse_id(place),
                fields[b"op"],
                fields.get(b"target", b""),
                int(fields[b"ends"]),
                fields[b"head"],
                fields[b"rest"],
            )
        )
    return found


def push(entry: Broadcast, user_id: str) -> bytes:
    """The push of one to users online, byte for byte as the Function composes it."""
    return b'{"type":"message","sent_at":%d,%b,"to":%b%b' % (entry.place[0], entry.head, _json(user_id), entry.rest)


def target_of(recall: Broadcast) -> StreamId:
    """The place of the broadcast that a recall takes back."""
    return parse_id(recall.target)


def take(
    keys: Keys, user_id: str, some: Sequence[Broadcast], inbox_max: int, inbox_bytes_max: int, retention_ms: int
) -> Call:
    """What of these a user has not had yet; replies ``[the last one had, taken now, stopped]``."""
    user = keys.user(user_id)
    words: list[Part] = []
    for each in some:
        words += (f"{each.place[0]}-{each.place[1]}", each.op, each.target, each.ends_ms, each.head, each.rest)
    return function(
        user.partition,
        "take_broadcasts",
        (user.user, user.inbox, user.ack),
        user_id,
        f"{inbox_max} {inbox_bytes_max}",
        retention_ms,
        user.node_channel,
        *words,
    )


class Taken(NamedTuple):
    """What a user has had.

    Attributes:
        seen: the place of the last one.
        taken: how many of them by this call.
        stopped: whether one could not be taken now.
    """

    seen: StreamId
    taken: int
    stopped: bool


def parse_take(reply: Any) -> Taken:
    return Taken(parse_id(reply[0]), reply[1], bool(reply[2]))
