"""A user's own lists, each over all its pages: blocklist, allowlist, friends, and the sessions of one's devices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import msgspec

from gateway.client.users import Asks
from gateway.protocol.replies import Friend, SessionInfo

AT_ONCE = 200
"""As many users as one command takes."""

PAGE_MAX = 1000
FRIENDS_PAGE = 100
"""Each friend named counts against the rate."""


class _List:
    """What blocklist and allowlist have in common.

    ``users`` is one id or any number. More than ``AT_ONCE`` go in several commands, one after the other: where one is
    refused, those before it have had their effect. Every call raises GatewayError where the gateway refuses it.
    """

    def __init__(self, client: Asks, name: str) -> None:
        self._client = client
        self._name = name

    async def add(self, users: str | Iterable[str]) -> None:
        """Puts users on the list; who is on it already stays."""
        for batch in _batches(users):
            await self._client.ask(f"{self._name}.add", users=batch)

    async def remove(self, users: str | Iterable[str]) -> None:
        """Takes users off the list; who is not on it is no error."""
        for batch in _batches(users):
            await self._client.ask(f"{self._name}.remove", users=batch)

    async def list(self) -> AsyncIterator[str]:
        """All on the list, newest first; asks for the next page when the one before is used up."""
        async for user in _pages(self._client, f"{self._name}.list", PAGE_MAX):
            yield user


class Blocklist(_List):
    """Whose messages do not reach this user."""

    def __init__(self, client: Asks) -> None:
        super().__init__(client, "blocklist")

    async def check(self, users: str | Iterable[str]) -> dict[str, bool]:
        """Which of these users are blocked."""
        return await _checked(self._client, "blocklist.check", users)


class Allowlist(_List):
    """Whose messages alone reach this user, where it is enabled."""

    def __init__(self, client: Asks) -> None:
        super().__init__(client, "allowlist")

    async def enable(self) -> None:
        """From now on only allowlisted senders reach this user."""
        await self._client.ask("allowlist.enable")

    async def disable(self) -> None:
        """The list stays but no longer binds."""
        await self._client.ask("allowlist.disable")

    async def status(self) -> bool:
        """Whether it binds."""
        return bool((await self._client.ask("allowlist.status"))["enabled"])


class Friends:
    """This user's friends; who is one is the app server's business."""

    def __init__(self, client: Asks) -> None:
        self._client = client

    async def check(self, users: str | Iterable[str]) -> dict[str, bool]:
        """Which of these users are friends."""
        return await _checked(self._client, "friends.check", users)

    async def list(self) -> AsyncIterator[Friend]:
        """All friends, newest first."""
        async for friend in _pages(self._client, "friends.list", FRIENDS_PAGE):
            yield msgspec.convert(friend, Friend)


class Sessions:
    """This user's own devices that are connected now."""

    def __init__(self, client: Asks) -> None:
        self._client = client

    async def list(self) -> AsyncIterator[SessionInfo]:
        """All sessions; ``this`` marks the client's own."""
        for session in (await self._client.ask("sessions.list"))["sessions"]:
            yield msgspec.convert(session, SessionInfo)

    async def drop(self, session: str) -> None:
        """Ends one of them; its client is told that it was kicked.

        Raises:
            NoSuchUser: there is no such session of this user.
        """
        await self._client.ask("sessions.drop", session=session)


def _batches(users: str | Iterable[str]) -> Iterator[list[str]]:
    wanted = [users] if isinstance(users, str) else list(dict.fromkeys(users))
    for start in range(0, len(wanted), AT_ONCE):
        yield wanted[start : start + AT_ONCE]


async def _checked(client: Asks, type_: str, users: str | Iterable[str]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for batch in _batches(users):
        found |= (await client.ask(type_, users=batch))["users"]
    return found


async def _pages(client: Asks, type_: str, limit: int) -> AsyncIterator[Any]:
    page: dict[str, str] = {}
    while True:
        answer = await client.ask(type_, limit=limit, **page)
        for each in answer["users"]:
            yield each
        if "page" not in answer:
            return
        page = {"page": answer["page"]}
