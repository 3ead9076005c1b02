"""Friends, as admins edit them: who may add whom, requests that wait, and what a user notes of a friend."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from gateway.services.errors import (
    ALREADY_FRIENDS,
    ATTRIBUTES_TOO_LONG,
    FRIEND_IS_SELF,
    FRIEND_LIMIT,
    FRIEND_UNKNOWN,
    FRIENDS_REFUSED,
    MY_ALLOWLIST,
    MY_BLOCKLIST,
    PAGE_TOKEN_UNREADABLE,
    PARAMETER_INVALID,
    THEIR_ALLOWLIST,
    THEIR_BLOCKLIST,
    THEIR_FRIEND_LIMIT,
    USER_UNKNOWN,
    Refused,
)
from gateway.services.outbox import Outbox
from gateway.services.pairs import PACE, Pairs, Verdict
from gateway.services.relationships import page_of, place_of
from gateway.services.settings import Settings
from gateway.store import friends, relationships
from gateway.store.call import text
from gateway.store.errors import StoreUnavailable
from gateway.store.friends import Look, Pair
from gateway.store.store import Store

ANYONE, WITH_APPROVAL, NOBODY = 1, 2, 3
"""Friend permissions: who may add a user."""

REQUESTED, ACCEPTED, REMOVED, ADDED = 1, 2, 4, 5
"""What the app's server is told: that a user asked, that the other one agreed, and so on."""

REQUESTS_MAX = 500
"""Requests that wait for one user; more are refused, so that strangers do not push out the ones that wait."""
REQUEST_LIFETIME_MS = 7 * 86_400_000

ALIAS_MAX = 64
ATTRIBUTES_MAX = 10
ATTRIBUTE_KEY_MAX = 32
ATTRIBUTE_MAX = 256

ATTEMPTS = 20
"""How often an add looks at a pair again that others keep changing meanwhile."""

Added = Literal["friends", "accepted", "waits"]
"""What an add came to: friends at once, friends because the other one had asked before, or a request that waits."""


@dataclass(frozen=True, slots=True)
class Friend:
    """One friend; ``added_at`` is Unix ms, alias and attributes are the user's own notes."""

    user: str
    name: str
    alias: str
    added_at: int
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class FriendPage:
    """One page of friends, and how many there are in all."""

    friends: list[Friend]
    total: int
    page: str | None


