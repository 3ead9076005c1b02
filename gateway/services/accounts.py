"""Users: registered, read, listed, muted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.config import Config
from gateway.services.directories import Directory, Page, entry_of, token_of
from gateway.services.errors import PARAMETER_TOO_LONG, USER_DEACTIVATED, USER_LIMIT, USER_UNKNOWN, Refused
from gateway.store import accounts
from gateway.store.accounts import Account
from gateway.store.directories import Entry
from gateway.store.store import Store

NAME_MAX = 64
AVATAR_BYTES_MAX = 1024

PACE = 100
"""Users whose records are written in one go, so that a thousand do not hold the event loop up."""


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Some users, how many there are in all, and the token of the page that follows, if one does."""

    accounts: Sequence[Account]
    total: int
    token: str | None = None


class Accounts:
    """What can be done about users."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._users = Directory(store, "users")
        self._muted = Directory(store, "muted")
        # Counting and registering are two steps; so that no two of this process come to the same count.
        self._counting = asyncio.Lock()
        self._users_max = config.users_development_max if config.environment == "development" else None

    async def register(self, user: str, name: str | None, avatar_url: str | None) -> int:
        """Makes the user exist, or updates the fields given.

        Returns:
            The time of the store, Unix ms.

        Raises:
            Refused: 31029 deactivated; 2007 the development environment's limit; 1005 over-long name or avatar.
        """
        _check_lengths(name, avatar_url)
        register = accounts.register(self._store.keys, user, name, avatar_url)
        if self._users_max is None or (await self._read(user)).registered:
            code, now, *_ = await self._store.execute(register)
        else:
            async with self._counting:
                await self._count_below(self._users_max)
                code, now, *_ = await self._store.execute(register)
        if code:
            raise Refused(USER_DEACTIVATED, f"user {user} is deactivated")
        return int(now)

    async def _count_below(self, limit: int) -> None:
        if await self.count() >= limit:
            raise Refused(USER_LIMIT, f"the development environment allows {limit} users")

    async def count(self) -> int:
        """How many users are registered; who is softly deleted is not."""
        return await self._users.count()

    async def get(self, user: str) -> Account | None:
        """The user's record, None where the id was never registered."""
        account = await self._read(user)
        return account if account.registered else None

    async def update(self, user: str, *, name: str | None = None, avatar_url: str | None = None) -> None:
        """Changes what is given.

        Raises:
            Refused: 400 no such user, or a deleted one; 1005 over-long name or avatar.
        """
        _check_lengths(name, avatar_url)
        record = await self._read(user)
        if not record.registered or record.deactivated_at is not None:
            raise Refused(USER_UNKNOWN, "the user does not exist", "user")
        await self.register(user, name, avatar_url)

    async def mute(self, users: Sequence[str], muted: bool) -> None:
        """Takes from users, or gives back, the right to send direct messages."""
        wanted = list(dict.fromkeys(users))
        for start in range(0, len(wanted), PACE):
            some = wanted[start : start + PACE]
            await self._store.execute_all([accounts.mute(self._store.keys, user, muted) for user in some])

    async def muted(self, *, offset: int, limit: int) -> Page:
        """Who may send no direct messages, the one for longest first."""
        return await self._muted.page(offset, limit)

    async def list(self, *, offset: int, limit: int, newest_first: bool = False) -> AccountPage:
        """Registered users in the order of their registration."""
        page = await self._users.page(offset, limit, newest_first=newest_first)
        return AccountPage(await self._records(page.entries), page.total)

    async def list_after(self, token: str | None, limit: int) -> AccountPage:
        """The same by page tokens, None = the first page: users who come or go meanwhile move nobody else.

        Raises:
            Refused: 1002, such a token was never given out.
        """
        entries = await self._users.after(entry_of(token), limit)
        total, records = await self._users.count(), await self._records(entries[:limit])
        return AccountPage(records, total, token_of(entries[limit - 1]) if len(entries) > limit else None)

    async def _records(self, entries: Sequence[Entry]) -> Sequence[Account]:
        calls = [accounts.get(self._store.keys, entry.user) for entry in entries]
        replies = await self._store.execute_all(calls)
        return [accounts.parse_get(entry.user, reply) for entry, reply in zip(entries, replies, strict=True)]

    async def _read(self, user: str) -> Account:
        return accounts.parse_get(user, await self._store.execute(accounts.get(self._store.keys, user)))


def _check_lengths(name: str | None, avatar_url: str | None) -> None:
    if name is not None and len(name) > NAME_MAX:
        raise Refused(PARAMETER_TOO_LONG, f"is longer than {NAME_MAX} characters", "name")
    if avatar_url is not None and len(avatar_url.encode()) > AVATAR_BYTES_MAX:
        raise Refused(PARAMETER_TOO_LONG, f"is longer than {AVATAR_BYTES_MAX} bytes", "avatar_url")
