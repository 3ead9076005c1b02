"""What several acts order: comings and goings, drops, breaks, and waiting until everybody is where he should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from loadtest.breaking import Breaker
from loadtest.scenario import Break, Scenario
from loadtest.stage import Interrupted

if TYPE_CHECKING:
    from loadtest.stage import Stage

Order = dict[str, Any]

POLL_S = 0.1
BACK_S = 60.0
"""How long users have to be back after a break, or to watch whom they watch."""


def churn(scenario: Scenario, seconds: float, share: float = 1.0) -> Order:
    """Users go and come again, at that share of the scenario's rate."""
    return {"do": "churn", "per_s": scenario.churn_per_s * share / scenario.processes, "seconds": seconds}


def drops(stage: Stage, seconds: float, share: float = 1.0) -> Order:
    """Users are thrown out, at that share of the scenario's rate."""
    scenario = stage.scenario
    per_s = scenario.drops_per_s * share / scenario.processes
    return {"do": "drops", "per_s": per_s, "seconds": seconds, "kinds": scenario.drops, "api": stage.target.api}


def online(scenario: Scenario, share: float, per_s: float) -> Order:
    """That share of the users is to be online, moving at most so many a second over all (0: as fast as it goes)."""
    return {"do": "online", "share": share, "per_s": per_s / scenario.processes}


@asynccontextmanager
async def beside(stage: Stage, orders: Iterable[Order]) -> AsyncIterator[None]:
    """Has orders carried out meanwhile, and waits for them in the end; comings and drops at no rate are left out."""
    wanted = [order for order in orders if order["do"] == "online" or order["per_s"]]
    asked = [asyncio.ensure_future(stage.all(order)) for order in wanted]
    try:
        yield
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, Interrupted):
                raise outcome
        if stage.interrupted and wanted:
            await stage.all({"do": "enough"})
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def measured(stage: Stage, *orders: Order) -> None:
    """The measured time, with orders beside it."""
    async with beside(stage, orders):
        await stage.measure(stage.scenario.seconds)


async def until(stage: Stage, what: str, why: str, seconds: float = BACK_S) -> bool:
    """Asks the generators whether ``what`` is so until it is; the run fails with ``why`` where it is not in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not all(said["so"] for said in await stage.all({"do": what})):
        if asyncio.get_running_loop().time() > deadline:
            stage.fail(f"{why} within {seconds:g} s")
            return False
        if not await stage.hold(POLL_S):
            return False
    return True


async def broken(stage: Stage, breaker: Breaker, kind: Break, seconds: float) -> None:
    """One break, and what is left of its time once everybody is back."""
    began = stage.elapsed_s
    stage.mark(kind)
    stage.phase(kind)
    async with _excused(stage):
        await breaker.perform(kind)
        came = await until(stage, "back", f"not everybody came back after the {kind}")
        if came:
            stage.mark(f"all back after {stage.elapsed_s - began:.1f} s")
        await stage.hold(max(0.0, began + seconds - stage.elapsed_s))


@asynccontextmanager
async def _excused(stage: Stage) -> AsyncIterator[None]:
    """Users cut off and sends that fail meanwhile come of a break; those before it and behind it are judged."""
    await stage.all({"do": "look"})
    before = stage.counts
    try:
        yield
    finally:
        await stage.all({"do": "look"})
        for name, count in stage.counts.items():
            stage.excused[name] = stage.excused.get(name, 0) + count - before.get(name, 0)


async def judge_presence(stage: Stage) -> None:
    """Everybody must believe what is true, at the latest when the time for settling is over."""
    if stage.scenario.watch:
        stage.phase("presence")
        await stage.all({"do": "judge", "seconds": stage.scenario.settle_s})
