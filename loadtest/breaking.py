"""What can happen to a gateway: it is drained, restarted, killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.config import Config
from gateway.store.embedded import find
from loadtest.scenario import Break
from loadtest.target import STOP_S, Target, TargetFault

if TYPE_CHECKING:
    from gateway.services.control import Control

POLL_S = 0.1


class Breaker:
    """Breaks a target, and has it whole again.

    Attributes:
        at_work: the target is broken now: that its process ends is no surprise.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.at_work = False

    def check(self, kind: Break) -> None:
        """Whether this target can be broken so.

        Raises:
            TargetFault: it cannot; the message says what is needed.
        """
        if kind == "drain":
            if self._target.data_dir is None or find(self._target.data_dir) is None:
                raise TargetFault("draining goes over the gateway's own store: use --start, or give its --data-dir")
        elif self._target.process is None:
            raise TargetFault(f"{kind}: only a gateway that the load test has started is stopped: use --start")

    async def perform(self, kind: Break) -> None:
        """Breaks it, and waits until it takes clients again.

        Raises:
            TargetFault: it does not come back.
        """
        self.at_work = True
        try:
            match kind:
                case "drain":
                    await self._drain()
                case "restart":
                    await asyncio.to_thread(self._target.restart)
                case "kill":
                    await self._kill()
        finally:
            self.at_work = False

    async def _kill(self) -> None:
        workers = [pid for name, pid in self._target.pids().items() if name != "store" and pid != self._target.root]
        if workers:
            # Its parent starts another.
            os.kill(workers[-1], signal.SIGKILL)
        else:
            await asyncio.to_thread(self._target.restart, signal.SIGKILL)

    async def _drain(self) -> None:
        """Sends the clients of one node away, and lets it take clients again when all of them are gone."""
        async with _control(self._target) as control:
            # One that was killed a moment ago keeps its lease for some seconds.
            there = [each.incarnation for each in await control.nodes() if each.answered]
            if not there:
                raise TargetFault("no node answers")
            node = there[-1]
            await control.drain(node)
            try:
                async with asyncio.timeout(STOP_S):
                    while any(each.sessions for each in await control.nodes() if each.incarnation == node):
                        await asyncio.sleep(POLL_S)
            except TimeoutError:
                raise TargetFault(f"{node} still has sessions {STOP_S:g} s after it was told to drain") from None
            finally:
                await control.resume(node)


@asynccontextmanager
async def _control(target: Target) -> AsyncIterator[Control]:
    # Generators import the acts too, and have no use for half a gateway.
    from gateway.services.services import Services
    from gateway.store.store import Store

    url = find(target.data_dir) if target.data_dir is not None else None
    if url is None or target.data_dir is None or target.credentials is None:
        raise TargetFault("the gateway's own store does not answer")
    store = await Store.connect(url)
    try:
        yield Services.over(store, Config(data_dir=target.data_dir), target.credentials).control
    finally:
        await store.close()
