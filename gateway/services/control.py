"""Control: kicks, nodes, and the channel that reaches every node.

What concerns one user goes through the ``drop`` Function, which says whom to wait for. ``gw:control`` carries what
concerns nodes and, for an operator with nothing but redis-cli, a few acts by hand.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import uuid4

import msgspec
import orjson
import structlog
from msgspec import Meta, Struct

from gateway.metrics import METRICS
from gateway.services.bans import MINUTES_MAX, Bans
from gateway.services.context import NodeContext
from gateway.services.drops import Acknowledgement, Drops, live_nodes, poll_s
from gateway.services.errors import PARAMETER_INVALID, Refused
from gateway.services.tokens import Tokens
from gateway.store import drops, nodes
from gateway.store import keys as names
from gateway.store.call import Call
from gateway.store.errors import StoreError
from gateway.store.store import Store

log = structlog.get_logger(__name__)

ANSWER_WAIT_S = 3.0
"""How long nodes have to answer a control command."""

UserId = Annotated[str, Meta(min_length=1, max_length=64)]
SessionId = Annotated[str, Meta(min_length=1, max_length=64)]
DeviceId = SessionId
CallId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
NodeName = Annotated[str, Meta(min_length=1, max_length=128)]


class Command(Struct, forbid_unknown_fields=True):
    """One command on the control channel, as an operator may write it by hand."""

    cmd: Literal[
        "kick", "ban", "unban", "expire", "drain", "resume", "settings", "words", "broadcasts", "ping", "whose"
    ]
    user: UserId | None = None
    minutes: Annotated[int, Meta(ge=1, le=MINUTES_MAX)] | None = None
    reason: Annotated[str, Meta(max_length=200)] = ""
    node: NodeName | None = None
    call: CallId | None = None
    session: SessionId | None = None
    device: DeviceId | None = None


_decode = msgspec.json.Decoder(Command).decode

BY_ONE_NODE = frozenset({"kick", "ban", "unban", "expire"})


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as it answered, or as its lease alone tells. Times are Unix ms of the store."""

    node: str
    incarnation: str
    lease_ends_ms: int
    answered: bool
    connections: int
    sessions: int
    draining: bool
    uptime_s: float
    version: str
    messages_per_s: float
    logins_per_s: float


