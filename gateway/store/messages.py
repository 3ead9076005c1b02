"""The inbox: relaying into it, reading it, acknowledging it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.core.session import START, StreamId
from gateway.store.call import Call, function
from gateway.store.keys import Keys
from gateway.store.pipeline import Part

REPLAY_BATCH = 32
"""Inbox entries read at a time while a session catches up. They come over the subscribed link, so what is under way at
once must stay well under Redis' client-output-buffer-limit for pub/sub (32 MiB by default): services.inbox."""

_json = msgspec.json.Encoder().encode

_HEADS = {
    b"m": (b"message", b"sent_at"),
    b"n": (b"message", b"sent_at"),
    b"r": (b"recalled", b"at"),
    b"u": (b"updated", b"at"),
}

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_BEFORE_BODY = re.compile(
    rb'("mid":S,"from":S,"to":S(?:,"system":true)?(?:,"kind":S)?(?:,"metadata":\{(?:S:S,?)*\})?),"body":'.replace(
        b"S", _STRING
    )
).match


class Entry(NamedTuple):
    """One entry of an inbox.

    Attributes:
        place: its stream id; the first part is the time, Unix ms.
        kind: ``m`` a message, ``n`` one that histories do not show, ``r`` a recall, ``u`` an update.
        tail: the push's JSON from ``"mid"`` to the closing brace.
    """

    place: StreamId
    kind: bytes
    tail: bytes


def head(mid: str, sender: str, to: str) -> bytes:
    """What the tail of a message and the tails of all that changes it begin with."""
    return b'"mid":%b,%b' % (_json(mid), between(sender, to))


def between(sender: str, to: str) -> bytes:
    """The part of it that all direct messages of one user to another share."""
    return b'"from":%b,"to":%b' % (_json(sender), _json(to))


def following(system: bool) -> bytes:
    """What stands between a message's head and the value of its kind: system messages say so there."""
    return b',"system":true,"kind":' if system else b',"kind":'


def tail(
    mid: str,
    sender: str,
    to: str,
    kind: str,
    body: bytes,
    *,
    system: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The tail of a message that the app's server sends; ``body`` is JSON. ``services.relay`` composes its own."""
    return b'%b%b%b%b,"body":%b}' % (
        head(mid, sender, to),
        following(system),
        _json(kind),
        b"" if metadata is None else b',"metadata":%b' % _json(metadata),
        body,
    )


def parse_tail(tail: bytes) -> tuple[bytes, bytes]:
    """(what stands before the body as a JSON object, the body) of a message or an update in its recipient's inbox.

    The body is not looked at: how deep a decoder may go depends on how deep its caller is, so that one that was good
    enough to be relayed may be too deep here.
    """
    found = _BEFORE_BODY(tail)
    if found is None:
        raise ValueError("not the tail of a message")
    return b"{%b}" % found[1], tail[found.end() : -1]


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
    inbox_bytes_max: int,
) -> tuple[int, tuple[Part, ...]]:
    """One direct message: the partition and the command, built without the steps that only readability needs.

    Args:
        flags: of ``m`` (sender muted), ``f`` (friends-only is on), ``r`` (a retry), ``e`` (ephemeral), ``s`` (sent by
            the app's server, bound by no list), ``n`` (not shown in histories).
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
        inbox_bytes_max,
    )


def echo(
    keys: Keys, user_id: str, session: str, tail: bytes, inbox_max: int, retention_ms: int, inbox_bytes_max: int
) -> Call:
    """The sender's own copy, for the sender's devices but ``session``.

    The reply is its stream id, ``b""`` where the inbox is half full and it was only pushed, or a code.
    """
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
        inbox_bytes_max,
    )


def read(keys: Keys, user_id: str, after: StreamId, count: int = REPLAY_BATCH) -> Call:
    """The inbox entries after a place, oldest first."""
    user = keys.user(user_id)
    return Call(user.partition, ("XRANGE", user.inbox, f"({after[0]}-{after[1]}", "+", "COUNT", count))


def floor(keys: Keys, user_id: str) -> Call:
    """The highest place that was trimmed from the inbox; the reply is a stream id, or None."""
    user = keys.user(user_id)
    return Call(user.partition, ("HGET", user.user, "floor"))


def parse_read(reply: Any) -> list[Entry]:
    """The entries, in their order."""
    return [Entry(parse_id(entry[0]), entry[1][0], entry[1][1]) for entry in reply]


def echo_of(entry: Entry, user: str, device: str | None) -> bool:
    """Whether an entry is the copy of what this device sent itself."""
    # A body ends before the brace that it stands in, so that only the tail's own last field ends so.
    if device is None or not entry.tail.endswith(b',"device":%b}' % _json(device)):
        return False
    return entry.tail.startswith(b'"from":%b,' % _json(user), entry.tail.index(b'"from":'))


def push(epoch: str, entry: Entry) -> bytes:
    """The push of a stored entry, byte for byte as the Function composes it live."""
    (place, kind, tail) = entry
    name, time = _HEADS[kind]
    return b'{"type":"%b","cursor":"%b.%d-%d","%b":%d,%b' % (name, epoch.encode(), *place, time, place[0], tail)


def ack(
    keys: Keys, user_id: str, device: str, epoch: str, place: StreamId, retention_ms: int, trim: bool = False
) -> Call:
    """A device has taken over everything up to a place; the reply is 1 when that moved its ack.

    Args:
        trim: what all known devices have acked leaves the inbox at once.
    """
    user = keys.user(user_id)
    return function(
        user.partition,
        "ack",
        (user.user, user.ack, user.inbox),
        device,
        epoch,
        f"{place[0]}-{place[1]}",
        "",
        retention_ms,
        int(trim),
    )


def parse_id(raw: bytes | str) -> StreamId:
    """A stream id. Raises ValueError for anything else."""
    ms, sequence = (raw.decode() if isinstance(raw, bytes) else raw).split("-")
    digits = ms + sequence
    if len(ms) > 20 or len(sequence) > 20 or not (ms.isdecimal() and sequence.isdecimal() and digits.isascii()):
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
