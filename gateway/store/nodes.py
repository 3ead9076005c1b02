"""Leases of nodes, and the claims of those who reap ended ones."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.store.call import Call, function, text
from gateway.store.keys import CLAIM_LIFETIME_MS, NODES, Keys


class Renewal(Struct, frozen=True):
    """What a renewal told. Times are Unix ms in Redis' own time.

    Attributes:
        granted: whether the lease goes on; False = it has ended for good.
        next_end: when the next of the other leases ends, None = there is none.
        ended: incarnations whose lease has ended and that wait to be reaped.
    """

    granted: bool
    now: int
    next_end: int | None
    ended: list[str]


class Lease(Struct, frozen=True):
    """One incarnation's lease."""

    incarnation: str
    ends_at: int


def renew(keys: Keys, incarnation: str, lease_ms: int, mode: str) -> Call:
    """Renews a lease; ``mode`` is "first", "renew", or "outage" (the first one after the store was away)."""
    return function(keys.nodes_place, "renew", (NODES,), incarnation, lease_ms, mode)


def parse_renewal(reply: Any) -> Renewal:
    granted, now, next_end, *ended = reply
    return Renewal(bool(granted), int(now), int(next_end) or None, [text(incarnation) for incarnation in ended])


def claim(keys: Keys, dead: str, claimant: str) -> Call:
    """Takes an ended incarnation over, or renews the claim on it; replies 1 when it is the claimant's."""
    return function(keys.nodes_place, "claim", (NODES,), dead, claimant, CLAIM_LIFETIME_MS)


def bury(keys: Keys, incarnation: str, again_ms: int | None = None) -> Call:
    """Takes an incarnation off the list: it has been reaped, or has stopped in good order.

    Args:
        again_ms: after how long it is listed as ended once more, unless this was that second time; None = never.
    """
    return function(keys.nodes_place, "bury", (NODES,), incarnation, "" if again_ms is None else again_ms)


def end(keys: Keys, incarnation: str) -> Call:
    """Ends a lease now, or lists one that has been buried as ended: whoever looks next reaps what it left."""
    return Call(keys.nodes_place, ("ZADD", NODES, "LT", 1, incarnation))


def leases(keys: Keys) -> Call:
    """All leases."""
    return Call(keys.nodes_place, ("ZRANGE", NODES, 0, -1, "WITHSCORES"))


def parse_leases(reply: Any) -> list[Lease]:
    return [lease for lease in _pairs(reply) if "." in lease.incarnation and " " not in lease.incarnation]


def _pairs(reply: Any) -> list[Lease]:
    if reply and isinstance(reply[0], list | tuple):
        pairs = [(row[0], row[1]) for row in reply]
    else:
        pairs = list(zip(reply[::2], reply[1::2], strict=True))
    return [Lease(text(member), int(float(score))) for member, score in pairs]


def alive(reply: Any, now_ms: int) -> set[str] | None:
    """The incarnations whose lease goes on, out of what ``leases`` replied.

    Returns:
        None while nobody's lease counts as ended: the store was away, and nodes have a grace period to renew.
    """
    pairs = {lease.incarnation: lease.ends_at for lease in _pairs(reply)}
    if pairs.get("grace", 0) > now_ms:
        return None
    return {incarnation for incarnation, ends_at in pairs.items() if ends_at > now_ms}


def time(keys: Keys) -> Call:
    """Redis' own time on the server that holds the leases."""
    return Call(keys.nodes_place, ("TIME",))


def parse_time(reply: Any) -> int:
    """Unix ms."""
    return int(reply[0]) * 1000 + int(reply[1]) // 1000
