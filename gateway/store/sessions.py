"""Sessions in Redis: connect, reclaim, refresh, disconnect, and looking at them."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Struct

from gateway.core.session import Session
from gateway.protocol.commands import Platform
from gateway.store.call import Call, function, text
from gateway.store.keys import Keys


class SessionRecord(Struct, frozen=True):
    """One live session as Redis knows it. Times are Unix ms."""

    session: str
    node: str
    device: str | None
    platform: str
    connected_at: int
    issued_at: int
    jti: str
    address: str


class PresenceRecord(Struct, frozen=True):
    """A user's presence; ``visible`` is false for a watcher whom the user has blocked."""

    visible: bool
    online: bool
    version: int
    last_seen: int | None
    platforms: list[Platform]


def _registration(keys: Keys, name: str, session: Session, incarnation: str, *rest: str | int) -> Call:
    user = keys.user(session.user)
    return function(
        user.partition,
        name,
        (
            user.user,
            user.sessions,
            keys.held(user.partition, incarnation),
            user.revoked,
            user.inbox,
            user.ack,
            keys.directory(user.partition, "online"),
            keys.epoch(user.partition),
        ),
        session.user,
        session.id,
        incarnation,
        session.device or "",
        session.platform,
        session.issued_at,
        session.jti,
        session.address,
        *rest,
        user.node_channel,
        user.watch_channel,
    )


def connect(
    keys: Keys,
    session: Session,
    incarnation: str,
    *,
    device_policy: str,
    sessions_max: int,
    since: tuple[str, str] | None,
    retention_ms: int,
) -> Call:
    """May the session live; if so it does from here on.

    The reply is ``[0, connected_at, epoch, start, head, recovered, muted, order, others, broadcast_seen]`` or
    ``[code, until]``.
    """
    epoch, place = since or ("", "")
    return _registration(keys, "connect", session, incarnation, device_policy, sessions_max, epoch, place, retention_ms)


def reclaim(keys: Keys, session: Session, incarnation: str, *, device_policy: str) -> Call:
    """Registers a session again after a break.

    The reply is ``[0, muted, head, broadcast_seen, anew, epoch, start]`` or ``[code, until]``; ``start`` is empty where
    the session's epoch goes on.
    """
    return _registration(
        keys, "reclaim", session, incarnation, device_policy, 0, session.order, session.epoch, session.connected_at
    )


def refresh(keys: Keys, session: Session, incarnation: str, issued_at: int, jti: str) -> Call:
    """Swaps a live session's token; the reply is ``[0, 0]`` or ``[code, until]``."""
    user = keys.user(session.user)
    return function(
        user.partition,
        "refresh",
        (user.user, user.sessions, user.revoked),
        session.id,
        incarnation,
        issued_at,
        jti,
    )


REMOVED, NOT_THERE = 1, 2
"""What ``disconnect`` replies: done; the session is not there any more. 0: another incarnation holds it."""


def disconnect(keys: Keys, user_id: str, session_id: str, incarnation: str) -> Call:
    """Removes a session if it is still that incarnation's; replies as above."""
    user = keys.user(user_id)
    return function(
        user.partition,
        "disconnect",
        (
            user.user,
            user.sessions,
            keys.held(user.partition, incarnation),
            keys.directory(user.partition, "online"),
        ),
        user_id,
        session_id,
        incarnation,
        user.node_channel,
        user.watch_channel,
    )


def held(keys: Keys, partition: int, incarnation: str, cursor: str = "0", count: int = 500) -> Call:
    """One batch of the sessions that an incarnation holds in a partition, an SSCAN reply."""
    return Call(partition, ("SSCAN", keys.held(partition, incarnation), cursor, "COUNT", count))


def parse_held(reply: Any) -> tuple[str, list[tuple[str, str]]]:
    """The next cursor ("0" = done) and (user, session id) pairs."""
    cursor, members = reply
    pairs = [tuple(text(member).split("\n", 1)) for member in members]
    return text(cursor) or str(cursor), pairs  # type: ignore[return-value]


def list_of(keys: Keys, user_id: str) -> Call:
    """The user's sessions."""
    user = keys.user(user_id)
    return Call(user.partition, ("HGETALL", user.sessions))


def parse_list(reply: Any) -> list[SessionRecord]:
    """Oldest first."""
    items = list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=True))
    records = []
    for session, raw in items:
        record = orjson.loads(raw)
        records.append(
            SessionRecord(
                text(session),
                record["node"],
                record["device"] or None,
                record["platform"],
                int(record["connected_at"]),
                int(record["issued_at"]),
                record["jti"],
                record["address"],
            )
        )
    return sorted(records, key=lambda record: (record.connected_at, record.session))


def watch(keys: Keys, user_id: str, watcher: str) -> Call:
    """A user's presence as one watcher may see it."""
    user = keys.user(user_id)
    return function(user.partition, "watch", (user.user, user.sessions, user.block), watcher)


def parse_watch(reply: Any) -> PresenceRecord:
    visible, online, version, last_seen, platforms = reply
    seen = text(last_seen)
    return PresenceRecord(
        bool(visible), bool(online), int(version), int(seen) if seen else None, orjson.loads(platforms)
    )


def count_of(keys: Keys, user_id: str) -> Call:
    """How many sessions the user has."""
    user = keys.user(user_id)
    return Call(user.partition, ("HLEN", user.sessions))


def online(keys: Keys, partition: int) -> Call:
    """How many users of one partition have a session, on whichever node."""
    return Call(partition, ("SCARD", keys.directory(partition, "online")))
