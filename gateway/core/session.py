"""One client connection's session: what it takes in each of its states, and what it may still say.

Sans-I/O, with the verbs of the websockets library: the shell feeds ``receive_text``, writes what ``data_to_send``
returns and asks ``close_expected``. Everything that changes a session's state is in this file, and goes by the tables
in states.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from gateway.core.close import Closing, Refusal
from gateway.core.limits import TokenBucket
from gateway.core.states import RULES, TRANSITIONS, Event, State
from gateway.metrics import METRICS
from gateway.protocol import codes, commands, replies
from gateway.protocol.codes import Code

StreamId = tuple[int, int]
"""A place in an inbox: (milliseconds, sequence), ordered as Redis orders stream ids."""

START: StreamId = (0, 0)

FLOOD_REFUSALS_MAX = 200
"""Commands refused by the rate, in a row, after which the connection closes with 4003."""

PENDING_MAX = 1024
"""Store calls one session may have outstanding before its socket is no longer read."""

# On the relay path, where a member of an enum costs two lookups.
_LIVE, _FENCED, _ENDED = State.LIVE, State.FENCED, State.ENDED


class Wire(Protocol):
    """What a session asks of the shell that holds its socket."""

    address: str

    @property
    def peer(self) -> str:
        """Address and port."""

    def wake(self) -> None:
        """Something waits in ``data_to_send``: transmit it before this loop turn ends."""

    def close(self, closing: Closing) -> None:
        """Close now; nothing is read any more."""

    def admitted(self) -> None:
        """The session is live; an upgrade that waited for this is answered now."""

    def refused(self, refusal: Refusal) -> None:
        """The session is not let in: an HTTP status where the upgrade waits, else a close."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read again."""


class Gate:
    """Shut while a link to Redis has a barrier outstanding: its sessions then read and write nothing."""

    __slots__ = ("away", "shut")

    def __init__(self) -> None:
        self.shut = False
        self.away = False


class SessionLimits(Struct, frozen=True):
    """What one session is held to; the units are in the names."""

    send_rate_per_s: float
    send_burst: float
    bad_commands_max: int
    outbound_bytes_max: int


Handler = Callable[["Session", Any, float], None]


