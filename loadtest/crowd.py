"""One process's simulated users: who is connected, what they say, and what they hear.

On the way of a message there is no task, no timer, no parser of JSON: a frame is a template with three numbers, and
what comes in is read by its place.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from gateway.config import Credentials
from gateway.protocol.codes import Code
from loadtest import ledger, stamp, users
from loadtest.dialect import POLICY, Dialect, cursor
from loadtest.histogram import AFTER, UNDER_LOAD, Histogram
from loadtest.ledger import Heard, Ledger, Page, Said
from loadtest.plan import Plan
from loadtest.wire import Wire, frame

LOGIN_S = 30.0
FAILURES_MAX = 20
IP_BIND_ADDRESS_NO_PORT = 24
"""Of Linux: the port is chosen when the destination is known, so that every source address has all ports."""


class Choice(Struct, eq=False):
    """A stream as its sender sees it."""

    stream: tuple[bytes, bytes]
    template: bytes
    said: Said
    refused: bool
    ephemeral: bool


class User(Struct, eq=False):
    """A simulated user of this process.

    Attributes:
        index: its number in the whole run.
        since: for each device, the place in the inbox up to which everything came.
        wires: for each device, its socket.
        wanted: whether it is to be online: nobody who went on purpose is missed.
    """

    index: int
    name: str
    token: str
    since: list[str]
    wires: list[Wire | None]
    choices: Iterator[Choice] | None = None
    wanted: bool = False

    @property
    def online(self) -> bool:
        """Whether its first device, which speaks for it, is welcomed."""
        wire = self.wires[0]
        return wire is not None and wire.welcomed


class Ended(Histogram):
    """Latencies once the measured time is over: what was to be sent in it still counts, the rest goes ``after`` it.

    A service that stood still at the end of that time is found out by the messages that come when it goes on.
    """

    __slots__ = ("_after", "_crowd", "_until")

    def __init__(self, measured: Histogram, after: Histogram, crowd: Crowd, until: int) -> None:
        super().__init__(measured.counts)
        self._after, self._crowd, self._until = after, crowd, until

    def add(self, us: int) -> None:
        if self._crowd.now - us <= self._until:
            super().add(us)
        else:
            self._after.add(us)


class Crowd:
    """All users of one generator process.

    Attributes:
        now: µs of CLOCK_MONOTONIC at the last read.
        window: messages of one user under way in the closed loop; 0 = nobody speaks by himself.
        counts: what happened, since the beginning.
        histograms: latencies since they were last taken, by name.
        failures: what must not happen in any run, in words; the first few.
    """

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        self.plan, self.scenario, self.dialect = plan, plan.scenario, dialect
        self.users = {number: self._user(number) for number in plan.indexes}
        self.ledger = Ledger()
        self.now = time.monotonic_ns() // 1000
        self.window = 0
        self.counts: dict[str, int] = {}
        self.failures: list[str] = []
        self.histograms: dict[str, Histogram] = {name: Histogram() for name in UNDER_LOAD}
        self.said = self.acknowledged = self.heard = self.connections = 0
        self._popularity = None
        if self.scenario.spread == "zipf":
            self._popularity = users.Popularity(self.scenario.users, self.scenario.zipf_s)
        self._addresses = itertools.cycle(plan.sources)
        self._credentials = Credentials(plan.app_key, plan.app_secret)

    def _user(self, number: int) -> User:
        devices = self.scenario.devices
        return User(number, users.name(self.plan.run, number), "", [""] * devices, [None] * devices)

    # What acts hook into.

    def arrived(self, user: User) -> None:
        """All of a user's devices are welcomed."""

    def ended(self, user: User, code: int | None, reason: bytes) -> None:
        """A user's socket is gone: the close code, minus the status of a refused handshake, or None."""
        if user.wanted and (code is None or code > 0):
            self.failed(
                f"{user.name} was cut off: {code or 'no close frame'} {reason.decode(errors='replace')}".rstrip()
            )

    def said_else(self, user: User, payload: bytes) -> None:
        """The server said something that is no message, answer to a message or welcome."""

    async def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """An order that the generator does not know.

        Raises:
            ValueError: nor does this crowd.
        """
        raise ValueError(f"no such order: {order['do']}")

    # Figures.

    def count(self, name: str, by: int = 1) -> None:
        """Counts something."""
        self.counts[name] = self.counts.get(name, 0) + by

    def timed(self, name: str, us: int) -> None:
        """Counts a latency."""
        histogram = self.histograms.get(name)
        if histogram is None:
            histogram = self.histograms[name] = Histogram()
        histogram.add(us)

    def measured(self) -> None:
        """The measured time is over."""
        until = time.monotonic_ns() // 1000
        for name in UNDER_LOAD:
            after = self.histograms[name + AFTER] = Histogram()
            self.histograms[name] = Ended(self.histograms[name], after, self, until)

    def failed(self, text: str) -> None:
        """Notes what must not happen."""
        self.count("failures")
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(text)

    # Coming and going.

    async def open(self, user: User, at_us: int | None = None) -> bool:
        """Connects all devices of a user.

        Args:
            at_us: when it was to begin; now, without.

        Returns:
            Whether all of them were welcomed.
        """
        user.wanted = True
        at_us = at_us or time.monotonic_ns() // 1000
        if not user.token or self.scenario.tokens == "signed":
            user.token = self.plan.tokens.get(user.name) or users.signed(self._credentials, user.name)
        came = [await self._open(user, device, at_us) for device in range(self.scenario.devices)]
        if all(came):
            self.arrived(user)
            return True
        return False

    async def _open(self, user: User, device: int, at_us: int) -> bool:
        if user.wires[device] is not None:
            return True
        wire = Wire(self, self.dialect, user, device)
        wire.name = ledger.device(user.name.encode(), device)
        user.wires[device] = wire
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOGIN_S):
                await loop.create_connection(lambda: wire, sock=await self._socket(loop, user.index))
                welcomed = await wire.opened
        except (OSError, TimeoutError) as error:
            if wire.transport is not None:
                wire.fail(None, b"no welcome came in time")
            else:
                user.wires[device] = None
                self.count("unreachable")
                self.ended(user, None, str(error).encode())
            return False
        if welcomed:
            self.timed("login", time.monotonic_ns() // 1000 - at_us)
            self.count("logins")
        return welcomed

    async def _socket(self, loop: asyncio.AbstractEventLoop, index: int) -> socket.socket:
        family, address = self.plan.address(index)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            source = next(self._addresses)
            if source:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((source, 0))
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def close(self, user: User) -> None:
        """Takes a user offline, all devices; returns when the sockets are gone."""
        user.wanted = False
        for wire in user.wires:
            if wire is not None:
                wire.close()
        deadline = time.monotonic() + LOGIN_S
        while any(user.wires) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    async def block_all(self) -> dict[str, Any]:
        """Puts on the blocklists whom policy must refuse."""
        wanting = []
        for user in self.users.values():
            wire = user.wires[0]
            if wire is None or not wire.welcomed:
                continue
            whole = self.dialect.block(
                wire, [users.name(self.plan.run, users.blocked(user.index, self.scenario.users))]
            )
            if whole is not None:
                wire.listed = False
                wanting.append(wire)
                wire.frame(whole)
        deadline = time.monotonic() + LOGIN_S
        while not all(wire.listed for wire in wanting) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        return {"listed": sum(wire.listed for wire in wanting), "of": len(wanting)}

    # What wires and dialects tell.

    def welcomed(self, wire: Wire) -> None:
        """The session is live."""
        if wire.welcomed:
            return
        wire.welcomed = True
        wire.came_us = self.now
        self.ledger.returned(wire.name, self.now)
        self.connections += 1
        if not wire.opened.done():
            wire.opened.set_result(True)
        if wire.device == 0:
            self.begin(wire.user)

    def closing(self, wire: Wire) -> None:
        """The server said goodbye; nothing more is answered."""
        if wire.welcomed:
            wire.welcomed = False
            self.connections -= 1

    def gone(self, wire: Wire) -> None:
        """The socket has ended."""
        self.closing(wire)
        user = wire.user
        user.wires[wire.device] = None
        place = cursor(wire.cursor)
        if place:
            user.since[wire.device] = place.decode()
        self.ledger.interrupted(wire.name, time.monotonic_ns() // 1000)
        self._unknown(wire)
        self.count("unanswered", len(wire.waiting))
        wire.waiting.clear()
        if wire.close_code is not None and wire.close_code < 0:
            self.count(f"login_refused_{-wire.close_code}")
        elif user.wanted:
            self.count("cut")
        self.ended(user, wire.close_code, wire.close_reason)

    def sent(self, wire: Wire, number: int, *, online: bool = True) -> None:
        """The service has taken a message over."""
        entry = wire.waiting.pop(number, None)
        if entry is None:
            self.failed(f"{wire.user.name} was told of message {number}, which waits for nothing")
            return
        choice, n, at = entry
        self.acknowledged += 1
        self.histograms["sent"].add(self.now - at)
        if choice.refused:
            self.ledger.accepted_wrongly(choice.stream, n)
            self.ledger.excuse(choice.stream, n)
        elif choice.ephemeral and online:
            choice.said.mark(n, at)
        elif choice.ephemeral:
            self.ledger.excuse(choice.stream, n)
        if self.window:
            self.say(wire, self.now)

    def refused(self, wire: Wire, number: int, code: int, reason: str) -> None:
        """The service has not taken a message over."""
        entry = wire.waiting.pop(number, None)
        if entry is None:
            self.failed(f"{wire.user.name} was refused message {number}, which waits for nothing: {code} {reason}")
            return
        choice, n, at = entry
        if choice.refused and code in POLICY:
            self.count("refused")
            self.histograms["sent"].add(self.now - at)
            self.ledger.excuse(choice.stream, n)
        elif code in POLICY:
            self.ledger.refused_wrongly(choice.stream, n, f"{code} {reason}")
        else:
            self.count("errors")
            self.count(f"error_{code}")
            if code == Code.OUTCOME_UNKNOWN:
                self.ledger.excuse(choice.stream, n)
            else:
                self.ledger.deny(choice.stream, n)
        if self.window:
            self.say(wire, self.now)

    def delivered(self, wire: Wire, stream: bytes, n: int, at: int) -> None:
        """A message has arrived."""
        heard = wire.heard.get(stream)
        if heard is None:
            heard = self._first(wire, stream, n)
            if heard is None:
                return
        if n == heard.last + 1:
            heard.last = n
        elif wire.repeated is not None and at < wire.came_us and n <= heard.last and n not in heard.missing:
            # In their order, so one number tells which of a stream have been repeated.
            if n > wire.repeated.get(stream, 0):
                wire.repeated[stream] = n
                self.count("repeated")
            else:
                self.ledger.out_of_line((stream, wire.name), heard, n)
            return
        elif not self.ledger.out_of_line((stream, wire.name), heard, n):
            return
        self.heard += 1
        if at < wire.came_us:
            self.timed("replay", self.now - at)
        else:
            self.histograms["delivery"].add(self.now - at)
        if self.scenario.ack_every:
            self._ack(wire)

    def misnamed(self, wire: Wire, stream: bytes, n: int) -> None:
        """A message that has arrived is said to be somebody else's than it is."""
        self.ledger.misnamed((stream, wire.name), n)

    def _ack(self, wire: Wire) -> None:
        wire.unacked += 1
        if wire.unacked >= self.scenario.ack_every:
            ack = self.dialect.ack(wire)
            if ack is not None:
                wire.unacked = 0
                self.count("acks")
                wire.frame(ack)

    def _first(self, wire: Wire, stream: bytes, n: int) -> Heard | None:
        """A stream that this socket has not heard of; None where this message must not be here, or is an echo."""
        sender, _, to = stream.removeprefix(ledger.EPHEMERAL).partition(b":")
        own = wire.user.name.encode()
        # What the first device has said, for it is the one that speaks; to itself it is nothing new.
        if sender == own and to != own and wire.device:
            self.count("echoes")
            return None
        if to != own:
            self.ledger.astray(own, sender, n)
            return None
        if self.scenario.refused_share and users.index(sender.decode()) == users.blocked(
            wire.user.index, self.scenario.users
        ):
            self.ledger.arrived_wrongly((stream, own), n)
            return None
        heard = wire.heard[stream] = self.ledger.of((stream, wire.name))
        return heard

    def pushed(self, wire: Wire, payload: bytes) -> None:
        """Something else was said."""
        if b'"id":"lists"' in payload and payload.startswith(b'{"type":"ok"'):
            wire.listed = True
        else:
            self.said_else(wire.user, payload)

    # Speaking.

    def begin(self, user: User) -> None:
        """The closed loop of one user, where it is not in its course."""
        wire = user.wires[0]
        if wire is not None and wire.welcomed:
            now = self.now = time.monotonic_ns() // 1000
            for _ in range(self.window - len(wire.waiting)):
                self.say(wire, now)

    def prepare(self) -> None:
        """Chooses whom everybody writes to, which takes a ms each: in the run it would be the service's delay."""
        if self.scenario.rate or self.scenario.window:
            for user in self.users.values():
                user.choices = itertools.cycle(self._choices(user))

    def say(self, wire: Wire, at: int) -> None:
        """Sends the user's next message, which was to go out at that µs."""
        choices = wire.user.choices
        if choices is None:
            choices = wire.user.choices = itertools.cycle(self._choices(wire.user))
        choice = next(choices)
        n = choice.said.last = choice.said.last + 1
        number = wire.last_id = wire.last_id + 1 if wire.last_id < stamp.LAST_ID else stamp.FIRST_ID
        wire.waiting[number] = (choice, n, at)
        self.said += 1
        wire.frame(choice.template % (number, n, at))

    def _choices(self, user: User) -> Sequence[Choice]:
        made: dict[tuple[int, bool, bool], Choice] = {}
        sender = user.name.encode()
        cycle = users.recipients(self.scenario, user.index, self._popularity)
        for key in cycle:
            if key not in made:
                to, refused, ephemeral = key
                name = users.name(self.plan.run, to)
                stream = stamp.stream(sender, name.encode(), ephemeral=ephemeral)
                body, number = stamp.sample(stream, self.scenario.body_bytes)
                payload = self.dialect.message(name, body, number, ephemeral=ephemeral)
                pair = (stream, name.encode())
                made[key] = Choice(pair, stamp.template(frame(payload)), self.ledger.begun(pair), refused, ephemeral)
        return [made[key] for key in cycle]

    def page(self) -> Page:
        """The ledger, to be judged: what has no answer now is unknown, and need not arrive."""
        for user in self.users.values():
            for wire in user.wires:
                if wire is not None:
                    self._unknown(wire)
        return self.ledger.page()

    def _unknown(self, wire: Wire) -> None:
        """Nobody knows whether what waits was stored; the recipient may have it or not."""
        for choice, n, _ in wire.waiting.values():
            self.ledger.excuse(choice.stream, n)

    def waiting(self) -> int:
        """Messages without an answer yet."""
        return (
            self.said
            - self.acknowledged
            - self.counts.get("refused", 0)
            - self.ledger.verdict.wrongly_refused
            - (self.counts.get("errors", 0) + self.counts.get("unanswered", 0))
        )
