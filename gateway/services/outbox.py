"""What happens, told to the app's own server: who wants to hear of what, and the way into the queue."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec
import structlog

from gateway.config import Config, WebhookEvent
from gateway.core.content import content_json_of
from gateway.core.session import Session
from gateway.metrics import METRICS
from gateway.services.settings import LiveSettings, Settings
from gateway.store import events
from gateway.store.bus import Bus
from gateway.store.errors import StoreError, StoreRefused
from gateway.store.events import Event
from gateway.store.store import Store

log = structlog.get_logger(__name__)

BACKLOG_MAX = 10_000
BACKLOG_BYTES_MAX = 16 * 1024 * 1024
"""Events, and bytes of their data, kept in memory while the store does not take them; more are lost, and counted."""

RETRY_SLICE = 50
"""Events that are tried again in one go: all at once would hold up the relays."""

ONLINE, OFFLINE, LOGGED_OUT = "0", "1", "2"
"""What `user:connection_status` says."""

DIRECT_CHANNEL, SYSTEM_CHANNEL = 1, 6
"""The hosted service's numbers of the kinds of channels."""

SERVER = "Server"
_SYSTEMS = {"ios": "iOS", "android": "Android"}

V1_STATUS = "v1:user_status"
V1_FRIENDSHIP = "v1:friendship"

_json = msgspec.json.Encoder().encode


class Outbox:
    """Queues events. Where nobody wants to hear of something, telling it is one look at an attribute.

    Attributes:
        statuses, messages, server_messages, deletions, friendships, profiles, accounts: whether those are told.
        asks: whether a message is shown to the app's server before it passes.
        checks: whether a message has to stand in line: also while some wait that came when it was so.
        unchecked: how many wait on this node.
    """

    def __init__(self, store: Store, config: Config, settings: Settings) -> None:
        self._store = store
        self._config = config
        self._bus: Bus | None = None
        self._wake: Callable[[], None] = _nothing
        self._backlog: deque[Event] = deque()
        self._backlog_bytes = 0
        self._complained = False
        self._retrying = False
        self.unchecked = 0
        settings.follow(self._choose)

    def _choose(self, live: LiveSettings) -> None:
        config = self._config
        chosen = frozenset(live.webhook_events if config.webhook_url is not None else ())
        self._status_kinds = _kinds(chosen, "user:connection_status", V1_STATUS, config.webhook_v1_status_url)
        self._friendship_kinds = _kinds(chosen, "user:friendship", V1_FRIENDSHIP, config.webhook_v1_friendship_url)
        self.statuses = bool(self._status_kinds)
        self.friendships = bool(self._friendship_kinds)
        self.messages = "message:send" in chosen
        self.server_messages = self.messages and live.webhook_server_messages
        self.deletions = "message:delete" in chosen
        self.profiles = "user:profile_update" in chosen
        self.accounts = "user:deletion_state" in chosen
        self.asks = "direct_channel:pre_messaging" in chosen
        # Those that wait are not overtaken by those that need not be asked about any more.
        self.checks = self.asks or self.unchecked > 0

    # The way into the queue.

    def connect(self, bus: Bus, wake: Callable[[], None]) -> None:
        """From now on events go out over a node's hot link; ``wake`` is called when something was queued."""
        self._bus = bus
        self._wake = wake

    def put(self, event: Event) -> None:
        """Queues an event over the hot link, without waiting; what the store does not take is tried again later."""
        assert self._bus is not None
        call = events.queue(self._store.keys, event, self._config.webhook_queue_max)
        self._bus.call(call, self._queued, event)

    async def add(self, several: Sequence[Event]) -> bool:
        """Queues events of an admin's act, which is done: what the store does not take is tried later, not raised.

        Returns:
            Whether the store took them.
        """
        calls = [events.queue(self._store.keys, event, self._config.webhook_queue_max) for event in several]
        try:
            await self._store.execute_all(calls)
        except StoreError as error:
            for event in several:
                self._keep(event, error)
            return False
        METRICS.webhook_events_queued += len(several)
        self._complained = False
        self._wake()
        return True

    def _queued(self, event: Event, reply: Any) -> None:
        if not isinstance(reply, Exception):
            METRICS.webhook_events_queued += 1
            self._complained = False
            self._wake()
        else:
            self._keep(event, reply)

    def _keep(self, event: Event, fault: Exception) -> None:
        full = len(self._backlog) >= BACKLOG_MAX or self._backlog_bytes >= BACKLOG_BYTES_MAX
        # Without a node nobody would come back to it.
        if self._bus is None or isinstance(fault, StoreRefused) or full:
            self._lose(1, str(fault))
        else:
            # Of an unknown outcome too: told twice with one id is better than not at all.
            self._backlog.append(event)
            self._backlog_bytes += len(event.data)

    def _lose(self, count: int, reason: str) -> None:
        METRICS.webhook_events_unqueued += count
        if not self._complained:
            self._complained = True
            log.error("events for the app's server are lost: they cannot be queued", reason=reason)

    @property
    def waits(self) -> bool:
        """Whether there is anything that the store did not take."""
        return bool(self._backlog)

    async def retry(self) -> None:
        """Queues what the store did not take, some at a time; called now and then."""
        if self._retrying:
            return
        self._retrying = True
        some: list[Event] = []
        try:
            left = len(self._backlog)
            while left > 0 and self._backlog:
                some = [self._backlog.popleft() for _ in range(min(RETRY_SLICE, len(self._backlog)))]
                self._backlog_bytes -= sum(len(event.data) for event in some)
                left -= len(some)
                if not await self.add(some):
                    return
        except asyncio.CancelledError:
            # The node stops; what is left is counted.
            self._backlog.extend(some)
            raise
        finally:
            self._retrying = False

    def close(self) -> None:
        """No more tries: what is left is lost, and counted."""
        if self._backlog:
            self._lose(len(self._backlog), "the node stops")
            self._backlog.clear()

    # What there is to tell.

    def online(self, session: Session, incarnation: str) -> None:
        """A session is live."""
        about = {
            "status": ONLINE,
            "userId": session.user,
            "os": system_of(session.platform),
            "clientIp": session.wire.peer,
            "sessionId": session.id,
        }
        self._put_status(session.user, about, incarnation)

    def offline(self, user: str, session_id: str, incarnation: str, status: str = OFFLINE) -> None:
        """A session has ended; whoever tells it of the same incarnation tells it with the same id."""
        self._put_status(user, {"status": status, "userId": user, "sessionId": session_id}, incarnation)

    def _put_status(self, user: str, about: dict[str, str], incarnation: str) -> None:
        # "Logged out" is an end as well: a reaper only knows that the session is gone.
        end = "0" if about["status"] == ONLINE else "1"
        told = event_id(about["sessionId"], incarnation, end)
        data = _json(about)
        for kind in self._status_kinds:
            self.put(Event(kind, told, user, data, timed=False))

    def friendship(self, operation: int, user: str, target: str, extra: str | None = None) -> list[Event]:
        """A friendship changed, by the Server API.

        Args:
            operation: 1 request, 2 accepted, 3 refused, 4 removed, 5 added by the server.
            user: who acted, or who had asked where the request was answered.
            target: the other one.
            extra: what goes with a request.
        """
        about: dict[str, Any] = {"operationType": operation, "userId": user, "toUserId": target, "os": SERVER}
        if extra:
            about["extra"] = extra
        told, data = new_id(), _json(about)
        return [Event(kind, told, user, data, timed=False) for kind in self._friendship_kinds]

    def profile(self, user: str, basic: Mapping[str, Any], extended: Mapping[str, Any]) -> Event:
        """Keys of a profile changed; none = it was cleared."""
        about: dict[str, Any] = {"operatorId": user, "operationType": 1 if basic or extended else 0}
        about |= {name: given for name, given in (("userProfile", basic), ("userMetaData", extended)) if given}
        return Event("user:profile_update", new_id(), user, _json(about), timed=False)

    def deletion(self, user: str, operation_id: str, *, restored: bool, code: int = 0) -> Event:
        """What became of one user of a soft deletion or a restoration; ``code`` 0 = done."""
        about = {"operationId": operation_id, "userId": user, "operationType": 2 if restored else 1, "code": code}
        return Event("user:deletion_state", event_id(operation_id, user), user, _json(about), timed=False)

    def recalled(self, sender: str, channel: str, mid: str, *, system: bool, extra: str | None) -> Event:
        """A message was deleted on its sender's behalf."""
        about: dict[str, Any] = {"userId": sender, "channelId": channel, "messageId": mid, "os": SERVER}
        about["channelType"] = SYSTEM_CHANNEL if system else DIRECT_CHANNEL
        if extra:
            about["extra"] = extra
        return Event("message:delete", event_id("delete", mid, channel), sender, _json(about), timed=False)