class Session:
    """One authenticated (or still to be authenticated) connection.

    Attributes:
        announced: the incarnation under which the session was last said to be online; "" before that.
        closing: how it was ended, once the gateway has.
        forwarded: the last inbox entry that was sent to the client.
        seen: while catching up, the highest live push that was held back because the replay will bring it.
        early: broadcasts that are in no inbox and came before the session was let in; None = there were none.
        heard: up to where the session has, or need not have, such broadcasts; None = it was not let in yet.
        echoes: whether the user has another device, so that what this one sends is echoed.
        pending: store calls outstanding on the session's behalf.
    """

    __slots__ = (
        "address",
        "announced",
        "bad_commands",
        "bucket",
        "catching_up",
        "closing",
        "connected_at",
        "device",
        "early",
        "echoes",
        "epoch",
        "expires_at",
        "forwarded",
        "gate",
        "handlers",
        "heard",
        "held",
        "id",
        "issued_at",
        "jti",
        "limits",
        "muted",
        "on_drained",
        "on_settled",
        "order",
        "outgoing",
        "outgoing_bytes",
        "paused",
        "pending",
        "platform",
        "refused_in_row",
        "seen",
        "since",
        "state",
        "timer",
        "user",
        "watching",
        "wire",
        "withheld",
    )

    def __init__(
        self,
        session_id: str,
        wire: Wire,
        limits: SessionLimits,
        handlers: Mapping[type, Handler],
        now: float,
    ) -> None:
        self.id = session_id
        self.wire = wire
        self.address = wire.address
        self.limits = limits
        self.handlers = handlers
        self.state = State.AWAITING_TOKEN
        self.announced = ""
        self.closing: Closing | None = None
        self.gate = OPEN_GATE
        self.user = ""
        self.device: str | None = None
        self.platform = "other"
        self.since: str | None = None
        self.connected_at = 0
        self.order = ""
        self.issued_at = 0
        self.expires_at: int | None = None
        self.jti = ""
        self.muted = False
        self.echoes = False
        self.epoch = ""
        self.forwarded: StreamId = START
        self.seen: StreamId = START
        self.early: list[tuple[StreamId, bytes]] | None = None
        self.heard: StreamId | None = None
        self.catching_up = False
        self.watching: set[str] | None = None
        self.timer: Any = None
        self.bucket = TokenBucket(limits.send_rate_per_s, limits.send_burst, now)
        self.bad_commands = 0
        self.refused_in_row = 0
        self.pending = 0
        self.on_drained: Callable[[Session], None] | None = None
        self.on_settled: Callable[[], None] | None = None
        self.paused = False
        self.held: list[bytes] | None = None
        self.outgoing: list[bytes] = []
        self.outgoing_bytes = 0
        self.withheld: list[bytes] | None = None

    # The five verbs.

    def receive_text(self, payload: bytes, now: float) -> None:
        """Takes one text message from the client: decides, and hands it to its handler or answers an error."""
        state = self.state
        if state is not _LIVE or self.gate.shut:
            if state is _ENDED:
                return
            if self.gate.shut or state is _FENCED:
                if not self.gate.away:
                    self._hold(payload)
                    return
                self._refuse_away(payload, now)
                return
        try:
            command = commands.decode(payload)
        except msgspec.MsgspecError as error:
            self._bad_command(commands.identify(payload), str(error))
            return
        except RecursionError:
            self._bad_command(None, "nested too deeply")
            return
        kind = type(command)
        rule = RULES[kind]
        if state not in rule.states:
            name = kind.__struct_config__.tag
            expected = "already authenticated" if kind is commands.Auth else "not before the welcome: send auth first"
            self._bad_command(getattr(command, "id", None), f"{name}: {expected}")
            return
        self.bad_commands = 0
        wait = self.bucket.take(rule.price(command) if rule.each else rule.cost, now)
        if wait > 0.0:
            self._refuse_rate(getattr(command, "id", None), wait)
            return
        self.refused_in_row = 0
        try:
            self.handlers[kind](self, command, now)
        except Refusal as refusal:
            self.refuse(getattr(command, "id", None), refusal)
        if self.pending > PENDING_MAX and not self.paused:
            self.paused = True
            self.wire.pause()

    def receive_eof(self) -> None:
        """The socket is gone; nothing is sent any more."""
        self._end()

    def data_to_send(self) -> list[bytes]:
        """The text messages to write now, in order; while the store is away only ``error`` replies."""
        state = self.state
        if (self.gate.shut or state is _FENCED) and not self.gate.away and state is not _ENDED:
            return []
        outgoing, self.outgoing = self.outgoing, []
        self.outgoing_bytes = sum(map(len, self.withheld)) if self.withheld else 0
        return outgoing

    def close_expected(self) -> bool:
        """Whether the session has ended and the socket is to follow."""
        return self.state is State.ENDED

    # What services do with a session.

    def move(self, event: Event) -> None:
        """Changes the state. Raises KeyError for an event that cannot happen in it: a bug, never input."""
        self.state = TRANSITIONS[self.state, event]

    def send(self, payload: bytes) -> None:
        """Queues one text message; over ``outbound_bytes_max`` the client is a slow consumer."""
        self._queue(payload, self.outgoing if self.withheld is None else self.withheld)

    def send_replay(self, payload: bytes) -> None:
        """Queues an inbox entry; a batch may exceed ``outbound_bytes_max``, the next one waits until drained."""
        if self.state is State.ENDED:
            return
        if not self.outgoing:
            self.wire.wake()
        self.outgoing.append(payload)

    def when_drained(self, action: Callable[[Session], None]) -> None:
        """Calls ``action`` once the client's socket has taken what was queued."""
        self.on_drained = action
        self.wire.wake()

    def drained(self) -> None:
        """The shell's word that nothing waits to be written."""
        action, self.on_drained = self.on_drained, None
        if action is not None and self.state is State.LIVE:
            action(self)

    def reply(self, message: Struct) -> None:
        """Queues a reply or a push given as its struct."""
        self.send(replies.encode(message))

    def refuse(self, command_id: str | None, refusal: Refusal) -> None:
        """Answers a command with ``error``; alone of all messages it passes while the session is fenced."""
        error = replies.Error(
            code=int(refusal.code),
            reason=refusal.reason,
            id=command_id,
            retry_after_ms=refusal.retry_after_ms,
            extra=refusal.extra,
        )
        self._queue(replies.encode(error), self.outgoing)

    def deliver(self, place: StreamId, payload: bytes) -> bool:
        """Forwards a live push from the inbox, each once and in order.

        Returns:
            Whether it was queued now. While catching up it is not, because the replay brings it.
        """
        if self.catching_up or self.state is not _LIVE:
            if place > self.seen:
                self.seen = place
            return False
        if place <= self.forwarded:
            return False
        self.forwarded = place
        self._queue(payload, self.outgoing if self.withheld is None else self.withheld)
        return True

    def pass_over(self, place: StreamId) -> None:
        """An inbox entry that came from the client itself, which has it already."""
        if not self.catching_up and place > self.forwarded:
            self.forwarded = place

    def caught_up(self, through: StreamId) -> bool:
        """Ends the catching up when the replay has reached all that was seen live; else another batch is needed."""
        if through > self.forwarded:
            self.forwarded = through
        if self.forwarded < self.seen:
            return False
        self.catching_up = False
        return True

    def settle(self, calls: int = 1) -> None:
        """Outstanding store calls have been answered or have failed."""
        self.pending -= calls
        if self.paused and self.held is None and self.pending < PENDING_MAX // 2:
            self.paused = False
            self.wire.resume()
        if self.pending == 0 and self.on_settled is not None:
            on_settled, self.on_settled = self.on_settled, None
            on_settled()

    def fence(self) -> None:
        """The link to the session's partition broke: what is queued waits until the session is reclaimed.

        All but ``error`` replies, which a gap's barrier may have held back until now: they pass while fenced.
        """
        self.move(Event.LINK_BROKEN)
        self.catching_up = True
        errors = [payload for payload in self.outgoing if payload.startswith(_ERROR)]
        if self.withheld is None:
            self.withheld = []
        self.withheld += [payload for payload in self.outgoing if not payload.startswith(_ERROR)]
        self.outgoing = errors
        if errors:
            self.wire.wake()

    def unfence(self, now: float) -> None:
        """The session was reclaimed: it goes on where it was."""
        self.move(Event.RECLAIMED)
        withheld, self.withheld = self.withheld, None
        self.outgoing = (withheld or []) + self.outgoing
        self.release(now)

    def release(self, now: float) -> None:
        """The gate opened, or the session was reclaimed, or the store went away: what was held is taken, in order."""
        held, self.held = self.held, None
        for index, payload in enumerate(held or ()):
            if (self.gate.shut or self.state is State.FENCED) and not self.gate.away:
                # Shut again meanwhile: keep the rest, in order.
                assert held is not None
                self.held = held[index:]
                return
            self.receive_text(payload, now)
        if self.paused and self.pending < PENDING_MAX and self.state is not State.ENDED:
            self.paused = False
            self.wire.resume()
        if self.outgoing:
            self.wire.wake()

    def cut(self, closing: Closing) -> None:
        """Ends the session now: nothing more is read, and after a revocation nothing queued is sent."""
        if self.state is State.ENDED:
            return
        if closing.revocation or self.withheld is not None or self.gate.shut:
            # Behind a shut gate a drop may be waiting that nobody has heard yet.
            self.outgoing = []
            self.outgoing_bytes = 0
        self.withheld = None
        self.closing = closing
        self._end()
        self.wire.close(closing)

    def refused(self, refusal: Refusal) -> None:
        """Ends a session that was not let in."""
        self._end()
        self.wire.refused(refusal)

    def _end(self) -> None:
        if self.state is not State.ENDED:
            self.move(Event.CUT)
        self.held = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _queue(self, payload: bytes, queue: list[bytes]) -> None:
        if self.state is _ENDED:
            return
        if not self.outgoing:
            self.wire.wake()
        queue.append(payload)
        self.outgoing_bytes += len(payload)
        if self.outgoing_bytes > self.limits.outbound_bytes_max:
            self.cut(Closing.of(codes.SLOW_CONSUMER, "too much waits to be sent"))

    def _hold(self, payload: bytes) -> None:
        if self.held is None:
            self.held = []
            if not self.paused:
                self.paused = True
                self.wire.pause()
        self.held.append(payload)

    def _refuse_away(self, payload: bytes, now: float) -> None:
        if self.bucket.take(1.0, now) > 0.0:
            # No answer would be a silent loss, an answer each an amplifier: a flood while the store is away ends.
            self._refuse_rate(commands.identify(payload), 1.0)
            return
        refusal = Refusal(Code.STORE_UNAVAILABLE, "the store is away, nothing was written: try again")
        self.refuse(commands.identify(payload), refusal)

    def _bad_command(self, command_id: str | None, reason: str) -> None:
        self.bad_commands += 1
        METRICS.commands_bad += 1
        self.refuse(command_id, Refusal(Code.MALFORMED, reason[:500]))
        if self.bad_commands >= self.limits.bad_commands_max:
            self.cut(Closing.of(codes.TOO_MANY_BAD_COMMANDS, f"{self.bad_commands} bad commands in a row"))

    def _refuse_rate(self, command_id: str | None, wait_s: float) -> None:
        self.refused_in_row += 1
        METRICS.rate_refusals += 1
        # Rounded up: who comes when told is not refused again.
        wait_ms = math.ceil(wait_s * 1000)
        self.refuse(command_id, Refusal(Code.SENDING_TOO_FAST, "sending too fast", retry_after_ms=wait_ms))
        if self.refused_in_row >= FLOOD_REFUSALS_MAX:
            self.cut(Closing.of(codes.RATE_LIMITED, "kept sending over the rate", retry_after_ms=wait_ms))


_ERROR = b'{"type":"error"'
"""How every encoded ``error`` reply begins, and nothing else."""


OPEN_GATE = Gate()
"""The gate of a session whose user, and so whose partition, is not known yet."""
