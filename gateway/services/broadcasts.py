"""Broadcasts: messages of the app's server to all users, or to all who are online."""

from __future__ import annotations

from typing import Literal

import msgspec
import orjson

from gateway.config import Config
from gateway.services.clock import Clock
from gateway.services.content import Contents
from gateway.services.errors import DATA_MISSING, Refused
from gateway.services.messages import Draft
from gateway.services.mids import uuid7
from gateway.services.rates import RateExceeded
from gateway.services.settings import Settings
from gateway.store import broadcasts
from gateway.store import keys as names
from gateway.store.call import Call
from gateway.store.store import Store

ONLINE_LIFETIME_MS = 600_000
"""A broadcast to users online is also seen by who comes online within ten minutes, as the hosted service has it."""

FULL_RETRY_AFTER_S = 60
"""What the caller is told when there are too many: broadcasts to users online end after ten minutes."""

_CHANGED = orjson.dumps({"cmd": "broadcasts"})
_encode = msgspec.json.Encoder().encode


class Broadcasts:
    """Sends broadcasts and takes them back. Delivering them is each node's part: ``services.announcing``.

    Args:
        store: where they are kept.
        settings: for how long.
        contents: what bodies are made by.
        config: how many there may be.
    """

    def __init__(self, store: Store, settings: Settings, contents: Contents, config: Config) -> None:
        self._store = store
        self._settings = settings
        self._contents = contents
        self._broadcasts_max = config.broadcasts_max
        self._clock = Clock()

    async def to_online(self, draft: Draft) -> str:
        """Sends to everybody who is online, or comes online within ten minutes; stored in no inbox.

        Returns:
            The message's id, the same for everybody.

        Raises:
            Refused: 1002 the content is not what the kind asks for; 1005 too long; 1008 there are too many; 21501.
        """
        return await self._send("online", draft, ONLINE_LIFETIME_MS)

    async def to_all(self, draft: Draft) -> str:
        """Sends to everybody who is registered now: into the inbox, once the user is online within the retention.

        Returns and raises as ``to_online``.
        """
        return await self._send("all", draft, self._settings.live.retention_ms)

    async def _send(self, op: Literal["all", "online"], draft: Draft, lifetime_ms: int) -> str:
        body = await self._contents.body(draft.content, draft.kind)
        mid = uuid7(self._clock.wall_ms())
        call = broadcasts.send(
            self._store.keys,
            op,
            mid,
            draft.sender,
            draft.kind,
            body,
            lifetime_ms=lifetime_ms,
            broadcasts_max=self._broadcasts_max,
        )
        if not await self._store.execute(call):
            raise RateExceeded(FULL_RETRY_AFTER_S, f"there are {self._broadcasts_max} broadcasts on their way")
        await self._tell()
        return mid

    async def recall(self, sender: str, mid: str, *, admin: bool = False, extra: str | None = None) -> None:
        """Takes a broadcast to all back: out of the inboxes that have it, and devices are told.

        Recalling what was recalled before does nothing.

        Args:
            admin: devices shall show that the app's server did it.
            extra: goes to the devices along with it.

        Raises:
            Refused: 1015 there is no such broadcast to all of this sender, or it is older than the retention.
        """
        more = b',"admin":true' if admin else b""
        if extra is not None:
            more += b',"extra":' + _encode(extra)
        state = await self._store.execute(broadcasts.recall(self._store.keys, mid, sender, more))
        if state == broadcasts.NOT_THERE:
            raise Refused(DATA_MISSING, "no such broadcast to all of this sender", "message")
        await self._tell()

    async def _tell(self) -> None:
        await self._store.execute(Call(self._store.keys.settings_place, ("PUBLISH", names.CONTROL, _CHANGED)))
