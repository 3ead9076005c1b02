"""This node's lease, and taking over the sessions of nodes whose lease has ended.

Heartbeats cost O(nodes), not O(connections): a session is live while its node's lease is.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import structlog

from gateway.metrics import METRICS
from gateway.services.context import NodeContext
from gateway.services.outbox import Outbox
from gateway.store import nodes, sessions
from gateway.store.errors import OutcomeUnknown, StoreError, StoreRefused, StoreUnavailable
from gateway.store.store import Store

log = structlog.get_logger(__name__)

REAP_BATCH = 500
"""Sessions of a dead node removed in one go."""

REVISIT_S = 30.0
"""How long after its burial a dead node is looked at once more: what it had written to a link that stood still may
arrive only then, and register sessions that nobody else would ever end. The store keeps it in mind: whoever reaped a
node may be gone by then, and so may the node itself, before it could say that it had a former life."""

REAP_MARGIN_S = 0.02
"""How long after another node's lease end its state is looked at."""


def new_incarnation(node_id: str) -> str:
    """A name for this life of the node: new at each start and after each lost lease, so nothing of an old life that
    is swept away can be mistaken for the new one's.

    The last letter says to those who publish that this node takes pushes by the batch (store/lua/relays.lua).
    """
    return f"{node_id}.{secrets.token_hex(4)}m"