class Control:
    """What admins can do about sessions and nodes."""

    def __init__(self, store: Store, drops: Drops) -> None:
        self._store = store
        self._drops = drops

    async def kick(
        self,
        *,
        users: Sequence[str] = (),
        session: tuple[str, str] | None = None,
        device: tuple[str, str] | None = None,
        reason: str = "",
    ) -> Acknowledgement:
        """Drops all sessions of users, or one ``(user, session id)``, or one ``(user, device id)``."""
        keys, told = self._store.keys, reason or "kicked"
        if session is not None:
            user, wanted = session
            return await self._drops.perform(
                [user], lambda user, call: drops.kick(keys, user, call, told, "session", wanted)
            )
        if device is not None:
            user, wanted = device
            return await self._drops.perform(
                [user], lambda user, call: drops.kick(keys, user, call, told, "device", wanted)
            )
        return await self._drops.perform(users, lambda user, call: drops.kick(keys, user, call, told))

    async def kick_whoever(
        self, *, session: str | None = None, device: str | None = None, reason: str = ""
    ) -> Acknowledgement:
        """Drops the session, or all sessions of the device, of that id, whoever's it is: every node is asked.

        Raises:
            Refused: 1002, several users have a device of that id.
        """
        started = time.monotonic()
        answers, silent = await self._ask("whose", session=session, device=device)
        users = sorted({user for answer in answers for user in answer["users"]})
        if len(users) > 1:
            raise Refused(PARAMETER_INVALID, "several users have a device of this id: name one of them", "user")
        done = Acknowledgement()
        if users:
            done = await self.kick(
                session=(users[0], session) if session is not None else None,
                device=(users[0], device) if device is not None else None,
                reason=reason,
            )
        # Who did not say whose it is may hold it.
        return dataclasses.replace(
            done,
            nodes_answered=sorted({*done.nodes_answered, *(answer["node"] for answer in answers)}),
            nodes_silent=sorted({*done.nodes_silent, *silent}),
            took_ms=round((time.monotonic() - started) * 1000, 1),
        )

    async def nodes(self) -> list[NodeRecord]:
        """Every node with a lease, and what it says of itself."""
        answers = {answer["node"]: answer for answer in await self.ask("ping")}
        listed, now = await self._store.execute_all([nodes.leases(self._store.keys), nodes.time(self._store.keys)])
        now_ms = nodes.parse_time(now)
        found = []
        for lease in nodes.parse_leases(listed):
            if lease.ends_at <= now_ms:
                continue
            answer = answers.get(lease.incarnation, {})
            found.append(
                NodeRecord(
                    lease.incarnation.rpartition(".")[0],
                    lease.incarnation,
                    lease.ends_at,
                    bool(answer),
                    answer.get("connections", 0),
                    answer.get("sessions", 0),
                    answer.get("draining", False),
                    answer.get("uptime_s", 0.0),
                    answer.get("version", ""),
                    answer.get("messages_per_s", 0.0),
                    answer.get("logins_per_s", 0.0),
                )
            )
        return sorted(found, key=lambda record: record.incarnation)

    async def drain(self, node: str) -> list[str]:
        """Asks a node to send its clients away and take no new ones; returns the incarnations that do.

        Raises:
            Refused: 1002, no live node of that name.
        """
        return await self._ask_node("drain", node)

    async def resume(self, node: str) -> list[str]:
        """Asks a drained node to take clients again; returns the incarnations that do."""
        return await self._ask_node("resume", node)

    async def _ask_node(self, cmd: str, node: str) -> list[str]:
        live = await live_nodes(self._store)
        if not any(_names(node, incarnation) for incarnation in live):
            raise Refused(PARAMETER_INVALID, f"no live node {node}", "node")
        return sorted(answer["node"] for answer in await self.ask(cmd, node))

    async def ask(self, cmd: str, node: str | None = None) -> list[dict[str, Any]]:
        """Publishes a command and collects the answers of the live nodes it concerns."""
        answers, _ = await self._ask(cmd, node)
        return answers

    async def _ask(
        self, cmd: str, node: str | None = None, **about: str | None
    ) -> tuple[list[dict[str, Any]], set[str]]:
        """(the answers, the live nodes that gave none)."""
        call = uuid4().hex
        keys = self._store.keys
        missing = {each for each in await live_nodes(self._store) if node is None or _names(node, each)}
        named = {name: value for name, value in {"node": node, **about}.items() if value is not None}
        message = {"cmd": cmd, "call": call, **named}
        await self._store.execute(Call(keys.nodes_place, ("PUBLISH", names.CONTROL, orjson.dumps(message))))
        partition = keys.partition(call)
        key = keys.reply(partition, call)
        deadline = time.monotonic() + ANSWER_WAIT_S
        answers: list[dict[str, Any]] = []
        async with self._store.dedicated(partition) as connection:
            while missing and time.monotonic() < deadline:
                popped = await connection.execute_command("BLPOP", key, poll_s(self._store))
                if popped is not None:
                    answer = orjson.loads(popped[1])
                    missing.discard(answer["node"])
                    answers.append(answer)
        return answers, missing


def _names(node: str, incarnation: str) -> bool:
    return node in (incarnation, incarnation.rpartition(".")[0])


