"""The Python client: one user's connection, kept up; messages sent and received, each once and in order."""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from gateway.client import errors, upkeep
from gateway.client.errors import Closed, OutcomeUnknown, QueueFull, Stopped, Unavailable
from gateway.client.incoming import Acks, AckWhen, Cursors, Incoming
from gateway.client.link import Broken, Fields, Link
from gateway.client.lists import Allowlist, Blocklist, Friends, Sessions
from gateway.client.messages import Message, Recalled, Sent, Updated
from gateway.client.outgoing import Outgoing
from gateway.client.presence import Presence, Watched
from gateway.client.upkeep import Peer, State, Token, Upkeep
from gateway.client.users import Users
from gateway.protocol.codes import Code
from gateway.protocol.pushes import SessionChanged

logger = logging.getLogger("gateway.client")

HANDLER_S = 5.0
"""As long as `close` waits for a handler that runs."""

FLUSH_S = 2.0
"""As long as it takes to tell what was taken over last; what is not told comes again."""

_AGAIN_S = 1.0
_H = TypeVar("_H", bound=Callable[..., Any])


class Client:
    """One device of one user.

        async with Client("wss://chat.example.com", token=get_token, device="laptop") as client:
            await client.send("bob", {"text": "hello"})
            async for message in client:
                print(message.sender, message.body)

    Handlers of messages may be coroutine functions and run one at a time, in order. All other handlers are plain
    functions, called at once from the event loop.

    Args:
        url: of the client port: ws:// or wss://, with or without the socket path.
        token: the access token, or a (coroutine) function that gives one, asked before every attempt.
        device: an id of the app's own choosing, kept over restarts; without one nothing is remembered of what was
            taken over.
        platform: ios, android, web, desktop, mini or other.
        cursors: keeps the cursor over restarts of the app; None = the gateway's memory of the device's acks is enough.
        ack: when a message counts as taken over: "handled" = its handler has returned, or the next one was asked for;
            "received" = at once.
        tls: for wss, where the machine's own trust is not enough.
        heartbeat_s: how often to ask whether the gateway is still there; None = as it says itself.
        connect_s: how long `connect` tries while nobody is there; None = for ever.
        attempt_s: of one attempt to connect.
        answer_s: how long a command waits for its answer.
        send_s: how long a message is tried in all, waiting included; at most 540.
        queue_max: messages that may wait to be sent.
        in_flight: how many of them to one recipient may be out at once; over 1, one that is tried again may come after
            later ones.
        incoming_max: messages that may wait to be handled; the rest waits at the gateway.

    Attributes:
        session: id of the present or last session; "" before the first welcome. `user`, `device` and `node` likewise.
        blocklist, allowlist, friends, sessions: the user's own lists.
        users: names and avatars of other users, cached.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        device: str | None = None,
        platform: str = "other",
        cursors: Cursors | None = None,
        ack: AckWhen = "handled",
        tls: ssl.SSLContext | None = None,
        heartbeat_s: float | None = None,
        connect_s: float | None = 30.0,
        attempt_s: float = 10.0,
        answer_s: float = 10.0,
        send_s: float = 300.0,
        queue_max: int = 1000,
        in_flight: int = 1,
        incoming_max: int = 10_000,
    ) -> None:
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"url: {url} must begin with ws:// or wss://")
        if not token:
            raise ValueError("token: empty; give one, or a function that gets one")
        if not 0 < send_s <= 540:
            raise ValueError("send_s: a gateway recognises a repeat for ten minutes, so at most 540")
        if ack not in ("handled", "received"):
            raise ValueError('ack: must be "handled" or "received"')
        self.session = ""
        self.user = ""
        self.device = device
        self.node = ""
        self._answer_s = answer_s
        self._connect_s = connect_s
        self._cursors = cursors
        self._asking = 0
        self._asking_max = queue_max
        self._upkeep = Upkeep(Peer(url, token, device, platform, tls, heartbeat_s, attempt_s, answer_s), self)
        self._acks = Acks(self._upkeep, cursors, self.fault)
        self._incoming = Incoming(self._upkeep, self._acks, limit=incoming_max, ack_when=ack, fault=self.fault)
        self._outgoing = Outgoing(
            self._upkeep, queue_max=queue_max, in_flight=in_flight, answer_s=answer_s, send_s=send_s
        )
        self._watched = Watched(self.ask, self._presence_changed, self.fault)
        self._handlers: dict[str, list[Callable[..., Any]]] = {}
        self._acking: asyncio.Task[None] | None = None
        self._pumping: asyncio.Task[None] | None = None
        self._iterated = False
        self._waiting_for_next = False
        self.blocklist = Blocklist(self)
        self.allowlist = Allowlist(self)
        self.friends = Friends(self)
        self.sessions = Sessions(self)
        self.users = Users(self)

    # Life.

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Waits for the first welcome; from then on the connection is kept up. A client that has stopped starts again.

        Raises:
            Stopped: refused for good; one of its subclasses says why.
            Unreachable: nobody let this client in for ``connect_s``.
        """
        begins = self._upkeep.stopped is not None
        if self._acking is None:
            self._acking = asyncio.create_task(self._acks.run())
        self._incoming.resting = False
        self._start_pump()
        try:
            await self._upkeep.connect(self._connect_s)
        except BaseException:
            if begins:
                await self.close()
            raise

    async def close(self) -> None:
        """Says goodbye. A handler that runs is waited for, unless it is the one that calls."""
        self._incoming.rest()
        if self._pumping is not None and self._pumping is not asyncio.current_task():
            await asyncio.wait([self._pumping], timeout=HANDLER_S)
            if not self._pumping.done():
                logger.warning("a handler of messages still runs after %g s: it is cancelled", HANDLER_S)
            await _cancelled(self._pumping)
        if self._acking is not None:
            await _cancelled(self._acking)
            self._acking = None
        with suppress(TimeoutError):
            # A link that has gone silent takes nothing any more.
            async with asyncio.timeout(FLUSH_S):
                await self._acks.flush()
        self._watched.stop()
        await self.users.close()
        await self._upkeep.close()

    async def stopped(self) -> Stopped | None:
        """Waits until the client has ended; returns why, None where the app closed it."""
        why = await self._upkeep.ended()
        return None if isinstance(why, Closed) else why

    @property
    def state(self) -> State:
        """connecting, live, waiting (between two attempts) or stopped."""
        return self._upkeep.state

    @property
    def duplicates(self) -> int:
        """Messages that came again and were not handed over."""
        return self._incoming.duplicates

    # Sending.

    async def send(
        self,
        to: str,
        body: Any,
        kind: str = "text",
        *,
        ephemeral: bool = False,
        key: str | None = None,
        retry: bool = False,
    ) -> Sent:
        """Sends a direct message; returns when it is stored.

        Waits while there is no connection, and tries again, as the same message, where the outcome of a try is unknown.
        Messages to one recipient keep their order.

        Args:
            body: anything that is JSON.
            ephemeral: for whoever is connected now, stored nowhere, tried once.
            key: identifies the message among this user's, over restarts of the app; made up where there is none.
            retry: it may have been sent before, with this key and in the last ten minutes: it is then stored once.

        Raises:
            Refused: the gateway said no; Blocked, NotAllowed, NotFriends, Muted, NoSuchUser … say why.
            RateLimited, Unavailable: not stored, and ``send_s`` is over.
            OutcomeUnknown: it may have been stored or not, and ``send_s`` is over or the client stopped.
            QueueFull: too many wait already; nothing was sent.
            Stopped: the client has ended; nothing was sent.
            TypeError: the body is no JSON.
            ValueError: a retry without its key.
        """
        if retry and key is None:
            raise ValueError("retry: a retry needs the key of the first try")
        if ephemeral:
            return await self._outgoing.once(to, body, kind)
        return await self._outgoing.send(to, body, kind, key, retry=retry)

    async def ask(self, type_: str, **fields: Any) -> Fields:
        """Any command of the protocol: sent once, over the present or the next link; the fields of its reply.

        Raises:
            GatewayError: refused, or (OutcomeUnknown) the answer never came.
            QueueFull: too many wait already.
            Stopped: the client has ended.
        """
        if self._asking >= self._asking_max:
            raise QueueFull(f"{self._asking_max} commands wait for their answer")
        self._asking += 1
        try:
            try:
                async with asyncio.timeout(self._answer_s):
                    link = await self._upkeep.live()
            except TimeoutError:
                raise Unavailable(Code.STORE_UNAVAILABLE, "not connected in time") from None
            try:
                answer = await link.ask(type_, fields, self._answer_s)
            except (Broken, TimeoutError) as error:
                raise OutcomeUnknown(Code.OUTCOME_UNKNOWN, str(error) or "no answer in time") from None
        finally:
            self._asking -= 1
        if answer["type"] == "error":
            raise errors.refusal(answer)
        return answer

    async def ping(self) -> int:
        """The gateway's time, Unix ms; raises as `ask` does."""
        return int((await self.ask("ping"))["server_time"])

    # Receiving.

    def on_message(self, handler: _H) -> _H:
        """``handler(message)`` gets every message; messages wait (``incoming_max``) until there is one.

        One that raises is told to `on_error`, and the message counts as handled.
        """
        if self._iterated:
            raise RuntimeError("the messages are being iterated over: on_message and `async for` exclude each other")
        self._incoming.handlers[Message] = handler
        self._start_pump()
        return handler

    def on_recalled(self, handler: _H) -> _H:
        """``handler(recalled)`` is called in order with messages, also while `async for` waits for the next."""
        self._incoming.handlers[Recalled] = handler
        return handler

    def on_updated(self, handler: _H) -> _H:
        """``handler(updated)``, likewise."""
        self._incoming.handlers[Updated] = handler
        return handler

    def __aiter__(self) -> Self:
        """Every message, until the client ends; asking for the next one takes over the one before."""
        return self

    async def __anext__(self) -> Message:
        if self._waiting_for_next or self._incoming.handlers[Message] is not None:
            raise RuntimeError("one `async for`, or on_message: messages are handed over once")
        self._iterated = self._waiting_for_next = True
        try:
            message = await self._incoming.next_message()
        finally:
            self._waiting_for_next = False
        if message is None:
            raise StopAsyncIteration
        return message

    # Presence.

    async def watch(self, users: str | Iterable[str]) -> dict[str, Presence]:
        """Watches users until `unwatch`, over every break; returns their present state. Raises as `ask` does."""
        return await self._watched.watch(users)

    async def unwatch(self, users: str | Iterable[str]) -> None:
        """No longer; raises as `ask` does, and nothing of them is told all the same."""
        await self._watched.unwatch(users)

    def presence(self, user: str) -> Presence | None:
        """What was told last of a watched user."""
        return self._watched.get(user)

    # What happens.

    def on_state(self, handler: _H) -> _H:
        """``handler(state, why)``: the connection's state has changed."""
        return self._on("state", handler)

    def on_presence(self, handler: _H) -> _H:
        """``handler(presence)``: a watched user came, went or changed platforms."""
        return self._on("presence", handler)

    def on_session(self, handler: _H) -> _H:
        """``handler(change)``: another device of this user came or went."""
        return self._on("session", handler)

    def on_resumed(self, handler: _H) -> _H:
        """``handler(recovered)``, at every welcome: False = something that this device had not taken over is lost."""
        return self._on("resumed", handler)

    def on_error(self, handler: _H) -> _H:
        """``handler(error)``: something failed that nobody waits for; it is in the log as well."""
        return self._on("error", handler)

    def _on(self, event: str, handler: _H) -> _H:
        if inspect.iscoroutinefunction(handler):
            raise TypeError(f"on_{event}: a plain function; start a task in it to do more")
        self._handlers.setdefault(event, []).append(handler)
        return handler

    def _tell(self, event: str, *given: Any) -> None:
        for handler in self._handlers.get(event, ()):
            try:
                handler(*given)
            except Exception:
                logger.exception("a handler of on_%s failed", event)

    def _presence_changed(self, presence: Presence) -> None:
        self._tell("presence", presence)

    def _start_pump(self) -> None:
        if self._pumping is not None and not self._pumping.done():
            return
        if self._acking is not None and self._incoming.handlers[Message] is not None:
            self._pumping = asyncio.create_task(self._incoming.pump())

    # What the link's upkeep tells and asks (upkeep.Owner).

    async def since(self) -> str | None:
        cursor = self._incoming.cursor
        if cursor is None and self._cursors is not None:
            cursor = await upkeep.asked(self._cursors.load, self._answer_s)
        return cursor

    def welcomed(self, link: Link) -> None:
        welcome = link.welcome
        self.session, self.user = welcome["session"], welcome["user"]
        self.device, self.node = welcome["device"], welcome["node"]
        self._resumed(welcome)
        if welcome["recovered"]:
            self._acks.again()

    def take(self, push: Fields) -> None:
        kind = push.get("type")
        if kind in ("message", "recalled", "updated"):
            self._incoming.take(push)
        elif kind == "presence":
            self._watched.pushed(push)
        elif kind == "session":
            self._tell("session", msgspec.convert(push, SessionChanged))
        elif kind == "resync":
            self._resumed(push)
        elif kind == "error" and push.get("code") in (Code.STORE_UNAVAILABLE, Code.SENDING_TOO_FAST):
            # Of what has no id, only an ack can be refused so; the next one says the same and more.
            wait_s = max(_AGAIN_S, (push.get("retry_after_ms") or 0) / 1000)
            asyncio.get_running_loop().call_later(wait_s, self._acks.again)

    def fault(self, error: Exception) -> None:
        # Where an error of the app's own came from is worth knowing; the client's own say it all.
        foreign = type(error).__module__ != errors.__name__
        logger.warning("%s: %s", type(error).__name__, error, exc_info=error if foreign else None)
        self._tell("error", error)

    def moved(self, state: State, why: str) -> None:
        if state != "live":
            self._watched.stop()
        if state == "stopped":
            self._incoming.stopped()
        self._tell("state", state, why)

    def _resumed(self, start: Fields) -> None:
        self._incoming.welcomed(start["cursor"])
        self._watched.link_changed()
        self._tell("resumed", start["recovered"])


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
