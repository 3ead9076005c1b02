"""What the machine must allow before a run begins: file descriptors, ports, memory."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path

from loadtest.scenario import PROCESSES_MAX, Scenario

SPARE_DESCRIPTORS = 64
SERVICE_DESCRIPTORS = 2000
"""Of a gateway, beside its connections: the shares of its workers are not quite equal."""
RAISE = "a higher limit (ulimit -Hn, /etc/security/limits.conf, LimitNOFILE= of systemd)"
BYTES_PER_CONNECTION = 40_000
"""Of generator, gateway, store and kernel together, with room to spare; buffers of messages come on top."""


def raised() -> int:
    """Raises this process's limit of file descriptors as far as it may itself; its children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def check(scenario: Scenario, descriptors: int, *, remote: bool = False, workers: int = 0) -> list[str]:
    """What the machine does not allow: limit, need, and how to raise it.

    Args:
        descriptors: how many a process may have open.
        remote: the target is elsewhere, where 127.x addresses do not reach.
        workers: processes of a gateway that is started for the run, which inherits the limit; 0 = it runs already.
    """
    faults: list[str] = []
    sockets = scenario.users * scenario.devices
    need = _descriptors(scenario, scenario.processes)
    if need > descriptors:
        most = min(PROCESSES_MAX, scenario.users)
        enough = next((count for count in range(1, most + 1) if _descriptors(scenario, count) <= descriptors), 0)
        # Pairs stay together: with so few descriptors no number of processes suffices.
        processes_enough = f"more processes (--processes {enough}), or " if enough else ""
        faults.append(
            f"file descriptors: {need - SPARE_DESCRIPTORS:,} connections in each of {scenario.processes} process(es) "
            f"need {need:,}, the limit is {descriptors:,}: {processes_enough}{RAISE}"
        )
    if workers and -(-sockets // workers) + SERVICE_DESCRIPTORS > descriptors:
        spare = descriptors - SERVICE_DESCRIPTORS
        # With so few descriptors no number of workers suffices.
        workers_enough = (
            f'more workers (--start "gateway serve --workers {-(-sockets // spare)}"), or ' if spare > 0 else ""
        )
        faults.append(
            f"file descriptors: the gateway's {workers} process(es) cannot hold {sockets:,} connections, the limit is "
            f"{descriptors:,} each, of which {SERVICE_DESCRIPTORS:,} are kept for the rest: {workers_enough}{RAISE}"
        )
    ports = _ports()
    if sockets > ports * scenario.source_addresses:
        enough = -(-sockets // ports)
        faults.append(
            f"ports: {sockets:,} connections from {scenario.source_addresses} address(es) to one port, the limit is "
            f"{ports:,} for each: more addresses (--source-addresses {enough}), "
            f"or more ports (sysctl net.ipv4.ip_local_port_range)"
        )
    if remote and scenario.source_addresses > 1:
        faults.append("source addresses: 127.x reaches this machine only; --source-addresses 1")
    available = _available_bytes()
    if available is not None and sockets * BYTES_PER_CONNECTION > available:
        users = available // (BYTES_PER_CONNECTION * scenario.devices) // 2 * 2
        faults.append(
            f"memory: {sockets:,} connections take about {sockets * BYTES_PER_CONNECTION >> 20:,} MiB on this machine, "
            f"{available >> 20:,} MiB are available: fewer users (--users {users}), "
            f"or what else runs here has to go"
        )
    return faults


def _descriptors(scenario: Scenario, processes: int) -> int:
    """How many the fullest of so many generators needs."""
    pairs = -(-scenario.users // 2)
    return min(-(-pairs // processes) * 2, scenario.users) * scenario.devices + SPARE_DESCRIPTORS


def sources(scenario: Scenario) -> list[str]:
    """The addresses that sockets come from; [""] = the system's choice."""
    if scenario.source_addresses == 1:
        return [""]
    return [f"127.0.0.{number}" for number in range(1, scenario.source_addresses + 1)]


def _ports(file: Path = Path("/proc/sys/net/ipv4/ip_local_port_range")) -> int:
    try:
        low, high = (int(word) for word in file.read_text().split())
    except (OSError, ValueError):
        return 28_232
    return high - low + 1


def _available_bytes(file: Path = Path("/proc/meminfo")) -> int | None:
    lines: Iterable[str]
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
