"""Keeps one link up: a fresh token for every attempt, back-off between them, and an end where there is no point."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, Protocol

from gateway.client import errors
from gateway.client.backoff import Backoff, comes_again, status_comes_again
from gateway.client.errors import Closed, ProviderFailed, Stopped, Unreachable
from gateway.client.link import Fields, Link, NotOpened, address, open_link
from gateway.protocol import codes

State = Literal["connecting", "live", "waiting", "stopped"]

Token = str | Callable[[], str | Awaitable[str]]
"""An access token, or what gives one; asked afresh before every attempt."""

STEADY_S = 5.0
"""A link that held so long was a good one: the next failure is the first in a row."""

REFRESHES_MAX = 8
REFRESH_PAUSE_S = 1.0


class Peer(NamedTuple):
    """Where to connect, and as what.

    Attributes:
        heartbeat_s: how often to ask whether the gateway is still there; None = as often as it asks itself.
        attempt_s: how long one attempt may take, and the token hook in it.
        answer_s: how long a `refresh` waits for its answer.
    """

    url: str
    token: Token
    device: str | None
    platform: str
    tls: ssl.SSLContext | None
    heartbeat_s: float | None
    attempt_s: float
    answer_s: float


class Owner(Protocol):
    """What a link's upkeep tells and asks of its client."""

    async def since(self) -> str | None:
        """The cursor to resume from."""

    def welcomed(self, link: Link) -> None:
        """A link is live."""

    def take(self, push: Fields) -> None:
        """A push, those that concern the link itself excepted."""

    def fault(self, error: Exception) -> None:
        """Something went wrong that nobody waits for."""

    def moved(self, state: State, why: str) -> None:
        """The state has changed."""


