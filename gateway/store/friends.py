"""Friends, and requests to become one: a pair is two halves in two partitions (lua/friends.lua)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import orjson
from msgspec import Struct

from gateway.store.call import Call, function, text
from gateway.store.keys import FriendKeys, Keys
from gateway.store.pipeline import Part

Op = Literal["add", "remove"]

CONFLICT = -1
"""The pair changed since it was looked at: look again."""
REQUESTS_FULL = -2
"""As many requests wait for the user as may."""
ACCOUNT_ENDED = 31029
"""One of the two users is deactivated."""
ENDED = 2
"""What ``half`` replies where the account has ended meanwhile: nothing was written, the friendship must end."""


class Pair(NamedTuple):
    """Two users; the smaller id's partition decides."""

    smaller: str
    larger: str

    @classmethod
    def of(cls, a: str, b: str) -> Pair:
        return cls(min(a, b), max(a, b))


class Look(Struct, frozen=True):
    """What one of a pair says of the other.

    Attributes:
        version: of the pair, as this half knows it; the smaller id's is the one that counts.
        friends: whether this half says so.
        deactivated: the account has ended.
        permission: 1 anyone may add, 2 with approval, 3 nobody; None = never set.
        blocks: the other is on this one's blocklist.
        shuts_out: this one's allowlist is on and the other is not on it.
        asked: a request of the other waits for this one.
    """

    version: str
    friends: bool
    deactivated: bool
    permission: int | None
    blocks: bool
    shuts_out: bool
    asked: bool


class Intent(Struct, frozen=True):
    """A change of a pair whose second half may be missing; ``at`` is the time of the change, µs."""

    pair: Pair
    op: Op
    version: str
    at: str


class Hold(Struct, frozen=True):
    """A place held on the larger id's list for a pair of this version; ``at`` as of ``Intent``."""

    pair: Pair
    version: str
    at: str


class Clearing(Struct, frozen=True):
    """All friendships of a user up to a place in the list are to end; ``at`` as of ``Intent``."""

    user: str
    last: str
    at: str


class Friend(NamedTuple):
    """One entry of a list; ``place`` is the time of the friendship in µs, distinct within the list."""

    user: str
    place: int
    alias: str
    attributes: str

    @property
    def added_at(self) -> int:
        """Unix ms."""
        return self.place // 1000


class Page(NamedTuple):
    """Some friends, how many there are in all, and the place to go on after (None = the list ends)."""

    friends: list[Friend]
    total: int
    following: int | None


def look(keys: Keys, user: str, other: str) -> Call:
    """What ``user`` says of ``other``."""
    user_keys, mine = keys.user(user), keys.friend(user)
    lists = (mine.user, mine.friends, mine.versions, user_keys.block, user_keys.allow, mine.requests)
    return function(mine.partition, "friend_look", lists, other)


def parse_look(reply: Any) -> Look:
    version, friends, deactivated, permission, blocks, shuts_out, asked = reply
    level = int(permission) if permission else None
    return Look(text(version), bool(friends), bool(deactivated), level, bool(blocks), bool(shuts_out), bool(asked))


def hold(keys: Keys, pair: Pair, version: str, limit: int) -> Call:
    """Holds a place on the larger id's list; replies 0, 31029, 25467 or ``CONFLICT``."""
    theirs = keys.friend(pair.larger)
    held = (theirs.user, theirs.friends, theirs.held, theirs.todo)
    return function(theirs.partition, "friend_hold", held, pair.larger, pair.smaller, version, limit)


def befriend(keys: Keys, pair: Pair, version: str, limit: int) -> Call:
    """Decides on the smaller id's partition; ``parse_decision`` reads the reply."""
    owner = keys.friend(pair.smaller)
    return function(owner.partition, "befriend", _all(owner), pair.smaller, pair.larger, version, limit)


def unfriend(keys: Keys, pair: Pair, *, other_half: bool = False) -> Call:
    """Decides on the smaller id's partition; ``other_half`` = the larger id's list says that they are friends."""
    owner = keys.friend(pair.smaller)
    return function(owner.partition, "unfriend", _all(owner), pair.smaller, pair.larger, int(other_half))


def parse_decision(pair: Pair, op: Op, reply: Any) -> tuple[int, Intent | None]:
    """(code, the intent to carry out): code 0 without an intent = nothing to do."""
    code, *rest = reply
    if code or not rest[0]:
        return int(code), None
    return 0, Intent(pair, op, text(rest[0]), text(rest[1]))


def half(keys: Keys, intent: Intent) -> Call:
    """Writes the larger id's half if it is newer; replies 1, 0, or ``ENDED``."""
    theirs = keys.friend(intent.pair.larger)
    name = "befriend_half" if intent.op == "add" else "unfriend_half"
    return function(
        theirs.partition, name, _all(theirs), intent.pair.larger, intent.pair.smaller, intent.version, intent.at
    )


def befriended(keys: Keys, intent: Intent) -> Call:
    """Clears an intent if it is still this version's."""
    owner = keys.friend(intent.pair.smaller)
    return _cleared(owner, "pair", *intent.pair, intent.version)


def void(keys: Keys, held: Hold) -> Call:
    """Nobody decides on this version any more; replies the pair's waiting intent (``parse_void``)."""
    owner = keys.friend(held.pair.smaller)
    pair = (owner.friends, owner.versions, owner.todo)
    return function(owner.partition, "friend_void", pair, *held.pair, held.version)


def parse_void(pair: Pair, reply: Any) -> Intent | None:
    if not reply:
        return None
    record = orjson.loads(reply)
    return Intent(pair, record["op"], record["version"], record["at"])


