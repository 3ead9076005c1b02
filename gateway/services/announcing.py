"""Broadcasts on a node: learning them from the stream, and seeing to it that its users take them.

A node's users take what they have not had yet when they come, and when something new is learnt: then the node walks
its users, so many a second that relaying goes on. What a user had stands in the user's own record, so a walk may end
anywhere: whoever it did not reach takes the rest on whatever node they come to.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from typing import Any

from gateway.core.session import START, Session, StreamId
from gateway.core.states import State
from gateway.metrics import METRICS
from gateway.services.context import NodeContext
from gateway.store import broadcasts
from gateway.store.broadcasts import READ_BATCH, Broadcast
from gateway.store.messages import parse_id

SLICE_S = 0.01
"""How often a walk goes on: the slices are so small that no message waits for long behind one."""

TAKE_MAX = 16
TAKE_BYTES_MAX = 256 * 1024
"""What a user takes by one call; the rest follows."""

RETRY_S = 1.0
"""When a take that the store did not answer is asked for again."""


class Announcing:
    """One node's part in broadcasts.

    Attributes:
        active: those that still reach somebody, in the order of the stream, in which every user takes them.
    """

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self.active: list[Broadcast] = []
        self._learnt: StreamId = START
        self._reading = False
        self._again = False
        # What each user of this node has had, as the store last said. Another node may have brought the user further:
        # then some are offered again, and the store leaves them out.
        self._seen: dict[str, StreamId] = {}
        # Users whom the walk has yet to come by, some of them perhaps twice or gone, and whether something was learnt
        # meanwhile, so that it begins anew at its end.
        self._due: deque[str] = deque()
        self._anew = False
        # Users whose take is under way, and whether there was reason for another one meanwhile.
        self._under_way: dict[str, bool] = {}
        self._walking = False

    @property
    def due(self) -> int:
        """How many users have yet to take something, about."""
        return len(self._due) + len(self._under_way) + (len(self._seen) if self._anew else 0)

    # Learning.

    async def learn(self) -> None:
        """Reads everything there is; before a node admits anybody.

        Raises:
            StoreError: The store went away.
        """
        more = True
        while more:
            more = self._learn(await self._context.store.execute(self._read()))

    def reread(self) -> None:
        """Reads what is new; called on every change, every renewal of the lease and after every break."""
        self._forget_ended()
        if self._reading:
            self._again = True
            return
        self._reading = True
        self._context.bus.call(self._read(), self._answered)

    def _read(self) -> Any:
        return broadcasts.read(self._context.keys, self._learnt)

    def _answered(self, _: object, reply: Any) -> None:
        self._reading = False
        if isinstance(reply, Exception):
            # The next renewal reads again.
            return
        more = self._learn(reply)
        if more or self._again:
            self._again = False
            self.reread()

    def _learn(self, reply: Any) -> bool:
        """Takes entries over; returns whether there may be more."""
        entries, before = broadcasts.parse_read(reply), self._learnt
        for entry in entries:
            if entry.place <= self._learnt:
                continue
            self._learnt = entry.place
            if entry.target:
                target = broadcasts.target_of(entry)
                self.active = [each for each in self.active if each.place != target]
            self.active.append(entry)
        if self._learnt > before:
            self._anew = bool(self._seen)
            self._go_on()
        return len(entries) == READ_BATCH

    def _forget_ended(self) -> None:
        now_ms = self._context.clock.wall_ms()
        # The store judges by its own clock whether one has ended; this only frees the memory.
        if any(each.ends_ms < now_ms for each in self.active):
            self.active = [each for each in self.active if each.ends_ms >= now_ms]

    # Delivering.

    def came(self, session: Session, seen: StreamId) -> None:
        """A session has become live: its user takes what came after ``seen``, before the inbox is read."""
        if session.heard is None:
            early, session.early = session.early, None
            for place, push in early or ():
                self._push(session, place, push)
            session.heard = max(session.heard or START, seen)
        else:
            # The link was away: what the store has as taken may have been said to a connection that was gone.
            for each in self.active:
                if each.op == b"online" and session.heard < each.place <= seen:
                    self._push(session, each.place, broadcasts.push(each, session.user))
        self._seen[session.user] = seen
        self._take(session.user)

    def left(self, session: Session) -> None:
        """A session has left the hub."""
        if not self._context.hub.of(session.user):
            self._seen.pop(session.user, None)

    def _go_on(self) -> None:
        if (self._due or self._anew) and not self._walking:
            self._walking = True
            self._context.spawn(self._walk())

    async def _walk(self) -> None:
        config = self._context.config
        users = bytes_left = 0.0
        try:
            while self._due or self._anew:
                if not self._due:
                    self._anew = False
                    # All at once, and quickly: 50,000 users take well under a millisecond.
                    self._due.extend(self._seen)
                # What a slice used too much the next ones have less.
                users = min(users, 0.0) + config.broadcast_users_per_s * SLICE_S
                bytes_left = min(bytes_left, 0.0) + config.broadcast_bytes_per_s * SLICE_S
                while self._due and users > 0 and bytes_left > 0:
                    user = self._due.popleft()
                    users -= 1
                    bytes_left -= self._take(user)
                await asyncio.sleep(SLICE_S)
        finally:
            self._walking = False

    def _take(self, user: str) -> int:
        """Offers a user the next ones; returns how many bytes they are."""
        if not self._behind(user):
            return 0
        if user in self._under_way:
            self._under_way[user] = True
            return 0
        first = bisect_right(self.active, self._seen[user], key=_place)
        some: list[Broadcast] = []
        size = 0
        for each in self.active[first : first + TAKE_MAX]:
            size += len(each.rest)
            if some and size > TAKE_BYTES_MAX:
                break
            some.append(each)
        context = self._context
        self._under_way[user] = False
        config, retention_ms = context.config, context.settings.live.retention_ms
        call = broadcasts.take(context.keys, user, some, config.inbox_max, config.inbox_bytes_max, retention_ms)
        context.bus.call(call, self._taken, user)
        return size

    def _behind(self, user: str) -> bool:
        """Whether there is something that the user, who is here, may not have had."""
        return user in self._seen and bool(self.active) and self.active[-1].place > self._seen[user]

    def _taken(self, user: str, reply: Any) -> None:
        again = self._under_way.pop(user)
        if isinstance(reply, Exception):
            METRICS.broadcasts_retried += 1
            # Link down: the session is reclaimed when it is up again, and comes anew.
            if not self._context.bus.gate(self._context.keys.partition(user)).away:
                self._context.wheel.arm(self._context.clock.now() + RETRY_S, self._offer, user)
            return
        outcome = broadcasts.parse_take(reply)
        METRICS.broadcasts_taken += outcome.taken
        if user in self._seen:
            self._seen[user] = outcome.seen
        METRICS.broadcasts_put_off += outcome.stopped
        # One that was stopped was offline by then, or has no room in the inbox: the user takes it when coming again,
        # or with the next one.
        if again or not outcome.stopped:
            self._offer(user, 0.0)

    def _offer(self, user: str, _: float) -> None:
        """Lets the walk come by a user who is behind."""
        if self._behind(user):
            self._due.append(user)
            self._go_on()

    def received(self, payload: bytes) -> None:
        """One ``a`` push: ``a<user>\\n<its place in the stream>\\n<the push's JSON>``, which is in no inbox."""
        user, raw, push = payload[1:].split(b"\n", 2)
        place = parse_id(raw)
        for session in self._context.hub.of(user.decode()):
            if session.state is State.JOINING:
                # It may be the only one left of those that the user had when this was sent.
                session.early = [*(session.early or ()), (place, push)]
            elif session.heard is not None and place > session.heard:
                self._push(session, place, push)

    def _push(self, session: Session, place: StreamId, push: bytes) -> None:
        METRICS.messages_delivered += 1
        session.heard = place
        session.send(push)


def _place(broadcast: Broadcast) -> StreamId:
    return broadcast.place
