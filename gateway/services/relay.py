"""Direct messages: in from a sender's session, through the ``relay`` Function, out to the recipient's sessions.

No task, queue or future per message: callbacks from the sender's bytes to the recipient's.
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from gateway.core.close import Refusal
from gateway.core.session import Session
from gateway.core.states import RETRY_COST, State
from gateway.core.words import Blocked, Lexicon
from gateway.metrics import METRICS
from gateway.protocol import commands, replies
from gateway.protocol.codes import Code
from gateway.services import refusals
from gateway.services.checks import Candidate, Checks
from gateway.services.context import NodeContext
from gateway.services.mids import mid_of, uuid7
from gateway.services.outbox import Message, system_of
from gateway.services.settings import LiveSettings
from gateway.services.words import Words
from gateway.store import messages
from gateway.store.keys import Keys
from gateway.store.relaying import RelayLimits

log = structlog.get_logger(__name__)

_json = msgspec.json.Encoder().encode

_Outstanding = tuple[Session, str, str, int, bytes | None, int | None, str | None, tuple[str, str, bytes] | None]
"""What is kept of a message until the store answers: session, command id, message id, Unix ms, the tail to echo, what
`sent` says besides (code, extra), and recipient, kind and body where the app's server is told of them."""


class Relay:
    """This node's part in relaying."""

    def __init__(self, context: NodeContext, words: Words, checks: Checks | None = None) -> None:
        self._context = context
        self._words = words
        self._outbox = context.outbox
        self._checks = checks
        if checks is not None:
            checks.passed = self._passed
        self._keys: Keys = context.keys
        self._store = context.bus.store
        self._relay = context.bus.relay
        self._hub = context.hub
        self._clock = context.clock
        self._settings = context.settings
        self._body_bytes_max = context.config.body_bytes_max
        self._inbox_max = context.config.inbox_max
        self._inbox_bytes_max = context.config.inbox_bytes_max
        self._live: LiveSettings | None = None
        self._limits = RelayLimits(0, 0, 0)

    def send(self, session: Session, command: commands.Send, now: float) -> None:
        """The ``send`` command."""
        body = bytes(command.body)
        if len(body) > self._body_bytes_max:
            raise Refusal(Code.BODY_TOO_LARGE, f"$.body: over {self._body_bytes_max} bytes")
        code = None
        if (lexicon := self._words.lexicon) is not None:
            body, code = self._clean(lexicon, body)
        if command.retry:
            _charge_retry(session, command, now)
        key, now_ms = command.key, self._clock.wall_ms()
        mid = uuid7(now_ms) if key is None else mid_of(session.user, command.to, key)
        if self._outbox.checks and self._checks is not None:
            self._checks.add(Candidate(session, command, body, mid, code))
        else:
            self._forward(session, command, body, mid, now_ms, code, None)

    def _passed(self, candidate: Candidate) -> None:
        """The app's server lets a message pass; nobody waits for the handler that it came through."""
        session, command = candidate.session, candidate.command
        now_ms = self._clock.wall_ms()
        self._forward(session, command, candidate.body, candidate.mid, now_ms, candidate.code, candidate.extra)

    def _forward(
        self,
        session: Session,
        command: commands.Send,
        body: bytes,
        mid: str,
        now_ms: int,
        code: int | None,
        extra: str | None,
    ) -> None:
        live = self._settings.live
        if live is not self._live:
            self._live, self._limits = live, RelayLimits(self._inbox_max, live.retention_ms, self._inbox_bytes_max)
        flags = ""
        if live.friends_only or session.muted or command.retry or command.ephemeral:
            flags = _flags(live.friends_only, session.muted, command, now_ms)
        tail = b'"mid":"%b","from":%b,"to":%b,"kind":%b,"body":%b}' % (
            mid.encode(),
            _json(session.user),
            _json(command.to),
            _json(command.kind),
            body,
        )
        session.pending += 1
        # A user with one device pays nothing for the echo but this look.
        echo = tail if session.echoes and not command.ephemeral and command.to != session.user else None
        told = (command.to, command.kind, body) if self._outbox.messages else None
        context = (session, command.id, mid, now_ms, echo, code, extra, told)
        self._relay(session.user, command.to, flags, tail, self._limits, self._relayed, context)

    def _clean(self, lexicon: Lexicon, body: bytes) -> tuple[bytes, int | None]:
        """The body without profanity words, and what `sent` says of it."""
        try:
            cleaned = lexicon.clean(body)
        except Blocked as blocked:
            METRICS.messages_word_blocked += 1
            raise refusals.of_code(Code.PROFANITY_BLOCKED) from blocked
        if cleaned is body:
            return body, None
        if len(cleaned) > self._body_bytes_max:
            raise Refusal(Code.BODY_TOO_LARGE, f"$.body: over {self._body_bytes_max} bytes after words were replaced")
        METRICS.messages_word_replaced += 1
        return cleaned, Code.PROFANITY_REPLACED

    def _relayed(self, context: _Outstanding, reply: Any) -> None:
        session, command_id, mid, now_ms, echo, code, extra, told = context
        if type(reply) is bytes:
            METRICS.messages_relayed += 1
            online, dash = reply[0] == _REACHED, reply.find(b"-", 1)
            at = reply[1:dash] if dash > 0 else b"%d" % now_ms
            if code is None and extra is None:
                session.send(replies.sent(command_id, mid, at, online))
            else:
                session.reply(replies.Sent(command_id, mid, int(at), online, code, extra))
            if echo is not None:
                self._echo(session, echo)
            if told is not None:
                self._tell(session, mid, int(at), code, told)
        else:
            METRICS.messages_refused += 1
            refusal = refusals.of_fault(reply) if isinstance(reply, Exception) else refusals.of_code(reply)
            session.refuse(command_id, refusal)
        session.settle()

    def _tell(self, session: Session, mid: str, sent_at: int, code: int | None, told: tuple[str, str, bytes]) -> None:
        """Queues the message for the app's server."""
        to, kind, body = told
        profanity = 2 if code == Code.PROFANITY_REPLACED else 0
        message = Message(session.user, to, kind, body, mid, sent_at, system_of(session.platform), profanity)
        self._outbox.put(message.event())

    def _echo(self, session: Session, tail: bytes) -> None:
        """Puts the message into the sender's own inbox, for the sender's other devices."""
        if session.device is not None:
            tail = b'%b,"device":%b}' % (tail[:-1], _json(session.device))
        retention_ms = self._settings.live.retention_ms
        call = messages.echo(
            self._keys, session.user, session.id, tail, self._inbox_max, retention_ms, self._inbox_bytes_max
        )
        session.pending += 1
        self._store(call.place, call.command, self._echoed, session)

    def _echoed(self, session: Session, reply: Any) -> None:
        # The message itself is stored and `sent` was right; what may be missing is the copy on the other devices.
        count_echo(reply)
        session.settle()

    def received_echo(self, payload: bytes) -> None:
        """One ``o`` push: ``o<user>\\n<session that sent it>\\n<stream id or nothing>\\n<the push's JSON>``."""
        user, origin, raw, push = payload[1:].split(b"\n", 3)
        place = messages.parse_id(raw) if raw else None
        sender = origin.decode()
        for session in self._hub.of(user.decode()):
            if session.id == sender:
                if place is not None:
                    session.pass_over(place)
            elif place is None:
                _pass_on(session, push)
            elif session.deliver(place, push):
                METRICS.messages_delivered += 1

    def received(self, payload: bytes) -> None:
        """One ``m`` push: ``m<user>\\n<stream id or nothing>\\n<the push's JSON>``."""
        user, place, push = payload[1:].split(b"\n", 2)
        self._deliver(user, place, push)

    def received_many(self, payload: bytes) -> None:
        """One ``M`` push: several of them, see store/lua/relays.lua."""
        count = int(payload[1 : payload.index(b"\n")])
        heads = payload.split(b"\n", 3 * count + 1)
        pushes, at = heads[-1], 0
        for index in range(1, 3 * count + 1, 3):
            end = at + int(heads[index + 2])
            try:
                self._deliver(heads[index], heads[index + 1], pushes[at:end])
            except Exception:
                METRICS.callbacks_failed += 1
                log.exception("a push of a batch failed, the others go on")
            at = end

    def _deliver(self, user: bytes, raw: bytes, push: bytes) -> None:
        sessions = self._hub.of(user.decode())
        if not raw:
            for session in sessions:
                _pass_on(session, push)
            return
        ms, _, sequence = raw.partition(b"-")
        place = (int(ms), int(sequence))
        for session in sessions:
            if session.deliver(place, push):
                METRICS.messages_delivered += 1