class ControlReceiver:
    """Hears the control channel on one node.

    Args:
        context: this node.
        acts: what commands by hand are carried out with.
        state: what this node says of itself to ``ping``.
        drain: sends clients away; resume: takes them again.
        reread_words: reads the profanity words again; reread_broadcasts: the broadcasts.
    """

    def __init__(
        self,
        context: NodeContext,
        acts: tuple[Control, Bans, Tokens],
        state: Callable[[], dict[str, Any]],
        drain: Callable[[], None],
        resume: Callable[[], None],
        reread_words: Callable[[], None],
        reread_broadcasts: Callable[[], None],
    ) -> None:
        self._context = context
        self._control, self._bans, self._tokens = acts
        self._state = state
        self._on_node: dict[str, Callable[[], None]] = {
            "ping": lambda: None,
            "whose": lambda: None,
            "drain": drain,
            "resume": resume,
            "settings": self.reread_settings,
            "words": reread_words,
            "broadcasts": reread_broadcasts,
        }

    def received(self, payload: bytes) -> None:
        """One message on the control channel; what cannot be understood is logged, never raised."""
        METRICS.control_commands += 1
        try:
            command = _decode(payload)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            # msgspec lets UnicodeDecodeError and RecursionError through.
            log.warning(
                "a control command was not understood",
                reason=str(error),
                command=payload[:200].decode("utf-8", "replace"),
            )
            return
        if command.cmd in BY_ONE_NODE:
            if command.user is None:
                log.warning("a control command names no user", cmd=command.cmd)
                return
            self._context.spawn(self._run_once(command, payload))
            return
        if command.node is not None and not _names(command.node, self._context.bus.incarnation):
            return
        self._on_node[command.cmd]()
        if command.call is not None:
            self._answer(command.call, self._whose(command) if command.cmd == "whose" else self._state())

    def _whose(self, command: Command) -> dict[str, Any]:
        """Which users have the session, or a device, of that id here."""
        hub = self._context.hub
        if command.session is not None:
            session = hub.sessions.get(command.session)
            return {"users": [session.user] if session is not None else []}
        if command.device is None:
            return {"users": []}
        # Two are as good as all of them: the caller has to say whom it means.
        having = {session.user for session in hub if session.device == command.device}
        return {"users": sorted(having)[:2]}

    def reread_settings(self) -> None:
        """Reads the live settings again."""
        self._context.bus.call(self._context.settings.read(), self._settings_read)

    def _settings_read(self, _: object, reply: Any) -> None:
        if isinstance(reply, Exception):
            # They are read again at the next renewal of the lease.
            return
        try:
            self._context.settings.take(reply)
        except (msgspec.MsgspecError, ValueError) as error:
            log.error("the live settings in the store are damaged; the last good ones stay", reason=str(error))

    def _answer(self, call: str, answer: dict[str, Any]) -> None:
        bus = self._context.bus
        bus.tell(drops.answer(self._context.keys, call, call, bus.incarnation, answer))

    async def _run_once(self, command: Command, payload: bytes) -> None:
        """Every node hears a command by hand; the one that wins the claim on it carries it out."""
        call = command.call or hashlib.blake2b(payload, digest_size=16).hexdigest()
        try:
            if not await self._context.store.execute(drops.once(self._context.keys, call)):
                return
            acknowledgement = await self._act(command)
        except StoreError as error:
            log.warning("a control command could not be carried out", cmd=command.cmd, reason=str(error))
            return
        log.info("a control command was carried out", cmd=command.cmd, user=command.user, **acknowledgement)
        if command.call is not None:
            self._answer(command.call, acknowledgement)

    async def _act(self, command: Command) -> dict[str, Any]:
        assert command.user is not None
        users = [command.user]
        if command.cmd == "unban":
            return {"lifted": await self._bans.unban(users)}
        if command.cmd == "ban":
            done = await self._bans.ban(users, minutes=command.minutes, reason=command.reason)
        elif command.cmd == "expire":
            # Tokens bear the store's time; all that have been issued by now.
            done = await self._tokens.expire(users, await self._context.store.now_ms() + 1)
        else:
            done = await self._control.kick(users=users, reason=command.reason)
        return {
            "sessions_closed": done.sessions_closed,
            "nodes_answered": done.nodes_answered,
            "nodes_silent": done.nodes_silent,
            "took_ms": done.took_ms,
        }
