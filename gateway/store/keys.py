"""Every key, channel and lifetime; built here and nowhere else.

``partition = crc16(user) mod P``. All keys of a user carry the partition's hash tag, so all of a user's state is in
one slot and one Function can decide and act on it atomically.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache
from itertools import product
from typing import NamedTuple

SLOTS = 16384
"""Redis Cluster specification: HASH_SLOT = CRC16(key) mod 16384."""

META = "gw:meta"
NODES = "gw:nodes"
SETTINGS = "gw:settings"
CONTROL = "gw:control"
BROADCASTS = "gw:broadcasts"
BROADCAST_ENDS = "{gw:broadcasts}:ends"
"""Its hash tag is the stream's whole name: the two share a slot."""
WORDS = "gw:words"
EVENTS = "gw:events"
EVENT_COUNTS = "{gw:events}:counts"
DEAD_EVENTS = "{gw:events}:dead"
"""Events for the app's own server, what became of them, and those that were given up."""

REPLY_LIFETIME_S = 30
"""How long the answers to a drop are kept for its caller."""

CLAIM_LIFETIME_MS = 10_000
"""How long a reaper's claim on an ended incarnation stands without being renewed."""

COMMAND_LIFETIME_S = 2
"""For how long one node's claim on a control command keeps the others from running it as well."""

_PLACES = (META, NODES, SETTINGS, BROADCASTS, WORDS, EVENTS)
"""The deployment-wide keys that have a place, in the order of their places."""

_TAG_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def slot(tag: str) -> int:
    """The cluster slot of keys with this hash tag (crc_hqx from 0 is the CRC16 that Redis Cluster uses)."""
    return crc_hqx(tag.encode(), 0) % SLOTS


@lru_cache(maxsize=8)
def tags(partitions: int) -> tuple[str, ...]:
    """One short hash tag a partition, so that the partitions fall evenly over the slots.

    Partition i's tag lies in the i-th of ``partitions`` equal ranges of slots, so a cluster that gives its masters
    equal ranges of slots gives them equal numbers of partitions.
    """
    found: list[str | None] = [None] * partitions
    missing = partitions
    for letters in product(_TAG_ALPHABET, repeat=4):
        tag = "".join(letters)
        index = slot(tag) * partitions // SLOTS
        if found[index] is None:
            found[index] = tag
            missing -= 1
            if not missing:
                break
    return tuple(tag for tag in found if tag is not None)


class UserKeys(NamedTuple):
    """The keys and channels of one user."""

    partition: int
    user: str
    sessions: str
    inbox: str
    ack: str
    block: str
    allow: str
    friends: str
    revoked: str
    watch_channel: str
    node_channel: str


class FriendKeys(NamedTuple):
    """The keys of one user's friendships, and the partition's intents."""

    partition: int
    user: str
    friends: str
    versions: str
    held: str
    notes: str
    requests: str
    todo: str


class Keys:
    """The key names of one deployment.

    The deployment-wide keys have no partition; each has a *place* behind the last partition, so that "where does this
    live" is one number everywhere.

    Args:
        partitions: P, fixed at the first start of a deployment.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.places = partitions + len(_PLACES)
        places = range(partitions, self.places)
        self.meta_place, self.nodes_place, self.settings_place, *others = places
        self.broadcasts_place, self.words_place, self.events_place = others
        self._prefixes = tuple(f"gw:{{{tag}}}:" for tag in tags(partitions))

    def partition(self, name: str) -> int:
        """The partition of a user id (or of a call id)."""
        return crc_hqx(name.encode(), 0) % self.partitions

    def slot(self, partition: int) -> int:
        """The cluster slot that holds the partition, or the deployment-wide key with this place."""
        if partition >= self.partitions:
            return slot(_PLACES[partition - self.partitions])
        return slot(tags(self.partitions)[partition])

    def user(self, user: str) -> UserKeys:
        """Everything of one user."""
        partition = crc_hqx(user.encode(), 0) % self.partitions
        prefix = self._prefixes[partition]
        return UserKeys(
            partition,
            f"{prefix}u:{user}",
            f"{prefix}s:{user}",
            f"{prefix}in:{user}",
            f"{prefix}ack:{user}",
            f"{prefix}block:{user}",
            f"{prefix}allow:{user}",
            f"{prefix}friends:{user}",
            f"{prefix}revoked:{user}",
            f"{prefix}w:{user}",
            f"{prefix}n:",
        )

    def friend(self, user: str) -> FriendKeys:
        """What is kept of one user's friends."""
        partition = crc_hqx(user.encode(), 0) % self.partitions
        prefix = self._prefixes[partition]
        return FriendKeys(
            partition,
            f"{prefix}u:{user}",
            f"{prefix}friends:{user}",
            f"{prefix}pairs:{user}",
            f"{prefix}held:{user}",
            f"{prefix}notes:{user}",
            f"{prefix}requests:{user}",
            f"{prefix}todo",
        )

    def relay(self, user: str) -> tuple[int, str, str]:
        """Partition, key prefix and user, for the one path that composes its own keys."""
        partition = crc_hqx(user.encode(), 0) % self.partitions
        return partition, self._prefixes[partition], user

    def held(self, partition: int, incarnation: str) -> str:
        """What sessions an incarnation holds in a partition: what a reaper walks."""
        return f"{self._prefixes[partition]}at:{incarnation}"

    def node_channel(self, partition: int, incarnation: str) -> str:
        """Everything that node must hear about users of this partition."""
        return f"{self._prefixes[partition]}n:{incarnation}"

    def directory(self, partition: int, name: str) -> str:
        """One of the directories ``bans``, ``deactivated``, ``users``, ``muted``, ``online``."""
        return f"{self._prefixes[partition]}{name}"

    def epoch(self, partition: int) -> str:
        """Under which replication id the partition was last served, and the id of its epoch."""
        return f"{self._prefixes[partition]}epoch"

    def todo(self, partition: int) -> str:
        """Intents of what touches two partitions."""
        return f"{self._prefixes[partition]}todo"

    def mark(self, partition: int) -> str:
        """What is written to at the end of a batch of durable sends, one on each master."""
        return f"{self._prefixes[partition]}mark"

    def reply(self, partition: int, call: str) -> str:
        """Where the nodes answer a drop or a control command."""
        return f"{self._prefixes[partition]}reply:{call}"

    def command(self, partition: int, call: str) -> str:
        """Which node runs a control command that was published by hand."""
        return f"{self._prefixes[partition]}command:{call}"

    def rate(self, partition: int, operation: str, per_s: int) -> str:
        """How often an operation was called in the last so many seconds."""
        return f"{self._prefixes[partition]}rate:{operation}:{per_s}"

    def signature(self, partition: int, signature: str) -> str:
        """That a signature was used."""
        return f"{self._prefixes[partition]}signature:{signature}"
