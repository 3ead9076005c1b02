"""The loss counter: apps on two nodes write to each other while everything is broken around them, and nothing is lost.

    python -m tests.faults.chaos --seed N --seconds S [--devices 200] [--workers 2]

One seed is one plan of faults (tests/faults/lanes.py). At the end everything is mended, every app gets what it is owed,
and the ledger is judged (tests/faults/verdict.py). Exits with 1, and the story of the first faulty message, when a
promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import uvloop

from gateway.client import backoff
from tests.faults.app import App
from tests.faults.lanes import lanes
from tests.faults.ledger import Ledger, owner
from tests.faults.verdict import Verdict, judge, missing, story
from tests.faults.world import World, running_world

PEERS = 4
"""How many users each app writes to and watches."""

SETTLE_S = 90.0
"""How long after the last fault everything owed may take to arrive."""

LOOK_S = 0.1
"""How often what is waited for is looked at."""

GAUGES = ("connections", "sessions", "watched_users", "pending_calls")
"""What is nothing once everybody has left."""


BACKOFF_CAP_S = 3.0
"""The longest wait of an app between two attempts: with the usual one most of a short run would be waiting."""


@dataclass(slots=True)
class Report:
    """What a run has found.

    Attributes:
        left: what is not as it was before anybody came.
        defects: what went wrong beside messages.
        repeated: messages handed again to an app that was started anew.
    """

    seed: int
    ledger: Ledger
    verdict: Verdict
    suppressed: int
    repeated: int
    left: list[str]
    defects: list[str]
    took_s: float

    @property
    def good(self) -> bool:
        return not (self.verdict.faults or self.left or self.defects)

    def __str__(self) -> str:
        verdict, outcomes = self.verdict, [each.outcome for each in self.ledger.sendings.values()]
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.ledger.faults.items()))
        lines = [
            f"seed {self.seed}, {self.took_s:.0f} s: {'passed' if self.good else 'FAILED'}",
            f"  sends {len(outcomes)}: sent {outcomes.count('sent')}, refused {outcomes.count('refused')}, "
            f"unknown {outcomes.count('unknown')}",
            f"  delivered {len(self.ledger.handings)}, echoes {len(self.ledger.echoes)}, "
            f"duplicates suppressed {self.suppressed}, repeated to restarted apps {self.repeated}",
            f"  lost {len(verdict.lost)}, out of order {len(verdict.out_of_order)}, doubled {len(verdict.doubled)}, "
            f"against policy {len(verdict.forbidden)}, refused yet stored {len(verdict.unstored)}, "
            f"under another id {len(verdict.misnamed)}, let in while banned {len(verdict.admitted)}, "
            f"unanswered {len(verdict.unanswered)}",
            f"  left behind {len(self.left)}, defects {len(self.defects)}",
            f"  faults injected {self.ledger.faults.total()}: {faults}",
            *(f"  left behind: {each}" for each in self.left[:20]),
            *(f"  defect: {each}" for each in self.defects[:20]),
        ]
        if verdict.faults:
            lines.append(story(self.ledger, verdict.faults[0]))
        return "\n".join(lines)


async def run(seed: int, seconds: float, devices: int, every_s: float, workers: int = 1) -> Report:
    """One run.

    Args:
        devices: how many apps there are; every fifth belongs to the user of the one before it.
        every_s: the mean time between two messages of one app.
        workers: of each node.
    """
    started = time.monotonic()
    names = device_names(devices)
    owned: dict[str, list[str]] = {}
    for name in names:
        owned.setdefault(owner(name), []).append(name)
    ledger = Ledger(owned)
    with _hasty():
        async with running_world(seed, workers) as world:
            apps = _apps(world, ledger, names, list(owned), seed, every_s)
            async with _running(apps):
                await _until(lambda: all(app.live for app in apps), "everybody is there")
                await _break(world, apps, ledger, seed, seconds)
                defects = await _examine(world, apps, ledger)
            left = await _left(world)
            defects += _defects_logged(world.log())
    for app in apps:
        defects += app.defects
    return Report(
        seed,
        ledger,
        judge(ledger),
        sum(app.duplicates for app in apps),
        sum(app.repeated for app in apps),
        left,
        defects,
        time.monotonic() - started,
    )


async def _break(world: World, apps: list[App], ledger: Ledger, seed: int, seconds: float) -> None:
    """Everybody talks while faults are injected; all is mended and every send has its outcome when this returns."""
    over, said = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as talks:
        for app in apps:
            talks.create_task(app.talk(said))
        async with asyncio.TaskGroup() as breaking:
            for lane in lanes(world, apps, ledger, seed, seconds):
                breaking.create_task(lane.run(over))
            await asyncio.sleep(seconds)
            over.set()
        await world.heal()
        said.set()
    ledger.note("", "all is mended")


async def _examine(world: World, apps: list[App], ledger: Ledger) -> list[str]:
    """Waits until everybody is there and has what it is owed; returns what does not come.

    The nodes alone lose their links to the store once more, and everybody writes to all peers: somebody who is left
    behind silently has no later break that would help.
    """
    problems = await _await({"everybody is there again": lambda: all(app.live for app in apps)})
    for name, link in world.store_links.items():
        ledger.fault("links cut", f"store link of {name}, the last time")
        link.cut()
    await asyncio.gather(*(app.greet() for app in apps))
    problems += await _await(
        {
            "everybody has what was sent": lambda: not missing(ledger),
            "everybody is there still": lambda: all(app.live for app in apps),
            "everybody sees all their peers online": lambda: all(app.sees_all for app in apps),
        }
    )
    # What comes twice or late came before the answers to these.
    pings = await asyncio.gather(*(app.client.ping() for app in apps if app.client), return_exceptions=True)
    return problems + [f"a ping at the end: {each!r}" for each in pings if isinstance(each, BaseException)]


async def _await(conditions: dict[str, Callable[[], bool]]) -> list[str]:
    """Waits for each; says what does not come true."""
    problems = []
    for what, condition in conditions.items():
        try:
            await _until(condition, what)
        except TimeoutError as error:
            problems.append(str(error))
    return problems


def device_names(devices: int) -> list[str]:
    """``user/device``: every fifth device is a second one of the user before."""
    names: list[str] = []
    for number in range(devices):
        names.append(f"{owner(names[-1])}/tablet" if number % 5 == 4 else f"user{number}/phone")
    return names


def _apps(world: World, ledger: Ledger, names: list[str], users: list[str], seed: int, every_s: float) -> list[App]:
    async def token(user: str) -> str:
        return await world.services.tokens.issue(user, None)

    apps = []
    for name in names:
        place = users.index(owner(name))
        peers = [users[(place + step) % len(users)] for step in (-2, -1, 1, 2)]
        platform = "ios" if name.endswith("phone") else "web"
        chance = random.Random(f"{seed}:{name}")
        apps.append(App(name, platform, world.url, token, ledger, peers, chance, every_s))
    return apps


@asynccontextmanager
async def _running(apps: list[App]) -> AsyncIterator[None]:
    lives = [asyncio.create_task(app.run()) for app in apps]
    try:
        yield
        for app in apps:
            app.leave()
        await asyncio.gather(*lives)
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


async def _left(world: World) -> list[str]:
    """What is left behind once everybody has gone; nothing, in time."""
    left: list[str] = []

    async def nothing() -> bool:
        left.clear()
        for name, life in world.lives.items():
            gauges = await life.gauges()
            left.extend(f"{gauge} of node {name}: {gauges[gauge]:g}" for gauge in GAUGES if gauges[gauge])
            if gauges["callbacks_failed_total"]:
                left.append(f"callbacks of node {name} that raised: {gauges['callbacks_failed_total']:g}")
        left.extend(f"Redis key {key}" for key in world.session_keys())
        return not left

    with suppress(TimeoutError):
        await _until(nothing, "nothing is left")
    return left


def _defects_logged(log: str) -> list[str]:
    """Errors that the nodes themselves took for defects."""
    return [line for line in log.splitlines() if "Traceback" in line or "[error" in line]


@contextmanager
def _hasty() -> Iterator[None]:
    usual, backoff.CAP_S = backoff.CAP_S, BACKOFF_CAP_S
    try:
        yield
    finally:
        backoff.CAP_S = usual


async def _until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Waits for it. Raises TimeoutError after SETTLE_S."""
    try:
        async with asyncio.timeout(SETTLE_S):
            while True:
                met = condition()
                if inspect.isawaitable(met):
                    met = await met
                if met:
                    return
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        raise TimeoutError(f"not within {SETTLE_S:g} s: {what}") from error


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="which plan of faults")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults are injected")
    parser.add_argument("--devices", type=int, default=200, help="apps; every fifth is a user's second one")
    parser.add_argument("--every", type=float, default=1.0, help="mean seconds between two messages of an app")
    parser.add_argument("--workers", type=int, default=1, help="workers of each of the two nodes")
    given = parser.parse_args()
    # Every break is a warning to an app; here they are the point.
    logging.getLogger("gateway.client").setLevel(logging.ERROR)
    report = uvloop.run(run(given.seed, given.seconds, given.devices, given.every, given.workers))
    print(report, flush=True)
    sys.exit(0 if report.good else 1)


if __name__ == "__main__":
    main()