class Friends:
    """What can be done about friendships.

    Args:
        store: where they are kept.
        settings: the live ones.
        outbox: tells the app's server.
        list_max: friends that one user may have.
    """

    def __init__(self, store: Store, settings: Settings, outbox: Outbox, list_max: int) -> None:
        self._store = store
        self._settings = settings
        self._outbox = outbox
        self._list_max = list_max
        self._pairs = Pairs(store, list_max)

    async def add(self, user: str, target: str, *, directly: bool = False, extra: str | None = None) -> Added:
        """Makes two users friends, or leaves a request with the target where that one wants to be asked.

        Args:
            directly: without looking at the target's permission. Block- and allowlists are looked at all the same.
            extra: a note for the app's server, told with a request that waits.

        Raises:
            Refused: 25473 oneself; 25460 friends already; 25462 to 25465 a list of the target or of the user stands
                against it; 25471 the target wants no friends; 25467, 25468 the user's or the target's list is full;
                1002 too many requests wait for the target; 400 one of them is a deleted user.
            StoreUnavailable: The pair kept changing.
        """
        if user == target:
            raise Refused(FRIEND_IS_SELF, "a user cannot be their own friend", "target")
        pair, requested = Pair.of(user, target), False
        for _ in range(ATTEMPTS):
            mine, theirs = await self._look(user, target)
            owner = mine if user == pair.smaller else theirs
            if owner.friends and requested:
                return "accepted"
            self._refuse(mine, theirs, already=owner.friends)
            if not directly and not mine.asked and (level := self._level(theirs.permission)) != ANYONE:
                if requested:
                    await self._tell(REQUESTED, user, [target], extra)
                    return "waits"
                await self._request(user, target, level)
                # Once more: the target may have asked at the same moment, and neither have seen the other's request.
                requested = True
                continue
            verdict = await self._pairs.make(pair, owner.version)
            if verdict.code == 0 and mine.asked:
                await self._tell(ACCEPTED, target, [user])
                return "accepted"
            if verdict.code == 0:
                await self._tell(ADDED, user, [target])
                return "friends"
            if verdict.code not in (friends.CONFLICT, ALREADY_FRIENDS):
                raise self._refusal(verdict, user)
        raise StoreUnavailable("this pair of friends keeps being changed")

    async def befriend(self, user: str, target: str) -> bool:
        """``add`` directly; False where they were friends already."""
        try:
            await self.add(user, target, directly=True)
        except Refused as refused:
            if refused.code != ALREADY_FRIENDS:
                raise
            return False
        return True

    async def unfriend(self, user: str, targets: Sequence[str]) -> None:
        """Ends friendships, in both directions."""
        others = [target for target in dict.fromkeys(targets) if target != user]
        mine = await self.are_friends(user, others)
        pairs = [Pair.of(user, other) for other in others]
        await self._pairs.end([(pair, pair.larger == user and mine[pair.smaller]) for pair in pairs])
        await self._tell(REMOVED, user, [other for other in others if mine[other]])

    async def unfriend_all(self, user: str) -> None:
        """Ends all friendships that a user has now; paced, and finished by any node should this one die."""
        await self._pairs.clear(user, lambda others: self._tell(REMOVED, user, others))

    async def are_friends(self, user: str, targets: Sequence[str]) -> dict[str, bool]:
        """Which of the targets are friends of the user."""
        members = list(dict.fromkeys(targets))
        if not members:
            return {}
        scores = await self._store.execute(relationships.check(self._store.keys, user, "friends", members))
        return {member: score is not None for member, score in zip(members, scores, strict=True)}

    async def page(self, user: str, *, page: str | None, limit: int, oldest_first: bool = False) -> FriendPage:
        """One page of the user's friends. Raises Refused 25432 for a page that was never given out."""
        keys = self._store.keys
        call = friends.page(keys, user, place_of(page, PAGE_TOKEN_UNREADABLE), limit, oldest_first)
        found = friends.parse_page(await self._store.execute(call), limit)
        names: list[str] = []
        for start in range(0, len(found.friends), PACE):
            some = found.friends[start : start + PACE]
            names += map(text, await self._store.execute_all([friends.name(keys, each.user) for each in some]))
        listed = [
            Friend(each.user, name, each.alias, each.added_at, orjson.loads(each.attributes or b"{}"))
            for each, name in zip(found.friends, names, strict=True)
        ]
        return FriendPage(listed, found.total, page_of(found.following))

    async def note(self, user: str, friend: str, *, alias: str, attributes: Mapping[str, str] | None) -> None:
        """Keeps what a user calls a friend ("" = nothing), and attributes of their own (None = as they are).

        Raises:
            Refused: 25472 they are no friends; 25470 a key or value is too long; 1002 too many, or a malformed key.
        """
        encoded = None
        if attributes is not None:
            self._check_attributes(attributes)
            encoded = orjson.dumps(dict(attributes)).decode() if attributes else ""
        if await self._store.execute(friends.note(self._store.keys, user, friend, alias, encoded)):
            raise Refused(FRIEND_UNKNOWN, f"{friend} is no friend of {user}", "target")

    async def set_permission(self, users: Sequence[str], permission: int) -> None:
        """Decides who may add users: 1 anyone, 2 with their approval, 3 nobody."""
        keys = self._store.keys
        await self._store.execute_all([friends.set_permission(keys, user, permission) for user in dict.fromkeys(users)])

    async def permissions(self, users: Sequence[str]) -> dict[str, int]:
        """Who may add users; the live setting for those who never decided."""
        wanted = list(dict.fromkeys(users))
        replies = await self._store.execute_all([friends.permission(self._store.keys, user) for user in wanted])
        levels = (None if reply is None else int(reply) for reply in replies)
        return {user: self._level(level) for user, level in zip(wanted, levels, strict=True)}

    async def sweep(self, now_ms: int) -> int:
        """Finishes changes of friends that a process left half done; returns how many."""
        return await self._pairs.sweep(now_ms)

    async def _tell(self, operation: int, user: str, targets: Sequence[str], extra: str | None = None) -> None:
        if self._outbox.friendships and targets:
            told = [self._outbox.friendship(operation, user, target, extra) for target in targets]
            await self._outbox.add([event for several in told for event in several])

    def _level(self, permission: int | None) -> int:
        return self._settings.live.friend_permission_default if permission is None else permission

    async def _look(self, user: str, target: str) -> tuple[Look, Look]:
        keys = self._store.keys
        replies = await self._store.execute_all([friends.look(keys, user, target), friends.look(keys, target, user)])
        mine, theirs = map(friends.parse_look, replies)
        return mine, theirs

    @staticmethod
    def _refuse(mine: Look, theirs: Look, *, already: bool) -> None:
        """Raises what stands against a friendship, whoever asks for it."""
        for stands, code, reason, field in (
            (mine.deactivated, USER_UNKNOWN, "the user does not exist", "user"),
            (theirs.deactivated, USER_UNKNOWN, "the user does not exist", "target"),
            (already, ALREADY_FRIENDS, "they are friends already", "target"),
            (theirs.blocks, THEIR_BLOCKLIST, "has blocked the user", "target"),
            (theirs.shuts_out, THEIR_ALLOWLIST, "takes allowlisted users only", "target"),
            (mine.blocks, MY_BLOCKLIST, "is on the user's blocklist", "target"),
            (mine.shuts_out, MY_ALLOWLIST, "is not on the user's allowlist, which is on", "target"),
        ):
            if stands:
                raise Refused(code, reason, field)

    def _refusal(self, verdict: Verdict, user: str) -> Refused:
        """What an attempt that the store refused means to the user who asked."""
        mine = verdict.user == user
        field = "user" if mine else "target"
        if verdict.code == friends.ACCOUNT_ENDED:
            return Refused(USER_UNKNOWN, "the user does not exist", field)
        return Refused(FRIEND_LIMIT if mine else THEIR_FRIEND_LIMIT, f"has {self._list_max} friends already", field)

    async def _request(self, user: str, target: str, level: int) -> None:
        if level == NOBODY:
            raise Refused(FRIENDS_REFUSED, "wants no friends", "target")
        code = await self._store.execute(friends.ask(self._store.keys, user, target, REQUESTS_MAX, REQUEST_LIFETIME_MS))
        if code == friends.REQUESTS_FULL:
            raise Refused(PARAMETER_INVALID, f"{REQUESTS_MAX} requests wait for this user already", "target")
        if code:
            raise Refused(USER_UNKNOWN, "the user does not exist", "target")

    def _check_attributes(self, attributes: Mapping[str, str]) -> None:
        name = "friendExtProfile"
        if len(attributes) > ATTRIBUTES_MAX:
            raise Refused(PARAMETER_INVALID, f"at most {ATTRIBUTES_MAX} attributes", name)
        well_formed = _STRICT_KEY if self._settings.live.strict_ext_keys else _KEY
        for key, value in attributes.items():
            if len(key) > ATTRIBUTE_KEY_MAX:
                raise Refused(ATTRIBUTES_TOO_LONG, f"a key is longer than {ATTRIBUTE_KEY_MAX} characters", name)
            if well_formed(key) is None:
                prefix = "ext_ and " if well_formed is _STRICT_KEY else ""
                raise Refused(PARAMETER_INVALID, f"a key consists of {prefix}letters, digits and _, not {key!r}", name)
            if len(value) > ATTRIBUTE_MAX:
                raise Refused(ATTRIBUTES_TOO_LONG, f"{key} is longer than {ATTRIBUTE_MAX} characters", name)


_STRICT_KEY = re.compile(r"ext_[A-Za-z0-9_]+").fullmatch
_KEY = re.compile(r"[A-Za-z0-9_]+").fullmatch
