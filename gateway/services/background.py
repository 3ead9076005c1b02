"""What runs on a node beside the event loop's callbacks, and how it is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

AGAIN_S = 0.1
"""How often what has not ended is cancelled again: a library may have swallowed the first time."""


class Background:
    """Tasks that live no longer than their node.

    Attributes:
        running: those that have not ended.
        ended: nothing is begun any more.
    """

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()
        self.ended = False

    def begin(self, work: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None] | None:
        """Runs something rare; what it raises is logged, never lost. None: the node stops, and it is not begun."""
        if self.ended:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("a background task failed", task=task.get_name(), exc_info=fault)

    async def end(self, within_s: float) -> None:
        """Ends all; who has not ended within so many seconds is left alone, and named in the log."""
        self.ended = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while self.running and loop.time() < deadline:
            for task in self.running:
                task.cancel()
            await asyncio.wait(self.running, timeout=AGAIN_S)
            # Their ends are told to callbacks in the next turn.
            await asyncio.sleep(0)
        if self.running:
            log.error("background tasks do not end", tasks=sorted(map(repr, self.running)))
