"""Blocklists, allowlists and friends, as admins edit them. A change binds the very next message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.services.errors import FRIEND_IS_SELF, FRIEND_LIMIT, PARAMETER_INVALID, Refused
from gateway.store import accounts, relationships
from gateway.store.relationships import Intent, ListName
from gateway.store.store import Store

INTENT_AGE_MS = 5_000
"""A half-done change of friends older than this was left by a process that died; whoever sweeps finishes it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; ``page`` names the next one, None = this was the last."""

    users: list[str]
    page: str | None


@dataclass(frozen=True, slots=True)
class Friend:
    """One friend; ``added_at`` is Unix ms, ``alias`` the user's own name for them."""

    user: str
    name: str
    alias: str
    added_at: int


@dataclass(frozen=True, slots=True)
class FriendPage:
    """One page of friends, and how many there are in all."""

    friends: list[Friend]
    total: int
    page: str | None


class Relationships:
    """What can be done about who may reach whom."""

    def __init__(self, store: Store, list_max: int) -> None:
        self._store = store
        self._list_max = list_max

    async def block(self, user: str, targets: Sequence[str]) -> None:
        """Puts targets on the user's blocklist. Raises Refused 1002 over the list's limit."""
        await self._edit(user, "block", "add", targets)

    async def unblock(self, user: str, targets: Sequence[str]) -> None:
        """Takes targets off the user's blocklist."""
        await self._edit(user, "block", "remove", targets)

    async def blocked(self, user: str, targets: Sequence[str]) -> dict[str, bool]:
        """Which of the targets are on the user's blocklist."""
        return await self._check(user, "block", targets)

    async def blocklist(self, user: str, *, page: str | None, limit: int, oldest_first: bool = False) -> Page:
        """One page of the blocklist. Raises Refused 1002 for a page that was never given out."""
        return await self._page(user, "block", page, limit, oldest_first)

    async def allow(self, user: str, targets: Sequence[str]) -> None:
        """Puts targets on the user's allowlist. Raises Refused 1002 over the list's limit."""
        await self._edit(user, "allow", "add", targets)

    async def disallow(self, user: str, targets: Sequence[str]) -> None:
        """Takes targets off the user's allowlist."""
        await self._edit(user, "allow", "remove", targets)

    async def allowlist(self, user: str, *, page: str | None, limit: int, oldest_first: bool = False) -> Page:
        """One page of the allowlist. Raises Refused 1002 for a page that was never given out."""
        return await self._page(user, "allow", page, limit, oldest_first)

    async def enable_allowlist(self, users: Sequence[str], enabled: bool) -> None:
        """Decides whether the users' allowlists bind."""
        calls = [relationships.set_allowlist(self._store.keys, user, enabled) for user in dict.fromkeys(users)]
        await self._store.execute_all(calls)

    async def allowlist_enabled(self, users: Sequence[str]) -> dict[str, bool]:
        """Whether the users' allowlists bind."""
        wanted = list(dict.fromkeys(users))
        calls = [relationships.allowlist_enabled(self._store.keys, user) for user in wanted]
        replies = await self._store.execute_all(calls)
        return {user: reply == b"1" for user, reply in zip(wanted, replies, strict=True)}

    # Friends.

    async def befriend(self, user: str, target: str) -> bool:
        """Makes two users friends, in both directions.

        Returns:
            False where they were already.

        Raises:
            Refused: 25473 oneself; 25467 or 25468 one of the lists is full.
        """
        if user == target:
            raise Refused(FRIEND_IS_SELF, "a user cannot be their own friend", "target")
        if (await self._check(user, "friends", [target]))[target]:
            return False
        keys = self._store.keys
        mine, theirs = await self._store.execute_all(
            [relationships.count(keys, user, "friends"), relationships.count(keys, target, "friends")]
        )
        for count, code, who in ((mine, FRIEND_LIMIT, user), (theirs, FRIEND_LIMIT + 1, target)):
            if int(count) >= self._list_max:
                raise Refused(code, f"user {who} already has {self._list_max} friends")
        await self._change_pair("add", user, target)
        return True

    async def unfriend(self, user: str, targets: Sequence[str]) -> None:
        """Ends friendships, in both directions."""
        for target in dict.fromkeys(targets):
            if target != user:
                await self._change_pair("remove", user, target)

    async def friends(self, user: str, *, page: str | None, limit: int, oldest_first: bool = False) -> FriendPage:
        """One page of the user's friends. Raises Refused 1002 for a page that was never given out."""
        keys = self._store.keys
        listed, total = await self._store.execute_all(
            [
                relationships.page(keys, user, "friends", place_of(page), limit, oldest_first),
                relationships.count(keys, user, "friends"),
            ]
        )
        entries, following = relationships.parse_page(listed, limit)
        records = await self._store.execute_all([accounts.get(keys, entry.user) for entry in entries])
        names = [accounts.parse_get(entry.user, record).name for entry, record in zip(entries, records, strict=True)]
        friends = [Friend(entry.user, name, "", entry.added_at) for entry, name in zip(entries, names, strict=True)]
        return FriendPage(friends, int(total), page_of(following))

    async def are_friends(self, user: str, targets: Sequence[str]) -> dict[str, bool]:
        """Which of the targets are friends of the user."""
        return await self._check(user, "friends", targets)

    async def sweep(self, now_ms: int) -> int:
        """Finishes changes of friends that a process left half done; returns how many."""
        keys = self._store.keys
        finished = 0
        for reply in await self._store.execute_all(
            [relationships.intents(keys, partition) for partition in range(keys.partitions)]
        ):
            for intent in relationships.parse_intents(reply):
                if int(intent.at) // 1000 + INTENT_AGE_MS <= now_ms:
                    await self._finish(intent)
                    finished += 1
        return finished

    async def _change_pair(self, op: str, user: str, target: str) -> None:
        smaller, larger = sorted((user, target))
        reply = await self._store.execute(relationships.befriend(self._store.keys, op, user, target, self._list_max))
        if reply[0]:
            raise Refused(FRIEND_LIMIT, f"user {smaller} already has {self._list_max} friends")
        at = reply[2].decode() if isinstance(reply[2], bytes) else str(reply[2])
        await self._finish(Intent(smaller, larger, op, str(reply[1]), at))

    async def _finish(self, intent: Intent) -> None:
        await self._store.execute(relationships.befriend_half(self._store.keys, intent))
        await self._store.execute(relationships.befriended(self._store.keys, intent))

    # Lists.

    async def _edit(self, user: str, name: Literal["block", "allow"], op: str, targets: Sequence[str]) -> None:
        # Oneself is accepted without effect.
        members = [target for target in dict.fromkeys(targets) if target != user]
        if not members:
            return
        reply = await self._store.execute(relationships.edit(self._store.keys, user, name, op, members, self._list_max))
        if reply:
            raise Refused(PARAMETER_INVALID, f"the {name}list would be over its {self._list_max} entries")

    async def _check(self, user: str, name: ListName, targets: Sequence[str]) -> dict[str, bool]:
        members = list(dict.fromkeys(targets))
        scores = await self._store.execute(relationships.check(self._store.keys, user, name, members))
        return {member: score is not None for member, score in zip(members, scores, strict=True)}

    async def _page(self, user: str, name: ListName, page: str | None, limit: int, oldest_first: bool) -> Page:
        call = relationships.page(self._store.keys, user, name, place_of(page), limit, oldest_first)
        entries, following = relationships.parse_page(await self._store.execute(call), limit)
        return Page([entry.user for entry in entries], page_of(following))


def page_of(place: int | None) -> str | None:
    """The opaque name of the page that starts after a place."""
    return None if place is None else f"{place:x}"


def place_of(page: str | None) -> int | None:
    """The place that a page starts after. Raises Refused 1002 for what was never given out."""
    if page is None:
        return None
    try:
        place = int(page, 16)
    except ValueError:
        place = -1
    if not 0 < place < 1 << 53 or page != f"{place:x}":
        raise Refused(PARAMETER_INVALID, "page: not a page that was given out", "page")
    return place
