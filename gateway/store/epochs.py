"""Epochs: whether a partition's data goes on where it was, which only its master's replication id can tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from gateway.store.call import Call, function, text
from gateway.store.errors import StoreUnavailable
from gateway.store.keys import Keys
from gateway.store.pipeline import Part

Ask = Callable[[Sequence[tuple[Part, ...]]], Awaitable[list[Any]]]
"""Runs commands on the link that is in question, written at once."""


async def settle(keys: Keys, partitions: Iterable[int], ask: Ask) -> None:
    """Begins new epochs in a server's partitions where its data may not be what it was; before a link is used.

    Raises:
        StoreUnavailable: The server is a replica.
        StoreError: It does not answer, or refuses.
    """
    (information,) = await ask([("INFO", "replication")])
    told = dict(line.split(":", 1) for line in text(information).splitlines() if ":" in line)
    if told.get("role", "master") != "master":
        raise StoreUnavailable("it is a replica now")
    # Who hides it (some hosted servers do) has one epoch for ever: its failovers are not noticed.
    replication_id = told.get("master_replid", "")
    await ask([_settle(keys, partition, replication_id).command for partition in partitions])


def _settle(keys: Keys, partition: int, replication_id: str) -> Call:
    return function(partition, "settle_epoch", (keys.epoch(partition),), replication_id)
