"""One worker as its supervisor has it: what is left when its beginning is broken off."""

from __future__ import annotations

import asyncio

import pytest

from gateway.cli.workers.spec import Spec
from gateway.cli.workers.worker import END_S, Worker


def _never() -> Spec:
    raise AssertionError("it is not told what it is")


@pytest.mark.parametrize("turns", range(6))
async def test_a_beginning_that_is_broken_off_leaves_nothing_to_wait_for(turns: int) -> None:
    worker = Worker(0, _never, lambda: None)
    beginning = asyncio.ensure_future(worker.begin())
    for _ in range(turns):
        await asyncio.sleep(0)
    beginning.cancel()
    await asyncio.gather(beginning, return_exceptions=True)
    worker.tell("abandon")
    async with asyncio.timeout(2 * END_S):
        await worker.gone(END_S)