class Upkeep:
    """The link of one client, now and after every break.

    Attributes:
        state: where it is.
        link: the live link, None = there is none at present.
        stopped: why it has ended for good; None = it has not.
    """

    def __init__(self, peer: Peer, owner: Owner) -> None:
        self.state: State = "stopped"
        self.link: Link | None = None
        self.stopped: Stopped | None = Closed("the client is not connected")
        self._peer = peer
        self._owner = owner
        self._backoff = Backoff(time.monotonic)
        self._settled = asyncio.Event()
        self._settled.set()
        self._ended = asyncio.Event()
        self._ended.set()
        self._running: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._expired = False
        self._failure = "no answer in time"

    async def connect(self, connect_s: float | None) -> None:
        """Starts, where it has ended or never begun, and waits for a welcome.

        Args:
            connect_s: as long as that at most; None = for ever.

        Raises:
            Stopped: refused for good.
            Unreachable: no welcome in time; it goes on trying.
        """
        if self._running is None or self._running.done():
            self.stopped = None
            self._expired = False
            self._settled.clear()
            self._ended.clear()
            self._running = asyncio.create_task(self._run())
            self._running.add_done_callback(self._done)
        try:
            async with asyncio.timeout(connect_s):
                await self.live()
        except TimeoutError:
            raise Unreachable(f"{self._peer.url}: {self._failure}") from None

    async def live(self) -> Link:
        """Waits for a live link.

        Raises:
            Stopped: there will be none.
        """
        while self.link is None:
            if self.stopped is not None:
                raise self.stopped.with_traceback(None)
            await self._settled.wait()
        return self.link

    async def ended(self) -> Stopped:
        """Waits until it has ended for good; returns why."""
        await self._ended.wait()
        assert self.stopped is not None
        return self.stopped

    def again(self) -> None:
        """Ends the present link; the next one comes without counting a failure."""
        self._backoff.succeeded()
        if self.link is not None:
            self.link.abort()

    async def close(self) -> None:
        """Says goodbye and ends; whoever waits for a link gets ``Closed``."""
        self._end(Closed())
        if self._running is None:
            return
        if self.link is not None:
            await self.link.close()
        self._running.cancel()
        await asyncio.wait([self._running])

    async def _run(self) -> None:
        while self.stopped is None:
            self._move("connecting")
            try:
                link = await self._attempt()
            except NotOpened as error:
                self._failure = str(error)
                end = self._verdict(error.close_code, error.status, error.said)
            else:
                try:
                    end = await self._hold(link)
                finally:
                    link.abort()
            if end is not None:
                self._end(end)
                return
            self._move("waiting", self._failure)
            await asyncio.sleep(self._backoff.next_s())

    async def _attempt(self) -> Link:
        peer = self._peer
        try:
            token = await self._token()
            since = await self._owner.since()
        except ProviderFailed as error:
            self._owner.fault(error)
            raise NotOpened(str(error)) from error
        url = address(peer.url, platform=peer.platform, device=peer.device, since=since)
        return await open_link(url, token, tls=peer.tls, attempt_s=peer.attempt_s)

    async def _hold(self, link: Link) -> Stopped | None:
        """Lives on a link until it ends; returns the end of everything, where it is that."""
        if self.stopped is not None:
            # Closed in the very moment of the welcome.
            return None
        began = time.monotonic()
        self.link = link
        self._expired = False
        self._owner.welcomed(link)
        self._move("live")
        self._settled.set()
        try:
            ending = await link.run(
                self._take,
                self._owner.fault,
                self._lost,
                self._peer.heartbeat_s or link.welcome["heartbeat_s"],
            )
        finally:
            if self._refreshing is not None:
                self._refreshing.cancel()
        if time.monotonic() - began >= STEADY_S:
            self._backoff.succeeded()
        self._failure = ending.said.get("reason") or f"the connection broke ({ending.close_code})"
        return self._verdict(ending.close_code, None, ending.said)

    def _done(self, running: asyncio.Task[None]) -> None:
        if running.cancelled():
            # By whoever ends all tasks; after `close` this changes nothing.
            self._end(Closed())
        elif (fault := running.exception()) is not None:
            # A fault of this client; nobody may wait for a link that will not come.
            self._owner.fault(fault if isinstance(fault, Exception) else RuntimeError(repr(fault)))
            self._end(Stopped(codes.INTERNAL_ERROR.code, repr(fault)))

    def _lost(self) -> None:
        self.link = None
        if self.stopped is None:
            self._settled.clear()

    def _verdict(self, close_code: int | None, status: int | None, said: Fields) -> Stopped | None:
        if isinstance(after_ms := said.get("retry_after_ms"), int | float):
            self._backoff.hold(after_ms)
        if status is not None and status_comes_again(status):
            return None
        if status is None and (close_code is None or comes_again(close_code)):
            return None
        if close_code == codes.EXPIRED_TOKEN.code and callable(self._peer.token) and not self._expired:
            # The next attempt asks for a new token; where that has expired as well, nobody here can help.
            self._expired = True
            return None
        return errors.stop(close_code or status or 0, said)

    def _take(self, push: Fields) -> None:
        kind = push.get("type")
        if kind == "going_away":
            self._backoff.hold(push["reconnect_after_ms"])
        elif kind == "token_expiring":
            if callable(self._peer.token) and (self._refreshing is None or self._refreshing.done()):
                self._refreshing = asyncio.create_task(self._refresh())
        else:
            self._owner.take(push)

    async def _refresh(self) -> None:
        """Swaps the token while the link stays; where that fails, the link ends and the next attempt has a new one."""
        for tried in range(REFRESHES_MAX):
            await asyncio.sleep(REFRESH_PAUSE_S * tried)
            if self.link is None:
                return
            try:
                answer = await self.link.ask("refresh", {"token": await self._token()}, self._peer.answer_s)
            except Exception as error:
                self._owner.fault(error)
                continue
            if answer["type"] != "error":
                return
            self._owner.fault(errors.refusal(answer))

    async def _token(self) -> str:
        given = self._peer.token
        if isinstance(given, str):
            return given
        token = await asked(given, self._peer.attempt_s)
        if not isinstance(token, str) or not token:
            raise ProviderFailed(f"{_name(given)}: gave {token!r} for a token")
        return token

    def _end(self, why: Stopped) -> None:
        if self.stopped is None:
            self.stopped = why
            self._settled.set()
            self._ended.set()
            self._move("stopped", why.reason)

    def _move(self, state: State, why: str = "") -> None:
        if self.stopped is None or state == "stopped":
            self.state = state
            self._owner.moved(state, why)


async def asked(hook: Callable[..., Any], limit_s: float, *given: Any) -> Any:
    """What one of the app's hooks returns, plain or coroutine function.

    Raises:
        ProviderFailed: it raised, or took longer.
    """
    try:
        answer = hook(*given)
        if inspect.isawaitable(answer):
            async with asyncio.timeout(limit_s):
                answer = await answer
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        raise ProviderFailed(f"{_name(hook)}: {error!r}") from error
    return answer


def is_cancelled() -> bool:
    """Whether the present task is; else a ``CancelledError`` is that of something the app's function waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _name(hook: object) -> str:
    return getattr(hook, "__name__", "a hook")
