"""Acks on a node: what a device has taken over, told to the store a few times a second and no oftener.

An ack is cumulative, so of many that come close together the newest says all. One that a dying node had not told yet
costs messages that are delivered twice.
"""

from __future__ import annotations

from typing import Any

from gateway.core.close import Refusal
from gateway.core.session import Session, StreamId
from gateway.core.states import State
from gateway.metrics import METRICS
from gateway.protocol import commands
from gateway.protocol.codes import Code
from gateway.services.context import NodeContext
from gateway.store import messages
from gateway.store.call import Call
from gateway.store.errors import StoreRefused

AGAIN_S = 0.25
"""How long after an ack of a session the next one goes to the store. It bounds what clients can make of acks: they are
cheap for a client and each costs the store about as much as a message."""

Place = tuple[str, StreamId]
"""An epoch, and a place in it."""


class Acks:
    """Takes acks and tells the store."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        # By session id, for AGAIN_S after each ack told: the newest that came since, None = none did.
        self._newest: dict[str, Place | None] = {}

    @property
    def waiting(self) -> int:
        """Sessions whose next ack has to wait."""
        return len(self._newest)

    def take(self, session: Session, command: commands.Ack, now: float) -> None:
        """The ``ack`` command; one of another epoch is ignored, one beyond what was sent is refused."""
        cursor = messages.parse_cursor(command.cursor)
        if cursor is None:
            raise Refusal(Code.MALFORMED, "$.cursor: not a cursor of this gateway")
        epoch, place = cursor
        if session.device is None or epoch != session.epoch:
            return
        if place > session.forwarded:
            raise Refusal(Code.MALFORMED, "$.cursor: beyond what was sent on this connection")
        if session.id in self._newest:
            newest = self._newest[session.id]
            if newest is None or newest[0] != epoch or newest[1] < place:
                self._newest[session.id] = cursor
        else:
            self._tell(session, cursor, now)

    def _tell(self, session: Session, place: Place, now: float) -> None:
        self._wait(session, None, now)
        self._context.bus.call(self._call(session, place), self._told, (session, place))

    def _wait(self, session: Session, place: Place | None, now: float) -> None:
        self._newest[session.id] = place
        self._context.wheel.arm(now + AGAIN_S, self._again, session)

    def _call(self, session: Session, place: Place) -> Call:
        settings = self._context.settings.live
        return messages.ack(
            self._context.keys,
            session.user,
            session.device or "",
            *place,
            settings.retention_ms,
            settings.trim_acked,
        )

    def _told(self, context: tuple[Session, Place], reply: Any) -> None:
        session, place = context
        if not isinstance(reply, Exception):
            return
        if isinstance(reply, StoreRefused) or session.state not in (State.LIVE, State.FENCED):
            METRICS.acks_lost += 1
        elif session.id not in self._newest:
            self._wait(session, place, self._context.clock.now())
        elif self._newest[session.id] is None:
            # With the next one, unless a newer one has come.
            self._newest[session.id] = place

    def _again(self, session: Session, now: float) -> None:
        place = self._newest.pop(session.id, None)
        if place is None:
            return
        if session.state is State.LIVE:
            self._tell(session, place, now)
        elif session.state is State.FENCED:
            # The store is away: it is told when the session has been reclaimed.
            self._wait(session, place, now)

    def left(self, session: Session) -> None:
        """Tells what an ended session had acked last, before the store forgets the session."""
        place = self._newest.pop(session.id, None)
        if place is not None:
            self._context.bus.call(self._call(session, place), self._told, (session, place), urgent=True)
