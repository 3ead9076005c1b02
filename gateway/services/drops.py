"""Drops, both ends: asking for one and waiting for the nodes, and carrying one out on this node.

A drop is a revocation: when the call has returned with every node answered, no socket concerned passes a command or
a push any more, and what it had outstanding has been answered or has failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import orjson
import structlog

from gateway.core.close import Closing
from gateway.core.session import Session
from gateway.core.states import State
from gateway.metrics import METRICS
from gateway.protocol import codes
from gateway.services.context import NodeContext
from gateway.store import drops, nodes
from gateway.store.call import Call
from gateway.store.drops import Drop
from gateway.store.errors import Forbidden, FunctionMissing, Moved, OutcomeUnknown, StoreError, StoreUnavailable
from gateway.store.master import Dedicated
from gateway.store.store import Store

log = structlog.get_logger(__name__)

PARALLEL_MAX = 8
"""Drops of one act that wait at the same time, each on a connection of its own."""

WAITING_MAX = 32
"""Drops of all acts of this process that do: well under the connections there are, so that other calls find one."""

POLL_S = 0.5
"""How long one wait for answers lasts before the leases of the silent nodes are looked at."""

_CLOSES = {code.code: code for code in codes.CLOSE_CODES}


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What an act did to live sockets.

    Attributes:
        sessions_closed: sockets closed, as the nodes counted them.
        nodes_answered: incarnations that said so.
        nodes_silent: incarnations that did not, and whose lease has ended or whose wait ran out.
        took_ms: from the call to the last answer.
        replicas: replicas that have the record; None where the store has none.
    """

    sessions_closed: int = 0
    nodes_answered: list[str] = field(default_factory=list)
    nodes_silent: list[str] = field(default_factory=list)
    took_ms: float = 0.0
    replicas: int | None = None


