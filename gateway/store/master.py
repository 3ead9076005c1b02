"""redis-py's part: every access to Redis that is not on the hot link."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.store.endpoint import Endpoint
from gateway.store.errors import Moved, OutcomeUnknown, StoreError, StoreUnavailable, judge
from gateway.store.pipeline import Part

_LAST_LOOK_S = 0.01


class Dedicated:
    """One connection, taken out of the pool for what must stay together on it.

    Cancelling a caller, or not being answered in time, closes it: an answer that nobody read must not be taken for
    the next one's.
    """

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    async def execute_command(self, *command: Part | float) -> Any:
        """Runs one command."""
        (reply,) = await self.pipelined(command)
        return reply

    async def pipelined(self, *commands: tuple[Part | float, ...]) -> list[Any]:
        """Runs commands that are written at once; the first refusal is raised when all have been answered."""
        replies = await self.answers(commands)
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    async def answers(self, commands: Sequence[tuple[Part | float, ...]]) -> list[Any]:
        """Runs commands that are written at once; the replies, refusals (store.errors) among them."""
        connection = self._connection
        # As the hot link packs: redis-py's own way takes eight times as long for a Function's twenty parts.
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]  # see pipeline
        replies: list[Any] = []
        async with _Deadline(self._timeout_s) as deadline:
            try:
                await connection.send_packed_command(packed)
            except RuntimeError:
                # It had broken while it was idle, so nothing was written; it connects again.
                deadline.pause()
                async with _greeting(self._timeout_s):
                    await connection.connect()
                deadline.begin()
                await connection.send_packed_command(packed)
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(translate(error))
        return replies


class _Deadline:
    """How long answers may take; raises TimeoutError.

    Timers run before sockets are read. Where this process stood still the answer may be waiting there, so when time is
    up the sockets are read once more.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()
        await self._timeout.__aexit__(kind, error, trace)

    def begin(self) -> None:
        self._due = self._loop.call_later(self._seconds, self._look_once_more)

    def pause(self) -> None:
        self._due.cancel()

    def _look_once_more(self) -> None:
        self._timeout.reschedule(self._loop.time() + _LAST_LOOK_S)


class Master:
    """One server and redis-py's pool of connections to it.

    Replies are as Redis sends them (RESP3), the same shapes as on the hot link: which carried a call shows nowhere.

    redis-py is given no ``socket_timeout``: it would write under ``asyncio.wait_for``, which until Python 3.12 loses
    a cancellation (and with it any deadline of a caller) that comes in the turn in which the write is done. Calls are
    timed here instead.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float, connections_max: int = 64) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        options: dict[str, Any] = {
            "username": endpoint.username,
            "password": endpoint.password,
            "socket_timeout": None,
            "socket_connect_timeout": timeout_s,
            "max_connections": connections_max,
            # A command that was sent may have been carried out: only the caller can know whether to repeat it.
            "retry": Retry(NoBackoff(), 0),
            "client_name": "gateway",
            "protocol": 3,
        }
        if endpoint.path is not None:
            options["unix_socket_path"] = endpoint.path
        else:
            options |= {"host": endpoint.host, "port": endpoint.port}
            if endpoint.ssl is not None:
                options |= {"ssl": True, "ssl_ca_certs": endpoint.authorities}
                if endpoint.ssl.verify_mode == ssl.CERT_NONE:
                    options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
        pool = Redis(**options).connection_pool
        self._closed = False
        self._calls = 0
        self._closing: asyncio.Future[None] | None = None
        # Redis' own pool fails the call that finds all connections in use; this one lets it wait for one.
        self._pool = BlockingConnectionPool(connections_max, timeout_s, pool.connection_class, **pool.connection_kwargs)

    async def execute(self, *command: Part) -> Any:
        """Runs one command.

        Raises:
            StoreUnavailable, OutcomeUnknown, StoreRefused.
        """
        async with self.dedicated() as connection:
            return await connection.execute_command(*command)

    async def pipelined(self, commands: Sequence[tuple[Part, ...]]) -> list[Any]:
        """Runs commands on one connection, written at once; the replies, refusals (store.errors) among them.

        Raises:
            StoreUnavailable, OutcomeUnknown.
        """
        async with self.dedicated() as connection:
            return await connection.answers(commands)

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[Dedicated]:
        """A connection that nobody else uses meanwhile; the pool has seen to it that it stands.

        Raises:
            Moved: It was closed.
            StoreUnavailable, OutcomeUnknown, StoreRefused: From its calls as well.
        """
        if self._closed:
            raise Moved(f"Redis at {self.endpoint} is not the master any more")
        self._calls += 1
        try:
            connection = await self._connected()
            try:
                yield Dedicated(connection, self._timeout_s)
            finally:
                await self._pool.release(connection)
        except FAULTS as error:
            raise translate(error) from error
        finally:
            self._calls -= 1
            await self._end()

    async def _connected(self) -> Any:
        # The pool itself times the wait for a free connection; the rest is for connecting and the greeting.
        async with _greeting(2 * self._timeout_s):
            return await self._pool.get_connection()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Closes all connections, once the calls under way have ended; later ones are Moved.

        Not under the calls: one that finds its connection broken opens it again, and redis-py, still closing the old
        one, would then forget the new.
        """
        self._closed = True
        await self._end()

    async def _end(self) -> None:
        if not self._closed or self._calls:
            return
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._pool.aclose())
        # The pool closes its connections by tasks: cancelled before their first turn they would leave them open.
        await asyncio.shield(self._closing)


@asynccontextmanager
async def _greeting(timeout_s: float) -> AsyncIterator[None]:
    """However a connection ends that is only being opened: of the call nothing was written."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except (RedisConnectionError, RedisTimeoutError, OSError, RuntimeError) as error:
        raise StoreUnavailable(f"Redis is away: {str(error) or 'nobody can connect in time'}") from error


FAULTS = (RedisError, OSError, RuntimeError)
"""What a call through redis-py may raise: uvloop's word for a write to a connection that has gone is RuntimeError."""


_AFTER_SENDING = ("Connection closed by server", "Error while reading")
"""How redis-py words a connection that ended while an answer was waited for; it has no other sign. (Where the write
failed, Redis has at most half a command, which it does not run.)"""


def translate(error: Exception) -> Exception:
    """redis-py's exceptions in the words of store.errors."""
    if isinstance(error, RedisTimeoutError | asyncio.TimeoutError):
        return OutcomeUnknown(f"Redis did not answer in time{f': {error}' if str(error) else ''}")
    if isinstance(error, RedisConnectionError) and any(words in str(error) for words in _AFTER_SENDING):
        return OutcomeUnknown(f"the connection to Redis broke before the answer: {error}")
    if isinstance(error, RedisConnectionError | OSError):
        return StoreUnavailable(f"Redis is away: {error}")
    if isinstance(error, ResponseError):
        # redis-py takes the error word off the text where it knows the word.
        word = error.status_code or ""
        return judge(f"{word} {error}".strip())
    return StoreUnavailable(f"Redis is away: {error}")
