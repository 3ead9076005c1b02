"""The composition root: builds one node's parts, starts them, drains them, stops them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from gateway import __version__
from gateway.api import app
from gateway.api.server import AdminServer
from gateway.config import Config, Credentials
from gateway.core.hub import Hub
from gateway.core.session import Gate, Handler
from gateway.core.timers import TimerWheel
from gateway.metrics import METRICS, Measures, exposition
from gateway.protocol import codes, commands, replies
from gateway.services.acks import Acks
from gateway.services.admission import Admission
from gateway.services.announcing import Announcing
from gateway.services.clock import Clock
from gateway.services.context import NodeContext
from gateway.services.control import ControlReceiver
from gateway.services.drops import DropReceiver
from gateway.services.inbox import Inbox
from gateway.services.jwks import Jwks
from gateway.services.leases import Leases, new_incarnation
from gateway.services.lists import Lists
from gateway.services.presence import Watching
from gateway.services.relay import Relay
from gateway.services.resync import Resync
from gateway.services.services import Services
from gateway.services.throughput import Throughput
from gateway.services.tokens import verifier_of
from gateway.services.webhooks import Webhooks
from gateway.services.words import WordsReceiver
from gateway.store import nodes
from gateway.store.bus import Bus
from gateway.store.errors import StoreError
from gateway.store.pipeline import LinkTimes
from gateway.store.replicated import Replication
from gateway.store.store import Store
from gateway.transport.demo import Demo
from gateway.transport.listener import Listener

log = structlog.get_logger(__name__)

START_WAIT_S = 5.0
"""How long a start waits for the bus and the lease before it opens the port all the same (and answers 503 there)."""

SWEEP_S = 30.0
"""How often half-done changes are finished, ended bans leave the directory, and the hub is compared with Redis."""

STOP_WAIT_S = 1.0
"""How long a stop waits for the last disconnects to reach Redis."""

END_WAIT_S = 2.0
"""How long a stop waits for what runs in the background to end."""

GAUGES = {
    "connections": "open TCP connections on the client port",
    "sessions": "sessions in the hub",
    "watched_users": "users watched from this node",
    "broadcasts": "broadcasts that still reach somebody",
    "broadcast_users_due": "users of this node who have yet to take a broadcast",
    "pending_calls": "store calls outstanding for sessions",
    "webhook_backlog": "events waiting in the deployment's queue, as this node last saw it",
    "ready": "1 when /readyz says yes",
}
"""What is measured at the moment of a scrape: name → help text."""


class Node:
    """One worker: a hub of sessions between the client port and Redis.

    Args:
        config: validated settings.
        credentials: the app's key and secret.
        store: opened; closed by ``stop``.
        clock: time.
        of_all: what ``GET /metrics`` answers where this node is one of several workers; None = of this node alone.
    """

    def __init__(
        self,
        config: Config,
        credentials: Credentials,
        store: Store,
        clock: Clock | None = None,
        of_all: Callable[[Measures], Awaitable[bytes]] | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or Clock()
        self.store = store
        self.node_id = node_id_of(config)
        self._of_all = of_all
        self._loop = asyncio.get_running_loop()
        self._started_at = self.clock.now()
        self._tick_timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._drain_task: asyncio.Task[None] | None = None
        times = LinkTimes(
            config.store_timeout_ms / 1000,
            config.probe_s,
            config.probe_timeout_s,
            config.reconnect_min_ms / 1000,
            config.reconnect_max_ms / 1000,
        )
        self.bus = store.bus = Bus(store.topology, times, config.store_pending_max, Replication.of(config))
        self.bus.incarnation = new_incarnation(self.node_id)
        self.hub = Hub()
        self.wheel = TimerWheel(self.clock.now())
        self.throughput = Throughput(self.clock.now())
        self.services = Services.over(store, config, credentials)
        self.context = NodeContext(
            config,
            self.clock,
            store,
            store.keys,
            self.bus,
            self.hub,
            self.wheel,
            self.services.settings,
            self.services.outbox,
        )
        self.webhooks = Webhooks(self.context, credentials, self.node_id)
        self.verifier = verifier_of(config, credentials)
        inbox, self.acks = Inbox(self.context), Acks(self.context)
        self.watching = Watching(self.context)
        self.relay = Relay(self.context, self.services.words, self.webhooks.checks)
        self.words = WordsReceiver(self.context, self.services.words)
        self.announcing = Announcing(self.context)
        self.admission = Admission(
            self.context, self.verifier, inbox, self.watching, self.announcing, self.services.accounts
        )
        self.admission.on_left += [inbox.left, self.acks.left]
        if self.webhooks.checks is not None:
            self.admission.on_left.append(self.webhooks.checks.leave)
        self.resync = Resync(self.context, self.admission, inbox, self.watching, self.announcing)
        self.drops = DropReceiver(self.context, self.admission.leave)
        self.leases = Leases(self.context, self.node_id, self._renewed)
        acts = (self.services.control, self.services.bans, self.services.tokens)
        rereads = self.words.reread, self.announcing.reread
        self.control = ControlReceiver(self.context, acts, self.state, self.drain, self.resume, *rereads)
        self.listener = Listener(
            config,
            self.clock,
            self.wheel,
            self.admission,
            self._handlers(),
            self.services.settings,
            self._gap,
            self.unready,
            Demo(self.services, self.context.spawn) if config.environment == "development" else None,
        )
        application = app.build(
            config,
            credentials,
            self.services,
            self.unready,
            clock=self.clock,
            metrics=self._exposition,
        )
        self.admin = AdminServer(application, config)
        self._received: dict[int, Callable[[bytes], None]] = {
            ord("m"): self.relay.received,
            ord("M"): self.relay.received_many,
            ord("o"): self.relay.received_echo,
            ord("a"): self.announcing.received,
            ord("d"): self.drops.received,
            ord("e"): self.admission.other_session,
            ord("r"): self.resync.received,
            ord("s"): self.admission.muted,
            ord("p"): self.watching.received,
            ord("b"): self.watching.received_block,
            ord("u"): self.watching.received_block,
        }
        self._jwks: Jwks | None = None
        if config.jwt_jwks_url is not None:
            algorithms = frozenset(config.jwt_algorithms)
            self._jwks = Jwks(self.verifier, config.jwt_jwks_url, algorithms, config.jwks_refresh_s)

    def _handlers(self) -> dict[type, Handler]:
        lists = Lists(self.context)
        return {
            commands.Auth: self.admission.auth,
            commands.Send: self.relay.send,
            commands.Ack: self.acks.take,
            commands.Refresh: self.admission.refresh,
            commands.Watch: self.watching.watch,
            commands.Unwatch: self.watching.unwatch,
            commands.BlocklistAdd: lists.edit,
            commands.BlocklistRemove: lists.edit,
            commands.BlocklistCheck: lists.check,
            commands.BlocklistList: lists.listing,
            commands.AllowlistEnable: lists.allowlist_enable,
            commands.AllowlistDisable: lists.allowlist_disable,
            commands.AllowlistStatus: lists.allowlist_status,
            commands.AllowlistAdd: lists.edit,
            commands.AllowlistRemove: lists.edit,
            commands.AllowlistList: lists.listing,
            commands.FriendsList: lists.friends,
            commands.FriendsCheck: lists.check,
            commands.UserGet: lists.users,
            commands.SessionsList: lists.sessions,
            commands.SessionsDrop: lists.drop,
            commands.Ping: lambda session, command, now: session.reply(replies.Pong(self.clock.wall_ms(), command.id)),
        }

    # Life.

    async def start(self) -> None:
        """Connects to Redis, takes a lease, opens the ports.

        Raises:
            OSError: A port is in use or not allowed.
            StoreError: The store went away while starting.
        """
        bus = self.bus
        bus.on_push = self._push
        bus.on_control = self.control.received
        bus.on_linked = self._linked
        bus.on_up = self.resync.link_up
        bus.on_down = self.resync.link_down
        bus.on_open = self._gate_opened
        bus.on_data = self._heard
        await self.services.settings.get()
        await self.services.words.refresh()
        await self.announcing.learn()
        bus.withhold()
        bus.start()
        self.leases.start()
        self._tick()
        deadline = self._loop.time() + START_WAIT_S
        while not bus.ready and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        self.wheel.arm(self.clock.now() + SWEEP_S, self._sweep)
        self.wheel.arm(self.clock.now() + 1.0, self._sample)
        if self._jwks is not None:
            self.context.spawn(self._jwks.run())
        self.webhooks.start()
        if self.config.role != "admin":
            await self.listener.start()
        if self.config.role != "edge":
            await self.admin.start()

    def reload_certificates(self) -> None:
        """Reads the certificate and its key again, for connections from now on; those that are open keep theirs.

        Raises:
            OSError, ssl.SSLError: they cannot be used; those in use stay.
        """
        self.listener.reload_certificate()
        self.admin.reload_certificate()

    def close(self) -> None:
        """Takes no new sockets, and says that it is not ready; ``stop`` or ``abandon`` is to follow."""
        self._stopping = True
        self.listener.stop_accepting()

    async def stop(self, drain_s: float | None = None) -> None:
        """Drains and ends everything; nothing of this node is left in Redis. Called once.

        Args:
            drain_s: how long sending the clients away may take; None = the setting.
        """
        self.close()
        await self.listener.drain(self.config.drain_s if drain_s is None else drain_s, codes.SERVICE_RESTART)
        await self.abandon()

    async def abandon(self) -> None:
        """Ends everything without sending anybody away first."""
        self._stopping = True
        if self._drain_task is not None:
            self._drain_task.cancel()
        self.leases.stop()
        self.listener.stop_accepting()
        deadline = self._loop.time() + self.config.close_linger_ms / 1000 + 0.2
        while self.listener.connections and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        self.listener.abort_all()
        await self.webhooks.stop()
        await self._flush()
        if self.config.role != "edge":
            await self.admin.stop()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        await self.context.background.end(END_WAIT_S)
        await self.webhooks.close()
        await self.bus.close()
        await self.store.close()

    async def _flush(self) -> None:
        """The last disconnects, and then the lease, leave Redis; what cannot is found by another node's reaper."""
        if not self.bus.links:
            # The start failed before there was a link: nothing has been written.
            return
        done = self._loop.create_future()

        def buried(_: object, reply: object) -> None:
            if not done.done():
                done.set_result(None)

        # The hub is emptied by the sockets' ends, which the aborts above have only begun.
        while self.hub.sessions and any(each.transport is not None for each in self.listener.connections):
            await asyncio.sleep(0)
        for session in self.hub:
            self.admission.leave(session)
        deadline = self._loop.time() + STOP_WAIT_S
        while self.admission.leaving and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        whole = not self.admission.leaving and not self.admission.unheard
        # Where a session may be left behind the lease is ended and not buried, so that somebody reaps it.
        last = nodes.bury if whole else nodes.end
        self.bus.call(last(self.store.keys, self.bus.incarnation), buried, urgent=True)
        try:
            async with asyncio.timeout(STOP_WAIT_S):
                await done
        except TimeoutError:
            log.warning("the store does not answer: this node's sessions are left to another node's reaper")

    # What other parts tell.

    def _tick(self) -> None:
        self._tick_timer = self._loop.call_later(self.wheel.tick, self._tick)
        now = self.listener.tick()
        self.bus.tick(self._loop.time())
        self.leases.check(now)
        self.wheel.advance(now)

    def _push(self, payload: bytes) -> None:
        handler = self._received.get(payload[0]) if payload else None
        if handler is not None:
            handler(payload)

    def _heard(self) -> None:
        self.listener.check_gap()

    def _gap(self, seconds: float) -> None:
        METRICS.gaps += 1
        self.leases.gap(seconds)

    def _linked(self) -> None:
        self.leases.renew()
        self._renewed()

    def _gate_opened(self, gate: Gate) -> None:
        now = self.clock.now()
        for session in self.hub:
            if session.gate is gate:
                session.release(now)

    def _renewed(self) -> None:
        self.control.reread_settings()
        self.words.reread()
        if self.services.outbox.waits:
            self.context.spawn(self.services.outbox.retry())
        self.announcing.reread()

    def _sample(self, _: object, now: float) -> None:
        self.throughput.sample(now)
        self.wheel.arm(now + 1.0, self._sample)

    def _sweep(self, _: object, now: float) -> None:
        self.wheel.arm(now + SWEEP_S, self._sweep)
        self.resync.sweep()
        self.context.spawn(self._sweep_once())

    async def _sweep_once(self) -> None:
        try:
            await self.services.friends.sweep(self.clock.wall_ms())
            await self.services.bans.forget_ended()
        except StoreError as error:
            log.info("a sweep is left for later", reason=str(error))

    # What admins see and ask.

    def unready(self) -> str | None:
        """Why this node cannot do its job now; None = it can."""
        if self._stopping:
            return "the node stops"
        return self.bus.fault

    def drain(self) -> None:
        """Sends clients away and takes no new ones, until ``resume``."""
        if self._drain_task is None or self._drain_task.done():
            self._drain_task = self._loop.create_task(self.listener.drain(self.config.drain_s), name="drain")

    def resume(self) -> None:
        """Takes clients again; who has not been sent away yet stays."""
        if self._drain_task is not None:
            self._drain_task.cancel()
            self._drain_task = None
        self.listener.resume()

    def state(self) -> dict[str, Any]:
        """What this node says of itself."""
        return {
            "connections": len(self.listener.connections),
            "sessions": len(self.hub),
            "draining": self.listener.draining,
            "uptime_s": round(self.clock.now() - self._started_at, 1),
            "version": __version__,
            **self.throughput.rates(self.clock.now()),
        }

    def metrics(self) -> bytes:
        """Everything that is counted, in Prometheus' text format."""
        return exposition(self.measures(), GAUGES)

    async def _exposition(self) -> bytes:
        return self.metrics() if self._of_all is None else await self._of_all(self.measures())

    def measures(self) -> Measures:
        """Everything that is counted, and the gauges at this moment."""
        return Measures.now(
            {
                "connections": len(self.listener.connections),
                "sessions": len(self.hub),
                "watched_users": self.watching.watched,
                "broadcasts": len(self.announcing.active),
                "broadcast_users_due": self.announcing.due,
                "pending_calls": sum(session.pending for session in self.hub),
                "webhook_backlog": self.webhooks.backlog,
                "ready": float(self.unready() is None),
            }
        )


def node_id_of(config: Config) -> str:
    """The name of a node with these settings; from the host's where they give none."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", config.node_id or socket.gethostname())[:64]
