"""Rates: calls of an operation counted over the whole cluster; and signatures that were used."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.call import Call, function
from gateway.store.keys import Keys


def take(keys: Keys, operation: str, windows: Sequence[tuple[int, int]], weight: int) -> Call:
    """Counts a call; replies 0, or after how many ms it may be repeated.

    Args:
        keys: the key names.
        operation: whose limits.
        windows: (how many, in how many seconds); all must have room.
        weight: as how many the call counts.
    """
    partition = keys.partition(operation)
    named = tuple(keys.rate(partition, operation, per_s) for _, per_s in windows)
    bounds = [part for most, per_s in windows for part in (most, per_s * 1000)]
    return function(partition, "take_rate", named, weight, *bounds)


def use_signature(keys: Keys, signature: str, lifetime_s: int) -> Call:
    """Replies 1 to the first use of a signature within the lifetime, 0 to later ones."""
    partition = keys.partition(signature)
    return function(partition, "once", (keys.signature(partition, signature),), lifetime_s)
