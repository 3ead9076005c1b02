"""A master with a replica, and the way between them, which can be held and cut; the master's end and the promotion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.proxy import Proxy
from tests.servers import Server, free_ports, redis7_binary, valkey_binary
from tests.waiting import eventually

BINARIES = pytest.mark.parametrize("binary", [valkey_binary, redis7_binary], ids=["valkey", "redis7"])
"""For tests that ask each kind of server, which count differently what a WAIT covers."""

_OPTIONS = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}


class Followed:
    """The two servers.

    Attributes:
        master, replica: the servers.
        way: what the replica follows the master through.
    """

    def __init__(self, master: Server, replica: Server, way: Proxy) -> None:
        self.master = master
        self.replica = replica
        self.way = way

    async def follow(self) -> None:
        """The replica follows; returns when it has everything."""
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", self.way.url.rpartition(":")[2])
        await self.in_step()

    async def in_step(self) -> None:
        """Returns when the replica has all that the master has."""

        async def acknowledged() -> bool:
            # In a thread: the way between them is on this loop.
            return await asyncio.to_thread(self._acknowledged)

        await eventually(acknowledged, 15)

    def _acknowledged(self) -> bool:
        with self.master.client() as client:
            # Before the first write a replica that has not even begun would be said to have everything; and Valkey may
            # hear nothing for a second of a new one that has acknowledged once.
            return all(client.set("in-step", "") and client.execute_command("WAIT", 1, 2000) for _ in range(2))

    def fail_over(self) -> None:
        """The master is gone, with what was still on its way; the replica takes over with what it has."""
        self.master.kill()
        self.way.cut()
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")

    def come_back(self) -> None:
        """What was the master is there again, empty, and follows what was its replica."""
        self.master.restart()
        with self.master.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", self.replica.url.rpartition(":")[2])

    def waits(self) -> int:
        """How many WAITs the master has run."""
        with self.master.client() as client:
            return int(client.info("commandstats").get("cmdstat_wait", {"calls": 0})["calls"])


class Address(Proxy):
    """Where the master is to be found, whichever server that is."""

    def move(self, url: str) -> None:
        """Another server is it now."""
        self._target = urlsplit(url)
        self.cut()


@asynccontextmanager
async def followed(binary: str) -> AsyncIterator[Followed]:
    """A master and a replica that is in step."""
    servers = [Server.on_port(binary, port, **_OPTIONS) for port in free_ports(2)]
    try:
        async with Proxy(servers[0].url) as way:
            pair = Followed(*servers, way)
            await pair.follow()
            yield pair
    finally:
        for server in servers:
            server.resume()
            server.stop()
