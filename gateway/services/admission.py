"""Admission: from a token to a live session, what keeps it alive, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.claims import Claims, Verifier
from gateway.core.close import Closing, Refusal
from gateway.core.session import Session
from gateway.core.states import Event, State
from gateway.metrics import METRICS
from gateway.protocol import codes, commands, pushes, replies
from gateway.protocol.codes import Code
from gateway.services import refusals
from gateway.services.accounts import Accounts
from gateway.services.announcing import Announcing
from gateway.services.context import NodeContext
from gateway.services.errors import Refused
from gateway.services.inbox import Inbox
from gateway.services.leases import forget_sessions
from gateway.services.outbox import LOGGED_OUT, OFFLINE
from gateway.services.presence import Watching
from gateway.services.rivals import forget_dead
from gateway.store import accounts, messages, sessions
from gateway.store.errors import StoreError

TOKEN_EXPIRED = "the token has expired"
AWAY = "the store is away"

FORGET_S = 1.0
"""How long after a disconnect that was not carried out its partition is compared with the hub."""


class Admission:
    """Lets sessions in and takes them out.

    Args:
        context: this node.
        verifier: judges tokens.
        inbox: replays what waited.
        watching: forgets what an ended session watched.
        announcing: brings broadcasts to who comes.
        register: the admin service that registers a user in the development environment, where users are counted.

    Attributes:
        leaving: disconnects that Redis has not answered yet.
        on_left: told of every session that has left.
        unheard: partitions in which one was not carried out, so that Redis may list a session that is gone.
    """

    def __init__(
        self,
        context: NodeContext,
        verifier: Verifier,
        inbox: Inbox,
        watching: Watching,
        announcing: Announcing,
        register: Accounts,
    ) -> None:
        self._context = context
        self._verifier = verifier
        self._inbox = inbox
        self._watching = watching
        self._announcing = announcing
        self._outbox = context.outbox
        self.leaving = 0
        self.on_left: list[Callable[[Session], None]] = []
        self.unheard: set[int] = set()
        self._accounts = register

    # Coming.

    def authenticate(
        self,
        session: Session,
        token: str,
        device: str | None,
        platform: str,
        since: str | None,
    ) -> None:
        """Judges a token and asks the store to register the session; `welcome` or a refusal follows by callback.

        Raises:
            Refusal: The token is no good, or the store is away.
        """
        claims = self._verifier.verify(token, self._context.clock.wall_ms())
        session.user = claims.user
        session.device = device
        session.platform = platform
        session.since = since
        self._take(session, claims)
        partition = self._context.keys.partition(claims.user)
        session.gate = self._context.bus.gate(partition)
        if session.gate.away:
            raise Refusal(Code.STORE_UNAVAILABLE, AWAY, retry_after_ms=refusals.RETRY_AFTER_MS)
        session.move(Event.TOKEN_ACCEPTED)
        # In the hub before `connect` is on its way: a ban published in the same instant must find it.
        self._context.hub.add(session)
        self._connect(session)

    def auth(self, session: Session, command: commands.Auth, now: float) -> None:
        """The ``auth`` command; a refusal closes. What it leaves out counts as the query string had it."""
        platform = command.platform if command.platform != "other" else session.platform
        device, since = command.device or session.device, command.since or session.since
        try:
            self.authenticate(session, command.token, device, platform, since)
        except Refusal as refusal:
            METRICS.connections_refused += 1
            session.cut(refusal.closing())

    def _take(self, session: Session, claims: Claims) -> None:
        session.issued_at = claims.issued_at
        session.expires_at = claims.expires_at
        session.jti = claims.jti

    def _connect(self, session: Session, *, again: bool = False) -> None:
        settings = self._context.settings.live
        since = messages.parse_cursor(session.since) if session.since is not None else None
        known = None
        if session.since is not None:
            # What never was a cursor of ours is one that cannot be honoured: said by `recovered`, not by an error.
            known = (since[0], f"{since[1][0]}-{since[1][1]}") if since is not None else ("-", "0-0")
        session.pending += 1
        self._context.bus.call(
            sessions.connect(
                self._context.keys,
                session,
                self._context.bus.incarnation,
                device_policy=settings.device_policy,
                sessions_max=self._context.config.sessions_per_user_max,
                since=known,
                retention_ms=settings.retention_ms,
            ),
            self._connected,
            (session, again),
        )

    def _connected(self, context: tuple[Session, bool], reply: Any) -> None:
        session, again = context
        session.settle()
        if session.state is not State.JOINING:
            # Its socket closed, or a drop cut it, while `connect` was under way; `leave` has posted the disconnect.
            return
        if isinstance(reply, Exception):
            self._refuse(session, refusals.of_fault(reply))
        elif session.gate.away:
            # The lease ran out meanwhile: who is not fenced would not be reclaimed.
            self._refuse(session, Refusal(Code.STORE_UNAVAILABLE, AWAY, retry_after_ms=refusals.RETRY_AFTER_MS))
        elif reply[0] == Code.NO_SUCH_USER and self._context.config.auto_register:
            self._register(session)
        elif reply[0] in (Code.REFUSED_DEVICE, Code.TOO_MANY_SESSIONS) and not again:
            # Rare: a task may look whether those who are in the way are still alive.
            self._context.spawn(self._connect_over_dead(session, refusals.of_code(reply[0])))
        elif reply[0]:
            code = Code.TOKEN_INVALID if reply[0] == Code.NO_SUCH_USER else reply[0]
            self._refuse(session, refusals.of_code(code, reply[1]))
        else:
            self._admit(session, reply)

    async def _connect_over_dead(self, session: Session, refusal: Refusal) -> None:
        """Tries once more where sessions of dead nodes were in a newcomer's way."""
        try:
            removed = await forget_dead(self._context, session.user)
        except StoreError as error:
            removed, refusal = 0, refusals.of_fault(error)
        if session.state is not State.JOINING:
            return
        if removed:
            self._connect(session, again=True)
        else:
            self._refuse(session, refusal)

    def _register(self, session: Session) -> None:
        """A first connect with a valid token of an unknown user registers the user."""
        if self._context.config.environment == "development":
            # Rare, and bounded by the environment's user limit: a task may count the users.
            self._context.spawn(self._register_counted(session))
            return
        session.pending += 1
        self._context.bus.call(accounts.register(self._context.keys, session.user), self._registered, session)

    async def _register_counted(self, session: Session) -> None:
        try:
            await self._accounts.register(session.user, None, None)
        except Refused as refused:
            refusal = Refusal(refused.code, refused.reason)
        except StoreError as error:
            refusal = refusals.of_fault(error)
        else:
            if session.state is State.JOINING:
                self._connect(session)
            return
        if session.state is State.JOINING:
            self._refuse(session, refusal)

    def _registered(self, session: Session, reply: Any) -> None:
        session.settle()
        if session.state is not State.JOINING:
            return
        if isinstance(reply, Exception):
            self._refuse(session, refusals.of_fault(reply))
        elif reply[0]:
            self._refuse(session, refusals.of_code(reply[0]))
        else:
            self._connect(session)

    def _refuse(self, session: Session, refusal: Refusal) -> None:
        METRICS.connections_refused += 1
        session.refused(refusal)
        self.leave(session)

    def _admit(self, session: Session, reply: list[Any]) -> None:
        _, connected_at, epoch, start, head, recovered, muted, order, others, heard = reply
        context = self._context
        session.connected_at = connected_at
        session.order = order.decode()
        session.epoch = epoch.decode()
        session.muted = bool(muted)
        session.echoes = bool(others)
        session.forwarded = messages.parse_id(start)
        end = messages.parse_id(head)
        session.move(Event.ADMITTED)
        session.wire.admitted()
        METRICS.sessions_opened += 1
        session.announced = context.bus.incarnation
        if self._outbox.statuses:
            self._outbox.online(session, session.announced)
        config = context.config
        session.reply(
            pushes.Welcome(
                session=session.id,
                user=session.user,
                device=session.device,
                node=context.bus.incarnation.partition(".")[0],
                server_time=context.clock.wall_ms(),
                token_expires_at=session.expires_at,
                heartbeat_s=config.heartbeat_s,
                cursor=messages.cursor(session.epoch, session.forwarded),
                head=messages.cursor(session.epoch, end),
                recovered=bool(recovered),
                limits=pushes.Limits(config.frame_bytes_max, session.limits.send_rate_per_s, config.watch_max),
            )
        )
        # After the welcome, which is the first push even when the token ends within a minute.
        self._arm(session, context.clock.now())
        self._announcing.came(session, messages.parse_id(heard))
        self._inbox.catch_up(session, end, whole=bool(recovered))

    # Staying.

    def await_token(self, session: Session, now: float) -> None:
        """The upgrade is done and no token was there: it must come by ``auth`` in time."""
        session.timer = self._context.wheel.arm(now + self._context.config.auth_timeout_s, self._no_token, session)

    def _no_token(self, session: Session, now: float) -> None:
        if session.state is State.AWAITING_TOKEN:
            session.cut(Closing.of(codes.AUTH_TIMEOUT, "no token in time"))

    def _arm(self, session: Session, now: float) -> None:
        """Arms the one timer of a session for what its token needs next: the notice, or the end."""
        if session.timer is not None:
            session.timer.cancel()
            session.timer = None
        if session.expires_at is None:
            return
        left = (session.expires_at - self._context.clock.wall_ms()) / 1000
        notice = left - self._context.config.token_expiring_s
        if notice > 0:
            session.timer = self._context.wheel.arm(now + notice, self._expiring, session)
        else:
            self._expiring(session, now)

    def _expiring(self, session: Session, now: float) -> None:
        if session.expires_at is None or session.state not in (State.LIVE, State.FENCED):
            return
        left = (session.expires_at - self._context.clock.wall_ms()) / 1000
        if left > self._context.config.token_expiring_s:
            # The wall clock went back: a deadline on the other clock would end the token early.
            self._arm(session, now)
            return
        session.reply(pushes.TokenExpiring(session.expires_at))
        session.timer = self._context.wheel.arm(now + max(left, 0.0), self._expired, session)

    def _expired(self, session: Session, now: float) -> None:
        if session.expires_at is None or session.state is State.ENDED:
            return
        left = (session.expires_at - self._context.clock.wall_ms()) / 1000
        if left > 0:
            session.timer = self._context.wheel.arm(now + left, self._expired, session)
            return
        closing = Closing(codes.EXPIRED_TOKEN, Code.TOKEN_EXPIRED, TOKEN_EXPIRED, revocation=True)
        session.cut(closing)
        self.leave(session)

    def refresh(self, session: Session, command: commands.Refresh, now: float) -> None:
        """The ``refresh`` command: a newer token of the same user, after ban and cut-off are looked at again."""
        claims = self._verifier.verify(command.token, self._context.clock.wall_ms())
        if claims.user != session.user:
            raise Refusal(Code.TOKEN_INVALID, "the token is another user's")
        session.pending += 1
        self._context.bus.call(
            sessions.refresh(self._context.keys, session, self._context.bus.incarnation, claims.issued_at, claims.jti),
            self._refreshed,
            (session, command.id, claims),
        )

    def _refreshed(self, context: tuple[Session, str, Claims], reply: Any) -> None:
        session, command_id, claims = context
        if isinstance(reply, Exception):
            session.refuse(command_id, refusals.of_fault(reply))
        elif reply[0]:
            session.refuse(command_id, refusals.of_code(reply[0], reply[1]))
        elif session.state is not State.ENDED:
            self._take(session, claims)
            self._arm(session, self._context.clock.now())
            session.reply(replies.OkRefreshed(command_id, claims.expires_at))
        session.settle()

    def muted(self, payload: bytes) -> None:
        """One ``s`` push: whether the user may send changed."""
        user, _, value = payload[1:].partition(b"\n")
        for session in self._context.hub.of(user.decode()):
            session.muted = value == b"1"

    def other_session(self, payload: bytes) -> None:
        """One ``e`` push: another session of the user came or went."""
        user, session_id, push = payload[1:].split(b"\n", 2)
        other = session_id.decode()
        for session in self._context.hub.of(user.decode()):
            if session.id != other:
                session.echoes = True
                if session.state is State.LIVE:
                    session.send(push)

    # Going.

    def leave(self, session: Session) -> None:
        """Takes an ended session out of the hub and out of Redis; idempotent."""
        if not self._context.hub.remove(session):
            return
        METRICS.sessions_closed += 1
        self._watching.leave(session)
        for told in self.on_left:
            told(session)
        if self._outbox.statuses and session.announced:
            self._outbox.offline(session.user, session.id, session.announced, _status_of(session))
        self._announcing.left(session)
        self.leaving += 1
        call = sessions.disconnect(self._context.keys, session.user, session.id, self._context.bus.incarnation)
        self._context.bus.call(call, self._left, call.place, urgent=True)

    def _left(self, partition: int, reply: Any) -> None:
        self.leaving -= 1
        if isinstance(reply, StoreError):
            self._forget_later(partition)

    def _forget_later(self, partition: int) -> None:
        """Redis may still list a session that is gone: it is compared with the hub soon, and until that succeeds."""
        if not self.unheard:
            self._context.wheel.arm(self._context.clock.now() + FORGET_S, self._forget)
        self.unheard.add(partition)

    def _forget(self, _: object, now: float) -> None:
        partitions, self.unheard = self.unheard, set()
        for partition in partitions:
            if self._context.bus.gate(partition).away:
                # Nothing can be done before the link is up again.
                self._forget_later(partition)
        if len(self.unheard) < len(partitions):
            self._context.spawn(self._forget_all(partitions - self.unheard))

    async def _forget_all(self, partitions: set[int]) -> None:
        context = self._context
        for partition in sorted(partitions):
            try:
                await forget_sessions(
                    context.store, partition, context.bus.incarnation, lambda session: session in context.hub.sessions
                )
            except StoreError:
                self._forget_later(partition)


def _status_of(session: Session) -> str:
    """What the end of a session is told as: a soft deletion logs out."""
    closing = session.closing
    return LOGGED_OUT if closing is not None and closing.code == Code.DEACTIVATED else OFFLINE
