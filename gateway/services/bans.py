"""Bans: made, lifted, listed; they end by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.services.directories import Directory
from gateway.services.drops import Acknowledgement, Drops
from gateway.services.errors import Refused
from gateway.store import accounts, drops
from gateway.store.directories import FOREVER
from gateway.store.store import Store

MINUTES_MAX = 43_200
"""30 days: the longest ban with an end."""

MINUTES_INVALID = 1003

LIST_MAX = 1000


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban in force; ``until_ms`` is Unix ms, None = until lifted."""

    user: str
    until_ms: int | None
    reason: str


class Bans:
    """What can be done about bans."""

    def __init__(self, store: Store, drops: Drops) -> None:
        self._store = store
        self._drops = drops
        self._directory = Directory(store, "bans")

    async def ban(self, users: Sequence[str], *, minutes: int | None, reason: str = "") -> Acknowledgement:
        """Bans users and drops their live sockets; a new ban replaces the end of an older one.

        Args:
            users: user ids, registered or not.
            minutes: 1 to 43,200; None = until lifted.
            reason: for the user and for whoever lists bans.

        Raises:
            Refused: 1003, the minutes are out of bounds.
        """
        if minutes is not None and not 1 <= minutes <= MINUTES_MAX:
            raise Refused(MINUTES_INVALID, f"minutes must be from 1 to {MINUTES_MAX}", "minutes")
        # In the store's time: it is what every connect is judged by.
        until = 0 if minutes is None else await self._store.now_ms() + minutes * 60_000
        keys = self._store.keys
        return await self._drops.perform(users, lambda user, call: drops.ban(keys, user, call, until, reason))

    async def unban(self, users: Sequence[str]) -> int:
        """Lifts bans; returns how many there were."""
        replies = await self._store.execute_all([drops.unban(self._store.keys, user) for user in dict.fromkeys(users)])
        return sum(int(reply) for reply in replies)

    async def list(self, *, offset: int = 0, limit: int = LIST_MAX) -> list[Ban]:
        """Bans in force, the latest end first (those without an end before all)."""
        keys, now = self._store.keys, await self._store.now_ms()
        page = await self._directory.page(offset, limit, newest_first=True)
        # Those that have ended come last; a sweep takes them out.
        chosen = [entry for entry in page.entries if entry.at_ms > now]
        records = await self._store.execute_all([accounts.get(keys, entry.user) for entry in chosen])
        return [
            Ban(
                entry.user,
                None if entry.at_ms == FOREVER else entry.at_ms,
                accounts.parse_get(entry.user, record).ban_reason,
            )
            for entry, record in zip(chosen, records, strict=True)
        ]

    async def forget_ended(self) -> None:
        """Takes ended bans out of the directories."""
        keys, now = self._store.keys, await self._store.now_ms()
        await self._store.execute_all([drops.forget_ended_bans(keys, each, now) for each in range(keys.partitions)])
