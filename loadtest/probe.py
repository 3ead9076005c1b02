"""What an app on the SDK sees of the relay path while something else keeps the gateway busy.

python -m loadtest.probe URL TOKEN USER    pings and relays to itself until it is terminated, then prints the figures

A process of its own: in the load generator's, the generator's own turns would be measured as well.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import orjson
import uvloop

from gateway.client import Client

GAP_S = 0.004
"""Between two probes, as long as they are answered at once."""

DEADLINE_S = 10.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and most."""
    if not values:
        return {}
    ordered = sorted(values)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)], "max": ordered[-1]}


async def _probe(url: str, token: str, user: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    took: dict[str, list[float]] = {"pong": [], "relay": []}
    async with Client(url, token, answer_s=DEADLINE_S) as client:
        probes: dict[str, Callable[[], Awaitable[object]]] = {
            "pong": client.ping,
            "relay": lambda: client.send(user, {}, ephemeral=True),
        }
        print("ready", flush=True)
        while not stopped.is_set():
            for name, probe in probes.items():
                started = time.perf_counter()
                await probe()
                took[name].append((time.perf_counter() - started) * 1000)
                await asyncio.sleep(GAP_S)
    figures = {f"{name}_ms_{point}": value for name in took for point, value in spread(took[name]).items()}
    print(orjson.dumps(figures).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(_probe(*sys.argv[1:4]))
