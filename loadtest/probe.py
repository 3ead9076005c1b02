"""What a client on the relay path sees while something else keeps the gateway busy.

python -m loadtest.probe URL TOKEN USER    pings and relays to itself until it is terminated, then prints the figures

A process of its own: in the load generator's, the generator's own turns would be measured as well.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence

import orjson
import uvloop

from loadtest.wire import Wire

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
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)

    def on_text(_: Wire, payload: bytes) -> None:
        if payload.startswith((b'{"type":"pong"', b'{"type":"sent"')) and not answered.done():
            answered.set_result(None)

    host, _, port = url.removeprefix("ws://").partition("/")[0].partition(":")
    _, wire = await loop.create_connection(lambda: Wire(url, token, on_text, lambda _: None), host, int(port))
    await asyncio.wait_for(wire.opened, DEADLINE_S)
    print("ready", flush=True)
    commands = {
        "pong": b'{"type":"ping","id":"1"}',
        "relay": b'{"type":"send","id":"1","to":"%s","body":{},"ephemeral":true}' % user.encode(),
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    while not stopped.is_set():
        for name, command in commands.items():
            answered = loop.create_future()
            started = time.perf_counter()
            wire.send(command)
            await asyncio.wait_for(answered, DEADLINE_S)
            took[name].append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(GAP_S)
    figures = {f"{name}_ms_{point}": value for name in took for point, value in spread(took[name]).items()}
    print(orjson.dumps(figures).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(_probe(*sys.argv[1:4]))
