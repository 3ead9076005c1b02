"""A store for the state machine, and ears on everything that is published in it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import orjson
import uvloop

from gateway.protocol import pushes
from gateway.services.pairs import Pairs
from gateway.store import drops
from gateway.store.call import Call
from gateway.store.store import Store
from tests.properties.policy_model import LIST_MAX
from tests.store.acts import Acts, Ear, exactly, link_to

USERS = ("ann", "bob+1_x=@y.z-", "cat", "dan")
NODES = ("a.1", "b.1")
FAR_FUTURE_MS = 9_000_000_000_000
T = TypeVar("T")


class World:
    """A store, an ear on each node's channels and one on the watchers', and a loop to run them in."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._loop = self._runner.get_loop()
        self.store = self.run(Store.open(url, partitions=16))
        self.acts = Acts(self.store)
        self.friends = Pairs(self.store, LIST_MAX)
        keys = [self.store.keys.user(name) for name in USERS]
        self._ears = {node: self._ear([user.node_channel + node for user in keys]) for node in NODES}
        self._watchers = self._ear([user.watch_channel for user in keys])

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def _ear(self, channels: list[str]) -> Ear:
        async def listening() -> Ear:
            ear = Ear(link_to(self.store.topology.masters[0].endpoint, sorted(set(channels))))
            await ear.listen()
            return ear

        return self.run(listening())

    def empty(self) -> None:
        self.run(self.store.topology.masters[0].execute("FLUSHALL"))
        self.look([])

    def look(self, calls: list[Call]) -> tuple[Counter[tuple[object, ...]], list[Any]]:
        """Everything published since the last time, in the model's words, and the replies of calls that only look.

        They travel in one batch on a hot link: looking must cost less than acting.
        """
        replies: list[Any] = []
        for call in calls:
            self._watchers.link.post(call.command, lambda _, reply: replies.append(reply))
        return self.run(self._heard()), replies

    async def _heard(self) -> Counter[tuple[object, ...]]:
        everything = await asyncio.gather(*(ear.heard() for ear in (*self._ears.values(), self._watchers)))
        found: Counter[tuple[object, ...]] = Counter()
        for node, payloads in zip((*self._ears, None), everything, strict=True):
            for payload in payloads:
                found[_read(node, payload)] += 1
        return found

    def close(self) -> None:
        async def close() -> None:
            for ear in (*self._ears.values(), self._watchers):
                await ear.link.close()
            await self.store.close()

        self.run(close())
        self._runner.close()


def _read(node: str | None, payload: bytes) -> tuple[object, ...]:
    """A published payload in the model's words; what the wire's structs do not know is an error."""
    letter, rest = payload[:1].decode(), payload[1:]
    if letter == "d":
        drop = drops.parse(rest)
        return ("d", node, drop.user, drop.sessions, drop.close_code, drop.code, drop.all)
    user, *parts = rest.split(b"\n", 2)
    name = user.decode()
    if letter == "m":
        message = exactly(parts[1], pushes.Message)
        assert (message.to, parts[0] == b"") == (name, message.cursor is None)
        return ("m", node, name, message.mid, message.cursor is None)
    if letter == "o":
        place, push = parts[1].split(b"\n", 1)
        message = exactly(push, pushes.Message)
        assert message.cursor is None if place == b"" else (message.cursor or "").endswith("." + place.decode())
        return ("o", node, name, parts[0].decode(), message.mid, place != b"")
    if letter == "e":
        change = exactly(parts[1], pushes.SessionChanged)
        assert parts[0].decode() == change.session
        return ("e", node, name, change.event, change.session, change.device, change.platform)
    if letter == "p":
        push = exactly(parts[1], pushes.Presence)
        assert (int(parts[0]), push.user) == (push.version, name)
        return ("p", name, push.online, tuple(push.platforms), push.version)
    if letter == "s":
        return ("s", node, name, parts[0] == b"1")
    return (letter, name, frozenset(orjson.loads(parts[0])))
