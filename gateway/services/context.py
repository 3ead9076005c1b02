"""What the services of one node share."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from gateway.config import Config
from gateway.core.hub import Hub
from gateway.core.timers import TimerWheel
from gateway.services.background import Background
from gateway.services.clock import Clock
from gateway.services.outbox import Outbox
from gateway.services.settings import Settings
from gateway.store.bus import Bus
from gateway.store.keys import Keys
from gateway.store.store import Store


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
    background: Background = field(default_factory=Background)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something rare beside the event loop's callbacks; what it raises is logged, never lost."""
        self.background.begin(work)
