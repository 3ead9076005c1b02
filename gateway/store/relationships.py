"""Blocklists, allowlists and friends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson
from msgspec import Struct

from gateway.store.call import Call, function, text
from gateway.store.keys import Keys, UserKeys

ListName = Literal["block", "allow", "friends"]


class Listed(Struct, frozen=True):
    """One entry of a list; ``added_at`` is Unix ms and ``place`` orders entries of one millisecond."""

    user: str
    place: int

    @property
    def added_at(self) -> int:
        return self.place // 1000


class Intent(Struct, frozen=True):
    """A change of a pair of friends whose second half may be missing."""

    smaller: str
    larger: str
    op: str
    version: str
    at: str


def _list_key(user: UserKeys, name: ListName) -> str:
    return {"block": user.block, "allow": user.allow, "friends": user.friends}[name]


def edit(
    keys: Keys, user_id: str, name: Literal["block", "allow"], op: str, members: Sequence[str], limit: int
) -> Call:
    """Adds ("add") to or removes ("remove") from a list; replies 0, or 25467 where it would be over its limit."""
    user = keys.user(user_id)
    return function(
        user.partition,
        "edit",
        (_list_key(user, name), user.user),
        name,
        op,
        limit,
        user_id,
        user.watch_channel,
        *members,
    )


def check(keys: Keys, user_id: str, name: ListName, members: Sequence[str]) -> Call:
    """Which of the members are on the list: a score or None each."""
    user = keys.user(user_id)
    return Call(user.partition, ("ZMSCORE", _list_key(user, name), *members))


def page(keys: Keys, user_id: str, name: ListName, after: int | None, limit: int, oldest_first: bool = False) -> Call:
    """One entry more than ``limit`` after a place, so that the caller knows whether another page exists."""
    user = keys.user(user_id)
    key = _list_key(user, name)
    if oldest_first:
        start = "-inf" if after is None else f"({after}"
        return Call(user.partition, ("ZRANGEBYSCORE", key, start, "+inf", "WITHSCORES", "LIMIT", 0, limit + 1))
    start = "+inf" if after is None else f"({after}"
    return Call(user.partition, ("ZREVRANGEBYSCORE", key, start, "-inf", "WITHSCORES", "LIMIT", 0, limit + 1))


def parse_page(reply: Any, limit: int) -> tuple[list[Listed], int | None]:
    """(entries, the place to go on after, None where the list ends). Scores are distinct by construction."""
    if reply and isinstance(reply[0], list | tuple):
        pairs = [(row[0], row[1]) for row in reply]
    else:
        pairs = list(zip(reply[::2], reply[1::2], strict=True))
    entries = [Listed(text(member), int(float(score))) for member, score in pairs]
    more = len(entries) > limit
    entries = entries[:limit]
    return entries, entries[-1].place if more and entries else None


def count(keys: Keys, user_id: str, name: ListName) -> Call:
    """How long the list is."""
    user = keys.user(user_id)
    return Call(user.partition, ("ZCARD", _list_key(user, name)))


def set_allowlist(keys: Keys, user_id: str, enabled: bool) -> Call:
    """Switches the user's allowlist on or off."""
    user = keys.user(user_id)
    return function(user.partition, "allowlist", (user.user,), int(enabled))


def allowlist_enabled(keys: Keys, user_id: str) -> Call:
    """b"1" when it is on."""
    user = keys.user(user_id)
    return Call(user.partition, ("HGET", user.user, "allowlist_on"))


# Friends: a pair belongs to the partition of the smaller user id (lua/relationships.lua, befriend).


def befriend(keys: Keys, op: str, a: str, b: str, limit: int) -> Call:
    """The deciding half; replies ``[0, version, at]`` or ``[25467]``."""
    smaller, larger = sorted((a, b))
    user = keys.user(smaller)
    return function(
        user.partition,
        "befriend",
        (user.friends, user.friend_versions, keys.todo(user.partition)),
        op,
        smaller,
        larger,
        limit,
    )


def befriend_half(keys: Keys, intent: Intent) -> Call:
    """The other half, written only if newer."""
    user = keys.user(intent.larger)
    return function(
        user.partition,
        "befriend_half",
        (user.friends, user.friend_versions),
        intent.op,
        intent.smaller,
        intent.version,
        intent.at,
    )


def befriended(keys: Keys, intent: Intent) -> Call:
    """Clears the intent if it is still this version's."""
    partition = keys.partition(intent.smaller)
    return function(
        partition, "befriended", (keys.todo(partition),), f"{intent.smaller}\n{intent.larger}", intent.version
    )


def intents(keys: Keys, partition: int) -> Call:
    """All intents of a partition."""
    return Call(partition, ("HGETALL", keys.todo(partition)))


def parse_intents(reply: Any) -> list[Intent]:
    items = list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=True))
    found = []
    for pair, raw in items:
        smaller, larger = text(pair).split("\n", 1)
        record = orjson.loads(raw)
        found.append(Intent(smaller, larger, record["op"], record["version"], record["at"]))
    return found
