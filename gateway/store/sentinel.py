"""Sentinels: who is the master of a service now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.store.endpoint import Endpoint
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.master import Master


class Told(NamedTuple):
    """What sentinels say of a service's master.

    Attributes:
        epoch: of their configuration; every failover raises it.
    """

    epoch: int
    host: str
    port: int


async def master_of(service: str, sentinels: Sequence[Endpoint], timeout_s: float, known_epoch: int = 0) -> Told:
    """Asks all sentinels at once; the newest answer counts, for one that was cut off may still tell the old master.

    Args:
        service: the name under which the sentinels watch the master.
        sentinels: all of them.
        timeout_s: for each of them.
        known_epoch: the newest that was ever told. Something older is believed of more than half of them only: they
            have been set up anew.

    Raises:
        StoreUnavailable: None of them knows it, or only some do that have not heard of a failover.
    """
    answers = await asyncio.gather(
        *(_ask(service, sentinel, timeout_s) for sentinel in sentinels), return_exceptions=True
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, StoreError):
            raise answer
    told = [answer for answer in answers if not isinstance(answer, BaseException)]
    if not told:
        raise StoreUnavailable(f"no sentinel tells the master of {service}: {answers[0]}")
    newest = max(told)
    if newest.epoch < known_epoch and len(told) * 2 <= len(sentinels):
        raise StoreUnavailable(f"no sentinel that answers has heard of the last failover of {service}")
    return newest


async def _ask(service: str, sentinel: Endpoint, timeout_s: float) -> Told:
    connection = Master(sentinel, timeout_s, connections_max=1)
    try:
        # The one tells the epoch, and the old address until a failover is through; the other the one to use.
        state, address = await connection.pipelined(
            [("SENTINEL", "MASTER", service), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)]
        )
    finally:
        await connection.close()
    for reply in (state, address):
        if isinstance(reply, StoreError):
            raise reply
    if address is None:
        raise StoreUnavailable(f"the sentinel at {sentinel} has just forgotten {service}")
    return Told(int(_pairs(state)["config-epoch"]), address[0].decode(), int(address[1]))


def _pairs(reply: Any) -> dict[str, str]:
    flat = [part for pair in reply.items() for part in pair] if isinstance(reply, dict) else reply
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))
