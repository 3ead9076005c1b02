"""The store as services see it: for callers that can wait for an answer.

In a node their calls travel on its hot links; without a node (the command line), or where a link is down, through
redis-py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.store import functions, nodes
from gateway.store.bus import Bus
from gateway.store.call import Call
from gateway.store.errors import FunctionMissing, Moved, OutcomeUnknown, StoreError, StoreUnavailable
from gateway.store.functions import Fault
from gateway.store.keys import Keys
from gateway.store.master import Dedicated
from gateway.store.topology import Topology, parse

TOGETHER = 16
"""Calls of one act that are pipelined at once: the server runs them in one go, and relays wait meanwhile."""

BLOCKING = frozenset(
    ("BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "WAIT", "WAITAOF", "XREAD", "XREADGROUP")
)
"""Commands that may keep their connection waiting."""


_UNSENT: Any = object()


class StoreUnfit(StoreError):
    """The servers answer, but the gateway cannot live on them.

    Attributes:
        faults: everything found wrong.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.problem for fault in faults))
        self.faults = tuple(faults)


class Store:
    """All that is kept in Redis, for callers that can wait for an answer.

    Attributes:
        bus: the hot links of the node whose calls these are; None where there is no node.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.keys = topology.keys
        self.bus: Bus | None = None

    @classmethod
    async def open(
        cls, url: str, *, partitions: int = 256, timeout_s: float = 2.0, app_key: str | None = None
    ) -> Store:
        """Connects, judges the servers, and loads the Functions.

        Args:
            url: where the store is.
            partitions: of the deployment.
            timeout_s: for each call.
            app_key: of which app the deployment must be; the first one given is. None = of any.

        Raises:
            ValueError: The URL is wrong.
            StoreUnavailable, OutcomeUnknown: No answer.
            StoreUnfit: Too old, wrong eviction policy, another number of partitions, another app.
        """
        store = await cls.connect(url, partitions=partitions, timeout_s=timeout_s)
        try:
            faults = [fault for fault in await functions.inspect(store.topology) if fault.fatal]
            if faults:
                raise StoreUnfit(faults)
            await functions.settle(store.topology, app_key)
            # Looked at afterwards: two nodes with two keys may start at the same time.
            if app_key is not None and (faults := await functions.judge_app(store.topology, app_key)):
                raise StoreUnfit(faults)
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
            carried = self._carried([call])
            if carried is None:
                return await self.topology.master(call.place).execute(*call.command)
            (reply,) = await carried
            if isinstance(reply, StoreError):
                raise reply
            return reply
        except StoreUnavailable as error:
            await self.mend(call, error)
            return await self.topology.master(call.place).execute(*call.command)

    def _carried(self, calls: Sequence[Call]) -> asyncio.Future[list[Any]] | None:
        """The replies of calls of one master that the node's hot link carries; None where it does not."""
        # What blocks a connection would hold up all that is behind it.
        if self.bus is None or any(call.command[0] in BLOCKING for call in calls):
            return None
        return self.bus.ask(calls)

    async def mend(self, call: Call, error: StoreUnavailable) -> None:
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
        """Runs calls that do not depend on each other, pipelined a master at a time, ``TOGETHER`` at once.

        Raises:
            StoreUnavailable, OutcomeUnknown, StoreRefused: As the first one that failed; OutcomeUnknown also where
                some were carried out before the store went away.
        """
        replies = await self._run(calls, self._together)
        if not any(map(_gone, replies)):
            await self._mend_all(calls, replies)
        return _whole(replies)

    async def store_all(self, calls: Sequence[Call]) -> list[Any]:
        """The same for calls that store messages: answered when these are as durable as the deployment promises.

        Raises:
            StoreUnavailable, OutcomeUnknown, StoreRefused: As ``execute_all``; OutcomeUnknown also where a message is
                stored and not known to be replicated.
        """
        if self.bus is None or not self.bus.replicates:
            return await self.execute_all(calls)
        return _whole(await self._run(calls, self._stored))

    async def _run(
        self, calls: Sequence[Call], together: Callable[[Sequence[Call]], Awaitable[list[Any]]]
    ) -> list[Any]:
        """The replies, faults among them; ``_UNSENT`` for those that were not tried because the store had gone."""
        replies: list[Any] = [_UNSENT] * len(calls)
        for part in self._parts(calls):
            answers = await together([calls[index] for index in part])
            for index, answer in zip(part, answers, strict=True):
                replies[index] = answer
            if any(map(_gone, answers)):
                break
        return replies

    async def _stored(self, calls: Sequence[Call]) -> list[Any]:
        """The replies of calls of one master that the node's pipeline of durable sends carries."""
        carried = self.bus.ask(calls, storing=True) if self.bus is not None else None
        if carried is None:
            # Another connection would not wait for replicas.
            return [StoreUnavailable("the connection for replicated messages is away or full")] * len(calls)
        return await carried

    async def _mend_all(self, calls: Sequence[Call], replies: list[Any]) -> None:
        """Runs those calls once more that a mended store carries out."""
        for index, reply in enumerate(replies):
            if isinstance(reply, FunctionMissing | Moved):
                try:
                    replies[index] = await self.execute(calls[index])
                except StoreError as error:
                    replies[index] = error
                    if _gone(error):
                        return

    def _parts(self, calls: Sequence[Call]) -> Iterator[list[int]]:
        """The indexes of calls that go together: of one master, and not more than others may have to wait for."""
        groups: dict[int, list[int]] = {}
        for index, call in enumerate(calls):
            groups.setdefault(self.topology.owner[call.place], []).append(index)
        for group in groups.values():
            for start in range(0, len(group), TOGETHER):
                yield group[start : start + TOGETHER]

    async def _together(self, calls: Sequence[Call]) -> list[Any]:
        """The replies of calls of one master, faults among them."""
        carried = self._carried(calls)
        if carried is not None:
            return await carried
        try:
            return await self.topology.master(calls[0].place).pipelined([call.command for call in calls])
        except StoreError as error:
            return [error] * len(calls)

    @asynccontextmanager
    async def dedicated(self, partition: int) -> AsyncIterator[Dedicated]:
        """A connection of one's own to a partition's master, for what must stay together on one connection.

        Raises:
            StoreUnavailable, OutcomeUnknown, StoreRefused: From its calls as well.
        """
        async with self.topology.master(partition).dedicated() as connection:
            yield connection


def _gone(reply: Any) -> bool:
    """Whether a reply says that the store has gone, so that the calls behind it need not be tried."""
    return type(reply) in (StoreUnavailable, OutcomeUnknown)


def _whole(replies: list[Any]) -> list[Any]:
    """The replies where all calls were carried out; else raises."""
    faults = [reply for reply in replies if isinstance(reply, StoreError)]
    if not faults:
        return replies
    fault = next((each for each in faults if isinstance(each, OutcomeUnknown)), faults[0])
    done = any(reply is not _UNSENT and not isinstance(reply, StoreError) for reply in replies)
    if isinstance(fault, StoreUnavailable) and done:
        raise OutcomeUnknown(f"carried out in part: {fault}") from fault
    raise fault
