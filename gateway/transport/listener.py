"""The client port: accepting, admission by address and by fullness, draining."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any

from websockets.http11 import Request

from gateway.config import Config
from gateway.core.close import Closing, Refusal
from gateway.core.limits import TokenBucket
from gateway.core.session import Handler, Session, SessionLimits
from gateway.core.states import State
from gateway.core.timers import TimerWheel
from gateway.metrics import METRICS
from gateway.protocol import codes, pushes
from gateway.protocol.codes import Code
from gateway.services.admission import Admission
from gateway.services.clock import Clock
from gateway.services.settings import Settings
from gateway.transport import demo, files, handshake
from gateway.transport.answers import Answer
from gateway.transport.connection import Connection
from gateway.transport.demo import Demo
from gateway.transport.handshake import Header
from gateway.transport.heartbeat import Heartbeat

ADDRESSES_MAX = 100_000
"""Addresses whose connect rate is remembered; beyond it, those that have been quiet are forgotten first."""

NODE_SLACK = 100
"""Connections beyond connections_max that are still accepted, to be refused by an answer."""

ADDRESS_SLACK = 20
"""The same for connections_per_address_max."""

ACCEPTS_A_TURN = 8
"""Connections that one turn of the event loop takes: what comes of them goes to the store in one write, which answers
in one turn of its own. uvloop takes one a listening descriptor, so the port has as many. With more of them messages
would wait longer in a storm of logins."""

DRAIN_BATCH_S = 0.1
"""How often a batch of sockets is closed while draining."""


class Listener:
    """The client port of one node.

    Args:
        config: limits.
        clock: time.
        wheel: timers.
        admission: lets sessions in and takes them out.
        handlers: what to do about each command.
        settings: the live settings.
        on_gap: told when the event loop stood still for longer than gap_ms, with the seconds.
        unready: why this node cannot do its job now, None = it can.
        demo: answers the demo's paths; None = there is none.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        wheel: TimerWheel,
        admission: Admission,
        handlers: Mapping[type, Handler],
        settings: Settings,
        on_gap: Callable[[float], None],
        unready: Callable[[], str | None],
        demo: Demo | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.wheel = wheel
        self.admission = admission
        self.handlers = handlers
        self.settings = settings
        self.on_gap = on_gap
        self.unready = unready
        self.demo = demo
        self.heartbeat = Heartbeat(self)
        self.sdk = files.sdk()
        self.connections: set[Connection] = set()
        self.draining = False
        self.ticked_at = clock.now()
        self.gap_ended_at = 0.0
        # The library logs every connection at INFO; at this level it also skips building the messages.
        self.logger = logging.getLogger("gateway.websockets")
        self.logger.setLevel(logging.ERROR)
        self._gap_s = config.gap_ms / 1000
        self._dirty: list[Connection] = []
        self._addresses: dict[str, TokenBucket] = {}
        self._per_address: dict[str, int] = {}
        self._limits: SessionLimits | None = None
        self._servers: list[asyncio.Server] = []
        self._tls: ssl.SSLContext | None = None
        self._loop = asyncio.get_running_loop()
        self._development = config.environment == "development"

    # Life.

    async def start(self) -> None:
        """Opens the port.

        Raises:
            OSError: The port is in use or not allowed.
            ssl.SSLError: The certificate and the key do not match or cannot be read.
        """
        self._tls = tls_context(self.config)
        self._servers = [
            await self._listen(
                host=self.config.client_host, port=self.config.client_port, reuse_port=self.config.workers > 1 or None
            )
        ]
        for opened in self._servers[0].sockets * (ACCEPTS_A_TURN - 1):
            self._servers.append(await self._listen(sock=socket.socket(fileno=os.dup(opened.fileno()))))

    async def _listen(self, **where: Any) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: Connection(self),
            ssl=self._tls,
            ssl_handshake_timeout=self.config.handshake_timeout_s if self._tls else None,
            backlog=4096,
            **where,
        )

    @property
    def port(self) -> int:
        """The port that is open, where 0 was asked for."""
        return int(self._servers[0].sockets[0].getsockname()[1])

    def reload_certificate(self) -> None:
        """Reads the certificate and its key again, for handshakes from now on; nothing without TLS.

        Raises:
            OSError, ssl.SSLError: they cannot be used; those in use stay.
        """
        reload_certificate(self._tls, self.config)

    def stop_accepting(self) -> None:
        """Closes the port; open sockets stay."""
        for server in self._servers:
            server.close()

    async def drain(self, seconds: float, close_code: codes.CloseCode = codes.GOING_AWAY) -> None:
        """Sends every client away: the push first, then closes paced over the time given."""
        self.draining = True
        waiting = [connection for connection in self.connections if connection.session is not None]
        spread = self.config.reconnect_spread_ms
        closings: list[tuple[Connection, int]] = []
        for connection in waiting:
            after = random.randint(0, spread) if spread else 0
            closings.append((connection, after))
            if connection.session is not None and connection.session.state is State.LIVE:
                connection.session.reply(pushes.GoingAway(after, "the node drains"))
        batch = max(1, int(len(closings) * DRAIN_BATCH_S / seconds) + 1) if seconds > 0 else len(closings) or 1
        for start in range(0, len(closings), batch):
            for connection, after in closings[start : start + batch]:
                session = connection.session
                if session is not None and self.draining:
                    session.cut(Closing.of(close_code, "the node drains", retry_after_ms=after))
                    self.admission.leave(session)
            if start + batch < len(closings):
                await asyncio.sleep(DRAIN_BATCH_S)

    def resume(self) -> None:
        """Takes clients again after a drain."""
        self.draining = False

    def abort_all(self) -> None:
        """Ends what is still open, at once."""
        for connection in tuple(self.connections):
            if connection.transport is not None:
                connection.transport.abort()

    # For connections.

    def check_gap(self) -> float:
        """The present; tells first when the event loop has stood still until now.

        A comparison a callback: whoever was frozen must not act on what it read before it has heard what happened
        meanwhile.
        """
        now = self.clock.now()
        if now - self.ticked_at > self._gap_s:
            gap, self.ticked_at, self.gap_ended_at = now - self.ticked_at, now, now
            self.on_gap(gap)
        return now

    def tick(self) -> float:
        """The event loop has come round."""
        now = self.check_gap()
        self.ticked_at = now
        return now

    def wake(self, connection: Connection) -> None:
        """Transmits the connection's bytes before this loop turn ends, together with all others'."""
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(connection)

    def _flush(self) -> None:
        self.check_gap()
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            if connection.dirty:
                # A try costs nothing until something is raised.
                try:
                    connection.transmit()
                except Exception:
                    connection.failed("writing")

    def opened(self, connection: Connection, now: float) -> bool:
        """A TCP connection is there; returns whether there is room even to refuse it by an answer.

        Who has a place is decided here: when the request is read others have come, who must not take it. One that has
        counts against its address's connect rate, whether or not it ever sends a request.
        """
        # Behind a load balancer, or a company's gate, thousands have the same: one string for all.
        address = connection.address = sys.intern(connection.address)
        config = self.config
        self.connections.add(connection)
        count = self._per_address[address] = self._per_address.get(address, 0) + 1
        if len(self.connections) > config.connections_max + NODE_SLACK:
            return False
        if 0 < config.connections_per_address_max < count - ADDRESS_SLACK:
            return False
        connection.crowded = self._crowded(address, count, now)
        return True

    def _crowded(self, address: str, of_address: int, now: float) -> Refusal | None:
        config = self.config
        if len(self.connections) > config.connections_max:
            return Refusal(Code.STORE_UNAVAILABLE, "this node is full", retry_after_ms=5000)
        if 0 < config.connections_per_address_max < of_address:
            return Refusal(Code.TOO_MANY_CONNECTS, "too many connections of this address", retry_after_ms=5000)
        wait_s = self._bucket(address, now).take(1.0, now)
        if wait_s > 0.0:
            return Refusal(
                Code.TOO_MANY_CONNECTS, "this address connects too fast", retry_after_ms=int(wait_s * 1000) + 1
            )
        return None

    def give_back(self, connection: Connection) -> None:
        """The connection asks for health, which may be asked for as often as one likes."""
        bucket = self._addresses.get(connection.address)
        if bucket is not None and connection.crowded is None:
            bucket.level = min(bucket.burst, bucket.level + 1.0)

    def closed(self, connection: Connection) -> None:
        """It is gone."""
        self.connections.discard(connection)
        left = self._per_address.get(connection.address, 0) - 1
        if left > 0:
            self._per_address[connection.address] = left
        else:
            self._per_address.pop(connection.address, None)

    def session(self, connection: Connection, now: float) -> Session:
        """A session for a connection, with the limits in force."""
        rate = float(self.settings.live.send_rate_per_second)
        limits = self._limits
        if limits is None or limits.send_rate_per_s != rate:
            burst = max(float(self.config.send_burst), rate)
            config = self.config
            limits = SessionLimits(rate, burst, config.bad_commands_max, config.outbound_bytes_max)
            self._limits = limits
        return Session(secrets.token_hex(12), connection, limits, self.handlers, now)

    def refusal(self, connection: Connection, header: Header, now: float) -> Refusal | None:
        """Why a handshake is refused whatever its token says."""
        config = self.config
        if not handshake.origin_allowed(header, config.origins, self._development):
            return Refusal(Code.FORBIDDEN, "the Origin is not on the allowlist")
        if self.draining:
            return Refusal(Code.STORE_UNAVAILABLE, "this node drains", retry_after_ms=1000)
        return connection.crowded

    def _bucket(self, address: str, now: float) -> TokenBucket:
        bucket = self._addresses.get(address)
        if bucket is None:
            if len(self._addresses) >= ADDRESSES_MAX:
                quiet = {known: each for known, each in self._addresses.items() if not each.full(now)}
                self._addresses = quiet if len(quiet) < ADDRESSES_MAX else {}
            rate = self.config.connect_rate_per_address_s
            bucket = TokenBucket(float(rate), float(self.config.connect_burst_per_address), now)
            self._addresses[address] = bucket
        return bucket

    def plain_http(self, connection: Connection, request: Request, now: float) -> None:
        """Answers what is not a socket."""
        path = request.path.partition("?")[0]
        if path in ("/healthz", "/readyz"):
            self.give_back(connection)
            answer: Answer | None = self._health(path, request.method)
        elif connection.crowded is not None:
            METRICS.connections_refused += 1
            answer = Answer.of(connection.crowded)
        elif (file := self.sdk.get(path)) is not None:
            answer = file.answer(request)
        elif self.demo is not None and (path == demo.PATH or path.startswith(demo.PATH + "/")):
            answer = self.demo.answer(request, connection.address, connection.answer)
        else:
            answer = Answer.fault(404, "sockets are at /v1/connect")
        if answer is not None:
            connection.answer(answer, head=request.method == "HEAD")

    def _health(self, path: str, method: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return Answer.fault(405, "only GET", Allow="GET")
        if path == "/readyz":
            fault = "the node drains" if self.draining else self.unready()
            if fault is not None:
                # Where Redis is and what it says is for the admin port: anybody may ask here.
                told = fault if fault in ("the node drains", "the node stops") else "the store is away"
                return Answer.fault(503, told, Retry_After="1")
        return Answer(200, b'{"code":0}')


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The server's TLS settings, None where no certificate is configured."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


def reload_certificate(context: ssl.SSLContext | None, config: Config) -> None:
    """Puts the certificate that is there now into a context in use.

    Raises:
        OSError, ssl.SSLError: it cannot be used; the context is as it was.
    """
    if context is None or config.tls_cert is None or config.tls_key is None:
        return
    # Tried on another one first: half a pair must not get into the one in use.
    tls_context(config)
    context.load_cert_chain(config.tls_cert, config.tls_key)
