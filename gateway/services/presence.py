"""Presence: who is online, for admins; and live pushes for the sessions that watch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson
from msgspec import Struct

from gateway.core.close import Refusal
from gateway.core.session import Session
from gateway.core.states import State
from gateway.metrics import METRICS
from gateway.protocol import commands, pushes, replies
from gateway.protocol.codes import Code
from gateway.services import refusals
from gateway.services.context import NodeContext
from gateway.services.gather import Gather, fault_among
from gateway.store import sessions
from gateway.store.sessions import PresenceRecord, SessionRecord
from gateway.store.store import Store


class Presence:
    """What admins may ask."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def online(self, user: str) -> bool:
        """Whether the user has a live session."""
        return int(await self._store.execute(sessions.count_of(self._store.keys, user))) > 0

    async def count_online(self) -> int:
        """How many users have a live session, on whichever node."""
        keys = self._store.keys
        calls = [sessions.online(keys, partition) for partition in range(keys.partitions)]
        return sum(int(reply) for reply in await self._store.execute_all(calls))

    async def sessions(self, user: str) -> list[SessionRecord]:
        """The user's live sessions, oldest first."""
        return sessions.parse_list(await self._store.execute(sessions.list_of(self._store.keys, user)))


REREADS_MAX = 500
"""Watched users read again at a time after a break, so that a node with many does not drown the store it found."""

RETRY_S = 0.5
"""When a read that was not answered is asked for again while the link is up."""

_WATCHING = (State.LIVE, State.FENCED)


class _Watched(Struct):
    """A user whom sessions of this node watch.

    Attributes:
        version: the highest presence version pushed to watchers; lower ones are late and are dropped.
        hidden_from: watchers whom the user has blocked.
    """

    partition: int
    channel: str
    version: int = 0
    sessions: set[Session] = set()
    hidden_from: set[str] = set()


