"""The pre-message check: the app's server is asked before a message passes, and its answer binds.

Messages of one session are asked about side by side and pass in the order in which they came. A session that ends
takes its unchecked messages with it: whatever is answered afterwards, they do not pass, and nobody waits for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from msgspec import Struct

from gateway.core.close import Refusal
from gateway.core.content import body_of
from gateway.core.session import Session
from gateway.core.states import State
from gateway.metrics import METRICS
from gateway.protocol import commands
from gateway.protocol.codes import Code
from gateway.services import refusals
from gateway.services.context import NodeContext
from gateway.services.outbox import Message, event_id, system_of
from gateway.services.receiver import Receiver, Unanswered
from gateway.store.errors import StoreUnavailable

log = structlog.get_logger(__name__)

IN_FLIGHT_MAX = 8
"""Messages of one session that are asked about at the same time."""

LINE_MAX = 16
"""Messages of one session that wait or are asked about, at which its socket is no longer read."""

LINE_LIMIT = 1024
"""The same, at which further ones are refused: what had been read before the socket was paused."""

WAITING_MAX = 20_000
WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Messages of all sessions of this node, and the bytes of their bodies, at which further ones are refused."""

EVENT = "direct_channel:pre_messaging"

EXTRA_MAX = 4096
"""Characters of what the app's server may say to the sender."""


class Candidate(Struct):
    """A message that has not passed yet.

    Attributes:
        code: what ``sent`` says besides: words were replaced.
        extra: what the app's server says to the sender.
    """

    session: Session
    command: commands.Send
    body: bytes
    mid: str
    code: int | None = None
    extra: str | None = None


class _Check(Struct):
    """One candidate and what came of asking; None = nothing yet."""

    candidate: Candidate
    task: asyncio.Task[None] | None = None
    verdict: Refusal | bool | None = None


class _Line(Struct):
    """One session's checks in the order of their messages; the first ``begun`` of them are with the node's queue."""

    checks: deque[_Check]
    begun: int = 0


