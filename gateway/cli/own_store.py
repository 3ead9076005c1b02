"""The embedded store as serve keeps it: started, started again when it dies, stopped last."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog

from gateway.store.embedded import EmbeddedStore, StoreStartError

log = structlog.get_logger(__name__)

RESTART_WAIT_S = 0.2
"""Before the first restart; twice as long before each further one."""

RESTARTS_MAX = 3
"""Restarts within RESTARTS_WITHIN_S; a store that dies more often has a reason that a restart does not cure."""

RESTARTS_WITHIN_S = 60.0


class OwnStore:
    """A running embedded store on a data directory.

    Raises:
        StoreStartError: it cannot be started.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._store = EmbeddedStore.start(data_dir)
        self._deaths: list[float] = []
        self.url = self._store.url

    async def keep(self) -> str:
        """Starts it again whenever it dies; the nodes reconnect and resync by themselves.

        Returns:
            Why it is given up; does not return while there is hope.
        """
        while True:
            await self._store.ended()
            now = time.monotonic()
            self._deaths = [*(death for death in self._deaths if now - death < RESTARTS_WITHIN_S), now]
            if len(self._deaths) > RESTARTS_MAX:
                return f"the embedded store ended {len(self._deaths)} times within {RESTARTS_WITHIN_S:g} s"
            log.error("the embedded store has ended: starting it again", data_dir=str(self._data_dir))
            await asyncio.sleep(RESTART_WAIT_S * 2 ** (len(self._deaths) - 1))
            problem = self._start_again()
            if problem is not None:
                return problem
            log.warning("the embedded store runs again", pid=self._store.pid)

    def _start_again(self) -> str | None:
        # Blocks the event loop until the file is read: it may only be started on the main thread, and without it no
        # session could do anything.
        self._store.stop()
        try:
            self._store = EmbeddedStore.start(self._data_dir)
        except StoreStartError as error:
            return str(error)
        if self._store.url != self.url:
            # Only where the data directory's path is too long for a socket.
            return "the embedded store came back at another address"
        return None

    def stop(self) -> None:
        """Lets it flush its file and end."""
        self._store.stop()
