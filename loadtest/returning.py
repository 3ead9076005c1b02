"""Users who come back when they were cut off, as an app on the SDK does."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from gateway.client.backoff import Backoff, comes_again, status_comes_again
from gateway.protocol import codes
from loadtest.crowd import Crowd, User
from loadtest.dialect import Dialect
from loadtest.plan import Plan

SENT_AWAY = frozenset({codes.GOING_AWAY.code, codes.SERVICE_RESTART.code})
"""Close codes by which a node that drains or restarts sends its clients to another one."""


class ReturningCrowd(Crowd):
    """Comes back with the SDK's back-off, and not before the time that the gateway asks for.

    ``reconnect`` is timed from the end of the socket to the welcome, the waiting in between included: that is what a
    person sees. Counts ``reconnects``, and ``unforeseen_<code>`` (or ``_none``) whoever was cut off otherwise than by a
    node that drains, which is a failure where no break explains it; so is a close code that says stop.
    """

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        super().__init__(plan, dialect)
        self._returning: dict[int, asyncio.Task[None]] = {}
        self._backoffs: dict[int, Backoff] = {}

    def foreseen(self, user: User, code: int | None) -> bool:
        """Whether an act has done this itself, and brings the user back."""
        return False

    def ended(self, user: User, code: int | None, reason: bytes) -> None:
        if not user.wanted or self.foreseen(user, code):
            return
        if (delay_ms := _retry_after_ms(reason)) is not None:
            self._backoff(user).hold(delay_ms)
        if code is not None and not (comes_again(code) if code > 0 else status_comes_again(-code)):
            self.failed(f"{user.name} was told to stay away: {code} {reason.decode(errors='replace')[:80]}")
            return
        if user.index not in self._returning and (code is None or (code > 0 and code not in SENT_AWAY)):
            self.count(f"unforeseen_{code or 'none'}")
        self.bring_back(user)

    def bring_back(self, user: User) -> None:
        """Has a user come again, unless he is about to."""
        if user.index not in self._returning:
            self._returning[user.index] = asyncio.create_task(self._return(user, self._backoff(user)))

    def _backoff(self, user: User) -> Backoff:
        backoff = self._backoffs.get(user.index)
        if backoff is None:
            backoff = self._backoffs[user.index] = Backoff(time.monotonic)
        return backoff

    async def _return(self, user: User, backoff: Backoff) -> None:
        cut_us = time.monotonic_ns() // 1000
        try:
            while user.wanted:
                await asyncio.sleep(backoff.next_s())
                if user.wanted and await self.open(user):
                    backoff.succeeded()
                    self.came_back(cut_us)
                    return
        finally:
            del self._returning[user.index]

    def came_back(self, cut_us: int) -> None:
        """A user is back who was cut off at that time."""
        self.timed("reconnect", time.monotonic_ns() // 1000 - cut_us)
        self.count("reconnects")

    @property
    def away(self) -> int:
        """How many are not online although they are to be."""
        return sum(user.wanted and not user.online for user in self.users.values())

    async def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """``back``: whether all are."""
        if order["do"] == "back":
            return {"so": not self.away}
        return await super().do(order)


def _retry_after_ms(reason: bytes) -> float | None:
    if not reason.startswith(b"{"):
        return None
    try:
        delay = orjson.loads(reason).get("retry_after_ms")
    except orjson.JSONDecodeError:
        return None
    return delay if isinstance(delay, int | float) else None
