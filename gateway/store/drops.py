"""Drops: what ends a user's sessions, with the record that keeps new ones out; and the nodes' answers."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Struct

from gateway.store.call import Call, function, text
from gateway.store.keys import COMMAND_LIFETIME_S, REPLY_LIFETIME_S, Keys
from gateway.store.pipeline import Part


class Drop(Struct, frozen=True):
    """A drop as it is published to a node.

    Attributes:
        user: whose sessions.
        call: whom to answer; "" = nobody waits.
        close_code, code, reason, ends: what the client is told; ``ends`` is a ban's end in Unix ms, 0 = none.
        sessions: the ids selected on this node.
        all: every session of the user, so also one that Redis does not know.
    """

    user: str
    call: str
    close_code: int
    code: int
    reason: str
    ends: int
    sessions: frozenset[str]
    all: bool


def parse(payload: bytes) -> Drop:
    """The drop behind the ``d`` of a push."""
    raw = orjson.loads(payload)
    return Drop(
        raw["user"],
        raw["call"],
        raw["close_code"],
        raw["code"],
        raw["reason"],
        int(raw["ends"]),
        frozenset(orjson.loads(raw["sessions"])),
        raw["all"],
    )


def _drop(keys: Keys, user_id: str, call: str, kind: str, reason: str, *rest: Part) -> Call:
    user, friends = keys.user(user_id), keys.friend(user_id)
    return function(
        user.partition,
        "drop",
        (
            user.user,
            user.sessions,
            user.revoked,
            keys.directory(user.partition, "bans"),
            keys.directory(user.partition, "deactivated"),
            user.inbox,
            user.ack,
            user.block,
            user.allow,
            keys.directory(user.partition, "users"),
            friends.friends,
            friends.held,
            friends.notes,
            friends.requests,
            friends.todo,
        ),
        user_id,
        call,
        kind,
        reason,
        user.node_channel,
        *rest,
    )


def ban(keys: Keys, user: str, call: str, until_ms: int, reason: str) -> Call:
    """Bans until a time, 0 = until lifted. All drops reply ``[sessions selected, node, …]``."""
    return _drop(keys, user, call, "ban", reason, until_ms)


def expire(keys: Keys, user: str, call: str, before_ms: int, keep_connections: bool) -> Call:
    """Voids all tokens issued before an instant."""
    return _drop(keys, user, call, "expire", "the token was voided", before_ms, int(keep_connections))


def revoke(keys: Keys, user: str, call: str, jti: str) -> Call:
    """Voids one token."""
    return _drop(keys, user, call, "revoke", "the token was revoked", jti)


def deactivate(keys: Keys, user: str, call: str) -> Call:
    """Deactivates the account; what it owned goes."""
    return _drop(keys, user, call, "deactivate", "the account is deactivated")


def kick(keys: Keys, user: str, call: str, reason: str, by: str = "", wanted: str = "") -> Call:
    """Drops all sessions, or those ``by`` "session" or "device" with the id ``wanted``."""
    return _drop(keys, user, call, "kick", reason, by, wanted)


def parse_dropped(reply: Any) -> tuple[int, list[str]]:
    """(sessions selected, nodes whose answer is to be awaited)."""
    return int(reply[0]), [text(node) for node in reply[1:]]


def answer(keys: Keys, place_name: str, call: str, incarnation: str, said: dict[str, Any]) -> Call:
    """A node's answer to a drop (or a control command)."""
    partition = keys.partition(place_name)
    body = orjson.dumps({"node": incarnation, **said})
    return function(partition, "answer", (keys.reply(partition, call),), body, REPLY_LIFETIME_S)


def once(keys: Keys, call: str) -> Call:
    """Replies 1 to the first node that asks for a control command's call id, 0 to the others."""
    partition = keys.partition(call)
    return function(partition, "once", (keys.command(partition, call),), COMMAND_LIFETIME_S)


def forget_ended_bans(keys: Keys, partition: int, now_ms: int) -> Call:
    """Takes bans that have ended out of the directory; the record itself ends by its time."""
    return Call(partition, ("ZREMRANGEBYSCORE", keys.directory(partition, "bans"), 1, now_ms))


def unban(keys: Keys, user_id: str) -> Call:
    """Lifts a ban; replies 1 when there was one."""
    user = keys.user(user_id)
    return function(user.partition, "unban", (user.user, keys.directory(user.partition, "bans")), user_id)
