"""What an app on the SDK sees of the relay path while something else keeps the gateway busy.

python -m loadtest.probe URL TOKEN USER    pings and relays to itself until it is terminated, then prints the figures

A process of its own: in the load generator's, the generator's own turns would be measured as well. Probes are due at
fixed times, whether earlier ones are answered or not: a gateway that stands still is seen by all that were due then.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
import uvloop

from gateway.client import Client

GAP_S = 0.004
"""Between two probes."""

DEADLINE_S = 10.0

Probe = Callable[[], Awaitable[object]]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and most."""
    if not values:
        return {}
    ordered = sorted(values)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)], "max": ordered[-1]}


async def probe(
    probes: Mapping[str, Callable[[], Awaitable[object]]], stopped: asyncio.Event
) -> dict[str, list[float]]:
    """Probes in turn, one every ``GAP_S``, until it is stopped; how long each took, in ms, from when it was due."""
    took: dict[str, list[float]] = {name: [] for name in probes}
    due = time.perf_counter()

    async def once(name: str, due: float) -> None:
        await probes[name]()
        took[name].append((time.perf_counter() - due) * 1000)

    async with asyncio.TaskGroup() as group:
        for name in itertools.cycle(probes):
            if stopped.is_set():
                break
            group.create_task(once(name, due))
            due += GAP_S
            await asyncio.sleep(due - time.perf_counter())
    return took


async def _probe(url: str, token: str, user: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Client(url, token, answer_s=DEADLINE_S) as client:
        print("ready", flush=True)
        took = await probe({"pong": client.ping, "relay": lambda: client.send(user, {}, ephemeral=True)}, stopped)
    figures = {f"{name}_ms_{point}": value for name in took for point, value in spread(took[name]).items()}
    print(orjson.dumps(figures).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(_probe(*sys.argv[1:4]))
