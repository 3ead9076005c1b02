"""Watching users: their presence now and as it changes, over every link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec

from gateway.client.errors import GatewayError, QueueFull, Stopped
from gateway.client.link import Fields
from gateway.protocol.replies import UserPresence

AT_ONCE = 200
"""As many users as one command takes."""

AGAIN_PAUSE_S = 1.0
AGAIN_MAX = 30
"""Tries to watch again what was watched before a break; the next link tries anew."""

Presence = UserPresence
"""The present state of a watched user."""

Ask = Callable[..., Awaitable[Fields]]


class Watched:
    """The users that the app watches.

    Args:
        ask: sends a command and waits for its reply.
        changed: called whenever something else is known of somebody.
        fault: told what nobody waits for.
    """

    def __init__(self, ask: Ask, changed: Callable[[Presence], None], fault: Callable[[Exception], None]) -> None:
        self._ask = ask
        self._changed = changed
        self._fault = fault
        self._known: dict[str, Presence | None] = {}
        # The versions of another link's time may be those of a store that has begun anew.
        self._stale: set[str] = set()
        self._again: asyncio.Task[None] | None = None

    async def watch(self, users: str | Iterable[str]) -> dict[str, Presence]:
        """Raises GatewayError where the gateway refuses; those of earlier batches are then watched."""
        wanted = [users] if isinstance(users, str) else list(dict.fromkeys(users))
        found: dict[str, Presence] = {}
        for batch in _batches(wanted):
            new = [user for user in batch if user not in self._known]
            # Before the answer: a change may come right behind it, in the same turn of the loop.
            self._known |= dict.fromkeys(new)
            try:
                answer = await self._ask("watch", users=batch)
            except BaseException:
                for user in new:
                    self._known.pop(user, None)
                raise
            self._learn(answer["users"], quiet=True)
            for user in batch:
                presence = self._known.get(user)
                if presence is not None:
                    found[user] = presence
        return found

    async def unwatch(self, users: str | Iterable[str]) -> None:
        """Who is not watched is no error."""
        wanted = [users] if isinstance(users, str) else list(dict.fromkeys(users))
        for batch in _batches(wanted):
            for user in batch:
                self._known.pop(user, None)
                self._stale.discard(user)
            await self._ask("unwatch", users=batch)

    def get(self, user: str) -> Presence | None:
        """What is known of a watched user."""
        return self._known.get(user)

    def pushed(self, push: Fields) -> None:
        """A `presence` push."""
        if push["user"] in self._known:
            self._learn([push])

    def link_changed(self) -> None:
        """Watches end with a session, and what changed meanwhile was not told: all are read anew."""
        self.stop()
        if self._known:
            self._stale = set(self._known)
            self._again = asyncio.create_task(self._watch_again())

    def stop(self) -> None:
        """No more of this link."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    async def _watch_again(self) -> None:
        for batch in _batches(list(self._known)):
            for tried in range(AGAIN_MAX):
                await asyncio.sleep(AGAIN_PAUSE_S * min(tried, 10))
                try:
                    answer = await self._ask("watch", users=batch)
                    self._learn(answer["users"])
                    break
                except Stopped:
                    return
                except (GatewayError, QueueFull) as error:
                    self._fault(error)

    def _learn(self, found: Iterable[Any], *, quiet: bool = False) -> None:
        """``quiet``: who asked has it from the answer."""
        for each in found:
            presence = Presence(*(each[name] for name in Presence.__struct_fields__))
            before = self._known.get(presence.user)
            # The same version may say something else: who blocks this user is told as offline from then on.
            if before is not None and presence.user not in self._stale and presence.version < before.version:
                continue
            self._stale.discard(presence.user)
            self._known[presence.user] = presence
            if not quiet and (before is None or _shown(before) != _shown(presence)):
                self._changed(presence)


def _shown(presence: Presence) -> Any:
    return msgspec.structs.replace(presence, version=0)


def _batches(users: Sequence[str]) -> Iterable[list[str]]:
    remaining = iter(users)
    while batch := list(islice(remaining, AT_ONCE)):
        yield batch
