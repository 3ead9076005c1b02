"""What the store tests say to Redis: sessions that come and go, and ears on the channels that Functions publish to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import orjson

from gateway.core.session import Session, SessionLimits
from gateway.store import accounts, drops, messages, sessions
from gateway.store.call import Call
from gateway.store.drops import Drop
from gateway.store.link import Link
from gateway.store.pipeline import LinkTimes
from gateway.store.relaying import RelayLimits, answer_of, relay_many
from gateway.store.store import Store

NODE = "a.1"
OTHER = "b.1"
DAY_MS = 86_400_000
RETENTION_MS = 7 * DAY_MS
NOW_MS = 1_753_000_000_000

TIMES = LinkTimes(timeout_s=2.0, probe_s=5.0, probe_timeout_s=2.0, reconnect_min_s=0.01, reconnect_max_s=0.05)

_LIMITS = SessionLimits(0, 0, 10, 1 << 20)


class SilentWire:
    """A session's shell that nobody listens to: these sessions live in Redis only."""

    address = "192.0.2.7"
    peer = "192.0.2.7:5000"

    def wake(self) -> None: ...
    def close(self, closing: object) -> None: ...
    def admitted(self) -> None: ...
    def refused(self, refusal: object) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


def session(
    user: str,
    session_id: str,
    *,
    device: str | None = None,
    platform: str = "web",
    issued_at: int = NOW_MS,
    jti: str = "",
) -> Session:
    """A session as the node has it when it asks for ``connect``."""
    made = Session(session_id, SilentWire(), _LIMITS, {}, 0.0)
    made.user, made.device, made.platform, made.issued_at, made.jti = user, device, platform, issued_at, jti
    return made


class Acts:
    """The store's calls in a test's words."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys = store.keys

    async def do(self, call: Call) -> Any:
        return await self.store.execute(call)

    async def raw(self, user: str, *command: Any) -> Any:
        """A plain Redis command on the server that holds the user."""
        return await self.store.execute(Call(self.keys.partition(user), command))

    async def register(self, *users: str) -> None:
        for user in users:
            assert (await self.do(accounts.register(self.keys, user)))[0] == 0

    async def connect(
        self,
        who: Session,
        node: str = NODE,
        *,
        policy: str = "unlimited",
        sessions_max: int = 16,
        since: tuple[str, str] | None = None,
        retention_ms: int = RETENTION_MS,
    ) -> list[Any]:
        """The reply; a session that is let in remembers what it needs to be reclaimed."""
        reply = await self.do(
            sessions.connect(
                self.keys,
                who,
                node,
                device_policy=policy,
                sessions_max=sessions_max,
                since=since,
                retention_ms=retention_ms,
            )
        )
        if reply[0] == 0:
            who.connected_at, who.epoch, who.order = reply[1], reply[2].decode(), reply[7].decode()
        return list(reply)

    async def joined(self, user: str, session_id: str, node: str = NODE, **about: Any) -> Session:
        """A session that has been let in."""
        options = {name: about.pop(name) for name in ("policy", "sessions_max") if name in about}
        who = session(user, session_id, **about)
        reply = await self.connect(who, node, **options)
        assert reply[0] == 0, reply
        return who

    async def reclaim(self, who: Session, node: str = NODE, *, policy: str = "unlimited") -> list[Any]:
        return list(await self.do(sessions.reclaim(self.keys, who, node, device_policy=policy)))

    async def disconnect(self, who: Session, node: str = NODE) -> int:
        return int(await self.do(sessions.disconnect(self.keys, who.user, who.id, node)))

    async def online(self, user: str) -> list[str]:
        """The ids of the user's sessions."""
        return sorted(
            record.session for record in sessions.parse_list(await self.do(sessions.list_of(self.keys, user)))
        )

    async def send(
        self,
        sender: str,
        to: str,
        *,
        flags: str = "",
        mid: str = "m",
        body: str = '"hello"',
        inbox_max: int = 100,
        inbox_bytes_max: int = 1 << 26,
        retention_ms: int = RETENTION_MS,
    ) -> list[Any]:
        """relay's reply."""
        tail = f'"mid":"{mid}","from":"{sender}","to":"{to}","kind":"text","body":{body}}}'.encode()
        place, command = messages.relay(
            self.keys, sender, to, flags, mid, tail, inbox_max, retention_ms, NOW_MS, inbox_bytes_max
        )
        return list(await self.do(Call(place, command)))

    async def send_many(
        self,
        *sends: tuple[str, str, str, str],
        inbox_max: int = 100,
        inbox_bytes_max: int = 1 << 26,
        retention_ms: int = RETENTION_MS,
    ) -> list[Any]:
        """relay_many's answers to (sender, recipient, flags, mid) each."""
        keys: list[str] = []
        arguments: list[str] = []
        for sender, to, flags, mid in sends:
            keys += (self.keys.user(to).user, self.keys.user(to).inbox)
            tail = f'"mid":"{mid}","from":"{sender}","to":"{to}","kind":"text","body":"hello"}}'
            arguments += (sender, flags.replace("e", f"e{NOW_MS}"), tail)
        command = relay_many(keys, RelayLimits(inbox_max, retention_ms, inbox_bytes_max), arguments)
        reply = await self.do(Call(self.keys.partition(sends[0][1]), command))
        return [answer_of(line) for line in reply.split(b"\n")]

    async def entries(self, user: str, count: int = 1000) -> list[messages.Entry]:
        """The inbox."""
        return messages.parse_read(await self.do(messages.read(self.keys, user, (0, 0), count)))

    async def inbox(self, user: str) -> list[str]:
        """The mids waiting."""
        return [orjson.loads(b"{" + entry.tail)["mid"] for entry in await self.entries(user)]

    async def ack(
        self,
        user: str,
        device: str,
        epoch: str,
        place: tuple[int, int],
        *,
        retention_ms: int = RETENTION_MS,
        trim: bool = False,
    ) -> int:
        return int(await self.do(messages.ack(self.keys, user, device, epoch, place, retention_ms, trim)))

    async def field(self, user: str, name: str) -> str | None:
        value = await self.raw(user, "HGET", self.keys.user(user).user, name)
        return None if value is None else value.decode()

    @asynccontextmanager
    async def hearing(self, user: str, *incarnations: str) -> AsyncIterator[list[Ear]]:
        """An ear on each node's channel in the user's partition."""
        node_channel = self.keys.user(user).node_channel
        async with self._ears(user, [[node_channel + incarnation] for incarnation in incarnations]) as ears:
            yield ears

    @asynccontextmanager
    async def watching(self, user: str) -> AsyncIterator[Ear]:
        """An ear on the channel that watchers' nodes are subscribed to."""
        async with self._ears(user, [[self.keys.user(user).watch_channel]]) as ears:
            yield ears[0]

    @asynccontextmanager
    async def _ears(self, user: str, channels: Iterable[list[str]]) -> AsyncIterator[list[Ear]]:
        master = self.store.topology.master(self.keys.partition(user))
        ears = [Ear(link_to(master.endpoint, each)) for each in channels]
        try:
            for ear in ears:
                await ear.listen()
            yield ears
        finally:
            for ear in ears:
                await ear.link.close()