def release(keys: Keys, held: Hold) -> Call:
    """Lets a held place go if it is still this version's."""
    theirs = keys.friend(held.pair.larger)
    place = (theirs.held, theirs.todo)
    return function(theirs.partition, "friend_release", place, held.pair.larger, held.pair.smaller, held.version)


def clear(keys: Keys, user: str) -> Call:
    """Leaves the intent to end all friendships of the user; replies the place of the newest one."""
    mine = keys.friend(user)
    return function(mine.partition, "friend_clear", (mine.friends, mine.todo), user)


def cleared(keys: Keys, clearing: Clearing) -> Call:
    """Clears that intent if it is still this one."""
    return _cleared(keys.friend(clearing.user), "clear", clearing.user, clearing.last)


def _cleared(owner: FriendKeys, kind: str, *rest: str) -> Call:
    *users, version = rest
    return function(owner.partition, "befriended", (owner.todo,), "\n".join((kind, *users)), version)


def held_places(keys: Keys, user: str) -> Call:
    """The places held on the user's list."""
    mine = keys.friend(user)
    return Call(mine.partition, ("HGETALL", mine.held))


def parse_held(user: str, reply: Any) -> list[Hold]:
    return [Hold(Pair(text(smaller), user), text(version), "0") for smaller, version in _pairs(reply)]


def oldest(keys: Keys, user: str, after: str, last: str, most: int) -> Call:
    """The user's friends after one place and up to another, oldest first; ``parse_oldest`` reads the reply."""
    mine = keys.friend(user)
    command: tuple[Part, ...] = ("ZRANGEBYSCORE", mine.friends, after, last, "WITHSCORES", "LIMIT", 0, most)
    return Call(mine.partition, command)


def parse_oldest(reply: Any) -> list[tuple[str, str]]:
    """(friend, place) each."""
    return [(text(friend), f"{float(score):.0f}") for friend, score in _pairs(reply)]


def ask(keys: Keys, user: str, target: str, most: int, lifetime_ms: int) -> Call:
    """Leaves a request of ``user`` with ``target``; replies 0, 31029 or ``REQUESTS_FULL``."""
    theirs = keys.friend(target)
    return function(theirs.partition, "friend_ask", (theirs.user, theirs.requests), user, most, lifetime_ms)


def set_permission(keys: Keys, user: str, permission: int) -> Call:
    """Who may add the user: 1 anyone, 2 with approval, 3 nobody."""
    mine = keys.friend(user)
    return Call(mine.partition, ("HSET", mine.user, "friend_permission", permission))


def permission(keys: Keys, user: str) -> Call:
    """None where it was never set."""
    mine = keys.friend(user)
    return Call(mine.partition, ("HGET", mine.user, "friend_permission"))


def name(keys: Keys, user: str) -> Call:
    """The user's display name."""
    return Call(keys.friend(user).partition, ("HGET", keys.friend(user).user, "name"))


def note(keys: Keys, user: str, friend: str, alias: str, attributes: str | None) -> Call:
    """What the user calls a friend, and JSON attributes ("" = none, None = as they are); replies 0 or 25472."""
    mine = keys.friend(user)
    changes = (int(attributes is not None), attributes or "")
    return function(mine.partition, "friend_note", (mine.friends, mine.notes), friend, alias, *changes)


def page(keys: Keys, user: str, after: int | None, limit: int, oldest_first: bool = False) -> Call:
    """One friend more than ``limit`` after a place, so that the caller knows whether another page exists."""
    mine = keys.friend(user)
    start = "" if after is None else after
    return function(mine.partition, "friend_page", (mine.friends, mine.notes), start, limit + 1, int(oldest_first))


def parse_page(reply: Any, limit: int) -> Page:
    total, *rest = reply
    friends = [
        Friend(text(user), int(float(place)), *_note(bytes(note)))
        for user, place, note in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    ]
    more = len(friends) > limit
    friends = friends[:limit]
    return Page(friends, int(total), friends[-1].place if more and friends else None)


def _note(raw: bytes) -> tuple[str, str]:
    length, _, rest = raw.partition(b":")
    bytes_of_alias = int(length or b"0")
    return rest[:bytes_of_alias].decode(), rest[bytes_of_alias:].decode()


def todo(keys: Keys, partition: int, most: int) -> Call:
    """Some of a partition's intents, any; the others another time."""
    return Call(partition, ("HRANDFIELD", keys.todo(partition), most, "WITHVALUES"))


def parse_todo(reply: Any) -> list[Intent | Hold | Clearing]:
    """What is about friends among them."""
    found: list[Intent | Hold | Clearing] = []
    for name, raw in _pairs(reply):
        kind, *users = text(name).split("\n")
        if kind not in ("pair", "held", "clear"):
            continue
        record = orjson.loads(raw)
        version, at = record["version"], record["at"]
        if kind == "pair":
            found.append(Intent(Pair(*users), record["op"], version, at))
        elif kind == "held":
            found.append(Hold(Pair.of(*users), version, at))
        else:
            found.append(Clearing(users[0], version, at))
    return found


def _all(mine: FriendKeys) -> tuple[str, ...]:
    """The keys of ``befriend`` and its halves, in lua/friends.lua's order."""
    return (mine.user, mine.friends, mine.versions, mine.held, mine.notes, mine.requests, mine.todo)


def _pairs(reply: Any) -> list[tuple[Any, Any]]:
    """Pairs, whether they came as a map, as rows of two or flat."""
    if isinstance(reply, dict):
        return list(reply.items())
    if reply and isinstance(reply[0], list | tuple):
        return [(row[0], row[1]) for row in reply]
    return list(zip(reply[::2], reply[1::2], strict=True)) if reply else []
