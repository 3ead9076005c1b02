"""What the services of one node share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from gateway.config import Config
from gateway.core.hub import Hub
from gateway.core.timers import TimerWheel
from gateway.services.clock import Clock
from gateway.services.outbox import Outbox
from gateway.services.settings import Settings
from gateway.store.bus import Bus
from gateway.store.keys import Keys
from gateway.store.store import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One node's parts; everything here lives as long as the node."""

    config: Config
    clock: Clock
    store: Store
    keys: Keys
    bus: Bus
    hub: Hub
    wheel: TimerWheel
    settings: Settings
    outbox: Outbox
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something rare beside the event loop's callbacks; what it raises is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("a background task failed", exc_info=fault)