def link_to(endpoint: Any, channels: list[str] | None = None, **options: Any) -> Link:
    """A hot link with nothing behind it; what is not said is ignored."""

    def ignore(*_: object) -> None: ...

    settings: dict[str, Any] = {
        "pending_max": 1000,
        "channels": lambda: (channels or [], []),
        "probe_channel": "",
        "on_push": ignore,
        "on_up": ignore,
        "on_down": ignore,
        "on_unsettled": ignore,
        "on_missing": ignore,
        "on_data": ignore,
    }
    times = options.pop("times", TIMES)
    return Link(endpoint, times, **(settings | options))


async def asked(link: Link, *command: Any) -> Any:
    """A command over a hot link, and its reply; an exception of store.errors is returned, not raised."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    link.post(command, lambda _, reply: answer.set_result(reply))
    return await asyncio.wait_for(answer, 10)


class Ear:
    """Hears channels through a hot link of its own."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._heard: list[bytes] = []
        self._up = asyncio.Event()
        link.on_push = self._heard.append
        link.on_up = lambda _: self._up.set()

    async def listen(self) -> None:
        self.link.start()
        await asyncio.wait_for(self._up.wait(), 5)

    async def heard(self) -> list[bytes]:
        """Everything published since the last time: what comes after a PING's answer was published after it."""
        await asked(self.link, "PING")
        heard = self._heard[:]
        self._heard.clear()
        return heard

    async def drops(self) -> list[Drop]:
        return [drops.parse(payload[1:]) for payload in await self.heard() if payload[:1] == b"d"]

    async def said(self, letter: bytes, kind: type[Any]) -> list[Any]:
        """The pushes behind one letter, decoded strictly into the wire's own struct."""
        mine = [payload for payload in await self.heard() if payload[:1] == letter]
        return [exactly(payload.split(b"\n", 2)[2], kind) for payload in mine]


def exactly(push: bytes, kind: type[Any]) -> Any:
    """Decodes a push that Lua composed, and holds that it has the struct's fields, no fewer and no others."""
    decoded = msgspec.json.decode(push, type=kind, strict=True)
    raw = orjson.loads(push)
    assert raw.pop("type") == kind.__struct_config__.tag
    names = {field.encode_name for field in msgspec.structs.fields(kind)}
    optional = {field.encode_name for field in msgspec.structs.fields(kind) if not field.required}
    assert names - optional <= raw.keys() <= names, raw
    return decoded