class Message(msgspec.Struct, frozen=True):
    """A message as the app's server is told of it, or asked about it.

    Attributes:
        body: JSON, as the client gave it.
        profanity: 0 nothing was found, 2 words were replaced, None = not known.
    """

    user: str
    to: str
    kind: str
    body: bytes
    mid: str
    at_ms: int
    system: str
    profanity: int | None = 0
    channel_type: int = DIRECT_CHANNEL

    def data(self, before: bytes = b"") -> bytes:
        """The object that tells it; ``before`` are members that come first."""
        return (
            b'{%b"userId":%b,"channelId":%b,"messageType":%b,"content":%b,"channelType":%d,'
            b'"time":%d,"messageId":"%b","os":"%b"%b}'
        ) % (
            before,
            _json(self.user),
            _json(self.to),
            _json(self.kind),
            content_json_of(self.body),
            self.channel_type,
            self.at_ms,
            self.mid.encode(),
            self.system.encode(),
            b"" if self.profanity is None else b',"profanityType":%d' % self.profanity,
        )

    def event(self) -> Event:
        # One message has one id for every recipient's inbox, so the recipient is part of what identifies the event.
        return Event("message:send", event_id(self.mid, self.to), self.user, self.data())


def system_of(platform: str) -> str:
    """The hosted service's name of a platform; what it has no name for connects by WebSocket like a browser."""
    return _SYSTEMS.get(platform, "Websocket")


def new_id() -> str:
    """An id for what happens once."""
    return str(uuid4())


def event_id(*parts: str) -> str:
    """An id in the form of a UUID, the same for the same parts."""
    digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


def _kinds(chosen: frozenset[WebhookEvent], event: WebhookEvent, older: str, older_url: str | None) -> tuple[str, ...]:
    return (*((event,) if event in chosen else ()), *((older,) if older_url is not None else ()))


def _nothing() -> None:
    pass