class Drops:
    """Carries out drops and waits for the nodes that hold the sessions concerned.

    Args:
        store: the store.
        wait_s: how long silent nodes are waited for.
    """

    def __init__(self, store: Store, wait_s: float) -> None:
        self._store = store
        self._wait_s = wait_s
        self._all = asyncio.Semaphore(WAITING_MAX)

    async def perform(self, users: Iterable[str], drop: Callable[[str, str], Call]) -> Acknowledgement:
        """Drops each user.

        Args:
            users: user ids; duplicates count once.
            drop: (user, call id) → the call.

        Raises:
            StoreUnavailable: nobody was dropped.
            OutcomeUnknown: some may have been, and what became of their sockets is not known.
        """
        started = time.monotonic()
        places = asyncio.Semaphore(PARALLEL_MAX)

        async def one(user: str) -> Acknowledgement:
            async with places, self._all:
                return await self._perform_one(user, drop)

        outcomes = await asyncio.gather(*(one(user) for user in dict.fromkeys(users)), return_exceptions=True)
        parts = [outcome for outcome in outcomes if isinstance(outcome, Acknowledgement)]
        faults = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if faults:
            fault = next((each for each in faults if not isinstance(each, StoreUnavailable)), faults[0])
            if isinstance(fault, StoreUnavailable) and parts:
                raise OutcomeUnknown(f"carried out in part: {fault}") from fault
            raise fault
        replicas = [part.replicas for part in parts if part.replicas is not None]
        return Acknowledgement(
            sessions_closed=sum(part.sessions_closed for part in parts),
            nodes_answered=sorted({node for part in parts for node in part.nodes_answered}),
            nodes_silent=sorted({node for part in parts for node in part.nodes_silent}),
            took_ms=round((time.monotonic() - started) * 1000, 1),
            replicas=min(replicas) if replicas else None,
        )

    async def _perform_one(self, user: str, drop: Callable[[str, str], Call]) -> Acknowledgement:
        call_id = uuid4().hex
        call = drop(user, call_id)
        try:
            return await self._call(call, call_id)
        except (FunctionMissing, Moved) as error:
            await self._store.mend(call, error)
            return await self._call(call, call_id)

    async def _call(self, call: Call, call_id: str) -> Acknowledgement:
        written = False
        try:
            # WAIT covers the writes of its own connection only, so the drop and it share one.
            async with self._store.dedicated(call.place) as connection:
                dropped, role = await connection.answers((call.command, ("ROLE",)))
                if isinstance(dropped, StoreError):
                    raise dropped
                written = True
                _, awaited = drops.parse_dropped(dropped)
                replicas = await _replicas(connection, role)
                answers, silent = await self._collect(connection, call.place, call_id, awaited)
        except StoreUnavailable as error:
            if written:
                raise OutcomeUnknown(f"written, and not known to be carried out: {error}") from error
            raise
        return Acknowledgement(
            sessions_closed=sum(int(answer["closed"]) for answer in answers),
            nodes_answered=[answer["node"] for answer in answers],
            nodes_silent=silent,
            replicas=replicas,
        )

    async def _collect(
        self, connection: Dedicated, place: int, call_id: str, awaited: Sequence[str]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """The answers of the nodes awaited, and those that stayed silent."""
        missing = set(awaited)
        answers: list[dict[str, Any]] = []
        deadline = time.monotonic() + self._wait_s
        key = self._store.keys.reply(place, call_id)
        while missing and time.monotonic() < deadline:
            popped = await connection.execute_command("BLPOP", key, poll_s(self._store))
            if popped is not None:
                answer = orjson.loads(popped[1])
                if answer["node"] in missing:
                    missing.discard(answer["node"])
                    answers.append(answer)
            elif not missing & await live_nodes(self._store):
                break
        return answers, sorted(missing)


async def _replicas(connection: Dedicated, role: Any) -> int | None:
    """How many replicas have what this connection wrote; None where there is none, or where nobody may ask."""
    # A master: its word, its place in the stream of changes, its replicas.
    if isinstance(role, StoreError) or role[0] != b"master" or not role[2]:
        return None
    try:
        return int(await connection.execute_command("WAIT", 1, 100))
    except Forbidden:
        return None


def poll_s(store: Store) -> float:
    """How long one blocking read for answers lasts: well under the deadline that every call on a connection has."""
    return min(POLL_S, store.topology.timeout_s / 4)


async def live_nodes(store: Store) -> set[str]:
    """The incarnations whose lease goes on."""
    listed, now = await store.execute_all([nodes.leases(store.keys), nodes.time(store.keys)])
    now_ms = nodes.parse_time(now)
    return {lease.incarnation for lease in nodes.parse_leases(listed) if lease.ends_at > now_ms}


class DropReceiver:
    """Carries out on this node what drops publish to it.

    Args:
        context: this node.
        leave: takes a session out of the hub and out of Redis.
    """

    def __init__(self, context: NodeContext, leave: Callable[[Session], None]) -> None:
        self._context = context
        self._leave = leave
        self._busy: dict[str, _Outstanding] = {}

    def received(self, payload: bytes) -> None:
        """One ``d`` push."""
        METRICS.drops_received += 1
        drop = drops.parse(payload[1:])
        selected = [session for session in self._context.hub.of(drop.user) if _selects(drop, session)]
        closing = closing_of(drop)
        busy = _Outstanding(partial(self._settled, drop, len(selected)))
        earlier = self._busy.get(drop.user)
        if earlier is not None:
            # Its sessions are out of the hub already, and what they had outstanding concerns this caller as well.
            earlier.then(busy)
        for session in selected:
            session.cut(closing)
            self._leave(session)
            METRICS.sessions_dropped += 1
            if session.pending:
                busy.add(session)
        self._busy[drop.user] = busy
        busy.sealed()

    def _settled(self, drop: Drop, closed: int) -> None:
        if self._busy[drop.user].settled:
            del self._busy[drop.user]
        self._answer(drop, closed)

    def _answer(self, drop: Drop, closed: int) -> None:
        if drop.call:
            bus = self._context.bus
            bus.tell(drops.answer(self._context.keys, drop.user, drop.call, bus.incarnation, {"closed": closed}))


class _Outstanding:
    """Calls ``done`` when the store calls of all sessions added have been answered or have failed."""

    __slots__ = ("_count", "_done", "_next")

    def __init__(self, done: Callable[[], None]) -> None:
        self._count = 1
        self._done = done
        self._next: list[_Outstanding] = []

    @property
    def settled(self) -> bool:
        return self._count == 0

    def add(self, session: Session) -> None:
        self._count += 1
        session.on_settled = self.sealed

    def then(self, later: _Outstanding) -> None:
        """``later`` waits for this one too."""
        later._count += 1
        self._next.append(later)

    def sealed(self) -> None:
        self._count -= 1
        if self._count == 0:
            self._done()
            for later in self._next:
                later.sealed()


def _selects(drop: Drop, session: Session) -> bool:
    if session.id in drop.sessions:
        return True
    # A session that is still joining is judged by its own `connect`, which ran after this drop or is in its list.
    return drop.all and session.state in (State.LIVE, State.FENCED)


def closing_of(drop: Drop) -> Closing:
    """What a dropped client is told."""
    return Closing(_CLOSES[drop.close_code], drop.code, drop.reason, until=drop.ends or None, revocation=True)
