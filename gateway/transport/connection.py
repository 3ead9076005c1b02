"""One client socket: bytes in, session decides, bytes out. Callbacks only; ``transmit`` and ``ping`` alone write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLOSING, CONNECTING, OPEN, Event

from gateway.core.close import Closing, Refusal
from gateway.core.session import Session
from gateway.metrics import METRICS
from gateway.protocol import codes
from gateway.protocol.codes import Code
from gateway.transport import handshake, upgrade
from gateway.transport.answers import Answer
from gateway.transport.frames import PING, Protocol, close_by_parser, framed
from gateway.transport.handshake import Header
from gateway.transport.sockets import half_closed, peer_of, reset, unsent

if TYPE_CHECKING:
    from gateway.core.timers import Timer
    from gateway.transport.listener import Listener

log = structlog.get_logger(__name__)

_AT_ONCE_BYTES = 8192
"""An answer that any kernel takes at once."""


class Connection(asyncio.Protocol):
    """The shell around one session; see core.session.Wire for what the session asks of it."""

    __slots__ = (
        "address",
        "asked",
        "beat",
        "blocked_at",
        "closing",
        "crowded",
        "dirty",
        "fragments",
        "heard_at",
        "listener",
        "pinged_at",
        "session",
        "transport",
        "upgrade",
        "ws",
    )

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.address = ""
        self.asked = False
        self.crowded: Refusal | None = None
        self.transport: asyncio.Transport | None = None
        self.ws = Protocol(max_size=listener.config.frame_bytes_max, logger=listener.logger)
        self.session: Session | None = None
        self.upgrade: bytes | None = None
        self.closing: Closing | None = None
        self.fragments: list[bytes] | None = None
        self.beat: Timer | None = None
        self.blocked_at = 0.0
        self.heard_at = 0.0
        self.pinged_at = 0.0
        self.dirty = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports only quack like asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unix"
        METRICS.connections_opened += 1
        now = self.listener.clock.now()
        if not self.listener.opened(self, now):
            METRICS.connections_refused += 1
            self.closing = _ANSWERED
            self.transport.abort()
            return
        self.heard_at = now
        self.beat = self.listener.wheel.arm(now + self.listener.config.handshake_timeout_s, self._no_handshake, None)

    def data_received(self, data: bytes) -> None:
        self.heard_at = now = self.listener.check_gap()
        session = self.session
        if session is None or self.closing is not None or self.upgrade is not None:
            self._received_aside(data, now)
            return
        ws = self.ws
        if len(data) == 6 and ws.is_pong(data):
            return
        try:
            events = ws.take(data)
        except EOFError:
            return
        for event in events:
            if type(event) is bytes:
                if self.closing is None:
                    self._text(session, event, now)
            else:
                self._frame(cast("Frame", event), now)
        if ws.writes:
            self.transmit()
        if ws.parser_exc is not None:
            self._parser_failed()

    def _received_aside(self, data: bytes, now: float) -> None:
        """What comes before there is a session, before it is let in, or after its end."""
        ws = self.ws
        if self.closing is not None and ws.state is not CLOSING:
            return
        if self.upgrade is not None:
            self._too_early()
            return
        if not self.asked:
            self.asked = True
            usual = upgrade.read(data)
            if usual is not None:
                self._come(usual.path, usual.fields, usual.answer, now)
                return
        try:
            events = ws.take(data)
        except EOFError:
            return
        if ws.state is CONNECTING:
            self._opening(cast("list[Event]", events), now)
        elif ws.writes:
            self.transmit()

    def eof_received(self) -> bool:
        if self.closing is None:
            self.ws.receive_eof()
            self.transmit()
            # The transport closes now, and tells so a turn of the loop later: until then this would pass for a session.
            if self.session is not None:
                self._ended_by_peer(self.session)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.ws.end()
        self.listener.closed(self)
        if self.beat is not None:
            self.beat.cancel()
        if (session := self.session) is not None:
            self.session = None
            session.receive_eof()
            self.listener.admission.leave(session)

    def pause_writing(self) -> None:
        now = self.listener.clock.now()
        self.blocked_at = now
        self.listener.wheel.arm(now + self.listener.config.outbound_age_max_s, self._blocked_too_long, now)

    def resume_writing(self) -> None:
        self.listener.check_gap()
        self.blocked_at = 0.0
        self.transmit()

    # The opening handshake.

    def _opening(self, events: list[Event], now: float) -> None:
        if events:
            self._request(cast("Request", events[0]), now, alone=len(events) == 1)
        elif self.ws.handshake_exc is not None:
            # The library has given up, mostly without a word.
            METRICS.connections_refused += 1
            status, refusal = handshake.refusal_of_fault(self.ws.handshake_exc.__cause__ or self.ws.handshake_exc)
            self.answer(Answer(status, refusal.body()))

    def _too_early(self) -> None:
        """Bytes before the upgrade is answered: RFC 6455 section 4.1 has the client wait."""
        if self.session is not None:
            METRICS.connections_refused += 1
            self.session.refused(_TOO_EARLY)
            self.listener.admission.leave(self.session)

    def _request(self, request: Request, now: float, *, alone: bool) -> None:
        listener = self.listener
        if not handshake.is_connect(request.path):
            # What follows the request is not read, also where its answer takes a while.
            self.closing = _ANSWERED
            listener.plain_http(self, request, now)
            return
        if not alone or self.ws.reader.buffer or self.ws.parser_exc is not None:
            METRICS.connections_refused += 1
            self.answer(Answer(400, _TOO_EARLY.body()))
            return
        response = self.ws.accept(request)
        if response.status_code != 101:
            METRICS.connections_refused += 1
            self.answer(Answer.declined(response))
            return
        self._come(request.path, request.headers, partial(upgrade.answer_of, response), now)

    def _come(self, path: str, header: Header, answer: Callable[[str | None], bytes], now: float) -> None:
        """Somebody asks for a socket as RFC 6455 has it; ``answer`` makes what opens it, with the subprotocol."""
        listener = self.listener
        opening = handshake.read(path, header, allow_token_in_url=listener.config.allow_token_in_url)
        session = self.session = listener.session(self, now)
        refusal = opening.fault or listener.refusal(self, header, now)
        if opening.token is not None and opening.in_header:
            self.upgrade = answer(opening.subprotocol)
        else:
            self._open(answer(opening.subprotocol))
        device, platform, since = opening.device, opening.platform, opening.since
        if refusal is not None:
            self._refused(session, refusal)
        elif opening.token is None:
            session.device, session.platform, session.since = device, platform, since
            listener.admission.await_token(session, now)
        else:
            try:
                listener.admission.authenticate(session, opening.token, device, platform, since)
            except Refusal as fault:
                self._refused(session, fault)

    def _refused(self, session: Session, refusal: Refusal) -> None:
        METRICS.connections_refused += 1
        session.refused(refusal)

    def _open(self, answer: bytes) -> None:
        # What the library's send_response comes to for an upgrade.
        self.ws.writes.append(answer)
        self.ws.state = OPEN
        self.ws.forget_request()
        if self.beat is not None:
            self.beat.cancel()
        self.beat = self.listener.heartbeat.begin(self)
        # With the welcome that mostly follows in the same turn of the loop: a write a login is saved.
        self.wake()

    def answer(self, answer: Answer, *, head: bool = False) -> None:
        """Answers plain HTTP and ends the connection; ``head`` leaves the body out, as HEAD asks."""
        self.closing = _ANSWERED
        # Not through send_response: the library may have given up already, or answered frames that came too early.
        self.ws.writes = [answer.serialize(head=head), b""]
        self.transmit()

    # For the heartbeat.

    @property
    def open(self) -> bool:
        """Whether messages pass in both directions."""
        return self.session is not None and self.closing is None and self.ws.is_open

    @property
    def unread(self) -> bool:
        """Whether the gateway itself leaves unread what the client says."""
        return self.session is not None and self.session.paused

    def ping(self) -> None:
        """Pings the client; its pong is heard in ``heard_at``."""
        ws, session = self.ws, self.session
        if self.transport is None or session is None or ws.writes or session.outgoing:
            ws.writes.append(PING)
            self.transmit()
        else:
            self.transport.write(PING)

    # core.session.Wire

    @property
    def peer(self) -> str:
        return (self.transport and peer_of(self.transport)) or self.address

    def wake(self) -> None:
        if not self.dirty:
            self.dirty = True
            self.listener.wake(self)

    def admitted(self) -> None:
        if self.upgrade is not None:
            answer, self.upgrade = self.upgrade, None
            self._open(answer)

    def refused(self, refusal: Refusal) -> None:
        if self.upgrade is None:
            self.close(refusal.closing())
            return
        self.upgrade = None
        self.answer(Answer.of(refusal))

    def close(self, closing: Closing) -> None:
        if self.closing is not None or self.transport is None:
            return
        if self.upgrade is not None:
            # Dropped while its `connect` was under way and the upgrade not answered yet.
            self.refused(closing.refusal())
            return
        self.closing = closing
        METRICS.closed(closing.close_code.name)
        METRICS.slow_consumers += closing.close_code is codes.SLOW_CONSUMER
        try:
            if closing.revocation and unsent(self.transport):
                reset(self.transport)
            else:
                self._say_close(closing)
        except Exception:
            # Who cuts goes on to others.
            self.failed("a close")
        if self.session is not None:
            # Not only when the socket is gone: until then the user would pass for online.
            self.listener.admission.leave(self.session)

    def _say_close(self, closing: Closing) -> None:
        if not self.blocked_at:
            self._take_messages()
        if self.ws.is_open:
            self.ws.send_close(closing.close_code.code, closing.payload())
        self.transmit()
        # RFC 6455 section 5.5.1: nothing follows a close. So the peer need not wait until its answer was heard.
        self.ws.shut = self.transport is not None and half_closed(self.transport)
        self._linger()

    def pause(self) -> None:
        if self.transport is not None and self.transport.is_reading():
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and self.closing is None:
            self.transport.resume_reading()

    def failed(self, what: str) -> None:
        """Ends the socket where something has raised, in an ``except`` clause; others go on."""
        METRICS.callbacks_failed += 1
        log.exception("a connection failed", callback=what)
        if self.transport is not None:
            self.transport.abort()

    # Reading.

    def _frame(self, frame: Frame, now: float) -> None:
        opcode = frame.opcode
        session = self.session
        if session is None or self.closing is not None:
            return
        if opcode is Opcode.TEXT:
            if frame.fin:
                self._text(session, bytes(frame.data), now)
            else:
                self.fragments = [bytes(frame.data)]
        elif opcode is Opcode.CONT:
            self._continuation(session, frame, now)
        elif opcode is Opcode.BINARY:
            session.cut(Closing.of(codes.UNSUPPORTED, "binary frames are not understood"))
        elif opcode is Opcode.CLOSE:
            # The library has already answered it; nothing of the session passes any more.
            self._ended_by_peer(session)

    def _ended_by_peer(self, session: Session) -> None:
        self.closing = _BY_PEER
        session.receive_eof()
        self.listener.admission.leave(session)

    def _continuation(self, session: Session, frame: Frame, now: float) -> None:
        fragments = self.fragments
        if fragments is None:
            return
        fragments.append(bytes(frame.data))
        if len(fragments) > self.listener.config.fragments_max:
            self.fragments = None
            session.cut(Closing.of(codes.TOO_BIG, f"over {self.listener.config.fragments_max} fragments"))
        elif frame.fin:
            self.fragments = None
            self._text(session, b"".join(fragments), now)

    def _text(self, session: Session, payload: bytes, now: float) -> None:
        if not payload.isascii():
            try:
                # RFC 6455 section 8.1. Bodies are passed on unread, so this is the only look at their bytes.
                str(payload, "utf-8")
            except UnicodeDecodeError:
                session.cut(Closing.of(codes.INVALID_DATA, "not UTF-8"))
                return
        session.receive_text(payload, now)

    def _parser_failed(self) -> None:
        """The library has failed the connection (RFC 6455 section 7.1.7) and written the close frame."""
        if self.closing is None and self.session is not None:
            code = self.ws.close_sent.code if self.ws.close_sent is not None else 1006
            METRICS.closed(close_by_parser(code).name)
            self._ended_by_peer(self.session)

    # Writing.

    def transmit(self) -> None:
        """Writes all there is: first what the library has to say, then the session's messages, the close last."""
        self.dirty = False
        transport, ws, session = self.transport, self.ws, self.session
        if transport is None:
            return
        if self.closing is None and ws.is_open:
            if self.blocked_at:
                # RFC 6455 section 5.5.3: the newest ping may stand for all. Who pings and does not read fills nothing.
                del ws.writes[:-1]
                return
            self._take_messages()
        writes = ws.writes
        if writes:
            ws.writes = []
            # b"" asks for a half-close and comes last; joining would swallow it.
            data = b"".join(writes) if len(writes) > 1 else writes[0]
            if not ws.shut:
                transport.write(data)
            if writes[-1] == b"":
                self._end_output(transport, len(data))
        if session is not None and session.on_drained is not None and not self.blocked_at and not session.outgoing:
            session.drained()

    def _take_messages(self) -> None:
        """Puts the session's messages behind what the library has to say."""
        session = self.session
        if session is not None and session.outgoing and self.ws.is_open:
            payloads = session.data_to_send()
            if payloads:
                self.ws.writes.append(framed(payloads))

    # Ending.

    def _end_output(self, transport: asyncio.Transport, size: int) -> None:
        """All is said. Where the peer may still be sending, it is heard out for a moment.

        Closing with bytes unread resets the connection, and the peer could lose what was said last.
        """
        self.ws.shut = self.ws.close_rcvd is None and half_closed(transport)
        if not self.ws.shut:
            transport.close()
        self._linger(large=self.closing is _ANSWERED and size > _AT_ONCE_BYTES)

    def _linger(self, *, large: bool = False) -> None:
        """The socket is gone after close_linger_ms, whether the peer answers or not.

        A file may take as long as any other bytes may wait: an abort would cut it short on a slow link, and how much of
        it still waits below TLS nobody tells.
        """
        listener, config = self.listener, self.listener.config
        wait_s = config.outbound_age_max_s if large else config.close_linger_ms / 1000
        listener.wheel.arm(listener.clock.now() + wait_s, self._abort, None)

    def _abort(self, _: object, now: float) -> None:
        if self.transport is not None:
            self.transport.abort()

    # Time.

    def _no_handshake(self, _: object, now: float) -> None:
        if self.ws.state is not CONNECTING or self.closing is not None or self.transport is None:
            return
        METRICS.connections_refused += 1
        if self.upgrade is not None and self.session is not None:
            self.session.refused(Refusal(Code.STORE_UNAVAILABLE, "the store does not answer", retry_after_ms=1000))
            self.listener.admission.leave(self.session)
        else:
            self.answer(Answer(408, Refusal(Code.MALFORMED, "no whole request in time").body()))

    def _blocked_too_long(self, blocked_at: float, now: float) -> None:
        if self.blocked_at == blocked_at and self.session is not None:
            self.session.cut(Closing.of(codes.SLOW_CONSUMER, "the client does not take what is sent"))


_BY_PEER = Closing.of(codes.NORMAL)
_ANSWERED = Closing.of(codes.NORMAL, "answered by HTTP")
_TOO_EARLY = Refusal(Code.MALFORMED, "bytes after the opening handshake and before its answer")
