"""Users: registered, read, muted, deactivated, reactivated."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import Config
from gateway.services.drops import Acknowledgement, Drops
from gateway.services.errors import PARAMETER_INVALID, USER_DEACTIVATED, USER_LIMIT, USER_UNKNOWN, Refused
from gateway.store import accounts, drops
from gateway.store.accounts import Account
from gateway.store.store import Store

NAME_MAX = 64
AVATAR_BYTES_MAX = 1024


class Accounts:
    """What can be done about users."""

    def __init__(self, store: Store, drops: Drops, config: Config) -> None:
        self._store = store
        self._drops = drops
        self._users_max = config.users_development_max if config.environment == "development" else None

    async def register(self, user: str, name: str | None, avatar_url: str | None) -> int:
        """Makes the user exist, or updates the fields given.

        Returns:
            The time of the store, Unix ms.

        Raises:
            Refused: 31029 deactivated; 2007 the development environment's limit; 1002 over-long name or avatar.
        """
        if name is not None and len(name) > NAME_MAX:
            raise Refused(PARAMETER_INVALID, f"name is longer than {NAME_MAX} characters", "name")
        if avatar_url is not None and len(avatar_url.encode()) > AVATAR_BYTES_MAX:
            raise Refused(PARAMETER_INVALID, f"avatarUrl is longer than {AVATAR_BYTES_MAX} bytes", "avatar_url")
        if self._users_max is not None and not (await self._read(user)).registered:
            await self._count_below(self._users_max)
        code, now, *_ = await self._store.execute(accounts.register(self._store.keys, user, name, avatar_url))
        if code:
            raise Refused(USER_DEACTIVATED, f"user {user} is deactivated")
        return int(now)

    async def _count_below(self, limit: int) -> None:
        if await self.count() >= limit:
            raise Refused(USER_LIMIT, f"the development environment allows {limit} users")

    async def count(self) -> int:
        """How many users are registered."""
        keys = self._store.keys
        replies = await self._store.execute_all([accounts.count(keys, each) for each in range(keys.partitions)])
        return sum(int(reply) for reply in replies)

    async def get(self, user: str) -> Account | None:
        """The user's record, None where the id was never registered."""
        account = await self._read(user)
        return account if account.registered else None

    async def update(self, user: str, *, name: str | None = None, avatar_url: str | None = None) -> None:
        """Changes what is given.

        Raises:
            Refused: 400 no such user, and as ``register``.
        """
        if not (await self._read(user)).registered:
            raise Refused(USER_UNKNOWN, f"user {user} does not exist", "user")
        await self.register(user, name, avatar_url)

    async def mute(self, users: Sequence[str], muted: bool) -> None:
        """Takes from users, or gives back, the right to send direct messages."""
        await self._store.execute_all([accounts.mute(self._store.keys, user, muted) for user in dict.fromkeys(users)])

    async def deactivate(self, users: Sequence[str]) -> Acknowledgement:
        """Ends accounts: all sockets close, no token is issued, inbox and lists are gone."""
        keys = self._store.keys
        return await self._drops.perform(users, lambda user, call: drops.deactivate(keys, user, call))

    async def reactivate(self, users: Sequence[str]) -> int:
        """Lets the users come back (what they owned does not); returns how many were deactivated."""
        calls = [drops.reactivate(self._store.keys, user) for user in dict.fromkeys(users)]
        return sum(int(reply) for reply in await self._store.execute_all(calls))

    async def _read(self, user: str) -> Account:
        return accounts.parse_get(user, await self._store.execute(accounts.get(self._store.keys, user)))
