"""The inbox on a node: replaying it to a session that catches up."""

from __future__ import annotations

from typing import Any

from gateway.core.session import Session, StreamId
from gateway.core.states import State
from gateway.metrics import METRICS
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

    def catch_up(self, session: Session, head: StreamId) -> None:
        """Brings a session from where it is to the inbox's head, before live pushes reach it again."""
        if head > session.seen:
            session.seen = head
        session.catching_up = True
        if session.caught_up(session.forwarded):
            return
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
                    call = messages.read(self._context.keys, session.user, session.forwarded)
                    self._context.bus.call(call, self._answered, session)
        finally:
            self._reading = False

    def _answered(self, session: Session, reply: Any) -> None:
        self._under_way.discard(session.id)
        self._replay(session, reply)
        self._go_on()

    def _replay(self, session: Session, reply: Any) -> None:
        session.settle()
        if session.state is not State.LIVE:
            # Ended, or fenced again: the reclaim starts another replay from where this one has come to.
            return
        if isinstance(reply, StoreError):
            deadline = self._context.clock.now() + RETRY_S
            self._context.wheel.arm(deadline, self._read_again, session)
            return
        entries = messages.parse_read(reply)
        for entry in entries:
            session.send_replay(messages.push(session.epoch, entry))
            session.forwarded = entry.place
        METRICS.messages_replayed += len(entries)
        METRICS.messages_delivered += len(entries)
        if not entries and session.seen > session.forwarded:
            # The store no longer has what was pushed (trimmed meanwhile): nothing more will come.
            session.forwarded = session.seen
        if not session.caught_up(session.forwarded):
            session.when_drained(self._read)

    def _read_again(self, session: Session, now: float) -> None:
        if session.state is State.LIVE and session.catching_up:
            self._read(session)
