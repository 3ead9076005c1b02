"""UserInfo info: names and avatars of other users, from the gateway or from the app's own source, kept in a cache."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from gateway.client.errors import RateLimited

logger = logging.getLogger("gateway.client")

CACHED_MAX = 1000
LIFETIME_S = 600.0
UNKNOWN_LIFETIME_S = 30.0
"""Somebody unknown may be registered any moment."""

BATCH_MAX = 20
"""As many users as one `user.get` takes."""

FETCHES_MAX = 4
"""Batches on their way at once."""

WAITING_MAX = 10_000
FETCH_S = 30.0
"""A provider that takes longer has failed."""


class UserInfo(Struct, frozen=True):
    """A user as others see them; ``profile`` is whatever the source gives beside name and avatar."""

    user: str
    name: str
    avatar_url: str = ""
    profile: Any = None


Provider = Callable[[list[str]], Awaitable[Iterable[UserInfo]]]
"""Gets at most ``BATCH_MAX`` user ids, answers those it knows, in any order."""

OnChange = Callable[[str, UserInfo | None], None]


class Asks(Protocol):
    """What the parts of a client need of it: a command asked, its reply's fields; an `error` is raised, typed."""

    async def ask(self, type_: str, **fields: Any) -> dict[str, Any]: ...


class TooManyWaiting(Exception):
    """More users are being asked for than may wait."""


class _Kept(NamedTuple):
    user: UserInfo | None
    until: float


class Users:
    """Looks users up, each once in ``LIFETIME_S``; the ``CACHED_MAX`` used last are kept.

    Those asked for at the same time are asked together, and somebody asked for twice is asked once.

    Args:
        client: asked by `user.get` where the app sets no provider.
        clock: seconds that only go on.
    """

    def __init__(self, client: Asks, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._provider: Provider = self._from_gateway
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._handlers: list[OnChange] = []
        self._waiting: dict[str, asyncio.Future[UserInfo | None]] = {}
        self._asked: dict[str, asyncio.Future[UserInfo | None]] = {}
        self._fetches: set[asyncio.Task[None]] = set()

    def set_provider(self, provider: Provider | None) -> None:
        """Users come from here on from the app's own source; None = from the gateway again.

        What was kept is forgotten, and what is still on its way from the source before is not kept.
        """
        self._provider = provider or self._from_gateway
        self._kept.clear()

    def on_change(self, handler: OnChange) -> None:
        """``handler(id, user)`` is called whenever something else is known of somebody; None = no such user."""
        self._handlers.append(handler)

    async def get(self, user: str) -> UserInfo | None:
        """The user, from the cache where it is fresh enough; None where there is no such user.

        Raises:
            GatewayError: the gateway refused to say; or whatever the app's provider raises.
            TimeoutError: the provider took longer than ``FETCH_S``.
            TooManyWaiting: ``WAITING_MAX`` others are being asked for.
        """
        return (await self.get_many([user]))[user]

    async def get_many(self, users: Iterable[str]) -> dict[str, UserInfo | None]:
        """The same for many; the first failure is raised."""
        found: dict[str, UserInfo | None] = {}
        awaited: dict[str, asyncio.Future[UserInfo | None]] = {}
        for user in dict.fromkeys(users):
            kept = self._fresh(user)
            if kept is None:
                awaited[user] = self._asked.get(user) or self._want(user)
            else:
                found[user] = kept.user
        return found | await _all(awaited)

    async def refresh(self, user: str) -> UserInfo | None:
        """Asks anew, whatever is kept; raises as `get` does."""
        # What is already on its way may have left before the change that the caller knows of.
        return (await _all({user: self._want(user)}))[user]

    def cached(self, user: str) -> UserInfo | None:
        """What is kept and fresh enough, at once; None where that is nothing."""
        kept = self._fresh(user)
        return kept.user if kept is not None else None

    async def close(self) -> None:
        """Ends what is on its way: it raises ``ConnectionError``."""
        _fail(self._waiting, ConnectionError("the client was closed"))
        self._waiting.clear()
        fetches = list(self._fetches)
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    def _fresh(self, user: str) -> _Kept | None:
        kept = self._kept.get(user)
        if kept is None or kept.until <= self._clock():
            return None
        self._kept.move_to_end(user)
        return kept

    def _want(self, user: str) -> asyncio.Future[UserInfo | None]:
        waiting = self._waiting.get(user)
        if waiting is None:
            if len(self._waiting) >= WAITING_MAX:
                raise TooManyWaiting(f"{WAITING_MAX} users are being asked for")
            loop = asyncio.get_running_loop()
            if not self._waiting:
                # Not at once: what this turn of the loop still asks for travels along.
                loop.call_soon(self._flush)
            waiting = self._waiting[user] = loop.create_future()
        return waiting

    def _flush(self) -> None:
        while self._waiting and len(self._fetches) < FETCHES_MAX:
            batch = {user: self._waiting.pop(user) for user in list(self._waiting)[:BATCH_MAX]}
            self._asked |= batch
            fetch = asyncio.ensure_future(self._fetch(batch))
            self._fetches.add(fetch)
            fetch.add_done_callback(self._fetched)

    def _fetched(self, fetch: asyncio.Task[None]) -> None:
        self._fetches.discard(fetch)
        self._flush()

    async def _fetch(self, batch: dict[str, asyncio.Future[UserInfo | None]]) -> None:
        provider = self._provider
        try:
            async with asyncio.timeout(FETCH_S):
                found = {each.user: each for each in await provider(list(batch))}
        except asyncio.CancelledError:
            _fail(batch, ConnectionError("the client was closed"))
            raise
        except Exception as error:
            _fail(batch, error)
            return
        finally:
            for user, awaited in batch.items():
                # A refresh that left later has its own answer to come.
                if self._asked.get(user) is awaited:
                    del self._asked[user]
        for user, awaited in batch.items():
            if provider == self._provider:
                self._keep(user, found.get(user))
            if not awaited.done():
                awaited.set_result(found.get(user))

    def _keep(self, user: str, found: UserInfo | None) -> None:
        before = self._kept.get(user)
        lifetime = LIFETIME_S if found is not None else UNKNOWN_LIFETIME_S
        self._kept[user] = _Kept(found, self._clock() + lifetime)
        self._kept.move_to_end(user)
        if len(self._kept) > CACHED_MAX:
            self._kept.popitem(last=False)
        if before is None or before.user != found:
            for handler in self._handlers:
                try:
                    handler(user, found)
                except Exception:
                    logger.exception("a handler of changed users failed")

    async def _from_gateway(self, users: list[str]) -> Sequence[UserInfo]:
        while True:
            try:
                answer = await self._client.ask("user.get", users=users)
                break
            except RateLimited as error:
                # Many at once are this client's own doing: they wait, as long as a fetch may take.
                await asyncio.sleep((error.retry_after_ms or 1000) / 1000)
        return [
            UserInfo(each["user"], each["name"], each["avatar_url"], each.get("profile")) for each in answer["users"]
        ]


async def _all(awaited: dict[str, asyncio.Future[UserInfo | None]]) -> dict[str, UserInfo | None]:
    # Shielded: who gives up waiting must not end it for the others.
    found = await asyncio.gather(*(asyncio.shield(each) for each in awaited.values()))
    return dict(zip(awaited, found, strict=True))


def _fail(batch: dict[str, asyncio.Future[UserInfo | None]], error: Exception) -> None:
    for awaited in batch.values():
        if not awaited.done():
            awaited.set_exception(error)
            # Looked at here, so that it is nobody's fault when all who waited have given up.
            awaited.exception()
