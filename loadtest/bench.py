"""Where the lines of the budget are measured: services started afresh, runs against them, cores kept apart."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import uvloop

from gateway.store import embedded
from loadtest import limits, peers
from loadtest import scenario as scenarios
from loadtest.calling import CallFault, Calls
from loadtest.conductor import Placement, conduct, placed
from loadtest.machine import apart
from loadtest.result import Result
from loadtest.scenario import ScenarioFault
from loadtest.screen import Screen
from loadtest.target import Target, started
from loadtest.users import name

USERS, BODY_BYTES = 100, 120
LISTED_AT_ONCE = 20
POLL_S = 4.0
REHEARSALS = 10
SLICES = 5
"""Parts in which two sides that are compared are run in turn."""
SLICE_LEAST_S = 0.5


class BenchFault(Exception):
    """A run of which no figure may be believed; the message says why."""


class Bench:
    """Runs, one after another.

    Args:
        seconds: measured time of a run with messages.
        scale: of the numbers of connections; 1.0 = as the budget says.
        pinned: the service on one core, the generators on the others; False = wherever the system likes, and no figure
            is worth much.

    Attributes:
        interrupted: Ctrl-C was pressed in the last run.
    """

    def __init__(self, seconds: float, scale: float = 1.0, *, pinned: bool = True) -> None:
        self.seconds, self.scale = seconds, scale
        self.placement = placed(pinned)
        self.interrupted = False

    def count(self, connections: int) -> int:
        """That many connections, to scale; even, and enough for pairs."""
        return max(4, int(connections * self.scale) // 2 * 2)

    def chat(self, target: Target, window: int, *, run: str = "", **keys: Any) -> Result:
        """Users in pairs write to each other as fast as they are answered."""
        asked = {"act": "chat", "users": USERS, "window": window, "body_bytes": BODY_BYTES, "seconds": self.seconds}
        return self.run(target, "chat", asked | {"warm_s": min(1.0, self.seconds)} | keys, run=run)

    def slice(self, target: Target, window: int, *, run: str = "", **keys: Any) -> Result:
        """The same for a part of the time: one side of what is compared in turn."""
        return self.chat(target, window, run=run, seconds=max(SLICE_LEAST_S, self.seconds / SLICES), **keys)

    def most_per_s(self, target: Target) -> float:
        """What the service delivers at most, 1 in flight, as seen now: an hour ago the machine may have been another.

        With 8 it delivers more, because answers and messages leave together. Who sends at a given rate, whether he is
        answered or not, gets nothing of that: at half of that rate the core would be all but full.
        """
        return self.chat(target, 1).rates["delivered"]

    def run(self, target: Target, title: str, keys: dict[str, Any], *, run: str = "", spread: bool = False) -> Result:
        """One run.

        Args:
            keys: of the scenario.
            spread: the generators take all cores; for runs that are not about one core's speed.

        Raises:
            BenchFault: it failed, or messages were treated wrongly.
            ScenarioFault: the machine does not allow it.
        """
        scenario = scenarios.of(title, keys)
        if faults := limits.check(scenario, limits.raised()):
            raise ScenarioFault(faults)
        placement = Placement() if spread else self.placement
        with apart(placement.generators):
            result = uvloop.run(conduct(scenario, target, Screen(title, None), placement, run=run))
        if result.interrupted:
            self.interrupted = True
            raise BenchFault("interrupted")
        if not result.fine:
            raise BenchFault("; ".join([*result.failures, *result.verdict.examples]) or str(result.verdict.counts()))
        return result

    @contextmanager
    def gateway(self, command: str = "", *, spread: bool = False, connections: int = 0) -> Iterator[Target]:
        """A gateway of its own, on the service's core unless it is to spread over all."""
        with started(command, None if spread else self.placement.service, connections=connections) as target:
            yield target

    @contextmanager
    def bare(self) -> Iterator[Target]:
        """The bare relay: the limit."""
        with peers.starting("bare", self.placement.service) as target:
            yield target

    @contextmanager
    def two_nodes(self) -> Iterator[Target]:
        """Two gateways on one store, all on one core; who writes and who reads are never on the same one."""
        with self.gateway() as first, tempfile.TemporaryDirectory(prefix="gateway-budget-") as directory:
            assert first.data_dir is not None
            store = embedded.find(first.data_dir)
            if store is None:
                raise BenchFault("the first node's store does not answer")
            shutil.copy(first.data_dir / "credentials.json", directory)
            with self.gateway(f"gateway serve --data-dir {directory} --redis-url {store}") as second:
                first.also = [second.address]
                first.known = {f"second-{label}": pid for label, pid in second.pids().items()}
                yield first

    def fill_blocklists(self, target: Target, users: int, entries: int) -> str:
        """Gives each user of a run that is to come a blocklist of so many others.

        Returns:
            The run's name.
        """
        run = secrets.token_hex(2)

        async def block(calls: Calls, user: str) -> None:
            await calls.call("/v4/auth/access-token/issue", {"userId": user, "name": user})
            for first in range(0, entries, LISTED_AT_ONCE):
                strangers = [f"stranger-{each}" for each in range(first, min(first + LISTED_AT_ONCE, entries))]
                await calls.call("/v4/user/blocklist/add", {"userId": user, "targetUserIds": strangers})

        async def block_all() -> None:
            async with _calling(target) as calls, asyncio.TaskGroup() as group:
                for index in range(users):
                    group.create_task(block(calls, name(run, index)))

        uvloop.run(block_all())
        return run

    def rehearse_drops(self, target: Target) -> None:
        """Kicks, bans and expires somebody who is not there: the first call of its kind makes what later ones use."""

        async def rehearse() -> None:
            async with _calling(target) as calls:
                await calls.call("/v4/auth/access-token/issue", {"userId": "nobody", "name": "Nobody"})
                for _ in range(REHEARSALS):
                    await calls.call("/v4/user/kick", {"userIds": ["nobody"], "reason": "load test"})
                    await calls.call("/v4/user/ban", {"userIds": ["nobody"], "durationMinutes": 5})
                    await calls.call("/v4/user/unban", {"userIds": ["nobody"]})
                    asked = {"userIds": ["nobody"], "expiresAt": time.time_ns() // 1_000_000}
                    await calls.call("/v4/auth/access-token/expire", asked)

        uvloop.run(rehearse())


@contextmanager
def watched(target: Target, every_s: float = POLL_S) -> Iterator[list[dict[str, Any]]]:
    """Asks the service for its statistics every few seconds meanwhile, in a thread; gives the answers."""
    answers: list[dict[str, Any]] = []
    stopped = threading.Event()

    async def watch() -> None:
        async with _calling(target) as calls:
            while not stopped.is_set():
                # In a storm of logins the store may answer too late; there is another look.
                with suppress(CallFault):
                    answers.append((await calls.call("/v4/app/stats", {}))["result"])
                await asyncio.to_thread(stopped.wait, every_s)

    thread = threading.Thread(target=lambda: asyncio.run(watch()), name="statistics")
    thread.start()
    try:
        yield answers
    finally:
        stopped.set()
        thread.join()


@asynccontextmanager
async def _calling(target: Target) -> AsyncIterator[Calls]:
    calls = Calls(target)
    try:
        yield calls
    finally:
        calls.close()