_REACHED = ord("+")


def _flags(friends_only: bool, muted: bool, command: commands.Send, now_ms: int) -> str:
    """What relay_many is to know of a message that is not like most."""
    flags = "f" if friends_only else ""
    if muted:
        flags += "m"
    if command.retry:
        flags += "r"
    return f"{flags}e{now_ms}" if command.ephemeral else flags


def _pass_on(session: Session, push: bytes) -> None:
    """Hands on what is in no inbox; not to a session that is still joining: its token may yet be refused."""
    if session.catching_up or session.state is not State.LIVE:
        METRICS.ephemeral_dropped += 1
    else:
        METRICS.messages_delivered += 1
        session.send(push)


def count_echo(reply: Any) -> None:
    """Counts what became of a copy for the sender's own devices."""
    if not isinstance(reply, bytes):
        METRICS.echoes_lost += 1
    elif reply:
        METRICS.messages_echoed += 1
    else:
        METRICS.echoes_unstored += 1


def _charge_retry(session: Session, command: commands.Send, now: float) -> None:
    """A retry takes more of the sender's rate, because it searches."""
    if command.key is None:
        raise Refusal(Code.MALFORMED, "$.key: a retry needs the key of the first try")
    bucket = session.bucket
    wait = bucket.take(min(RETRY_COST, bucket.burst) - 1.0, now)
    if wait > 0.0:
        # What the command itself took is given back: the one that comes after the wait takes it again.
        bucket.level += 1.0
        raise Refusal(Code.SENDING_TOO_FAST, "sending too fast", retry_after_ms=int(wait * 1000) + 1)
