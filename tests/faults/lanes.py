"""What breaks in a chaos run, and when: lanes that work beside each other, each with dice of its own.

What a lane does, for how long, and how long it rests comes from the seed and the lane's name alone. They share no dice,
so that a run is the same plan again, however slow the machine is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from gateway.store.errors import StoreError
from tests.faults.app import App
from tests.faults.ledger import Ledger, owner
from tests.faults.world import BRISK, World
from tests.proxy import Proxy

LEASE_S = BRISK["lease_s"]

STORE_REST_S = 18.0
NODE_REST_S = 14.0
LINK_REST_S = 6.0
PEOPLE_REST_S = 1.5
APP_REST_S = 0.5
"""The mean time between two faults of a kind; more often than this, and hardly anybody is connected."""

RETRY_S = 0.2
PERSIST_S = 60.0
"""How soon, and for how long, an admin repeats what the store did not answer."""

Act = Callable[[random.Random], Awaitable[None]]


class Lane:
    """One thing that is broken again and again: its acts in a shuffled order, each as often as the others.

    Args:
        rest_s: the mean time between two acts.
    """

    def __init__(self, name: str, seed: int, acts: Sequence[Act], rest_s: float) -> None:
        self._chance = random.Random(f"{seed}:{name}")
        self._acts = acts
        self._rest_s = rest_s

    async def run(self, over: asyncio.Event) -> None:
        """Until it is over; what an act has broken it has mended when this returns."""
        deck: list[Act] = []
        while not over.is_set():
            await _rest(self._chance.uniform(0.3, 1.7) * self._rest_s, over)
            if over.is_set():
                return
            if not deck:
                deck = list(self._acts)
                self._chance.shuffle(deck)
            await deck.pop()(self._chance)


async def _rest(seconds: float, over: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await over.wait()


def lanes(world: World, apps: list[App], ledger: Ledger, seed: int, seconds: float) -> list[Lane]:
    """All lanes of a run; in a short one they rest less, so that every kind of fault comes at least once."""
    pace = min(1.0, seconds / 60)
    found = [Lane("store", seed, StoreFaults(world, ledger).acts, STORE_REST_S * pace)]
    for name in world.lives:
        node = NodeFaults(world, ledger, name)
        found.append(Lane(f"node {name}", seed, node.acts, NODE_REST_S * pace))
        for what, links in (("store link", world.store_links), ("client links", world.client_links)):
            link = LinkFaults(ledger, links[name], f"{what} of {name}")
            found.append(Lane(f"{what} {name}", seed, link.acts, LINK_REST_S * pace))
    people = PeopleFaults(world, apps, ledger)
    found += [Lane(f"people {number}", seed, people.acts, PEOPLE_REST_S * pace) for number in range(2)]
    found.append(Lane("apps", seed, AppFaults(world, apps, ledger).acts, APP_REST_S * pace))
    return found


class NodeFaults:
    """One node is killed, frozen, or told to go."""

    def __init__(self, world: World, ledger: Ledger, name: str) -> None:
        self._life = world.lives[name]
        self._ledger = ledger
        self.acts: list[Act] = [self.kill, self.freeze, self.restart]
        if self._life.workers > 1:
            self.acts += [self.kill_worker] * 3

    async def kill(self, chance: random.Random) -> None:
        away_s = chance.uniform(0.2, 1.5 * LEASE_S)
        self._ledger.fault("node killed", f"{self._life.name}, for {away_s:.1f} s")
        await self._life.kill()
        await asyncio.sleep(away_s)
        await self._start()

    async def freeze(self, chance: random.Random) -> None:
        frozen_s = chance.uniform(1.1, 2.0) * LEASE_S
        self._ledger.fault("node frozen", f"{self._life.name}, for {frozen_s:.1f} s")
        self._life.freeze(chance)
        await asyncio.sleep(frozen_s)
        self._life.thaw()
        self._ledger.note("", f"node {self._life.name} thaws")

    async def kill_worker(self, chance: random.Random) -> None:
        self._ledger.fault("worker killed", f"of node {self._life.name}")
        self._life.kill_worker(chance)

    async def restart(self, chance: random.Random) -> None:
        self._ledger.fault("node restarted", self._life.name)
        await self._life.stop()
        self._ledger.note("", f"node {self._life.name} has stopped")
        await self._start()

    async def _start(self) -> None:
        await self._life.start()
        self._ledger.note("", f"node {self._life.name} is up")


class StoreFaults:
    """The store is killed or shut down, and started again with what it had on disk."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._server = world.server
        self._ledger = ledger
        self.acts: list[Act] = [self.kill, self.shut_down]

    async def kill(self, chance: random.Random) -> None:
        self._ledger.fault("store killed")
        self._server.kill()
        await self._start(chance)

    async def shut_down(self, chance: random.Random) -> None:
        self._ledger.fault("store shut down")
        await asyncio.to_thread(self._server.shut_down)
        await self._start(chance)

    async def _start(self, chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(0.1, 1.5 * LEASE_S))
        await asyncio.to_thread(self._server.restart)
        self._ledger.note("", "the store is up")


