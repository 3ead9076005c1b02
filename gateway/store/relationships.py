"""Blocklists and allowlists, and what all lists have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

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


def _list_key(user: UserKeys, name: ListName) -> str:
    return {"block": user.block, "allow": user.allow, "friends": user.friends}[name]


def edit(
    keys: Keys,
    user_id: str,
    name: Literal["block", "allow"],
    op: str,
    members: Sequence[str],
    limit: int,
    *,
    strict: bool = False,
) -> Call:
    """Adds ("add") to or removes ("remove") from a list.

    Replies 0; 25467 where the list would be over its limit; if ``strict``, 1010 for an allowlist that is off and 1011
    for a blocklist while the allowlist is on.
    """
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
        int(strict),
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
