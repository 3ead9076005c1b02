"""The probe: what a service that stands still does to all who come meanwhile."""

from __future__ import annotations

import asyncio
from statistics import median

from loadtest.probe import probe


async def test_who_comes_while_the_service_stands_still_waits_for_it() -> None:
    stopped = asyncio.Event()
    still = asyncio.Event()

    async def answer() -> None:
        await still.wait()

    probing = asyncio.create_task(probe({"pong": answer, "relay": answer}, stopped))
    await asyncio.sleep(0.2)
    still.set()
    stopped.set()
    took = await probing
    assert took.keys() == {"pong", "relay"}
    for waits in took.values():
        assert len(waits) > 10
        assert max(waits) > 180
        assert 50 < median(waits) < 150
