"""After every break: pub/sub is a hint and may have been missed, the keys are the truth and are read again."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from gateway.core.close import Closing
from gateway.core.session import START, Session
from gateway.core.states import State
from gateway.metrics import METRICS
from gateway.protocol import codes, pushes
from gateway.protocol.codes import Code
from gateway.services import refusals
from gateway.services.admission import Admission
from gateway.services.announcing import Announcing
from gateway.services.context import NodeContext
from gateway.services.inbox import Inbox
from gateway.services.leases import forget_sessions
from gateway.services.presence import Watching
from gateway.store import messages, sessions
from gateway.store.errors import OutcomeUnknown, StoreError, StoreUnavailable

log = structlog.get_logger(__name__)

BATCH = 500
"""Reclaims under way at a time, so that a node with many sessions does not drown the store it just found again."""

RETRY_S = 0.5
"""When what was not answered is asked for again while the link is up."""


class Resync:
    """Fences sessions when their link breaks, and brings them back when it is up again."""

    def __init__(
        self, context: NodeContext, admission: Admission, inbox: Inbox, watching: Watching, announcing: Announcing
    ) -> None:
        self._context = context
        self._admission = admission
        self._inbox = inbox
        self._watching = watching
        self._announcing = announcing
        self._waiting: dict[str, Session] = {}
        self._under_way = 0
        self._going = False

    def link_down(self, partitions: frozenset[int]) -> None:
        """Nothing passes on these partitions' sessions until they are reclaimed."""
        for session in self._context.hub:
            if session.state in (State.LIVE, State.FENCED) and self._of(session) in partitions:
                session.fence()
                # What a gap's barrier held back gets its 503 now, not when the store is back.
                session.release(self._context.clock.now())

    def link_up(self, partitions: frozenset[int]) -> None:
        """Reclaims their sessions, reads their watches again, forgets what Redis holds of us that we do not."""
        for session in self._context.hub:
            if self._of(session) in partitions:
                session.gate = self._context.bus.gate(self._of(session))
                if session.state is State.FENCED:
                    self._waiting[session.id] = session
                else:
                    # Still joining: the barrier behind which its commands were held will not open a gate that was away.
                    session.release(self._context.clock.now())
        self._go_on()
        self._watching.resync(partitions)
        self._context.spawn(self._compare(partitions, self._context.bus.incarnation))

    def sweep(self) -> None:
        """Forgets what Redis holds of this node that the hub does not: a command that a broken link had swallowed may
        arrive long after the comparison that followed the break, and register a session that has gone."""
        partitions = range(self._context.keys.partitions)
        standing = frozenset(each for each in partitions if not self._context.bus.gate(each).away)
        self._context.spawn(self._compare(standing, self._context.bus.incarnation))

    def received(self, payload: bytes) -> None:
        """One ``r`` push: the user has a new epoch, found by another session; those of before are reclaimed."""
        user, _, epoch = payload[1:].partition(b"\n")
        for session in self._context.hub.of(user.decode()):
            if session.state is State.LIVE and session.epoch != epoch.decode():
                session.fence()
                self._waiting[session.id] = session
        self._go_on()

    def _of(self, session: Session) -> int:
        return self._context.keys.partition(session.user)

    def _go_on(self) -> None:
        if self._going:
            # A link that refuses answers at once, from within the loop below.
            return
        self._going = True
        try:
            while self._waiting and self._under_way < BATCH:
                _, session = self._waiting.popitem()
                if session.state is State.FENCED and not session.gate.away:
                    self._under_way += 1
                    self._reclaim(session)
        finally:
            self._going = False

    def _reclaim(self, session: Session) -> None:
        session.pending += 1
        self._context.bus.call(
            sessions.reclaim(
                self._context.keys,
                session,
                self._context.bus.incarnation,
                device_policy=self._context.settings.live.device_policy,
            ),
            self._reclaimed,
            (session, self._context.bus.incarnation),
            urgent=True,
        )

    def _reclaimed(self, context: tuple[Session, str], reply: Any) -> None:
        session, incarnation = context
        self._under_way -= 1
        session.settle()
        if session.state is State.FENCED and incarnation == self._context.bus.incarnation:
            if isinstance(reply, StoreUnavailable | OutcomeUnknown):
                # Link down: the next link_up comes back to it. Link up: ask again soon.
                if not session.gate.away:
                    self._context.wheel.arm(self._context.clock.now() + RETRY_S, self._again, session)
            elif isinstance(reply, Exception) or reply[0] == Code.NO_SUCH_USER:
                # No such user: the store came back empty. Who reconnects is registered again.
                session.cut(Closing.of(codes.SESSION_LOST, "the session could not be kept"))
                self._admission.leave(session)
            elif reply[0]:
                session.cut(_revoked(reply[0], reply[1]))
                self._admission.leave(session)
            else:
                METRICS.sessions_reclaimed += 1
                session.muted = bool(reply[1])
                if reply[4]:
                    # Others took this node for dead and told that the session had ended.
                    self._tell_online(session)
                if reply[6]:
                    self._begin_epoch(session, reply[5].decode(), reply[6], reply[2])
                session.unfence(self._context.clock.now())
                self._announcing.came(session, messages.parse_id(reply[3]))
                self._inbox.catch_up(session, messages.parse_id(reply[2]), whole=not reply[6])
        self._go_on()

    def _begin_epoch(self, session: Session, epoch: str, start: bytes, head: bytes) -> None:
        """What was forwarded says nothing of this epoch's ids: all that is unacked comes again, behind the push."""
        session.epoch, session.forwarded, session.seen = epoch, messages.parse_id(start), START
        METRICS.sessions_resynced += 1
        end = messages.cursor(epoch, messages.parse_id(head))
        session.reply(pushes.Resync(messages.cursor(epoch, session.forwarded), end, False))

    def _tell_online(self, session: Session) -> None:
        session.announced = self._context.bus.incarnation
        if self._context.outbox.statuses:
            self._context.outbox.online(session, session.announced)

    def _again(self, session: Session, now: float) -> None:
        if session.state is State.FENCED:
            self._waiting[session.id] = session
            self._go_on()

    async def _compare(self, partitions: frozenset[int], incarnation: str) -> None:
        """Sessions that Redis lists for this incarnation and the hub does not hold ended while the link was away."""
        bus, held = self._context.bus, self._context.hub.sessions
        left = sorted(partitions)
        while left and incarnation == bus.incarnation and not bus.gate(left[-1]).away:
            try:
                await forget_sessions(self._context.store, left[-1], incarnation, lambda session: session in held)
                left.pop()
            except StoreError as error:
                # The link is up, so the store is there: these are connections that broke with the old link.
                log.info("comparing sessions is interrupted and goes on", reason=str(error))
                await asyncio.sleep(RETRY_S)


def _revoked(code: int, until: int) -> Closing:
    if code == codes.KICKED.code:
        # Dropped while this node was out of reach; for which reason nobody has kept.
        return Closing(codes.KICKED, code, "dropped while the node was out of reach", revocation=True)
    closing = refusals.of_code(code, until).closing()
    return Closing(closing.close_code, closing.code, closing.reason, closing.until, revocation=True)
