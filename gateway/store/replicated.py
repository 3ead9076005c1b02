"""The pipeline of durable sends: a reply is given on only when replicas have what it speaks of.

A WAIT covers what its own connection wrote and blocks that connection, so these calls have one for themselves. One
batch is under way at a time: what is asked meanwhile leaves together when it has been answered, behind it one WAIT,
so that a call waits for two of them at most, however many are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from gateway.config import Config
from gateway.metrics import METRICS
from gateway.store.endpoint import Endpoint
from gateway.store.errors import OutcomeUnknown
from gateway.store.pipeline import Callback, LinkTimes, Part
from gateway.store.relaying import Batch, RelayPipeline

log = structlog.get_logger(__name__)


class Replication(NamedTuple):
    """What a durable send waits for.

    Attributes:
        replicas_min: replicas of its master that must have it.
        wait_ms: how long.
    """

    replicas_min: int
    wait_ms: int

    @classmethod
    def of(cls, config: Config) -> Replication | None:
        """As configured; None where a message is as durable as its master makes it."""
        if config.durability != "replicated":
            return None
        return cls(config.replicas_min, config.replicated_wait_ms)


class ReplicatedPipeline(RelayPipeline):
    """A pipeline whose replies are held until enough replicas have acknowledged the batch that they belong to.

    A call that was carried out, and that too few replicas have acknowledged in time, is answered OutcomeUnknown: its
    write is there, and a failover may lose it. Calls that wrote nothing keep their replies.

    Args:
        endpoint: the server.
        times: deadlines; ``timeout_s`` is over two times ``wait_ms``.
        replication: what is waited for.
        mark: a key on this server that every batch ends with a write to. Valkey's WAIT covers only what its connection
            wrote, and a repeated send that finds its first try, which came on another connection, writes nothing.
        wrote: whether a reply speaks of something that was written.
        options: those of every pipeline.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        times: LinkTimes,
        replication: Replication,
        *,
        mark: str,
        wrote: Callable[[Any], bool],
        **options: Any,
    ) -> None:
        super().__init__(endpoint, times, **options)
        self._replication = replication
        self._mark: tuple[Part, ...] = ("SET", mark, "")
        self._wait: tuple[Part, ...] = ("WAIT", replication.replicas_min, replication.wait_ms)
        self._wrote = wrote
        self._held: list[tuple[Callback, Any, Any]] = []
        self._waiting = False
        self._unmarked: Exception | None = None
        self._short = False

    def post(self, command: tuple[Part, ...], callback: Callback, context: Any = None, *, urgent: bool = False) -> None:
        """Sends a command with the next batch; ``callback(context, reply)`` is called exactly once."""
        super().post(command, self._hold, (callback, context), urgent=urgent)

    def _batch_answered(self, batch: Batch, reply: Any) -> None:
        batch.waiting = [(self._hold, each) for each in batch.waiting]
        super()._batch_answered(batch, reply)

    async def _prepare(self) -> None:
        # Refused on a replica, and to a user whom an ACL does not let call it: better now than with the first batch.
        async with self._in_time():
            await self._asked(("WAIT", 0, 0))

    def _flush(self) -> None:
        self._close_batches()
        # What the connection begins with is answered one by one and not waited for.
        if self.up and self._buffer and self._writable:
            if self._waiting:
                self._flushing = False
                return
            self._waiting = self._flushing = True
            self._enqueue(self._mark, self._marked, None)
            self._enqueue(self._wait, self._waited, None)
        super()._flush()

    def _hold(self, context: tuple[Callback, Any], reply: Any) -> None:
        if isinstance(reply, Exception):
            # Refused, not written, or already unknown: no replica can change that.
            context[0](context[1], reply)
        else:
            self._held.append((*context, reply))

    def _marked(self, _: Any, reply: Any) -> None:
        self._unmarked = reply if isinstance(reply, Exception) else None

    def _waited(self, _: Any, reply: Any) -> None:
        self._waiting = False
        held, self._held = self._held, []
        fault = self._judged(self._unmarked or reply)
        for callback, context, answer in held:
            if fault is not None and self._wrote(answer):
                METRICS.replication_shortfalls += 1
                self._answer(callback, context, fault)
            else:
                self._answer(callback, context, answer)
        if isinstance(reply, OutcomeUnknown) and self._transport is not None:
            # Late by its own time and by ours: nothing more is put behind it.
            self._break("no answer to WAIT")
        else:
            self._flush()

    def _judged(self, reply: Any) -> OutcomeUnknown | None:
        least = self._replication.replicas_min
        if type(reply) is int and reply >= least:
            if self._short:
                self._short = False
                log.info("replicas acknowledge again", endpoint=str(self.endpoint))
            return None
        said = str(reply) if isinstance(reply, Exception) else f"{reply} of {least} replicas have acknowledged it"
        if not self._short:
            self._short = True
            log.warning("messages are stored and not replicated in time", endpoint=str(self.endpoint), reason=said)
        return OutcomeUnknown(f"stored, and not known to be replicated: {said}")