class Checks:
    """One node's checks.

    Args:
        context: this node.
        receiver: the app's server.
        app_key: told with every question.

    Attributes:
        passed: called with each candidate that may pass.
    """

    def __init__(self, context: NodeContext, receiver: Receiver, app_key: str) -> None:
        self._context = context
        self._receiver = receiver
        self._app_key = orjson.dumps(app_key)
        self._lines: dict[Session, _Line] = {}
        self._queue: deque[_Check] = deque()
        self._running = 0
        self._bytes = 0
        self._outbox = context.outbox
        self._silent = False
        self.passed: Callable[[Candidate], None] = _nothing

    def add(self, candidate: Candidate) -> None:
        """Asks about a message, behind those of its session that came before.

        Raises:
            Refusal: Too many wait.
        """
        session = candidate.session
        line = self._lines.get(session)
        if line is None:
            line = self._lines[session] = _Line(deque())
        elif len(line.checks) >= LINE_LIMIT:
            raise Refusal(Code.SENDING_TOO_FAST, "too many messages wait to be checked", retry_after_ms=1000)
        if self._outbox.unchecked >= WAITING_MAX or self._bytes >= WAITING_BYTES_MAX:
            if not line.checks:
                del self._lines[session]
            raise Refusal(Code.STORE_UNAVAILABLE, "too many messages wait to be checked", retry_after_ms=1000)
        self._outbox.unchecked += 1
        self._bytes += len(candidate.command.body)
        line.checks.append(_Check(candidate))
        if len(line.checks) >= LINE_MAX and not session.paused:
            session.paused = True
            session.wire.pause()
        self._begin(line)

    def leave(self, session: Session) -> None:
        """The session has ended: its unchecked messages do not pass."""
        line = self._lines.pop(session, None)
        if line is None:
            return
        METRICS.checks_discarded += len(line.checks)
        for check in line.checks:
            self._gone(check)
            check.verdict = False
            if check.task is not None:
                check.task.cancel()

    def _gone(self, check: _Check) -> None:
        self._outbox.unchecked -= 1
        # As the client sent it: an answer may have exchanged the candidate's own.
        self._bytes -= len(check.candidate.command.body)
        if not self._outbox.unchecked:
            self._outbox.checks = self._outbox.asks

    # Asking.

    def _begin(self, line: _Line) -> None:
        """Hands checks of a line to the node's queue, up to the number that one session may have there."""
        asked = sum(check.verdict is None for check in list(line.checks)[: line.begun])
        while line.begun < len(line.checks) and asked < IN_FLIGHT_MAX:
            self._queue.append(line.checks[line.begun])
            line.begun += 1
            asked += 1
        self._start()

    def _start(self) -> None:
        while self._queue and self._running < self._context.config.webhook_checks_max:
            check = self._queue.popleft()
            if check.verdict is not None:
                continue
            check.task = self._context.background.begin(self._ask(check), "message check")
            if check.task is None:
                return
            self._running += 1
            check.task.add_done_callback(self._asked)

    def _asked(self, _: asyncio.Task[None]) -> None:
        self._running -= 1
        self._start()

    async def _ask(self, check: _Check) -> None:
        verdict: Refusal | bool = _UNANSWERED
        try:
            verdict = await self._judge(check.candidate)
        finally:
            # Cancelled: the session is gone, and its line with it.
            if check.verdict is None:
                check.verdict = verdict
                self._pass_on(check.candidate.session)

    async def _judge(self, candidate: Candidate) -> Refusal | bool:
        """True = it may pass, with what the answer changed in the candidate; else why it does not."""
        url, config = self._context.config.webhook_url, self._context.config
        if url is None or not self._outbox.asks:
            return True
        body = self._question(candidate)
        why = ""
        for _ in range(config.webhook_retries + 1):
            try:
                answer = await self._receiver.post(url, body)
                if answer.status == 200:
                    verdict = self._read(candidate, answer.body)
                    self._heard()
                    return verdict
                why = f"HTTP {answer.status}"
            except (Unanswered, ValueError) as error:
                why = str(error)
            METRICS.webhook_tries_failed += 1
        METRICS.checks_unanswered += 1
        if not self._silent:
            self._silent = True
            log.warning("messages do not pass: the app's server does not answer their check", reason=why)
        return _UNANSWERED

    def _heard(self) -> None:
        if self._silent:
            self._silent = False
            log.info("the app's server answers message checks again")

    def _question(self, candidate: Candidate) -> bytes:
        session, command = candidate.session, candidate.command
        now_ms = self._context.clock.wall_ms()
        profanity = 2 if candidate.code == Code.PROFANITY_REPLACED else 0
        message = Message(
            session.user,
            command.to,
            command.kind,
            candidate.body,
            candidate.mid,
            now_ms,
            system_of(session.platform),
            profanity,
        )
        head = orjson.dumps({"type": EVENT, "id": event_id(EVENT, candidate.mid, command.to), "time": now_ms})
        return b'%b,"data":[%b]}' % (head[:-1], message.data(before=b'"appKey":%b,' % self._app_key))

    def _read(self, candidate: Candidate, answer: bytes) -> Refusal | bool:
        """What an answer says. Raises ValueError where it cannot be understood."""
        told = orjson.loads(answer)
        verdict = told.get("pass") if isinstance(told, dict) else None
        # Numbers as text are sent by servers written in other languages.
        if type(verdict) is str and verdict in ("0", "1", "2"):
            verdict = int(verdict)
        if type(verdict) is not int or verdict not in (0, 1, 2):
            raise ValueError("an answer without pass 0, 1 or 2")
        extra = _text_of(told.get("extra"))
        if not verdict:
            METRICS.checks_refused += 1
            return Refusal(Code.CONTENT_REFUSED, "the message was refused", extra=extra)
        candidate.extra = extra
        content = told.get("content")
        if content is not None:
            if type(content) is not str:
                raise ValueError("an answer whose content is no text")
            body = body_of(content)
            if len(body) > self._context.config.body_bytes_max:
                raise ValueError("an answer whose content is too long")
            candidate.body = body
        METRICS.checks_passed += 1
        return True

    # Passing, in order.

    def _pass_on(self, session: Session) -> None:
        line = self._lines.get(session)
        if line is None:
            return
        while line.checks and (verdict := line.checks[0].verdict) is not None:
            check = line.checks.popleft()
            line.begun -= 1
            self._gone(check)
            self._act(check.candidate, verdict)
            if self._lines.get(session) is not line:
                # Acting on it has ended the session.
                return
        if not line.checks:
            del self._lines[session]
        if len(line.checks) < LINE_MAX // 2:
            # Reads again what was paused, unless something else keeps it.
            session.settle(0)
        self._begin(line)

    def _act(self, candidate: Candidate, verdict: Refusal | bool) -> None:
        session = candidate.session
        if isinstance(verdict, Refusal):
            METRICS.messages_refused += 1
            session.refuse(candidate.command.id, verdict)
        elif session.state is not State.LIVE or session.gate.shut:
            # A drop may have been published that this node has not heard: nothing passes until it is sure of none.
            METRICS.messages_refused += 1
            session.refuse(candidate.command.id, refusals.of_fault(_AWAY))
        else:
            self.passed(candidate)


def _text_of(extra: Any) -> str | None:
    if extra is None:
        return None
    text = extra if type(extra) is str else orjson.dumps(extra).decode()
    return text[:EXTRA_MAX]


_UNANSWERED = Refusal(
    Code.STORE_UNAVAILABLE, "the message could not be checked, nothing was written: try again", retry_after_ms=1000
)
_AWAY = StoreUnavailable("the store went away while the message was checked")


def _nothing(_: Candidate) -> None:
    pass
