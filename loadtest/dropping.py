"""Users whom an admin throws out while they talk: how fast their sockets end, and that they stay out."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any

from gateway.client.backoff import status_comes_again
from gateway.config import Credentials
from gateway.protocol import codes
from loadtest.calling import CallFault, Calls
from loadtest.crowd import User
from loadtest.dialect import Dialect
from loadtest.pacing import Pace
from loadtest.plan import Plan
from loadtest.returning import SENT_AWAY
from loadtest.scenario import Drop
from loadtest.target import Target
from loadtest.visiting import VisitingCrowd

DROP_S = 10.0
"""A socket that is still open so long after the call will not end."""

BAN_MINUTES = 60
UNDER_WAY_MAX = 200

CLOSES: dict[Drop, codes.CloseCode] = {"kick": codes.KICKED, "ban": codes.BANNED, "expire": codes.EXPIRED_TOKEN}
"""What the client must be told. A socket whose buffer is not empty is cut without a word, which is right as well."""

ABRUPT_MAX = 0.1
ABRUPT_FROM = 10
"""Of how many drops more than that share may not be so: buffers are empty as a rule."""

REFUSED: dict[Drop, int] = {"ban": 403, "expire": 401}
"""How who comes again too early must be refused."""


class DroppingCrowd(VisitingCrowd):
    """Each drop is a call, the end of a socket, a try to come again that must fail (ban, expire), and a return.

    ``drop`` is timed from the moment the call was to be made to the end of the user's last socket, ``drop_answer`` to
    the call's answer, ``reconnect`` from the moment on which the user may come again to the welcome. Counts ``drops``,
    ``drops_kick`` and so on, and ``kept_out``: tries to come again that were refused as they must be.
    """

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        super().__init__(plan, dialect)
        # Whose end is awaited: (close code, µs).
        self._ending: dict[int, asyncio.Future[tuple[int | None, int]]] = {}
        self._dropping: set[int] = set()
        # Who must be refused with that status when it tries to come again.
        self._barred: dict[int, int] = {}
        self._kept_out: set[int] = set()
        self._victims: Iterator[User] = itertools.cycle(self.users.values())

    def busy(self, user: User) -> bool:
        return user.index in self._dropping

    def foreseen(self, user: User, code: int | None) -> bool:
        return user.index in self._dropping

    def ended(self, user: User, code: int | None, reason: bytes) -> None:
        super().ended(user, code, reason)
        barred = self._barred.get(user.index)
        if barred is not None and code == -barred:
            # No refusal that anybody complains of: each of the user's devices has one.
            self.count(f"login_refused_{barred}", -1)
            if not self.counts[f"login_refused_{barred}"]:
                del self.counts[f"login_refused_{barred}"]
            self._kept_out.add(user.index)
        elif barred is not None and code is not None and code < 0 and not status_comes_again(-code):
            self.failed(f"{user.name} was refused with {-code}, not {barred}: {reason.decode(errors='replace')[:80]}")
        elif barred is not None:
            # A gateway that is away or has no room does not say whether the user may come.
            self.count(f"unforeseen_{abs(code) if code else 'none'}")
        ending = self._ending.get(user.index)
        if ending is not None and not ending.done() and not any(user.wires):
            ending.set_result((code, time.monotonic_ns() // 1000))

    async def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """``drops`` at ``per_s`` for ``seconds``, of ``kinds`` in turn, by calls to ``api``."""
        if order["do"] != "drops":
            return await super().do(order)
        target = Target(self.plan.url, order["api"], Credentials(self.plan.app_key, self.plan.app_secret))
        calls = Calls(target)
        kinds = itertools.cycle(order["kinds"])
        drops: set[asyncio.Task[None]] = set()
        try:
            pace = Pace(order["per_s"], self.plan.phase)
            async for at in pace.events(order["seconds"]):
                if self.enough:
                    break
                victim = self._victim()
                if victim is None or len(drops) >= UNDER_WAY_MAX:
                    self.count("drops_left_out")
                    continue
                self._dropping.add(victim.index)
                task = asyncio.create_task(self._throw_out(calls, victim, next(kinds), int(at * 1e6)))
                drops.add(task)
                task.add_done_callback(drops.discard)
            if pace.skipped:
                self.count("drops_left_out", pace.skipped)
            if drops:
                await asyncio.wait(drops, timeout=3 * DROP_S)
        finally:
            for task in drops:
                task.cancel()
            calls.close()
        dropped, abrupt = (self.counts.get(name, 0) for name in ("drops", "drops_abrupt"))
        if dropped >= ABRUPT_FROM and abrupt > ABRUPT_MAX * dropped:
            self.failed(f"{abrupt:,} of {dropped:,} drops ended without a close frame")
        return {}

    def _victim(self) -> User | None:
        for _ in range(len(self.users)):
            user = next(self._victims)
            there = user.wanted and all(wire is not None and wire.welcomed for wire in user.wires)
            if there and user.index not in self._dropping and user.index not in self._moving:
                return user
        return None

    async def _throw_out(self, calls: Calls, user: User, kind: Drop, at_us: int) -> None:
        ending = self._ending[user.index] = asyncio.get_running_loop().create_future()
        try:
            await self._call(calls, user, kind)
            self.timed("drop_answer", time.monotonic_ns() // 1000 - at_us)
            async with asyncio.timeout(DROP_S):
                code, ended_us = await ending
            self._judge_end(user, kind, code, ended_us - at_us)
            allowed_us = await self._stay_out(calls, user, kind) or ended_us
            if await self.open(user):
                self.came_back(allowed_us)
        except CallFault as fault:
            self.failed(f"{kind} of {user.name}: {fault}")
        except TimeoutError:
            self.failed(f"{user.name} was still connected {DROP_S:g} s after the {kind}")
        finally:
            del self._ending[user.index]
            self._dropping.discard(user.index)
            if user.wanted and not user.online:
                # The gateway went away meanwhile, or would not have the user back: the ordinary way back.
                self.bring_back(user)

    def _judge_end(self, user: User, kind: Drop, code: int | None, took_us: int) -> None:
        if code in SENT_AWAY:
            self.count("drops_overtaken")
            return
        self.timed("drop", took_us)
        self.count("drops")
        self.count(f"drops_{kind}")
        if code is None:
            self.count("drops_abrupt")
        elif code != CLOSES[kind].code:
            self.failed(f"{user.name} was told {code} at the {kind}, not {CLOSES[kind].code}")

    async def _call(self, calls: Calls, user: User, kind: Drop) -> None:
        match kind:
            case "kick":
                await calls.call("/v4/user/kick", {"userIds": [user.name], "reason": "load test"})
            case "ban":
                await calls.call("/v4/user/ban", {"userIds": [user.name], "durationMinutes": BAN_MINUTES})
            case "expire":
                asked = {"userIds": [user.name], "expiresAt": time.time_ns() // 1_000_000}
                await calls.call("/v4/auth/access-token/expire", asked)

    async def _stay_out(self, calls: Calls, user: User, kind: Drop) -> int | None:
        """Tries to come again, which must not succeed, and then makes it possible; µs from when on it is."""
        status = REFUSED.get(kind)
        if status is None:
            return None
        # The very token that it had: users whose tokens are signed here would sign a new one.
        issued = self.plan.tokens.get(user.name)
        self.plan.tokens[user.name] = user.token
        self._barred[user.index] = status
        came = await self.open(user)
        del self._barred[user.index]
        if came:
            self.failed(f"{user.name} came in again after the {kind}")
            await self.close(user)
            user.wanted = True
        elif user.index in self._kept_out:
            self.count("kept_out")
        self._kept_out.discard(user.index)
        del self.plan.tokens[user.name]
        if kind == "ban":
            await calls.call("/v4/user/unban", {"userIds": [user.name]})
        if kind == "expire" and self.scenario.tokens == "api":
            answer = await calls.call("/v4/auth/access-token/issue", {"userId": user.name, "name": user.name})
            user.token = self.plan.tokens[user.name] = answer["result"]["accessToken"]
        elif issued is not None:
            self.plan.tokens[user.name] = issued
        return time.monotonic_ns() // 1000
