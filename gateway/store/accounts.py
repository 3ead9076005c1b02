"""Users: registering, reading, tagging and muting them; what follows a deactivation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from msgspec import Struct

from gateway.store.call import Call, function, integer, text
from gateway.store.keys import Keys

_FIELDS = (
    "policy",
    "name",
    "avatar_url",
    "registered_at",
    "ban_until",
    "ban_reason",
    "void_before",
    "deactivated_at",
    "muted",
    "last_seen",
)


class Account(Struct, frozen=True):
    """A user's record. Times are Unix ms.

    Attributes:
        banned_until: None = never banned or unbanned, 0 = until lifted; one in the past has ended by itself.
    """

    user: str
    registered: bool
    name: str
    avatar_url: str
    registered_at: int | None
    banned_until: int | None
    ban_reason: str
    void_before: int | None
    deactivated_at: int | None
    muted: bool
    allowlist_enabled: bool
    last_seen: int | None


def register(keys: Keys, user_id: str, name: str | None = None, avatar_url: str | None = None) -> Call:
    """Makes the user exist; None leaves a field as it is. Replies ``[0, now ms, new]`` or ``[code, 0]``."""
    user = keys.user(user_id)
    return function(
        user.partition,
        "register",
        (user.user, keys.directory(user.partition, "users"), user.block),
        user_id,
        int(name is not None),
        name or "",
        int(avatar_url is not None),
        avatar_url or "",
    )


def get(keys: Keys, user_id: str) -> Call:
    """The user's record."""
    user = keys.user(user_id)
    return Call(user.partition, ("HMGET", user.user, *_FIELDS))


def parse_get(user_id: str, reply: Any) -> Account:
    fields = dict(zip(_FIELDS, reply, strict=True))
    return Account(
        user=user_id,
        registered=fields["policy"] is not None,
        name=text(fields["name"]),
        avatar_url=text(fields["avatar_url"]),
        registered_at=integer(fields["registered_at"]),
        banned_until=integer(fields["ban_until"]),
        ban_reason=text(fields["ban_reason"]),
        void_before=integer(fields["void_before"]),
        deactivated_at=integer(fields["deactivated_at"]),
        muted=fields["muted"] == b"1",
        allowlist_enabled="a" in text(fields["policy"]),
        last_seen=integer(fields["last_seen"]),
    )


class Card(Struct, frozen=True):
    """A user as others see them; ``profile`` is the JSON text of store.profiles, None where there is none."""

    user: str
    exists: bool
    name: str
    avatar_url: str
    profile: bytes | None


def card(keys: Keys, user_id: str) -> Call:
    """What others see of the user."""
    user = keys.user(user_id)
    return Call(user.partition, ("HMGET", user.user, "policy", "deactivated_at", "name", "avatar_url", "profile"))


def parse_card(user_id: str, reply: Any) -> Card:
    policy, deactivated_at, name, avatar_url, profile = reply
    return Card(user_id, policy is not None and deactivated_at is None, text(name), text(avatar_url), profile)


def mute(keys: Keys, user_id: str, muted: bool) -> Call:
    """A muted sender may send no direct messages; binds the very next one."""
    user = keys.user(user_id)
    return function(
        user.partition,
        "mute",
        (user.user, keys.directory(user.partition, "muted")),
        user_id,
        int(muted),
        user.node_channel,
    )


def tag(keys: Keys, user_id: str, tags: Sequence[str]) -> Call:
    """Replaces the user's tags; a deactivated user has none."""
    user = keys.user(user_id)
    return function(user.partition, "tag", (user.user,), orjson.dumps(tags) if tags else b"")


def tags(keys: Keys, user_id: str) -> Call:
    """The user's tags."""
    user = keys.user(user_id)
    return Call(user.partition, ("HGET", user.user, "tags"))


def parse_tags(reply: Any) -> list[str]:
    return [] if reply is None else list(orjson.loads(reply))


NOT_DEACTIVATED, RESTORED, TOO_EARLY, STILL_LEAVING = range(4)
"""What ``reactivate`` replies."""


def reactivate(keys: Keys, user_id: str, wait_ms: int) -> Call:
    """Lifts a deactivation that is so old and whose friends have all lost the user; replies what came of it."""
    user, partition = keys.friend(user_id), keys.partition(user_id)
    directories = (keys.directory(partition, name) for name in ("deactivated", "users"))
    return function(
        partition,
        "reactivate",
        (user.user, *directories, user.friends, user.held),
        user_id,
        wait_ms,
    )


def friends_left(keys: Keys, user_id: str) -> Call:
    """Whether the user has friends, or a place is held for one; replies 0 where there is none."""
    user = keys.friend(user_id)
    return Call(user.partition, ("EXISTS", user.friends, user.held))


def forget(keys: Keys, user_id: str) -> Call:
    """Unregisters a deactivated user; replies 1, or 0 while a session or a friend is left."""
    user, partition = keys.user(user_id), keys.partition(user_id)
    directories = (keys.directory(partition, name) for name in ("deactivated", "bans", "muted"))
    return function(partition, "forget", (user.user, *directories, user.sessions, user.friends), user_id)
