"""A run from beginning to end: target and generators, the act, the looks twice a second, the result."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import secrets
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

import gateway
from loadtest import acts, limits, users
from loadtest.calling import CallFault
from loadtest.generator import ENDING, SNAPSHOT_S
from loadtest.machine import apart
from loadtest.plan import Plan
from loadtest.result import Limit, Machine, Result
from loadtest.sampling import Sampler
from loadtest.scenario import Scenario
from loadtest.screen import Screen
from loadtest.stage import Interrupted, Stage
from loadtest.tally import Tally
from loadtest.target import Target, TargetFault
from loadtest.team import GeneratorFault, Team

BUSY = 0.85
"""A share of a core above which a process is what the others wait for."""

RATE_REACHED = 0.95
"""Of the rate that was asked for; looks at the beginning and at the end of the measured time are not quite exact."""
TOKENS_AT_ONCE = 16
COMPLAINTS_MAX, COMPLAINTS_MAX_BROKEN_OFF = 20, 3
"""Of the users, that are told; where the run has broken off they say little that its reason does not."""


@dataclass(frozen=True)
class Placement:
    """Who runs where; None and empty = anywhere."""

    service: int | None = None
    generators: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """For the result."""
        if not self.generators:
            return "nobody pinned"
        cores = ", ".join(map(str, self.generators))
        service = "service not pinned" if self.service is None else f"service on core {self.service}"
        return f"{service}, generators on {cores}"


def placed(pin: bool) -> Placement:
    """Where service and generators run.

    Raises:
        TargetFault: pinning needs two cores.
    """
    if not pin:
        return Placement()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise TargetFault("--pin needs two cores: one for the service, one for the generators")
    return Placement(cores[0], tuple(cores[1:]))


def actual(placement: Placement, target: Target) -> Placement:
    """The same, without the service's core where it is not known to be there: one that runs already is where it is."""
    found = set()
    for pid in target.pids().values():
        with contextlib.suppress(ProcessLookupError):
            found.add(frozenset(os.sched_getaffinity(pid)))
    return placement if found == {frozenset({placement.service})} else replace(placement, service=None)


async def conduct(scenario: Scenario, target: Target, screen: Screen, placement: Placement, *, run: str = "") -> Result:
    """Runs a scenario against a target that listens.

    Args:
        run: part of all users' names; empty = one that no other run has.

    Returns:
        What was found; of an interrupted run, as far as it came.

    Raises:
        TargetFault, GeneratorFault: nothing could be measured at all.
    """
    placement = actual(placement, target)
    tally, began = Tally(), datetime.now(UTC)
    team = Team(tally.take, lambda why: stage.break_off(why))
    metrics = f"{target.api}/metrics" if target.api else None
    sampler = Sampler(target.pids, lambda: team.pids, metrics)
    stage = Stage(scenario, target, team, tally, sampler, screen)
    loop = asyncio.get_running_loop()
    # Under nohup a run outlives its terminal.
    ending = [each for each in ENDING if signal.getsignal(each) is not signal.SIG_IGN]
    for each in ending:
        loop.add_signal_handler(each, stage.interrupt)
    try:
        # Looking and merging must not take the service's core.
        with apart(placement.generators):
            async with _looking(stage, sampler, tally, screen):
                screen.phase("starting generators")
                plans = await _plans(scenario, target, stage, run or secrets.token_hex(2))
                if not stage.interrupted:
                    await _started(team, plans, placement, stage)
                if not stage.interrupted:
                    await _act(stage)
        return _result(stage, tally, began, placement)
    finally:
        stage.close()
        await team.stop()
        await sampler.close()
        for each in ending:
            loop.remove_signal_handler(each)


async def _started(team: Team, plans: list[Plan], placement: Placement, stage: Stage) -> None:
    """Starts the generators; that Ctrl-C reaches one before it has its own group of processes is no fault."""
    try:
        await team.start(plans, list(placement.generators))
    except GeneratorFault:
        if not stage.interrupted:
            raise


async def _act(stage: Stage) -> None:
    """Plays it; whatever happens, what is under way is waited for and judged."""
    try:
        await acts.act_of(stage.scenario.act).run(stage)
    except Interrupted:
        pass
    except Exception as fault:
        # Of whatever kind: what was found until now is worth its report.
        for text in _words(fault):
            stage.fail(text)
    try:
        await stage.end_measuring()
        await stage.settle()
        await stage.leave()
    except (GeneratorFault, Interrupted) as fault:
        stage.fail(str(fault) or "interrupted while settling")


def _words(fault: BaseException) -> list[str]:
    if isinstance(fault, BaseExceptionGroup):
        return list(dict.fromkeys(text for each in fault.exceptions for text in _words(each)))
    told = isinstance(fault, (TargetFault, CallFault, GeneratorFault))
    return [str(fault) if told else f"{type(fault).__name__}: {fault}"]


async def _plans(scenario: Scenario, target: Target, stage: Stage, run: str) -> list[Plan]:
    host, port = target.address
    credentials = target.credentials
    shares = [users.share_of(scenario.users, scenario.processes, number) for number in range(scenario.processes)]
    tokens: list[dict[str, str]] = [{} for _ in shares]
    if scenario.tokens == "api":
        stage.phase("tokens")
        tokens = [await _issued(stage, run, share) for share in shares]
    return [
        Plan(
            scenario=scenario,
            run=run,
            number=number,
            first=share.start,
            behind=share.stop,
            url=target.url,
            host=host,
            port=port,
            app_key=credentials.app_key if credentials else "",
            app_secret=credentials.app_secret if credentials else "",
            dialect=target.dialect,
            sources=limits.sources(scenario),
            tokens=tokens[number],
            also=target.also,
        )
        for number, share in enumerate(shares)
    ]


