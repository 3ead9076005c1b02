"""The Server API's figures: tokens a second, CPU per call, listing, bans of live sockets, and what relays notice.

    python -m loadtest.api [--seconds 3] [--runs 3] [--json FILE]

Starts a gateway of its own with an embedded store, both pinned to one core, and calls it over 50 connections from
another. Absolute figures depend on the machine and on who else uses it; CPU per call and the ratios hardly do. The same
run measures the limit to compare with: a bare Litestar route that returns a constant (loadtest/bare_api.py), served by
the same server on the same core. Rate limits are off, but for the last figure, which says what they cost.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import orjson
import uvloop

from gateway.client import Banned, Client
from gateway.config import Credentials
from loadtest.http import Caller, request
from loadtest.machine import pinned
from loadtest.peers.peer import process
from loadtest.sampled import Samples, sampled
from loadtest.target import Target

CONNECTIONS = 50
LISTED = 1000
BANNED = 20
PAGES = 50
PACED_PER_S = 150
"""Under the limit of issuing tokens, which is 200 calls a second."""

ISSUE = "/v4/auth/access-token/issue"
Body = Callable[[int], bytes]


def issuing(number: int) -> bytes:
    """A body of the issue call; 1,000 users in turn."""
    return b'{"userId":"user-%d","name":"A Name"}' % (number % 1000)


@contextmanager
def bare(core: int | None) -> Iterator[tuple[Target, int]]:
    """Starts the bare route; gives its port."""
    with process([sys.executable, "-m", "loadtest.bare_api"], core) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        yield Target("", credentials=Credentials("bare", "0" * 32), known={"gateway": child.pid}), port


@contextmanager
def gateway(core: int | None, *, rate_limits: bool = False) -> Iterator[tuple[Target, Samples, int]]:
    """Starts a gateway; gives its admin port."""
    with sampled(core, "--rate-limits" if rate_limits else "--no-rate-limits") as (target, samples):
        yield target, samples, int(target.api.rpartition(":")[2])


@asynccontextmanager
async def calling(port: int, count: int = CONNECTIONS) -> AsyncIterator[list[Caller]]:
    """Keep-alive connections."""
    callers = await asyncio.gather(*(Caller.to(port) for _ in range(count)))
    try:
        yield callers
    finally:
        for caller in callers:
            caller.close()


async def throughput(target: Target, port: int, body: Body, seconds: float) -> dict[str, float]:
    """All connections call as fast as they are answered."""
    count = 0
    running = True

    async def keep_calling(caller: Caller) -> None:
        nonlocal count
        while running:
            status, answer = await caller.ask(request(ISSUE, body(count), target.signer))
            if status != 200:
                raise SystemExit(f"{ISSUE} answered {status}: {answer.decode()}")
            count += 1

    async with calling(port) as callers:
        tasks = [asyncio.create_task(keep_calling(caller)) for caller in callers]
        await asyncio.sleep(0.5)
        cpu, own, counted, started = target.cpu_s(), time.process_time(), count, time.perf_counter()
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        took, counted = time.perf_counter() - started, count - counted
        after, own = target.cpu_s(), time.process_time() - own
        running = False
        await asyncio.gather(*tasks)
    return {"calls_per_s": counted / took, **_cpu_per_call(cpu, after, counted), "generator_cpu_share": own / took}


def _cpu_per_call(before: dict[str, float], after: dict[str, float], count: int) -> dict[str, float]:
    used = {f"{name}_us_per_call": (after[name] - before[name]) / count * 1e6 for name in after}
    return used | {"cpu_us_per_call": sum(used.values())}


async def paced(target: Target, port: int, seconds: float) -> dict[str, float]:
    """One connection calls at a rate that the limits allow."""
    async with calling(port, 1) as (caller,):
        loop = asyncio.get_running_loop()
        cpu, started = target.cpu_s(), loop.time()
        count = int(seconds * PACED_PER_S)
        for index in range(count):
            await asyncio.sleep(started + index / PACED_PER_S - loop.time())
            await caller.call(ISSUE, {"userId": "paced", "name": "P"}, target.signer)
        return _cpu_per_call(cpu, target.cpu_s(), count)


async def listing(target: Target, port: int) -> dict[str, float]:
    """Pages of 1,000 blocked users, one call after another."""
    took: list[float] = []
    async with calling(port, 1) as (caller,):
        for start in range(0, LISTED, 20):
            targets = [f"blocked-user-{index}" for index in range(start, start + 20)]
            await caller.call("/v4/user/blocklist/add", {"userId": "lister", "targetUserIds": targets}, target.signer)
        for _ in range(PAGES):
            started = time.perf_counter()
            answer = await caller.call("/v4/user/blocklist/get", {"userId": "lister"}, target.signer)
            took.append((time.perf_counter() - started) * 1000)
            result = answer["result"]
            assert isinstance(result, dict)
            assert len(result["blockedUserIds"]) == LISTED
    return {"page_ms_min": min(took), "page_ms_p50": statistics.median(took), "page_ms_max": max(took)}


async def banning(target: Target, port: int, runs: int) -> dict[str, float]:
    """A ban of 20 users who are connected: to the answer, and until the last one's app knows."""
    answered_ms: list[float] = []
    ended_ms: list[float] = []
    users = [f"banned-{index}" for index in range(BANNED)]
    async with calling(port, 1) as (caller,):
        for _ in range(runs):
            clients = [Client(target.url, target.token(user)) for user in users]
            await asyncio.gather(*(client.connect() for client in clients))
            ends = [asyncio.create_task(_banned(client)) for client in clients]
            started = time.perf_counter()
            await caller.call("/v4/user/ban", {"userIds": users, "durationMinutes": 5}, target.signer)
            answered_ms.append((time.perf_counter() - started) * 1000)
            ended_ms.append((max(await asyncio.wait_for(asyncio.gather(*ends), 5)) - started) * 1000)
            await asyncio.gather(*(client.close() for client in clients))
            await caller.call("/v4/user/unban", {"userIds": users}, target.signer)
    return {
        "answered_ms_min": min(answered_ms),
        "answered_ms_p50": statistics.median(answered_ms),
        "answered_ms_max": max(answered_ms),
        "last_app_told_ms_p50": statistics.median(ended_ms),
    }


