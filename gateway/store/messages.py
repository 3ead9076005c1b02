"""The inbox: relaying into it, reading it, acknowledging it."""

from __future__ import annotations

from typing import Any

from gateway.core.session import START, StreamId
from gateway.store.call import Call, function
from gateway.store.keys import Keys
from gateway.store.link import Part

REPLAY_BATCH = 32
"""Inbox entries read at a time while a session catches up. They come over the subscribed link, so what is under way at
once must stay well under Redis' client-output-buffer-limit for pub/sub (32 MiB by default): services.inbox."""


def relay(
    keys: Keys,
    sender: str,
    to: str,
    flags: str,
    mid: str,
    tail: bytes,
    inbox_max: int,
    retention_ms: int,
    now_ms: int,
) -> tuple[int, tuple[Part, ...]]:
    """One direct message: the partition and the command, built without the steps that only readability needs.

    Args:
        flags: of ``m`` (sender muted), ``f`` (friends-only is on), ``r`` (a retry), ``e`` (ephemeral).
        mid: the message's id; the tail starts with it.
        tail: the push's JSON from ``"mid"`` to the closing brace.

    The reply is ``[0, stream id or b"", nodes reached]`` or ``[code]``.
    """
    partition, prefix, _ = keys.relay(to)
    return partition, (
        "FCALL",
        "gw1_relay",
        6,
        f"{prefix}u:{to}",
        f"{prefix}in:{to}",
        f"{prefix}block:{to}",
        f"{prefix}allow:{to}",
        f"{prefix}friends:{to}",
        f"{prefix}ack:{to}",
        sender,
        to,
        flags,
        mid,
        tail,
        inbox_max,
        retention_ms,
        f"{prefix}n:",
        now_ms,
    )


def echo(keys: Keys, user_id: str, session: str, tail: bytes, inbox_max: int, retention_ms: int) -> Call:
    """The sender's own copy, for the sender's other devices; replies with its stream id, or a code."""
    user = keys.user(user_id)
    return function(
        user.partition,
        "echo",
        (user.user, user.inbox, user.ack),
        user_id,
        session,
        tail,
        inbox_max,
        retention_ms,
        user.node_channel,
    )


def read(keys: Keys, user_id: str, after: StreamId, count: int = REPLAY_BATCH) -> Call:
    """The inbox entries after a place, oldest first."""
    user = keys.user(user_id)
    return Call(user.partition, ("XRANGE", user.inbox, f"({after[0]}-{after[1]}", "+", "COUNT", count))


def parse_read(reply: Any) -> list[tuple[StreamId, bytes]]:
    """(place, tail) of each entry."""
    return [(parse_id(entry[0]), entry[1][1]) for entry in reply]


def push(epoch: str, place: StreamId, tail: bytes) -> bytes:
    """The ``message`` push of a stored entry, byte for byte as the Function composes it live."""
    return b'{"type":"message","cursor":"%b.%d-%d","sent_at":%d,%b' % (epoch.encode(), *place, place[0], tail)


def ack(
    keys: Keys, user_id: str, device: str, epoch: str, place: StreamId, devices_max: int, retention_ms: int
) -> Call:
    """A device has taken over everything up to a place; the reply is 1 when that moved its ack."""
    user = keys.user(user_id)
    return function(
        user.partition,
        "ack",
        (user.user, user.ack, user.inbox),
        device,
        epoch,
        f"{place[0]}-{place[1]}",
        devices_max,
        retention_ms,
    )


def parse_id(raw: bytes | str) -> StreamId:
    """A stream id. Raises ValueError for anything else."""
    ms, sequence = (raw.decode() if isinstance(raw, bytes) else raw).split("-")
    if len(ms) > 20 or len(sequence) > 20 or not (ms.isdecimal() and sequence.isdecimal()):
        raise ValueError("not a stream id")
    place = int(ms), int(sequence)
    if max(place) >= 2**64:
        raise ValueError("not a stream id")
    return place


def parse_cursor(cursor: str) -> tuple[str, StreamId] | None:
    """(epoch, place) of a cursor, or None where it was never one of ours."""
    epoch, _, place = cursor.partition(".")
    try:
        return (epoch, parse_id(place)) if epoch.isalnum() and epoch.isascii() else None
    except ValueError:
        return None


def cursor(epoch: str, place: StreamId = START) -> str:
    """The opaque string that clients store."""
    return f"{epoch}.{place[0]}-{place[1]}"
