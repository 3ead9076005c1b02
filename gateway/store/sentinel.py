"""Sentinels: who is the master of a service now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gateway.store.endpoint import Endpoint
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.master import Master


async def master_of(service: str, sentinels: Sequence[Endpoint], server: Endpoint, timeout_s: float) -> Endpoint:
    """Asks all sentinels at once; the newest answer counts, for one that was cut off may still tell the old master.

    Args:
        service: the name under which the sentinels watch the master.
        server: how to be let in by it; its host and port are what is asked for.
        timeout_s: for each sentinel.

    Raises:
        StoreUnavailable: None of them knows it.
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
    _, host, port = max(told)
    return server._replace(host=host, port=port)


async def _ask(service: str, sentinel: Endpoint, timeout_s: float) -> tuple[int, str, int]:
    """The configuration's epoch, and where the master is."""
    connection = Master(sentinel, timeout_s, connections_max=1)
    try:
        told = _pairs(await connection.execute("SENTINEL", "MASTER", service))
    finally:
        await connection.close()
    return int(told["config-epoch"]), told["ip"], int(told["port"])


def _pairs(reply: Any) -> dict[str, str]:
    flat = [part for pair in reply.items() for part in pair] if isinstance(reply, dict) else reply
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))