async def _banned(client: Client) -> float:
    """When the client's app was told."""
    why = await client.stopped()
    assert isinstance(why, Banned), why
    return time.perf_counter()


async def noticed(
    target: Target, samples: Samples, load: Callable[[], AsyncIterator[None]] | None, seconds: float
) -> dict[str, float]:
    """What a probing client measures meanwhile, and the sampler in the node's event loop."""
    arguments = [sys.executable, "-m", "loadtest.probe", target.url, target.token("probe"), "probe"]
    probing = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    assert probing.stdout is not None
    await probing.stdout.readline()
    samples.begin()
    if load is None:
        await asyncio.sleep(seconds)
    else:
        async for _ in load():
            pass
    samples.end()
    lag = await asyncio.to_thread(samples.figures)
    probing.terminate()
    seen = dict(orjson.loads(await probing.stdout.readline()))
    await probing.wait()
    return seen | lag


async def measure(
    target: Target, samples: Samples, port: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Everything but what the limits cost."""

    async def issue() -> AsyncIterator[None]:
        await throughput(target, port, issuing, options.seconds)
        yield

    async def lists() -> AsyncIterator[None]:
        started = time.monotonic()
        while time.monotonic() - started < options.seconds:
            await listing(target, port)
            yield

    return {
        "blocklist page of 1,000": await listing(target, port),
        "ban of 20 users with live sockets": await banning(target, port, 5 * options.runs),
        "probe, no load": await noticed(target, samples, None, options.seconds),
        "probe, tokens issued over 50 connections": await noticed(target, samples, issue, options.seconds),
        "probe, pages of 1,000 listed": await noticed(target, samples, lists, options.seconds),
    }


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the best counts")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    options = parser.parse_args()
    core = pinned()
    figures: dict[str, dict[str, float]] = {}
    with bare(core) as limit, gateway(core) as (running, samples, port):
        # In turns, so that a noisy neighbour is one for both.
        runs = [
            (
                uvloop.run(throughput(*limit, issuing, options.seconds)),
                uvloop.run(throughput(running, port, issuing, options.seconds)),
            )
            for _ in range(options.runs)
        ]
        figures["bare route"] = _best([constant for constant, _ in runs])
        figures["issue token"] = _best([issued for _, issued in runs])
        figures |= uvloop.run(measure(running, samples, port, options))
        unlimited = uvloop.run(paced(running, port, options.seconds))
    with gateway(core, rate_limits=True) as (running, _, port):
        limited = uvloop.run(paced(running, port, options.seconds))
    figures["ratios"] = {
        "issued_to_bare_calls_per_s": _to_bare(runs),
        "issued_to_bare_cpu": figures["issue token"]["cpu_us_per_call"] / figures["bare route"]["cpu_us_per_call"],
        "rate_limits_cost_us_per_call": limited["cpu_us_per_call"] - unlimited["cpu_us_per_call"],
    }
    for name, values in figures.items():
        print(name)
        for key, value in values.items():
            print(f"  {key:30} {value:12,.2f}")
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def _to_bare(runs: list[tuple[dict[str, float], dict[str, float]]]) -> float:
    """Calls a second to the bare route's: the median over the turns, which are (bare route, issued)."""
    return statistics.median(issued["calls_per_s"] / constant["calls_per_s"] for constant, issued in runs)


def _best(runs: list[dict[str, float]]) -> dict[str, float]:
    """The run least disturbed by others: the one with the lowest CPU a call."""
    return min(runs, key=lambda run: run["cpu_us_per_call"])


if __name__ == "__main__":
    main()
