"""The first figures: relays a second, CPU per message, memory per idle connection, kick latency.

    python -m loadtest.figures [--seconds 5] [--idle 2000] [--kicks 200] [--json FILE]

Starts a gateway of its own with an embedded store, both pinned to one core, and generates load from another; talks to
this machine only. Absolute figures depend on the machine and on who else uses it, so the first line names it and the
same run measures the limit to compare with: a bare relay without a store (loadtest/bare.py), pinned to the same core.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop

from gateway.config import Config, Credentials
from gateway.core.claims import ISSUED_AT_MS, sign
from gateway.services.services import Services
from gateway.store.embedded import find
from gateway.store.store import Store
from loadtest.machine import pinned
from loadtest.plain_wire import Wire

USERS = 100
BODY_BYTES = 120
PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLES = "samples.json"
START_S = 30.0


@dataclass(frozen=True)
class Service:
    """A gateway and its store, running."""

    url: str
    data_dir: Path
    pids: dict[str, int]
    credentials: Credentials

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds used so far, by process."""
        return {name: _cpu_s(pid) for name, pid in self.pids.items()}

    def resident_bytes(self) -> dict[str, int]:
        """Resident memory, by process."""
        return {name: _resident_bytes(pid) for name, pid in self.pids.items()}

    def token(self, user: str) -> str:
        """A token signed with the app's secret, as an app server would."""
        now_ms = time.time_ns() // 1_000_000
        claims = {
            "sub": user,
            "aud": self.credentials.app_key,
            "iat": now_ms // 1000,
            ISSUED_AT_MS: now_ms,
            "jti": user,
        }
        return sign(claims, self.credentials.app_secret)


def _cpu_s(pid: int) -> float:
    # In ns; what /proc tells elsewhere is counted in hundredths of a second.
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


@contextmanager
def service(core: int | None, *flags: str, sampled: bool = False) -> Iterator[Service]:
    """Starts a gateway on free ports with a data directory of its own.

    Args:
        core: where it and its store run; None = anywhere.
        flags: more of ``serve``.
        sampled: whether its event loop can be watched (loadtest/sampled.py), figures in ``SAMPLES``.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-figures-") as directory:
        data_dir = Path(directory)
        program = ["loadtest.sampled", str(data_dir / SAMPLES)] if sampled else ["gateway"]
        command = [sys.executable, "-m", *program, "serve", "--data-dir", directory, "--client-host", "127.0.0.1"]
        command += ["--client-port", "0", "--admin-port", "0", "--send-rate-per-s", "0", "--log-level", "warning"]
        command += ["--connect-rate-per-address-s", "0", "--inbox-max", "10000000", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield _await_service(process, data_dir, core)
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def bare(core: int | None) -> Iterator[Service]:
    """Starts the bare relay."""
    process = subprocess.Popen([sys.executable, "-m", "loadtest.bare"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if core is not None:
            pin(process.pid, core)
        yield Service(url, Path(), {"gateway": process.pid}, Credentials("bare", "0" * 32))
    finally:
        process.terminate()
        process.wait(30)


def _await_service(process: subprocess.Popen[str], data_dir: Path, core: int | None) -> Service:
    assert process.stdout is not None
    for line in process.stdout:
        words = [word for word in line.split() if word.startswith("ws://")]
        if words:
            break
    else:
        raise SystemExit("the gateway did not start; see its messages above")
    pids = {"gateway": process.pid, "store": _child(process.pid)}
    if core is not None:
        for pid in pids.values():
            pin(pid, core)
    credentials = Credentials.load_or_create(data_dir, Config(data_dir=data_dir))
    return Service(words[0], data_dir, pids, credentials)


def _child(parent: int) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                return int(entry.name)
    raise SystemExit("the gateway has no store process")


def pin(pid: int, core: int) -> None:
    """Keeps all threads of a process on one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


async def connect(service: Service, user: str, on_text: Any, on_end: Any) -> Wire:
    """A user's socket, welcomed."""
    host, _, port = service.url.removeprefix("ws://").partition("/")[0].partition(":")
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(
        lambda: Wire(service.url, service.token(user), on_text, on_end), host, int(port)
    )
    wire.user = user
    await asyncio.wait_for(wire.opened, START_S)
    return wire