async def _issued(stage: Stage, run: str, share: range) -> dict[str, str]:
    """Tokens that the Server API issues, which registers the users too; a few calls at a time."""
    issued: dict[str, str] = {}
    names = iter([users.name(run, index) for index in share])

    async def issue() -> None:
        for name in names:
            answer = await stage.api("/v4/auth/access-token/issue", {"userId": name, "name": name})
            issued[name] = answer["result"]["accessToken"]

    async with asyncio.TaskGroup() as group:
        for _ in range(TOKENS_AT_ONCE):
            group.create_task(issue())
    return issued


@contextlib.asynccontextmanager
async def _looking(stage: Stage, sampler: Sampler, tally: Tally, screen: Screen) -> AsyncIterator[None]:
    """A look at everybody twice a second."""

    async def look() -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_S)
            stage.watch()
            sample = tally.sample(stage.elapsed_s, await sampler.look())
            screen.sample(sample, tally.counts(), tally.verdict())

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        # Its own fault, if it had one, must not stay unsaid.
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def _result(stage: Stage, tally: Tally, began: datetime, placement: Placement) -> Result:
    scenario, target = stage.scenario, stage.target
    counts = tally.counts() | {"users": scenario.users, "connections": tally.most_connections}
    return Result(
        name=scenario.name,
        scenario=msgspec.to_builtins(scenario),
        machine=machine(placement),
        started_at=began.isoformat(timespec="seconds"),
        seconds=stage.elapsed_s,
        measured_from_s=stage.measured_from_s,
        measured_to_s=stage.measured_to_s,
        target=target.kind,
        software={**_software(), **target.software},
        interrupted=stage.interrupted and not stage.broken_off,
        counts=counts,
        rates=stage.rates,
        judged=stage.verdict is not None,
        verdict=stage.verdict or tally.verdict(),
        latencies=tally.latencies(),
        series=tally.series,
        service=stage.cost,
        limit=_limit(stage, tally, placement),
        marks=stage.marks,
        failures=stage.failures + _complaints(stage, tally, counts),
    )


def _complaints(stage: Stage, tally: Tally, counts: dict[str, int]) -> list[str]:
    """What the users complain of, and what cannot be without a reason."""
    told = COMPLAINTS_MAX_BROKEN_OFF if stage.broken_off else COMPLAINTS_MAX
    found = list(dict.fromkeys(tally.failures))[:told]
    if (more := counts.get("failures", 0) - len(found)) > 0 and len(found) == told:
        found.append(f"and {more:,} more")
    if errors := _unexcused(stage, counts, "error_"):
        found.append(f"sends failed for other reasons than policy, by code: {errors}")
    if ends := _unexcused(stage, counts, "unforeseen_"):
        found.append(f"connections ended, though nothing that the run does explains it, by code: {ends}")
    return found


def _unexcused(stage: Stage, counts: dict[str, int], prefix: str) -> str:
    """What was counted under names with that prefix beyond what the run's own breaks account for, in words."""
    found = {name: count - stage.excused.get(name, 0) for name, count in counts.items() if name.startswith(prefix)}
    return ", ".join(f"{name.removeprefix(prefix)}: {count:,}" for name, count in sorted(found.items()) if count > 0)


def _limit(stage: Stage, tally: Tally, placement: Placement) -> Limit:
    """What kept the run from being faster."""
    spans = [
        sample
        for sample in tally.series
        if stage.measured_from_s < sample.t <= stage.measured_to_s and sample.generator_cpu is not None
    ]
    if not spans:
        return Limit(why="nothing was measured")
    busiest = sum(sample.generator_cpu or 0.0 for sample in spans) / len(spans)
    together = busiest * stage.scenario.processes / (len(placement.generators) or stage.scenario.processes)
    if max(busiest, together) > BUSY:
        return Limit(
            what="generator",
            why=f"the busiest generator used {busiest:.0%} of a core: the figures say less about the service than "
            f"about this tool; more processes, or cores",
        )
    # What was answered, not what was sent: an open loop sends whatever the service does.
    rate = stage.scenario.rate
    reached = sum(stage.rates.get(name, 0.0) for name in ("acknowledged", "refused"))
    if rate and reached >= RATE_REACHED * rate:
        return Limit(what="rate", why=f"no more than {rate:,g} messages a second were asked for")
    if stage.service_share:
        who = "service" if stage.store_known else "gateway"
        # On one core all of them are one limit; where each may have its own, the busiest is.
        shared = placement.service is not None
        share = stage.service_share if shared else stage.busiest_share
        whose = f"the {who}" if shared else f"the {who}'s busiest process"
        why = f"{whose} used {share:.0%} of a core, the busiest generator {busiest:.0%}"
        if not stage.store_known:
            why += "; what its store used is not known"
        return Limit(what="service" if share > BUSY else "unknown", why=why)
    return Limit(why=f"the service's CPU is not known; the busiest generator used {busiest:.0%} of a core")


def machine(placement: Placement) -> Machine:
    """What the figures are measured on."""
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return Machine(
        architecture=platform.machine(),
        cores=os.cpu_count() or 1,
        cpu=model,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        placement=placement.words,
    )


def _software() -> dict[str, str]:
    return {"gateway": gateway.__version__, "python": platform.python_version(), "websockets": version("websockets")}
