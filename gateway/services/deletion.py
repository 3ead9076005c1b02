"""Deleting users: softly, which can be undone without bringing anything back, and, in development, for good."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from gateway.config import Config
from gateway.services.directories import Directory, Page
from gateway.services.drops import Acknowledgement, Drops
from gateway.services.errors import CALL_RESTRICTED, Refused
from gateway.services.friends import Friends
from gateway.services.outbox import Outbox
from gateway.store import accounts, drops
from gateway.store.errors import StoreError
from gateway.store.store import Store

log = structlog.get_logger(__name__)

LEAVE_WAIT_S = 2.0
"""How long a deletion is not answered because friends are left: time for some 10,000 of them."""

FORGET_WAIT_S = 2.0
FORGET_POLL_S = 0.02
"""How long, and how often, a deletion for good looks whether the sockets that were closed have left the store."""

_ALPHABET = string.ascii_uppercase + string.digits


@dataclass(frozen=True, slots=True)
class Deactivated(Acknowledgement):
    """What a soft deletion did; ``operation_id`` names it in the events that follow."""

    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restoration did.

    Attributes:
        operation_id: names it in the events that follow.
        users: who is back.
        refused: who is not, because the deletion was too short a time ago.
    """

    operation_id: str
    users: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Deleted(Acknowledgement):
    """What a deletion for good did; who is not among ``users`` is softly deleted until it is asked for again."""

    users: list[str] = field(default_factory=list)


class Deletion:
    """What ends users, and brings them back.

    Args:
        store: where they are kept.
        drops: ends their sockets.
        friends: ends their friendships.
        outbox: tells the app's server what came of it.
        config: the environment, and how long nobody is restored.
    """

    def __init__(self, store: Store, drops: Drops, friends: Friends, outbox: Outbox, config: Config) -> None:
        self._store = store
        self._drops = drops
        self._friends = friends
        self._outbox = outbox
        self._wait_ms = int(config.restore_wait_s * 1000)
        self._allowed = config.environment == "development"
        self._directory = Directory(store, "deactivated")

    async def deactivate(self, users: Sequence[str]) -> Deactivated:
        """Ends accounts: all sockets close, no token is issued, what the users owned is gone."""
        keys = self._store.keys
        done = await self._drops.perform(users, lambda user, call: drops.deactivate(keys, user, call))
        await self._leave_friends(users)
        operation_id = _operation_id()
        if self._outbox.accounts:
            wanted = dict.fromkeys(users)
            await self._outbox.add([self._outbox.deletion(user, operation_id, restored=False) for user in wanted])
        return Deactivated(
            done.sessions_closed, done.nodes_answered, done.nodes_silent, done.took_ms, done.replicas, operation_id
        )

    async def reactivate(self, users: Sequence[str]) -> Restored:
        """Lets users come back; what they owned does not. Harmless for who was not deactivated."""
        restored = Restored(_operation_id())
        outcomes = await self._reactivate(users)
        late = [user for user, outcome in outcomes.items() if outcome == accounts.STILL_LEAVING]
        if late:
            await self._leave_friends(late)
            outcomes |= await self._reactivate(late)
        for user, outcome in outcomes.items():
            if outcome == accounts.RESTORED:
                restored.users.append(user)
            elif outcome != accounts.NOT_DEACTIVATED:
                restored.refused.append(user)
        if self._outbox.accounts:
            codes = {user: CALL_RESTRICTED if user in restored.refused else 0 for user in outcomes}
            several = [
                self._outbox.deletion(user, restored.operation_id, restored=True, code=code)
                for user, code in codes.items()
            ]
            await self._outbox.add(several)
        return restored

    async def list(self, *, offset: int, limit: int) -> Page:
        """Who is deactivated, the one for longest first."""
        return await self._directory.page(offset, limit)

    async def delete(self, users: Sequence[str]) -> Deleted:
        """Deactivates users and unregisters them.

        Raises:
            Refused: 1007, this is the production environment.
        """
        if not self._allowed:
            raise Refused(CALL_RESTRICTED, "users can be deleted in the development environment only")
        done = await self.deactivate(users)
        left, forgotten = list(dict.fromkeys(users)), list[str]()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FORGET_WAIT_S
        while True:
            replies = await self._store.execute_all([accounts.forget(self._store.keys, user) for user in left])
            outcome = dict(zip(left, replies, strict=True))
            forgotten += [user for user in left if outcome[user]]
            left = [user for user in left if not outcome[user]]
            if not left or loop.time() > deadline:
                break
            await asyncio.sleep(FORGET_POLL_S)
        return Deleted(
            done.sessions_closed, done.nodes_answered, done.nodes_silent, done.took_ms, done.replicas, forgotten
        )

    async def _reactivate(self, users: Sequence[str]) -> dict[str, int]:
        wanted = list(dict.fromkeys(users))
        calls = [accounts.reactivate(self._store.keys, user, self._wait_ms) for user in wanted]
        return {user: int(reply) for user, reply in zip(wanted, await self._store.execute_all(calls), strict=True)}

    async def _leave_friends(self, users: Sequence[str]) -> None:
        """Takes users off their friends' lists. What is not done in time, or at all, is left to any node's sweep."""
        try:
            async with asyncio.timeout(LEAVE_WAIT_S):
                found = await self._store.execute_all([accounts.friends_left(self._store.keys, user) for user in users])
                for user, left in zip(users, found, strict=True):
                    if left:
                        await self._friends.unfriend_all(user)
        except (TimeoutError, StoreError) as error:
            log.info("taking users off their friends' lists is left to a sweep", reason=repr(error))


def _operation_id() -> str:
    """A new id of the form ``C70B-B1D6-82E8-5SBO``."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))