async def relays(service: Service, window: int, seconds: float) -> dict[str, float]:
    """Pairs of users who send each other messages, ``window`` of them in flight each."""
    delivered = sent = 0
    faults: list[bytes] = []
    running = True
    body = b'{"text":"%s"}' % (b"x" * (BODY_BYTES - 11))
    commands: dict[str, bytes] = {}

    def on_text(wire: Wire, payload: bytes) -> None:
        nonlocal delivered, sent
        if payload.startswith(b'{"type":"message"'):
            delivered += 1
        elif payload.startswith(b'{"type":"sent"'):
            if running:
                sent += 1
                wire.send(commands[wire.user])
        elif not payload.startswith((b'{"type":"welcome"', b'{"type":"session"')):
            faults.append(payload)

    # Users of this run alone: nothing waits in their inboxes.
    names = [f"w{window}-{index}" for index in range(USERS)]
    wires = [await connect(service, name, on_text, lambda _: None) for name in names]
    for index, wire in enumerate(wires):
        to = names[index ^ 1].encode()
        commands[wire.user] = b'{"type":"send","id":"1","to":"%s","body":%s}' % (to, body)
    for wire in wires:
        for _ in range(window):
            sent += 1
            wire.send(commands[wire.user])
    await asyncio.sleep(0.5)
    cpu, own, count, started = service.cpu_s(), time.process_time(), delivered, time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    after, own, count = service.cpu_s(), time.process_time() - own, delivered - count
    running = False
    deadline = time.perf_counter() + 10
    while delivered < sent and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    for wire in wires:
        if wire.transport is not None:
            wire.transport.close()
    if faults:
        raise SystemExit(f"the gateway answered errors: {faults[0].decode()}")
    return {
        "messages_per_s": count / took,
        "gateway_us_per_message": (after["gateway"] - cpu["gateway"]) / count * 1e6,
        "store_us_per_message": (after.get("store", 0.0) - cpu.get("store", 0.0)) / count * 1e6,
        "cpu_us_per_message": (sum(after.values()) - sum(cpu.values())) / count * 1e6,
        "generator_cpu_share": own / took,
        "lost": sent - delivered,
    }


async def idle_memory(service: Service, connections: int) -> dict[str, float]:
    """Connections that are authenticated, present and say nothing."""
    before = service.resident_bytes()
    wires: list[Wire] = []
    started = time.perf_counter()
    for start in range(0, connections, 100):
        batch = range(start, min(start + 100, connections))
        wires += await asyncio.gather(
            *(connect(service, f"idle{index}", lambda *_: None, lambda _: None) for index in batch)
        )
    took = time.perf_counter() - started
    await asyncio.sleep(1.0)
    after = service.resident_bytes()
    for wire in wires:
        if wire.transport is not None:
            wire.transport.close()
    return {
        "logins_per_s": connections / took,
        "gateway_bytes_per_connection": (after["gateway"] - before["gateway"]) / connections,
        "store_bytes_per_connection": (after["store"] - before["store"]) / connections,
    }


async def kick_latency(service: Service, kicks: int) -> dict[str, float]:
    """From the admin's call to the client seeing the end of its socket."""
    url = find(service.data_dir)
    assert url is not None
    store = await Store.connect(url)
    services = Services.over(store, Config(data_dir=service.data_dir), service.credentials)
    ended_ms: list[float] = []
    acknowledged_ms: list[float] = []
    for index in range(kicks):
        end: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        await connect(
            service, f"kicked{index}", lambda *_: None, lambda _, end=end: end.set_result(time.perf_counter())
        )
        started = time.perf_counter()
        acknowledgement = await services.control.kick(users=[f"kicked{index}"])
        acknowledged_ms.append((time.perf_counter() - started) * 1000)
        assert acknowledgement.sessions_closed == 1
        ended_ms.append((await asyncio.wait_for(end, 5) - started) * 1000)
    await store.close()
    return {
        "acknowledged_ms_p50": statistics.median(acknowledged_ms),
        "acknowledged_ms_p99": _percentile(acknowledged_ms, 0.99),
        "socket_ended_ms_p50": statistics.median(ended_ms),
        "socket_ended_ms_p99": _percentile(ended_ms, 0.99),
    }


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(service: Service, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All figures."""
    return {
        "relay, window 1": await relays(service, 1, options.seconds),
        "relay, window 8": await relays(service, 8, options.seconds),
        "idle connections": await idle_memory(service, options.idle),
        "kick": await kick_latency(service, options.kicks),
    }


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each relay run")
    parser.add_argument("--idle", type=int, default=2000, help="idle connections")
    parser.add_argument("--kicks", type=int, default=200, help="kicks, one after another")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    options = parser.parse_args()
    core = pinned()
    with service(core) as running:
        figures = uvloop.run(measure(running, options))
    with bare(core) as limit:
        figures["bare relay, window 8"] = uvloop.run(relays(limit, 8, options.seconds))
    cost = {name: values["cpu_us_per_message"] for name, values in figures.items() if "cpu_us_per_message" in values}
    figures["ratio"] = {"cpu_per_message_to_bare": cost["relay, window 8"] / cost["bare relay, window 8"]}
    for name, values in figures.items():
        print(name)
        for key, value in values.items():
            print(f"  {key:30} {value:12,.2f}")
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    if any(values.get("lost") for values in figures.values()):
        raise SystemExit("messages were lost")


if __name__ == "__main__":
    main()
