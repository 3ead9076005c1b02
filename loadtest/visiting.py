"""Users who come and go, and others who watch them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import orjson

from loadtest.crowd import User
from loadtest.dialect import Dialect
from loadtest.pacing import Pace
from loadtest.plan import Plan
from loadtest.returning import ReturningCrowd
from loadtest.sightings import Sightings, Told
from loadtest.wire import frame

AWAY_S = 1.0
"""How long somebody who goes stays away."""

WATCH_CALL_MAX = 200
"""Users of one watch command, as the gateway allows them."""

ANSWER_S = 30.0


class _Pushed(msgspec.Struct, tag_field="type", tag="presence"):
    user: str
    online: bool
    version: int


_decode = msgspec.json.Decoder(_Pushed).decode


class VisitingCrowd(ReturningCrowd):
    """Users with an odd number come and go; those with an even one watch ``watch`` of them, in the same process.

    ``presence`` is timed from when the user begins to connect, or says goodbye, to the push at each watcher. Counts
    ``changes`` (comings and goings), ``presence`` (pushes that told a watcher of one) and ``overtaken``.
    """

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        super().__init__(plan, dialect)
        self.sightings = Sightings()
        self._guests = [user for user in self.users.values() if user.index % 2]
        self._moving: set[int] = set()
        self._visits: set[asyncio.Task[None]] = set()
        self._place = 0
        self.enough = False

    def _watched(self, user: User) -> list[str]:
        wanted, guests = min(self.scenario.watch, len(self._guests)), self._guests
        if user.index % 2 or not guests:
            return []
        # Neighbours watch others, but all are watched by about as many.
        first = (user.index // 2) * wanted
        return [guests[(first + step) % len(guests)].name for step in range(wanted)]

    def arrived(self, user: User) -> None:
        super().arrived(user)
        if user.index not in self._moving:
            self.sightings.disturbed(user.name)
        wire = user.wires[0]
        watched = self._watched(user)
        self.sightings.asks(user.name, watched)
        for start in range(0, len(watched), WATCH_CALL_MAX):
            if wire is not None:
                users = watched[start : start + WATCH_CALL_MAX]
                wire.frame(frame(orjson.dumps({"type": "watch", "id": f"watch{start}", "users": users})))

    def ended(self, user: User, code: int | None, reason: bytes) -> None:
        if user.index not in self._moving:
            self.sightings.disturbed(user.name)
        if user.index % 2 == 0 and user.wires[0] is None:
            self.sightings.forget(user.name)
        super().ended(user, code, reason)

    def said_else(self, user: User, payload: bytes) -> None:
        if payload.startswith(b'{"type":"presence"'):
            told = _decode(payload)
            took = self.sightings.pushed(user.name, Told(told.user, told.online, told.version), self.now)
            if took is not None:
                self.timed("presence", took)
                self.count("presence")
        elif payload.startswith((b'{"type":"ok","id":"watch', b'{"type":"error","id":"watch')):
            answer = orjson.loads(payload)
            if answer["type"] == "error":
                self.failed(f"{user.name} may not watch: {answer['code']} {answer['reason']}")
                return
            for each in answer["users"]:
                self.sightings.watches(user.name, each["user"], each["online"], each["version"])
        else:
            super().said_else(user, payload)

    async def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """``churn`` at ``per_s`` for ``seconds``, or until ``enough``; ``watching``; ``online``; ``judge`` presence."""
        match order["do"]:
            case "churn":
                return await self._churn(order["per_s"], order["seconds"])
            case "watching":
                return {"so": self._all_watch()}
            case "online":
                return await self._be_online(order["share"], order["per_s"])
            case "judge":
                return await self._judge(order["seconds"])
            case "enough":
                self.enough = True
                return {}
        return await super().do(order)

    def _all_watch(self) -> bool:
        return all(
            self.sightings.watching(user.name) == len(self._watched(user))
            for user in self.users.values()
            if user.online
        )

    async def _churn(self, per_s: float, seconds: float) -> dict[str, Any]:
        pace = Pace(per_s, self.plan.phase)
        async for at in pace.events(seconds):
            if self.enough:
                break
            guest = self._next_guest()
            if guest is None:
                # Everybody is under way: fewer users than the rate needs.
                self.count("visits_left_out")
                continue
            self._moving.add(guest.index)
            task = asyncio.create_task(self._leave_and_come(guest, int(at * 1e6)))
            self._visits.add(task)
            task.add_done_callback(self._visits.discard)
        if pace.skipped:
            self.count("visits_left_out", pace.skipped)
        if self._visits:
            await asyncio.wait(self._visits, timeout=ANSWER_S)
        return {}

    def _next_guest(self) -> User | None:
        for _ in range(len(self._guests)):
            guest = self._guests[self._place]
            self._place = (self._place + 1) % len(self._guests)
            if guest.online and guest.wanted and guest.index not in self._moving and not self.busy(guest):
                return guest
        return None

    def busy(self, user: User) -> bool:
        """Whether another part of the act is about something with this user."""
        return False

    async def _leave_and_come(self, guest: User, at_us: int) -> None:
        try:
            self.sightings.changed(guest.name, False, at_us)
            await self.close(guest)
            await asyncio.sleep(AWAY_S)
            self.sightings.changed(guest.name, True, time.monotonic_ns() // 1000)
            self.count("changes", 2)
            await self.open(guest)
        finally:
            self._moving.discard(guest.index)

    async def _be_online(self, share: float, per_s: float) -> dict[str, Any]:
        """Brings that share of the users online, and the others off, at most so many a second."""
        # Partners and watchers are neighbours: whole pairs of them come and go.
        pairs = sorted({user.index // 2 for user in self.users.values()})
        there = set(pairs[: round(share * len(pairs))])
        free = asyncio.Semaphore(self.scenario.logins_in_flight)
        began = time.monotonic()

        async def move(user: User, wanted: bool) -> None:
            async with free:
                await (self.open(user) if wanted else self.close(user))

        moved = 0
        async with asyncio.TaskGroup() as group:
            for user in self.users.values():
                wanted = user.index // 2 in there
                if wanted == user.wanted or self.busy(user) or user.index in self._moving:
                    continue
                moved += 1
                if per_s and (wait := began + moved / per_s - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                group.create_task(move(user, wanted))
        return {"moved": moved}

    async def _judge(self, seconds: float) -> dict[str, Any]:
        """Waits until everybody believes what is true, so long at most; what is wrong then is a failure."""
        deadline = time.monotonic() + seconds
        while (wrong := self._wrong()) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for text in wrong[:3]:
            self.failed(text)
        sightings = self.sightings
        if sightings.overtaken:
            self.count("overtaken", sightings.overtaken)
        for name, number in (("late or doubled", sightings.stale), ("strange", sightings.strange)):
            if number:
                self.failed(f"{number} {name} presence pushes, such as: {'; '.join(sightings.examples)}")
        return {"wrong": len(wrong)}

    def _wrong(self) -> list[str]:
        return self.sightings.wrong(guest.name for guest in self._guests if guest.online)
