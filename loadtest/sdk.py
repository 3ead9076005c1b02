"""What the Python SDK costs an app: messages a second through it, CPU per message, memory per client.

    python -m loadtest.sdk [--clients 200] [--seconds 5] [--in-flight 1] [--json FILE]

Starts a gateway of its own on one core; the clients share a process on another. Pairs of them send each other stored
messages, each as fast as `sent` comes; every message is handed to a handler and acknowledged. CPU per message is the
clients' process's, for sending and receiving together. Raw sockets that do
the same are `python -m loadtest run chat`.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from collections import Counter
from pathlib import Path

import orjson
import uvloop

from gateway.client import Client, Message
from loadtest.machine import pinned
from loadtest.target import Target, started

DRAIN_S = 30.0


async def measure(target: Target, count: int, seconds: float, in_flight: int) -> dict[str, float]:
    """Clients in pairs.

    Args:
        count: of clients, even.
        in_flight: sends of one client that are out at once.
    """
    names = [f"pair{index}" for index in range(count)]
    sent: Counter[str] = Counter()
    got: Counter[str] = Counter()
    before = _resident_bytes()
    clients = [Client(target.url, target.token(name), device="load", in_flight=in_flight) for name in names]

    def received(message: Message) -> None:
        got[message.sender] += 1

    for client in clients:
        client.on_message(received)
    started = time.perf_counter()
    await asyncio.gather(*(client.connect() for client in clients))
    opening = time.perf_counter() - started
    memory = _resident_bytes() - before
    until = time.perf_counter() + seconds

    async def send(client: Client, to: str) -> None:
        while time.perf_counter() < until:
            sent[client.user] += 1
            await client.send(to, {"text": "x" * 100})

    cpu, started = time.process_time(), time.perf_counter()
    await asyncio.gather(
        *(send(client, names[index ^ 1]) for index, client in enumerate(clients) for _ in range(in_flight))
    )
    cpu, took = time.process_time() - cpu, time.perf_counter() - started
    deadline = time.perf_counter() + DRAIN_S
    while got.total() < sent.total() and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    duplicates = sum(client.duplicates for client in clients)
    await asyncio.gather(*(client.close() for client in clients))
    return {
        "messages_per_s": sent.total() / took,
        "sdk_us_per_message": cpu / sent.total() * 1e6,
        "sdk_bytes_per_client": memory / count,
        "logins_per_s": count / opening,
        "duplicates": duplicates,
        "lost": (sent - got).total(),
    }


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200, help="how many, in pairs")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long they send")
    parser.add_argument("--in-flight", type=int, default=1, help="sends of one client that are out at once")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    options = parser.parse_args()
    if options.clients < 2 or options.clients % 2:
        parser.error("--clients: an even number")
    with started("", pinned()) as running:
        figures = uvloop.run(measure(running, options.clients, options.seconds, options.in_flight))
    for name, value in figures.items():
        print(f"  {name:30} {value:12,.2f}")
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    if figures["lost"]:
        raise SystemExit("messages were lost")


if __name__ == "__main__":
    main()
