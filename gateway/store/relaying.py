"""A pipeline that gathers the messages relayed in one turn of the loop into one call of ``relay_many``.

One call a turn instead of one a message halves what both sides pay: the server for the call, its reply and the push,
this side for packing and reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.store.errors import OutcomeUnknown, StoreUnavailable
from gateway.store.pipeline import Callback, Part, Pipeline

MESSAGES_MAX = 64
"""Messages in one call: the server does nothing else until all of them are done."""

BYTES_MAX = 256 * 1024
"""Bytes of them, from which on no further one joins."""


class RelayLimits(NamedTuple):
    """What every recipient's inbox is held to."""

    inbox_max: int
    retention_ms: int
    inbox_bytes_max: int


class Batch:
    """One call that is being put together, or is under way.

    Attributes:
        waiting: callback and context of each of its messages, in their order.
    """

    __slots__ = ("arguments", "keys", "limits", "size", "waiting")

    def __init__(self, limits: RelayLimits) -> None:
        self.limits = limits
        self.keys: list[Part] = []
        self.arguments: list[Part] = []
        self.waiting: list[tuple[Callback, Any]] = []
        self.size = 0


class RelayPipeline(Pipeline):
    """A pipeline on which relays leave by the batch; every other command leaves behind those that came before it."""

    _open: dict[int, Batch] | None = None
    """The batches of this turn, by what must stay in one call: partitions of a cluster."""

    def relay(
        self,
        group: int,
        user_key: str,
        inbox_key: str,
        sender: str,
        flags: str,
        tail: bytes,
        limits: RelayLimits,
        callback: Callback,
        context: Any,
    ) -> None:
        """Sends one message with the others of this loop turn and group; ``callback(context, reply)`` is called once.

        The reply is ``b"+"`` or ``b"-"`` (whether anybody was reached) with the stream id behind it, a code, or an
        exception of store.errors.
        """
        if not self.up:
            callback(context, StoreUnavailable(f"Redis at {self.endpoint} is away: {self.last_fault}"))
            return
        if not self._has_room(False):
            callback(context, StoreUnavailable("too many commands are waiting for Redis"))
            return
        if self._open is None:
            self._open = {}
        batch = self._open.get(group)
        if batch is None or len(batch.waiting) >= MESSAGES_MAX or batch.size >= BYTES_MAX or batch.limits is not limits:
            if batch is not None:
                self._close_batches()
                self._open = {}
            batch = self._open[group] = Batch(limits)
        batch.keys += (user_key, inbox_key)
        batch.arguments += (sender, flags, tail)
        batch.waiting.append((callback, context))
        batch.size += len(tail)
        self._gathered += 1
        if not self._flushing:
            self._flush_soon()

    def _close_batches(self) -> None:
        """What was gathered becomes commands."""
        batches, self._open = self._open, None
        for batch in (batches or {}).values():
            self._gathered -= 1
            command = relay_many(batch.keys, batch.limits, batch.arguments)
            super()._enqueue(command, self._batch_answered, batch)

    def _enqueue(self, command: tuple[Part, ...], callback: Callback | None, context: Any) -> None:
        if self._open is not None:
            self._close_batches()
        super()._enqueue(command, callback, context)

    def _flush(self) -> None:
        if self._open is not None:
            self._close_batches()
        super()._flush()

    def _due(self, now: float) -> None:
        if self._open is not None:
            # The server takes nothing at present: from now on these have a deadline too.
            self._close_batches()
        super()._due(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open is not None and self._transport is not None:
            # Commands that never left: their messages are certainly not stored.
            self._close_batches()
        super().connection_lost(exc)

    def _batch_answered(self, batch: Batch, reply: Any) -> None:
        waiting = batch.waiting
        self._gathered -= len(waiting) - 1
        if type(reply) is bytes:
            lines = reply.split(b"\n")
            if len(lines) == len(waiting):
                for (callback, context), line in zip(waiting, lines, strict=True):
                    # A try costs nothing until something is raised.
                    try:
                        callback(context, line if line[:1] in _STORED else answer_of(line))
                    except Exception:
                        self._failed("a reply's callback")
                return
        if not isinstance(reply, Exception):
            reply = OutcomeUnknown(f"an answer to something else than a batch of messages: {reply!r:.100}")
        for callback, context in waiting:
            self._answer(callback, context, reply)


def relay_many(keys: Sequence[Part], limits: RelayLimits, arguments: Sequence[Part]) -> tuple[Part, ...]:
    """The command: user and inbox key, and sender, flags and tail of each message; see store/lua/relays.lua."""
    return ("FCALL", "gw1_relay_many", len(keys), *keys, *limits, *arguments)


_STORED = frozenset((b"+", b"-"))


def answer_of(line: bytes) -> bytes | int | OutcomeUnknown:
    """What a line of its reply says of one message; see RelayPipeline.relay."""
    if line[:1] in _STORED:
        return line
    if line[:1] == b"!":
        return OutcomeUnknown(f"Redis stopped a Function midway: {line[1:].decode(errors='replace')}")
    try:
        return int(line)
    except ValueError:
        return OutcomeUnknown(f"an answer that says nothing of the message: {line!r:.100}")


def wrote(reply: Any) -> bool:
    """Whether a reply of ``relay``, ``echo`` or a pipeline's ``relay`` says that a message is in an inbox."""
    if isinstance(reply, list):
        return reply[0] == 0 and bool(reply[1])
    # A stream id; that of an ephemeral message is empty.
    return isinstance(reply, bytes) and len(reply) > 1
