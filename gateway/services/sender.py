"""Sends what is queued for the app's own server.

At least once: an event leaves the queue when it was answered with 200, or was given up. What a node that died had
taken is taken over by another.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from msgspec import Struct

from gateway.config import Config
from gateway.metrics import METRICS
from gateway.services.context import NodeContext
from gateway.services.outbox import V1_FRIENDSHIP, V1_STATUS
from gateway.services.receiver import Receiver, Unanswered
from gateway.store import events
from gateway.store.errors import StoreError
from gateway.store.events import Queued, Taken

log = structlog.get_logger(__name__)

POLL_S = 1.0
"""How often the queue is looked at when nothing is queued here: other nodes queue, too, and may die."""

TIDY_S = 3600.0
"""How often consumers of nodes that are gone are forgotten."""

HELD_FACTOR = 4
"""Events taken at a time for each that is sent at a time: those of one user wait for each other."""

TRIES_KEPT_MAX = 10_000
"""Events whose failed tries are remembered, the last ones."""

STOP_WAIT_S = 1.0
"""How long a stop waits for the requests under way."""


class _Tries(Struct):
    """How often an event was tried, and since when (seconds of the node's clock)."""

    since: float
    count: int = 0


class Sender:
    """One node's part in sending.

    Args:
        context: this node.
        receiver: the app's server.
        consumer: this node's name among those that take from the queue.

    Attributes:
        backlog: how many events wait, as of the last look.
    """

    def __init__(self, context: NodeContext, receiver: Receiver, consumer: str) -> None:
        config = context.config
        self._context = context
        self._config = config
        self._receiver = receiver
        self._consumer = consumer
        self._targets = targets(config)
        self._parallel = config.webhook_parallel
        self._held_max = config.webhook_parallel * HELD_FACTOR
        self._idle_ms = int(longest_s(config) * 1000)
        self._wanted = asyncio.Event()
        self._cursor = "0-0"
        self._held: set[str] = set()
        # By user: what is to be sent of each, in order; the first of a lane may be under way.
        self._lanes: dict[str, deque[Queued]] = {}
        self._ready: deque[str] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._resting = 0
        self._tries: dict[str, _Tries] = {}
        self._unanswered_in_row = 0
        self._answered_at = 0.0
        self._paused_until = 0.0
        self._away = False
        self._overflowing = False
        self._stopped = False
        self.backlog = 0

    # Taking.

    def wake(self) -> None:
        """Something was queued here."""
        self._wanted.set()

    async def run(self) -> None:
        """Takes and sends until stopped."""
        tidied_at = -TIDY_S
        while not self._stopped:
            self._wanted.clear()
            try:
                await self._fill()
                if self._now() - tidied_at >= TIDY_S:
                    tidied_at = self._now()
                    await self._context.store.execute(events.tidy(self._context.keys))
            except StoreError as error:
                log.debug("the events' queue could not be looked at", reason=str(error))
            except Exception:
                # Whatever it was: a node that takes nothing more would leave everything to the others.
                log.exception("taking events failed")
                await asyncio.sleep(POLL_S)
            await self._wait()

    async def _wait(self) -> None:
        """Until something is queued here, or it is time to look all the same."""
        paused_s = self._paused_until - self._now()
        if paused_s > 0:
            # What is queued meanwhile need not be looked at.
            await asyncio.sleep(min(paused_s, POLL_S))
            return
        try:
            async with asyncio.timeout(POLL_S):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """Lets requests under way end, and leaves the rest to others at once."""
        self._stopped = True
        if self._running:
            await asyncio.wait(self._running, timeout=STOP_WAIT_S)
        await self._leave_to_others(self._held)

    async def _leave_to_others(self, places: Iterable[str]) -> None:
        left = tuple(places)
        if not left:
            return
        try:
            await self._context.store.execute(events.release(self._context.keys, self._consumer, left))
        except StoreError:
            # They are taken over when they have been idle for long enough.
            pass

    async def _fill(self) -> None:
        room = 0 if self._paused else self._held_max - len(self._held)
        if 0 < room < self._held_max // 2:
            # Not one by one: the next to end wakes this again.
            return
        call = events.take(self._context.keys, self._consumer, room, self._idle_ms, self._cursor)
        taken = events.parse_taken(await self._context.store.execute(call))
        if self._stopped:
            await self._leave_to_others(each.place for each in taken.queued)
            return
        self._cursor = taken.cursor
        self.backlog = taken.backlog
        self._count_lost(taken)
        for queued in taken.queued:
            # One that is held already was asked for again because it had been idle here: now it is not.
            if queued.place not in self._held:
                self._hold(queued)

    def _count_lost(self, taken: Taken) -> None:
        METRICS.webhook_events_overflowed += taken.lost
        if taken.lost and not self._overflowing:
            self._overflowing = True
            log.error("the queue of events is full: the oldest are dropped", queue_max=self._config.webhook_queue_max)
        elif self.backlog < self._config.webhook_queue_max // 2:
            self._overflowing = False

    # Sending: one lane a user, so that what happened to one is told in order as far as one node tells it.

    def _hold(self, queued: Queued) -> None:
        self._held.add(queued.place)
        user = queued.event.user
        lane = self._lanes.get(user)
        if lane is not None:
            lane.append(queued)
            return
        self._lanes[user] = deque((queued,))
        self._ready.append(user)
        self._start()

    def _start(self) -> None:
        while self._ready and len(self._running) - self._resting < self._parallel and not self._stopped:
            user = self._ready.popleft()
            task = self._context.background.begin(self._drive(user), "webhook lane")
            if task is None:
                return
            self._running.add(task)
            task.add_done_callback(self._driven)

    def _driven(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()
        if len(self._held) <= self._held_max // 2:
            self.wake()

    async def _drive(self, user: str) -> None:
        lane = self._lanes[user]
        try:
            while lane and not self._paused and not self._stopped:
                if not await self._deliver(lane[0]):
                    break
                self._held.discard(lane.popleft().place)
            if lane and not self._stopped:
                # Anybody may take them at once: another node that reaches the receiver, or this one after the pause,
                # before what was queued later.
                left = [each.place for each in lane]
                self._context.bus.tell(events.release(self._context.keys, self._consumer, left))
        finally:
            del self._lanes[user]
            if not self._stopped:
                self._held.difference_update(each.place for each in lane)

    async def _deliver(self, queued: Queued) -> bool:
        """Tells one event; returns whether it is done with, told or given up."""
        place = queued.place
        tries = self._tries.pop(place, None) or _Tries(self._now())
        while True:
            tries.count += 1
            answered, why = await self._try(queued)
            if why is None:
                METRICS.webhook_events_told += 1
                self._context.bus.tell(events.told(self._context.keys, (place,)))
                return True
            METRICS.webhook_tries_failed += 1
            if tries.count > self._config.webhook_retries:
                # The event's own fault, if the receiver has answered it, or others since it was first tried.
                if answered or self._answered_at > tries.since:
                    self._give_up(queued, why)
                    return True
                self._pause(why)
            if self._paused or self._stopped:
                self._remember(place, tries)
                return False
            await self._rest(self._backoff_s(tries.count))

    async def _rest(self, seconds: float) -> None:
        """Waits before the next try; another user's lane goes on instead."""
        self._resting += 1
        self._start()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._resting -= 1

    async def _try(self, queued: Queued) -> tuple[bool, str | None]:
        """(whether anybody answered, why it is not told)."""
        event = queued.event
        url = self._targets.get(_target(event.kind))
        if url is None:
            return True, "no address is configured for it"
        try:
            answer = await self._receiver.post(url, body_of(queued))
        except Unanswered as error:
            self._unanswered_in_row += 1
            if self._unanswered_in_row >= self._config.webhook_pause_after:
                self._pause(str(error))
            return False, str(error)
        self._unanswered_in_row = 0
        self._answered_at = self._now()
        if self._away:
            self._away = False
            log.info("the app's server answers again", backlog=self.backlog)
        return True, None if answer.status == 200 else f"HTTP {answer.status}"

    def _give_up(self, queued: Queued, why: str) -> None:
        METRICS.webhook_events_given_up += 1
        log.warning("an event is given up", kind=queued.event.kind, id=queued.event.id, reason=why)
        self._context.bus.tell(events.shelve(self._context.keys, queued.place, why, self._config.webhook_dead_max))

    def _remember(self, place: str, tries: _Tries) -> None:
        self._tries[place] = tries
        if len(self._tries) > TRIES_KEPT_MAX:
            del self._tries[next(iter(self._tries))]

    def _backoff_s(self, count: int) -> float:
        return self._config.webhook_backoff_s * 2.0 ** (count - 1) * random.uniform(0.5, 1.0)

    # Pausing: nobody answers, so events wait in the queue instead of being tried to death.

    @property
    def _paused(self) -> bool:
        return self._now() < self._paused_until

    def _pause(self, why: str) -> None:
        if self._paused:
            return
        METRICS.webhook_pauses += 1
        self._paused_until = self._now() + self._config.webhook_pause_s
        self._unanswered_in_row = 0
        self._cursor = "0-0"
        if not self._away:
            self._away = True
            log.warning(
                "the app's server does not answer: events wait in the queue",
                reason=why,
                tried_again_every_s=self._config.webhook_pause_s,
            )

    def _now(self) -> float:
        return self._context.clock.now()


def targets(config: Config) -> dict[str, str]:
    """Where events go, by the kind of target: ``""`` the app's one address, ``v1:…`` those of the older forms."""
    urls = {"": config.webhook_url, V1_STATUS: config.webhook_v1_status_url}
    urls[V1_FRIENDSHIP] = config.webhook_v1_friendship_url
    return {target: url for target, url in urls.items() if url is not None}


def shown(url: str) -> str:
    """As much of an address as may stand in a log: a path, a query or a user part may be secret."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def longest_s(config: Config) -> float:
    """The longest that an event may be under way at a node that lives."""
    tries = config.webhook_retries + 1
    return tries * config.webhook_timeout_s + config.webhook_backoff_s * (2.0**config.webhook_retries - 1) + POLL_S


def body_of(queued: Queued) -> bytes:
    """What is posted."""
    kind, event_id, _, data, timed = queued.event
    if not timed:
        data = b'%b,"time":%d}' % (data[:-1], queued.at_ms)
    if kind == V1_STATUS:
        return orjson.dumps([_renamed(data, {"userId": "userid"})])
    if kind == V1_FRIENDSHIP:
        return orjson.dumps(_renamed(data, {"operationType": "eventType", "os": "source"}))
    head = orjson.dumps({"type": kind, "id": event_id, "time": queued.at_ms})
    return b'%b,"data":[%b]}' % (head[:-1], data)


def _renamed(data: bytes, names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in orjson.loads(data).items()}


def _target(kind: str) -> str:
    return kind if kind.startswith("v1:") else ""
