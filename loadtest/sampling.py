"""What processes use: CPU from the scheduler's own account, memory, and the service's gauges."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

STORE = "store"
"""What a store's process is called; several are "store", "store-1", …"""
# An exposition costs the service CPU that the messages would need: it is asked for seldom.
GAUGES_EVERY_S = 5.0
_ANSWER_S = 2.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float | None:
    """CPU seconds that all threads of a process have used; None = no such process.

    Counted in ns by the scheduler (``schedstat``): what ``/proc/PID/stat`` tells is in hundredths of a second.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return None
    total = 0
    for task in tasks:
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue  # a thread that has just ended
    return total / 1e9


def is_store(name: str) -> bool:
    """Whether a process of that name is a store."""
    return name.partition("-")[0] == STORE


def children(pid: int) -> list[int]:
    """The processes that a process has started and not yet seen ending."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue
    return found


def store_cpu_s(pid: int) -> float | None:
    """The same of a store with all its children, those that have ended too; None = no such process.

    A store forks itself to rewrite its files. A child that is seen ending goes from the first part of the sum to the
    other, and is in neither for a moment, or in both.
    """
    own = cpu_s(pid)
    if own is None:
        return None
    living = sum(cpu_s(child) or 0.0 for child in children(pid))
    try:
        # What stands behind the program's name, which may have spaces: cutime and cstime are 16th and 17th of all.
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    except OSError:
        return None
    return own + living + sum(map(int, ended)) * _TICK_S


def cpu_of(name: str, pid: int) -> float | None:
    """CPU seconds of a process of that name, a store's with its children's; None = no such process."""
    return store_cpu_s(pid) if is_store(name) else cpu_s(pid)


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process; None = no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one look found; CPU in cores since the look before (fields as in ``result.Sample``)."""

    gateway_cpu: float | None = None
    store_cpu: float | None = None
    generator_cpu: float | None = None
    gateway_bytes: int | None = None
    store_bytes: int | None = None
    gauges: dict[str, float] = {}


class _Meter:
    """CPU of a changing set of processes: a process that ends or is replaced takes nothing back."""

    def __init__(self, measure: Callable[[int], float | None] = cpu_s) -> None:
        self.busiest_s = 0.0
        self.used: dict[int, float] = {}
        self._measure = measure
        self._most: dict[int, float] | None = None

    def look(self, pids: Sequence[int]) -> float:
        """CPU seconds used since the last look; none at the first look, and all of a process that has come since."""
        totals = {pid: total for pid in pids if (total := self._measure(pid)) is not None}
        most = totals if self._most is None else self._most
        used = {pid: max(0.0, total - most.get(pid, 0.0)) for pid, total in totals.items()}
        # A total that seems to fall was looked at in the wrong moment: what it gains again has been counted.
        self._most = most | {pid: max(total, most.get(pid, 0.0)) for pid, total in totals.items()}
        self.used |= {pid: self.used.get(pid, 0.0) + seconds for pid, seconds in used.items()}
        self.busiest_s = max(used.values(), default=0.0)
        return sum(used.values())

    @property
    def used_s(self) -> float:
        """CPU seconds of all, since the first look."""
        return sum(self.used.values())


class Sampler:
    """Looks at the processes of a run, as often as ``look`` is called.

    ``gateway_s`` and ``store_s`` are the CPU seconds seen so far.
    """

    def __init__(
        self,
        pids: Callable[[], Mapping[str, int]],
        generators: Callable[[], Sequence[int]],
        metrics_url: str | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Args:
            pids: the service's processes of now; those named "store" are the store, all others are the gateway.
            generators: the generators' processes.
            metrics_url: where the service's gauges are; None = nowhere.
            clock: seconds.
        """
        self._pids, self._generators, self._clock = pids, generators, clock
        self._gateway, self._store, self._own = _Meter(), _Meter(store_cpu_s), _Meter()
        self._gauges = Gauges(metrics_url) if metrics_url else None
        self._at = clock()
        self._measure()

    @property
    def gateway_s(self) -> float:
        """CPU seconds of the gateway's processes since this was made."""
        return self._gateway.used_s

    @property
    def store_s(self) -> float:
        """The same of the store's."""
        return self._store.used_s

    @property
    def used(self) -> dict[int, float]:
        """The same of each of the service's processes."""
        return self._gateway.used | self._store.used

    @property
    def store_seen(self) -> bool:
        """Whether there ever was a process of the store's."""
        return bool(self._store.used)

    def _measure(self) -> tuple[list[int], list[int], float | None, float | None]:
        pids = self._pids()
        store = [pid for name, pid in pids.items() if is_store(name)]
        gateway = [pid for name, pid in pids.items() if not is_store(name)]
        used, stored = self._gateway.look(gateway), self._store.look(store)
        self._own.look(self._generators())
        return gateway, store, used if gateway else None, stored if store else None

    async def look(self) -> Seen:
        """What was used since the last look."""
        gateway, store, used, stored = self._measure()
        now = self._clock()
        took, self._at = max(now - self._at, 1e-6), now
        return Seen(
            gateway_cpu=None if used is None else used / took,
            store_cpu=None if stored is None else stored / took,
            generator_cpu=self._own.busiest_s / took,
            gateway_bytes=_sum(gateway),
            store_bytes=_sum(store),
            gauges=self._gauges.latest(now) if self._gauges else {},
        )

    async def close(self) -> None:
        """Ends what is under way."""
        if self._gauges:
            await self._gauges.close()


def _sum(pids: Sequence[int]) -> int | None:
    found = [size for pid in pids if (size := resident_bytes(pid)) is not None]
    return sum(found) if found else None


class Gauges:
    """The gauges of a service's /metrics, asked for in the background; ``failures`` counts asking in vain."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False)
        self._values: dict[str, float] = {}
        self._next = 0.0
        self._asking: asyncio.Task[None] | None = None
        self.failures = 0

    def latest(self, now: float) -> dict[str, float]:
        """The newest values; asks again when they are old."""
        if now >= self._next and (self._asking is None or self._asking.done()):
            self._next = now + GAUGES_EVERY_S
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return dict(self._values)

    async def _ask(self) -> None:
        try:
            answer = await self._client.get(self._url)
            answer.raise_for_status()
            self._values = read_gauges(answer.text)
        except (httpx.HTTPError, ValueError):
            # A service that is down says nothing; old values would say that it is up.
            self._values = {}
            self.failures += 1

    async def close(self) -> None:
        """Lets go of the connection."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._client.aclose()


def read_gauges(exposition: str) -> dict[str, float]:
    """The gauges without labels of an exposition, and those that have only ``worker``, summed over the workers.

    Raises:
        ValueError: this is no exposition.
    """
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        if family.type != "gauge":
            continue
        for sample in family.samples:
            if set(sample.labels) <= {"worker"}:
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values
