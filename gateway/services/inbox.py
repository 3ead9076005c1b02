"""The inbox on a node: replaying it to a session that catches up."""

from __future__ import annotations

from typing import Any

from gateway.core.close import Closing
from gateway.core.session import Session, StreamId
from gateway.core.states import State
from gateway.metrics import METRICS
from gateway.protocol import codes
from gateway.services.context import NodeContext
from gateway.store import messages
from gateway.store.errors import StoreError

RETRY_S = 1.0
"""When a batch that the store did not answer is asked for again."""


READS_MAX = 4
"""Batches under way at a time on a node: with the largest bodies 16 MiB, half of what Redis allows a subscribed link
by default. Beyond it the sessions wait their turn, each with one batch."""


class Inbox:
    """Replays."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        # By session id: a session waits once and has one batch under way, whoever asked for it and how often.
        self._waiting: dict[str, Session] = {}
        self._under_way: set[str] = set()
        self._reading = False
        # By id: sessions that were told already that something of their inbox is no longer held.
        self._told: set[str] = set()

    def catch_up(self, session: Session, head: StreamId, *, whole: bool) -> None:
        """Brings a session from where it is to the inbox's head, before live pushes reach it again.

        Args:
            whole: whether the client believes that nothing is missing. Where something is trimmed before it has been
                read, such a session ends, and hears at its next welcome that it has not recovered.
        """
        if not whole:
            self._told.add(session.id)
        if head > session.seen:
            session.seen = head
        session.catching_up = True
        if session.caught_up(session.forwarded):
            self._told.discard(session.id)
        else:
            self._read(session)

    def _read(self, session: Session) -> None:
        if session.id not in self._under_way:
            self._waiting[session.id] = session
            self._go_on()

    def _go_on(self) -> None:
        if self._reading:
            # A link that refuses answers at once, from within the loop below.
            return
        self._reading = True
        try:
            while self._waiting and len(self._under_way) < READS_MAX:
                session = self._waiting.pop(next(iter(self._waiting)))
                if session.state is State.LIVE and session.catching_up:
                    self._under_way.add(session.id)
                    session.pending += 1
                    keys, batch = self._context.keys, _Batch(session)
                    read = messages.read(keys, session.user, session.forwarded)
                    self._context.bus.call(read, _Batch.take, batch)
                    # Asked behind it, and so never older than what was read.
                    self._context.bus.call(messages.floor(keys, session.user), self._answered, batch)
        finally:
            self._reading = False

    def _answered(self, batch: _Batch, floor: Any) -> None:
        self._under_way.discard(batch.session.id)
        reply = floor if isinstance(floor, StoreError) else batch.reply
        self._replay(batch.session, reply, floor)
        self._go_on()

    def _replay(self, session: Session, reply: Any, floor: Any) -> None:
        session.settle()
        if session.state is not State.LIVE:
            # Ended, or fenced again: the reclaim starts another replay from where this one has come to.
            return
        if isinstance(reply, StoreError):
            deadline = self._context.clock.now() + RETRY_S
            self._context.wheel.arm(deadline, self._read_again, session)
            return
        entries = messages.parse_read(reply)
        if session.id not in self._told and _outrun(session.forwarded, entries, floor):
            session.cut(Closing.of(codes.SESSION_LOST, "what waited was trimmed before it was read"))
            return
        others = [entry for entry in entries if not messages.echo_of(entry, session.user, session.device)]
        for entry in others:
            session.send_replay(messages.push(session.epoch, entry))
        if entries:
            session.forwarded = entries[-1].place
        METRICS.messages_replayed += len(others)
        METRICS.messages_delivered += len(others)
        if not entries and session.seen > session.forwarded:
            # The store no longer has what was pushed (trimmed meanwhile): nothing more will come.
            session.forwarded = session.seen
        if session.caught_up(session.forwarded):
            self._told.discard(session.id)
        else:
            session.when_drained(self._read)

    def left(self, session: Session) -> None:
        """A session has left."""
        self._told.discard(session.id)

    def _read_again(self, session: Session, now: float) -> None:
        if session.state is State.LIVE and session.catching_up:
            self._read(session)


class _Batch:
    """What was read for a session, until it is known up to where its inbox has been trimmed."""

    __slots__ = ("reply", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.reply: Any = None

    def take(self, reply: Any) -> None:
        self.reply = reply


def _outrun(forwarded: StreamId, entries: list[messages.Entry], floor: bytes | None) -> bool:
    """Whether entries behind ``forwarded`` had been trimmed before these were read."""
    if floor is None or messages.parse_id(floor) <= forwarded:
        return False
    return not entries or entries[0].place > messages.parse_id(floor)