class LinkFaults:
    """One of the proxied ways is cut, slowed, stopped or shut."""

    def __init__(self, ledger: Ledger, link: Proxy, name: str) -> None:
        self._ledger = ledger
        self._link = link
        self._name = name
        self.acts: list[Act] = [self.cut, self.slow, self.stop, self.refuse]

    async def cut(self, chance: random.Random) -> None:
        self._ledger.fault("links cut", self._name)
        self._link.cut()

    async def slow(self, chance: random.Random) -> None:
        late_s, for_s = chance.uniform(0.02, 0.4), chance.uniform(0.5, 2.0)
        self._ledger.fault("links slowed", f"{self._name}, by {late_s:.2f} s for {for_s:.1f} s")
        self._link.slow(late_s)
        await asyncio.sleep(for_s)
        self._link.slow(0.0)

    async def stop(self, chance: random.Random) -> None:
        """Nothing passes, in one direction or both, and then all of it, or after a cut none of it."""
        ways = chance.choice([(True, True), (True, False), (False, True)])
        for_s, cut = chance.uniform(0.2, 2.5), chance.random() < 0.5
        self._ledger.fault("links stopped", f"{self._name}, {ways}, for {for_s:.1f} s{', then cut' if cut else ''}")
        self._link.pause(to_server=ways[0], to_client=ways[1])
        await asyncio.sleep(for_s)
        if cut:
            self._link.cut()
        self._link.resume()

    async def refuse(self, chance: random.Random) -> None:
        for_s = chance.uniform(0.2, 2.0)
        self._ledger.fault("links refused", f"{self._name}, for {for_s:.1f} s")
        self._link.refuse()
        await asyncio.sleep(for_s)
        self._link.accept()


class PeopleFaults:
    """Admins and users act: bans, kicks, expiries, blocks."""

    def __init__(self, world: World, apps: list[App], ledger: Ledger) -> None:
        self._services = world.services
        self._store = world.store
        self._apps = apps
        self._ledger = ledger
        self._busy: set[str] = set()
        self.acts: list[Act] = [self.ban, self.expire, self.kick, self.block]

    async def ban(self, chance: random.Random) -> None:
        user = self._choose(chance)
        kept_s = chance.uniform(0.5, 4.0)
        if user in self._busy:
            return
        self._busy.add(user)
        self._ledger.fault("ban", user)
        await persist(lambda: self._services.bans.ban([user], minutes=10))
        window = self._ledger.shut(user)
        await asyncio.sleep(kept_s)
        self._ledger.lift(window)
        self._ledger.note("", f"the ban of {user} is being lifted")
        await persist(lambda: self._services.bans.unban([user]))
        self._busy.discard(user)

    async def expire(self, chance: random.Random) -> None:
        user = self._choose(chance)
        self._ledger.fault("tokens expired", user)

        async def expire() -> None:
            await self._services.tokens.expire([user], await self._store.now_ms())

        await persist(expire)

    async def kick(self, chance: random.Random) -> None:
        user = self._choose(chance)
        self._ledger.fault("kick", user)
        await persist(lambda: self._services.control.kick(users=[user]))

    async def block(self, chance: random.Random) -> None:
        app = self._apps[chance.randrange(len(self._apps))]
        user, other = app.user, chance.choice(app.peers)
        kept_s = chance.uniform(0.5, 4.0)
        pair = f"{user} {other}"
        if pair in self._busy:
            return
        self._busy.add(pair)
        self._ledger.fault("block", f"of {other} by {user}")
        if chance.random() < 0.5 or not await app.block(other):
            await persist(lambda: self._services.relationships.block(user, [other]))
        window = self._ledger.shut(user, other)
        await asyncio.sleep(kept_s)
        self._ledger.lift(window)
        await persist(lambda: self._services.relationships.unblock(user, [other]))
        self._ledger.note("", f"{user} blocks {other} no longer")
        self._busy.discard(pair)

    def _choose(self, chance: random.Random) -> str:
        return owner(self._apps[chance.randrange(len(self._apps))].device)


class AppFaults:
    """Single apps come and go."""

    def __init__(self, world: World, apps: list[App], ledger: Ledger) -> None:
        self._links = [*world.client_links.values()]
        self._apps = apps
        self._ledger = ledger
        self.acts: list[Act] = [self.reopen, self.drop]

    async def reopen(self, chance: random.Random) -> None:
        self._ledger.faults["app restarted"] += 1
        self._apps[chance.randrange(len(self._apps))].reopen()

    async def drop(self, chance: random.Random) -> None:
        """A few apps lose their link."""
        self._ledger.faults["app's link cut"] += 1
        chance.choice(self._links).cut_some(chance, 3)


async def persist(act: Callable[[], Awaitable[object]]) -> None:
    """Does something through the store until it is answered. Raises TimeoutError after PERSIST_S."""
    async with asyncio.timeout(PERSIST_S):
        while True:
            try:
                await act()
                return
            except StoreError:
                await asyncio.sleep(RETRY_S)
