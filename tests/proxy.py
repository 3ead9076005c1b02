"""A link that can be paused, slowed and cut: an asyncio proxy in front of a Redis, or of a node's client port."""

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from types import TracebackType
from typing import Self, cast
from urllib.parse import unquote, urlsplit


class Proxy:
    """Listens on a loopback port (`url`) and passes bytes to and from the server at `target`.

        async with Proxy(valkey.url) as proxy:
            proxy.pause(to_server=False)   # the server acts, its answers are held
            proxy.cut()                    # … and are never seen

    Directions that are paused hold every byte in memory, so neither side feels it.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._query = "?" + self._target.query if self._target.query else ""
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None
        self._refusing = False
        self.held_to_server = False
        self.held_to_client = False
        self.delay_s = 0.0
        self.accepted = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.pair, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        database = self._target.path if self._target.scheme != "unix" else ""
        self.url = f"redis://127.0.0.1:{port}{database}{self._query}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        pairs = list(self._pairs)
        self.cut()
        for pair in pairs:
            await pair.closed()
        await self._server.wait_closed()

    @property
    def connections(self) -> int:
        """How many links are open through it now."""
        return len(self._pairs)

    def pause(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Hold the bytes of these directions; what was not named stays as it was."""
        self.held_to_server |= to_server
        self.held_to_client |= to_client

    def resume(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Let the held bytes go, in order, and pass the following ones again."""
        self.held_to_server &= not to_server
        self.held_to_client &= not to_client
        for pair in list(self._pairs):
            pair.flush()

    def cut(self) -> None:
        """Reset every link now (RST, not a polite end); what is held is lost. New links are taken."""
        for pair in list(self._pairs):
            pair.reset()

    def cut_some(self, chance: random.Random, count: int) -> None:
        """Reset so many links, whichever chance chooses."""
        for pair in chance.sample([*self._pairs], min(count, len(self._pairs))):
            pair.reset()

    def refuse(self) -> None:
        """Cut, and reset every new link until `accept`: the server is away."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    def slow(self, seconds: float) -> None:
        """Every byte that comes from now on takes this long, in either direction and in order; 0 = no longer."""
        self.delay_s = seconds

    def towards(self, target: str) -> None:
        """New links go to another server."""
        self._target = urlsplit(target)

    @property
    def late(self) -> int:
        """How many pieces are on a slow way now."""
        return sum(len(pair.client.late) + len(pair.server.late) for pair in self._pairs)

    def pair(self) -> asyncio.Protocol:
        """A new link's end towards the client; for whoever listens in this proxy's stead."""
        self.accepted += 1
        return _Pair(self, self._pairs).client

    def refuses(self) -> bool:
        return self._refusing

    async def connect(self, end: "_End") -> None:
        """Open the server's side of a link."""
        loop = asyncio.get_running_loop()
        if self._target.scheme == "unix":
            await loop.create_unix_connection(lambda: end, unquote(self._target.path))
        else:
            await loop.create_connection(lambda: end, self._target.hostname, self._target.port or 6379)


class _Pair:
    """One link: the client's end and the server's end of it."""

    def __init__(self, proxy: Proxy, pairs: "set[_Pair]") -> None:
        self._proxy = proxy
        self._pairs = pairs
        self._connecting: asyncio.Task[None] | None = None
        self.client = _End(self)
        self.server = _End(self)

    @property
    def delay_s(self) -> float:
        return self._proxy.delay_s

    def opened(self, end: "_End") -> None:
        if end is self.server:
            self.flush()
        elif self._proxy.refuses():
            end.reset()
        else:
            self._pairs.add(self)
            self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._proxy.connect(self.server)
        except OSError:
            self.reset()

    def flush(self) -> None:
        """Pass on what waits and may go: bytes first, the end of the link last."""
        for source, sink, held in (
            (self.client, self.server, self._proxy.held_to_server),
            (self.server, self.client, self._proxy.held_to_client),
        ):
            if held or sink.transport is None or sink.transport.is_closing():
                continue
            if source.waiting:
                sink.transport.write(bytes(source.waiting))
                source.waiting.clear()
            if source.ended and not source.late:
                sink.transport.close()

    def reset(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        self.client.reset()
        self.server.reset()
        self._pairs.discard(self)

    def ended(self) -> None:
        self.flush()
        if self.client.ended and (self.server.ended or self.server.transport is None):
            self.reset()

    async def closed(self) -> None:
        if self._connecting is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        for end in (self.client, self.server):
            if end.transport is not None:
                await end.gone.wait()


class _End(asyncio.Protocol):
    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self.transport: asyncio.Transport | None = None
        self.waiting = bytearray()
        self.late: deque[tuple[float, bytes]] = deque()
        self.ended = False
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports only quack like asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self._pair.opened(self)

    def data_received(self, data: bytes) -> None:
        delay_s = self._pair.delay_s
        if delay_s or self.late:
            loop = asyncio.get_running_loop()
            # Behind what is late already, also when the link has become faster meanwhile.
            due = max(loop.time() + delay_s, self.late[-1][0] if self.late else 0.0)
            self.late.append((due, data))
            loop.call_at(due, self._arrived)
            return
        self.waiting += data
        self._pair.flush()

    def _arrived(self) -> None:
        if self.late:
            self.waiting += self.late.popleft()[1]
            self._pair.flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended = True
        self.gone.set()
        self._pair.ended()

    def reset(self) -> None:
        self.late.clear()
        if self.transport is None or self.ended:
            return
        raw = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
