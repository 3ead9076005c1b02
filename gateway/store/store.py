"""The store as services see it: calls through redis-py for admin work, and a bus for what sockets need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.store import functions, nodes
from gateway.store.call import Call
from gateway.store.errors import FunctionMissing, Moved, StoreError, StoreUnavailable
from gateway.store.functions import Fault
from gateway.store.keys import Keys
from gateway.store.topology import FAULTS, Topology, again_if_unsent, parse, translate


class StoreUnfit(StoreError):
    """The servers answer, but the gateway cannot live on them.

    Attributes:
        faults: everything found wrong.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.problem for fault in faults))
        self.faults = tuple(faults)


async def _pipelined(client: Redis, calls: Sequence[Call]) -> list[Any]:
    """The replies, refusals among them as exceptions."""
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command(*call.command)
    return list(await pipeline.execute(raise_on_error=False))


class Store:
    """All that is kept in Redis, for callers that can wait for an answer."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.keys = topology.keys

    @classmethod
    async def open(cls, url: str, *, partitions: int = 256, timeout_s: float = 2.0) -> Store:
        """Connects, judges the servers, and loads the Functions.

        Raises:
            ValueError: The URL is wrong.
            StoreUnavailable, OutcomeUnknown: No answer.
            StoreUnfit: Too old, wrong eviction policy, another number of partitions.
        """
        store = await cls.connect(url, partitions=partitions, timeout_s=timeout_s)
        try:
            faults = [fault for fault in await functions.inspect(store.topology) if fault.fatal]
            if faults:
                raise StoreUnfit(faults)
            await functions.settle(store.topology)
            await asyncio.gather(*(functions.load(master) for master in store.topology.masters))
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    async def connect(cls, url: str, *, partitions: int = 256, timeout_s: float = 2.0) -> Store:
        """Connects and nothing else: for those who only want to look."""
        topology = Topology(parse(url), Keys(partitions), timeout_s)
        try:
            await topology.discover()
        except BaseException:
            await topology.close()
            raise
        return cls(topology)

    async def close(self) -> None:
        await self.topology.close()

    async def execute(self, call: Call) -> Any:
        """Runs one call and returns its reply.

        Raises:
            StoreUnavailable, OutcomeUnknown, StoreRefused.
        """
        try:
            return await self.topology.master(call.place).execute(*call.command)
        except StoreUnavailable as error:
            await self._mend(call, error)
            return await self.topology.master(call.place).execute(*call.command)

    async def _mend(self, call: Call, error: StoreUnavailable) -> None:
        """Mends what kept a call from being run, so that it can be tried once more; raises what cannot be mended."""
        if isinstance(error, FunctionMissing):
            await functions.load(self.topology.master(call.place))
        elif isinstance(error, Moved):
            await self.topology.discover()
        else:
            raise error

    async def now_ms(self) -> int:
        """The store's own time, Unix ms: what issue times, cut-offs and the ends of bans are measured in."""
        return nodes.parse_time(await self.execute(nodes.time(self.keys)))

    async def execute_all(self, calls: Sequence[Call]) -> list[Any]:
        """Runs calls that do not depend on each other, pipelined a master at a time.

        Raises:
            StoreUnavailable, OutcomeUnknown, StoreRefused: As the first one that failed.
        """
        replies: list[Any] = [None] * len(calls)
        groups: dict[int, list[int]] = {}
        for index, call in enumerate(calls):
            groups.setdefault(self.topology.owner[call.place], []).append(index)
        for owner, indexes in groups.items():
            client, group = self.topology.masters[owner].client, [calls[index] for index in indexes]
            answers = await again_if_unsent(partial(_pipelined, client, group))
            for index, answer in zip(indexes, answers, strict=True):
                replies[index] = answer
        for index, reply in enumerate(replies):
            if isinstance(reply, Exception):
                fault = translate(reply)
                if not isinstance(fault, FunctionMissing | Moved):
                    raise fault from reply
                replies[index] = await self.execute(calls[index])
        return replies

    @asynccontextmanager
    async def dedicated(self, partition: int) -> AsyncIterator[Any]:
        """A connection of one's own to a partition's master, for what must stay together on one connection."""
        client = self.topology.master(partition).client.client()
        try:
            await client.initialize()
            # An idle connection may have broken since its last use; a PING may be said twice, the caller's may not.
            await again_if_unsent(client.ping, (RuntimeError, RedisConnectionError))
            yield client
        except FAULTS as error:
            raise translate(error) from error
        finally:
            await client.aclose()
