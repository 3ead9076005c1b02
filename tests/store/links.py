"""Hot links for tests: up, ticking, and what they told their owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from gateway.store.link import Link
from gateway.store.pipeline import LinkTimes
from gateway.store.topology import parse
from tests.servers import Server
from tests.store.acts import TIMES, asked, link_to
from tests.waiting import eventually

PROBE = "probe"


class Watcher:
    """What a link told its owner."""

    def __init__(self) -> None:
        self.ups = 0
        self.downs = 0
        self.unsettled = 0
        self.missing = 0
        self.pushes: list[bytes] = []

    def options(self) -> dict[str, Any]:
        return {"on_up": self._up, "on_down": self._down, "on_unsettled": self._unsettled, "on_missing": self._missing}

    def _up(self, _: Link) -> None:
        self.ups += 1

    def _down(self, _: Link) -> None:
        self.downs += 1

    def _unsettled(self, _: Link) -> None:
        self.unsettled += 1

    def _missing(self, _: Link) -> None:
        self.missing += 1


@asynccontextmanager
async def linked(url: str, channels: list[str] | None = None, **options: Any) -> AsyncIterator[tuple[Link, Watcher]]:
    """A link that is up, ticking; probes are answered as the bus answers them."""
    told = Watcher()
    link = link_to(
        parse(url).endpoint, [*(channels or []), PROBE], **(told.options() | {"probe_channel": PROBE} | options)
    )

    def push(payload: bytes) -> None:
        if not (payload[:1] == b"q" and link.probe_echo(payload[1:])):
            told.pushes.append(payload)

    link.on_push = push
    link.start()
    ticking = asyncio.create_task(_tick(link))
    try:
        await eventually(lambda: link.up)
        yield link, told
    finally:
        ticking.cancel()
        await link.close()


async def _tick(link: Link) -> None:
    while True:
        await asyncio.sleep(0.02)
        link.tick(asyncio.get_running_loop().time())


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def quick(**changes: float) -> LinkTimes:
    return TIMES._replace(**changes)


async def published(server: Server, channel: str, payload: str) -> None:
    with server.client() as client:
        client.execute_command("SPUBLISH", channel, payload)


async def eventually_answered(link: Link, *command: Any) -> Any:
    """A reply that is no fault, asked for until it comes."""

    async def answered() -> Any:
        reply = await asked(link, *command)
        assert not isinstance(reply, Exception), reply
        return reply

    return await eventually(answered)