class Watching:
    """The ``watch`` and ``unwatch`` commands and the pushes they ask for."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._watched: dict[str, _Watched] = {}
        # (user, watcher) pairs to be read again, and how many reads are under way.
        self._stale: dict[tuple[str, str], None] = {}
        self._under_way = 0
        self._rereading = False

    @property
    def watched(self) -> int:
        """How many users are watched from this node."""
        return len(self._watched)

    def watch(self, session: Session, command: commands.Watch, now: float) -> None:
        """Subscribes first and reads the present state after, so that no change falls between."""
        config = self._context.config
        users = list(dict.fromkeys(command.users))
        if len(users) > config.watch_call_max:
            raise Refusal(Code.MALFORMED, f"$.users: at most {config.watch_call_max} a call")
        watching = session.watching if session.watching is not None else set()
        if len(watching.union(users)) > config.watch_max:
            raise Refusal(Code.LIST_FULL, f"$.users: at most {config.watch_max} watched users a session")
        for user in users:
            watched = self._watched.get(user)
            if watched is not None and len(watched.sessions) >= config.watchers_max and user not in watching:
                raise Refusal(Code.LIST_FULL, f"$.users: {user} has {config.watchers_max} watchers on this node")
        fresh = [user for user in users if user not in watching]
        session.watching = watching
        session.pending += len(users)
        answered = Gather(2 * len(users), partial(self._watched_now, session, command.id, users, fresh))
        for index, user in enumerate(users):
            self._subscribe(session, user, answered, index)
            self._context.bus.call(
                sessions.watch(self._context.keys, user, session.user), answered.put, len(users) + index
            )

    def _watched_now(
        self, session: Session, command_id: str, users: Sequence[str], fresh: Sequence[str], answers: list[Any]
    ) -> None:
        if fault_among(answers) is not None:
            # An error says that nothing came of the command.
            for user in fresh:
                self._forget(session, user)
        self._answer(session, command_id, users, answers)

    def _subscribe(self, session: Session, user: str, answered: Gather, index: int) -> None:
        watched = self._watched.get(user)
        if watched is None:
            keys = self._context.keys.user(user)
            watched = _Watched(keys.partition, keys.watch_channel)
            self._watched[user] = watched
            self._context.bus.watch(watched.partition, watched.channel, answered.put, index)
        else:
            answered.put(index, None)
        watched.sessions.add(session)
        assert session.watching is not None
        session.watching.add(user)

    def unwatch(self, session: Session, command: commands.Unwatch, now: float) -> None:
        """The opposite."""
        users = list(dict.fromkeys(command.users))
        for user in users:
            self._forget(session, user)
        session.pending += len(users)
        calls = [sessions.watch(self._context.keys, user, session.user) for user in users]
        Gather.calls(
            self._context.bus, calls, lambda states: self._answer(session, command.id, users, [*states, *states])
        )

    def leave(self, session: Session) -> None:
        """The session has ended: it watches nobody any more."""
        for user in tuple(session.watching or ()):
            self._forget(session, user)

    def _forget(self, session: Session, user: str) -> None:
        if session.watching is not None:
            session.watching.discard(user)
        watched = self._watched.get(user)
        if watched is None:
            return
        watched.sessions.discard(session)
        if not watched.sessions:
            del self._watched[user]
            self._context.bus.unwatch(watched.channel)

    def _answer(self, session: Session, command_id: str, users: Sequence[str], answers: list[Any]) -> None:
        fault = fault_among(answers)
        if fault is not None:
            session.refuse(command_id, refusals.of_fault(fault))
        else:
            states = [sessions.parse_watch(reply) for reply in answers[len(users) :]]
            shown = [
                replies.UserPresence(user, state.online, state.last_seen, state.platforms, state.version)
                for user, state in zip(users, states, strict=True)
            ]
            for user, state in zip(users, states, strict=True):
                self._note_visibility(session, user, state)
            session.reply(replies.OkPresence(command_id, shown))
        session.settle(len(users))

    def _note_visibility(self, session: Session, user: str, state: PresenceRecord) -> None:
        watched = self._watched.get(user)
        if watched is None:
            return
        # Pushes of what this state already shows came before it, on the same link.
        watched.version = max(watched.version, state.version)
        if state.visible:
            watched.hidden_from.discard(session.user)
        else:
            watched.hidden_from.add(session.user)

    # What the watched users' partitions say.

    def received(self, payload: bytes) -> None:
        """One ``p`` push: ``p<user>\\n<version>\\n<the push's JSON>``."""
        first = payload.index(b"\n")
        second = payload.index(b"\n", first + 1)
        watched = self._watched.get(payload[1:first].decode())
        version = int(payload[first + 1 : second])
        if watched is None or version <= watched.version:
            return
        watched.version = version
        self._tell(watched, payload[second + 1 :])

    def _tell(self, watched: _Watched, push: bytes) -> None:
        for session in tuple(watched.sessions):
            # A fenced session keeps it until it is reclaimed: its watches may have been read again before.
            if session.user not in watched.hidden_from and session.state in _WATCHING:
                METRICS.presence_pushed += 1
                session.send(push)

    def received_block(self, payload: bytes) -> None:
        """One ``b`` or ``u`` push: the user blocked or unblocked somebody who may be watching."""
        first = payload.index(b"\n")
        user = payload[1:first].decode()
        watched = self._watched.get(user)
        if watched is None:
            return
        concerned = set(orjson.loads(payload[first + 1 :]))
        if payload[:1] == b"b":
            watched.hidden_from |= concerned
            push = self._offline(user, watched)
            for session in tuple(watched.sessions):
                if session.user in concerned:
                    session.send(push)
            return
        watched.hidden_from -= concerned
        for session in watched.sessions:
            if session.user in concerned:
                self._stale[user, session.user] = None
        self._reread()

    def _offline(self, user: str, watched: _Watched) -> bytes:
        at = self._context.clock.wall_ms()
        return replies.encode(pushes.Presence(user, False, at, None, [], watched.version))

    def _shown(self, user: str, state: PresenceRecord) -> bytes:
        at = self._context.clock.wall_ms()
        return replies.encode(pushes.Presence(user, state.online, at, state.last_seen, state.platforms, state.version))

    def resync(self, partitions: frozenset[int]) -> None:
        """The link to these partitions was away: every watched user is read again, changes are pushed."""
        for user, watched in self._watched.items():
            if watched.partition in partitions:
                for session in watched.sessions:
                    self._stale[user, session.user] = None
        self._reread()

    def _reread(self) -> None:
        if self._rereading:
            # A link that refuses answers at once, from within the loop below.
            return
        self._rereading = True
        try:
            while self._stale and self._under_way < REREADS_MAX:
                (user, watcher), _ = self._stale.popitem()
                if user in self._watched:
                    self._under_way += 1
                    call = sessions.watch(self._context.keys, user, watcher)
                    self._context.bus.call(call, self._resynced, (user, watcher))
        finally:
            self._rereading = False

    def _reread_again(self, pair: tuple[str, str], now: float) -> None:
        self._stale[pair] = None
        self._reread()

    def _resynced(self, pair: tuple[str, str], reply: Any) -> None:
        self._under_way -= 1
        user, watcher = pair
        watched = self._watched.get(user)
        if isinstance(reply, Exception):
            # Link down: the resync comes back to it. Link up: ask again soon.
            if watched is not None and not self._context.bus.gate(watched.partition).away:
                self._context.wheel.arm(self._context.clock.now() + RETRY_S, self._reread_again, pair)
        elif watched is not None:
            self._show(watched, user, watcher, reply)
        self._reread()

    def _show(self, watched: _Watched, user: str, watcher: str, reply: Any) -> None:
        state = sessions.parse_watch(reply)
        # As it is now, even where that is lower: a store that came back empty counts anew.
        watched.version = state.version
        if state.visible:
            watched.hidden_from.discard(watcher)
        else:
            watched.hidden_from.add(watcher)
        # Sent even where the version is the same: whether the last change reached the watcher before the break is
        # not known, and saying the same state twice is harmless.
        push = self._shown(user, state) if state.visible else self._offline(user, watched)
        for session in tuple(watched.sessions):
            if session.user == watcher:
                session.send(push)