class Leases:
    """Renews this node's lease and reaps ended ones.

    Args:
        context: this node.
        node_id: the name that incarnations begin with.
        on_renewed: called after every renewal that was granted, and so a few times a lease.

    Until the first grant, and from when the lease may be over until the next one, the bus withholds everything: others
    may take this node for dead and its users for offline, whatever its own links say. That ends no lease; whether it
    goes on is for the next renewal's answer to say.
    """

    def __init__(self, context: NodeContext, node_id: str, on_renewed: Callable[[], None]) -> None:
        self._context = context
        self._node_id = node_id
        self._on_renewed = on_renewed
        self._mode = "first"
        # When the granted renewal was sent, by this node's clock: the store counts from later than that.
        self._granted_at: float | None = None
        self._reaping: set[str] = set()
        self._former: set[str] = set()
        self._stopped = False

    def start(self) -> None:
        """Begins to renew."""
        self._context.bus.withhold()
        self._renew_and_rearm(None, self._context.clock.now())

    def stop(self) -> None:
        """Renews no more."""
        self._stopped = True

    def held(self, now: float) -> bool:
        """Whether the lease certainly goes on: a stand-still too short to be noticed is taken off its end."""
        config = self._context.config
        return self._granted_at is not None and now - self._granted_at < config.lease_s - config.gap_ms / 1000

    def check(self, now: float) -> None:
        """Withholds everything once the lease may be over; called a few times a second."""
        if not self._stopped and not self._context.bus.withheld and not self.held(now):
            log.warning("the lease may be over: nothing passes until it is granted again")
            self._context.bus.withhold()

    def gap(self, seconds: float) -> None:
        """The process stood still; where the lease may have ended meanwhile, its sessions were perhaps reaped."""
        bus = self._context.bus
        if not bus.withheld and not self.held(self._context.clock.now()):
            self.lose(f"the process stood still for {seconds:.1f} s")
        else:
            bus.barrier()

    def _renew_and_rearm(self, _: object, now: float) -> None:
        if self._stopped:
            return
        self.renew()
        self._context.wheel.arm(now + self._context.config.lease_renew_s, self._renew_and_rearm)

    def renew(self) -> None:
        """Renews now; after an outage, or as a new incarnation, this says so."""
        if self._stopped:
            return
        context = self._context
        for former in tuple(self._former):
            context.bus.call(nodes.end(context.keys, former), self._former_ended, former)
        lease_ms = int(context.config.lease_s * 1000)
        call = nodes.renew(context.keys, context.bus.incarnation, lease_ms, self._mode)
        context.bus.call(call, self._renewed, (context.bus.incarnation, context.clock.now()), urgent=True)

    def _former_ended(self, former: str, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._former.discard(former)

    def _renewed(self, context: tuple[str, float], reply: Any) -> None:
        incarnation, sent_at = context
        if incarnation != self._context.bus.incarnation or self._stopped:
            return
        if isinstance(reply, StoreUnavailable | OutcomeUnknown):
            # The store is away: that ends no lease. The first renewal after it opens a grace period for all.
            if self._mode == "renew":
                self._mode = "outage"
            return
        if isinstance(reply, StoreRefused):
            log.error("the lease could not be renewed", fault=str(reply))
            return
        renewal = nodes.parse_renewal(reply)
        if not renewal.granted:
            self.lose("the lease had ended")
            return
        self._mode = "renew"
        self._granted_at = sent_at
        if self.held(self._context.clock.now()):
            self._context.bus.release()
        if renewal.next_end is not None:
            # Looking again in the instant another lease ends makes its users offline within the lease and little more.
            wait = (renewal.next_end - renewal.now) / 1000 + REAP_MARGIN_S
            if wait < self._context.config.lease_renew_s:
                now = self._context.clock.now()
                self._context.wheel.arm(now + wait, lambda _, __: self.renew())
        for dead in renewal.ended:
            if dead not in self._reaping:
                self._reaping.add(dead)
                self._context.spawn(self._reap(dead))
        self._on_renewed()

    def lose(self, reason: str) -> None:
        """This node was taken for dead: it goes on as a new incarnation, its sessions reclaimed one by one."""
        METRICS.leases_lost += 1
        # Commands on their way may still register sessions under the old name after its reaper has been through;
        # it is reaped (again) once this node speaks under its new one.
        self._former.add(self._context.bus.incarnation)
        incarnation = new_incarnation(self._node_id)
        log.warning("the node goes on as a new incarnation", reason=reason, incarnation=incarnation)
        self._mode = "first"
        self._granted_at = None
        self._context.bus.withhold()
        self._context.bus.rename(incarnation)

    async def _reap(self, dead: str) -> None:
        try:
            await reap(self._context.store, dead, self._context.bus.incarnation, self._context.outbox)
        except StoreError as error:
            log.warning("reaping is interrupted; it will be tried again", node=dead, reason=str(error))
        finally:
            self._reaping.discard(dead)


async def reap(store: Store, dead: str, claimant: str, outbox: Outbox) -> int:
    """Removes the sessions of an ended incarnation; its users go offline, their watchers and the app's server hear it.

    Returns:
        How many were removed.

    Raises:
        StoreError: The store went away; somebody's next look finds the rest.
    """
    keys = store.keys
    removed = 0
    renewed_at = 0.0
    loop = asyncio.get_running_loop()
    for partition in range(keys.partitions):
        if loop.time() - renewed_at > 2.0:
            if not await store.execute(nodes.claim(keys, dead, claimant)):
                return removed
            renewed_at = loop.time()
        removed += await forget_sessions(store, partition, dead, None, outbox)
    await store.execute(nodes.bury(keys, dead, int(REVISIT_S * 1000)))
    METRICS.sessions_reaped += removed
    log.info("a dead node was reaped", node=dead, sessions=removed)
    return removed


async def forget_sessions(
    store: Store,
    partition: int,
    incarnation: str,
    keep: Callable[[str], bool] | None,
    outbox: Outbox | None = None,
) -> int:
    """Disconnects what an incarnation holds in a partition.

    Args:
        keep: says by session id what is left as it is.
        outbox: gets the ends of sessions that nobody else will tell.

    Returns:
        How many were removed.
    """
    keys = store.keys
    removed = 0
    cursor = "0"
    while True:
        reply = await store.execute(sessions.held(keys, partition, incarnation, cursor, REAP_BATCH))
        cursor, pairs = sessions.parse_held(reply)
        gone = [(user, session) for user, session in pairs if keep is None or not keep(session)]
        if gone:
            replies = await store.execute_all(
                [sessions.disconnect(keys, user, session, incarnation) for user, session in gone]
            )
            removed += sum(int(reply) == sessions.REMOVED for reply in replies)
            if outbox is not None and outbox.statuses:
                for (user, session), reply in zip(gone, replies, strict=True):
                    # Not there any more: a newer session took its place while its own node was dead already.
                    if int(reply) in (sessions.REMOVED, sessions.NOT_THERE):
                        outbox.offline(user, session, incarnation)
        if cursor == "0":
            return removed
