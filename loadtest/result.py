"""What one run found: everything that the report, the comparison and the budget read.

A result is plain data: it is written to one JSON file, read again by any later command, and holds no credential or
token. Units stand last in names; a share of CPU is counted in cores (1.0 = one core fully used).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from loadtest import files, units

VERSION = 1


class ResultFault(Exception):
    """A file that is no result of a run; the message says which file and why."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures were measured; figures of two machines cannot be compared."""

    architecture: str
    cores: int
    cpu: str = ""
    memory_bytes: int = 0
    system: str = ""
    python: str = ""
    # Who had which core, in words.
    placement: str = ""


class Verdict(msgspec.Struct, kw_only=True):
    """Messages that the service treated otherwise than it promises; each must be zero."""

    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    wrongly_delivered: int = 0
    wrongly_refused: int = 0
    # The first few, in words.
    examples: list[str] = []

    def counts(self) -> dict[str, int]:
        """Each kind with its number."""
        return {name: getattr(self, name) for name in VERDICTS}

    @property
    def faults(self) -> int:
        """All of them together."""
        return sum(self.counts().values())


VERDICTS = ("lost", "duplicated", "reordered", "wrongly_delivered", "wrongly_refused")


class Latency(msgspec.Struct, kw_only=True):
    """One kind of latency over the measured time."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    # The whole histogram, of µs, as hdrhistogram's ``encode`` gives it (base64); empty where there is none.
    hdr: str = ""


class Sample(msgspec.Struct, kw_only=True):
    """What was seen between two looks, one look every 0.5 s."""

    # Seconds since the run's start, at the end of the interval.
    t: float
    connections: int = 0
    sent_per_s: float = 0.0
    delivered_per_s: float = 0.0
    errors_per_s: float = 0.0
    # Of the deliveries in the interval; None where nothing was delivered.
    p50_ms: float | None = None
    p99_ms: float | None = None
    # Rates of everything else that the run counts: logins, refused, presence, drops, reconnects.
    rates: dict[str, float] = {}
    # Median and p99, in ms, of the other latencies that ended in the interval, by their name in ``Result.latencies``.
    spreads: dict[str, tuple[float, float]] = {}
    # None where the processes are not known (a service that was not started by the run and whose pids were not given).
    gateway_cpu: float | None = None
    store_cpu: float | None = None
    # Of the busiest generator process: what says that the generator was the limit.
    generator_cpu: float | None = None
    gateway_bytes: int | None = None
    store_bytes: int | None = None
    # The service's own gauges, of /metrics.
    gauges: dict[str, float] = {}


class Cost(msgspec.Struct, kw_only=True):
    """What the service used, over the measured time; None where it could not be measured."""

    gateway_us_per_message: float | None = None
    store_us_per_message: float | None = None
    cpu_us_per_message: float | None = None
    bytes_per_connection: float | None = None
    cpu_us_per_login: float | None = None


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What kept the run from being faster: ``rate`` where no more was asked for."""

    what: Literal["service", "generator", "rate", "unknown"] = "unknown"
    why: str = ""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened in the run, such as a phase's beginning or a restart."""

    t: float
    what: str


class Result(msgspec.Struct, kw_only=True):
    """One run."""

    # The scenario's name, and all its keys with the values that were in force.
    name: str
    scenario: dict[str, Any]
    machine: Machine
    # RFC 3339, UTC.
    started_at: str
    # Whole length, and the part that the figures are of (without start, warming up and settling), in s since the start.
    seconds: float
    measured_from_s: float = 0.0
    measured_to_s: float = 0.0
    version: int = VERSION
    # What was loaded: "gateway" or the peer's name; versions of it, its store and the tool.
    target: str = "gateway"
    # The command that started it, or where it ran; empty where a command of this tool has chosen it.
    loaded: str = ""
    software: dict[str, str] = {}
    interrupted: bool = False
    # Whole numbers over the run: users, connections, logins, sent, delivered, refused, drops, reconnects, errors …
    counts: dict[str, int] = {}
    # Means over the measured time, per second: sent, delivered, logins, drops …
    rates: dict[str, float] = {}
    # Whether all messages were: without, the verdict holds only what showed itself before.
    judged: bool = True
    verdict: Verdict = msgspec.field(default_factory=Verdict)
    # By name: login, delivery, sent, presence, drop, reconnect.
    latencies: dict[str, Latency] = {}
    series: list[Sample] = []
    service: Cost = msgspec.field(default_factory=Cost)
    limit: Limit = msgspec.field(default_factory=Limit)
    marks: list[Mark] = []
    # Why the run failed, in words; empty where it did not. What the verdict says need not be repeated here.
    failures: list[str] = []

    @property
    def fine(self) -> bool:
        """Whether the run did what it should and the service kept what it promises."""
        return self.judged and not self.failures and not self.verdict.faults

    @property
    def wrong(self) -> str:
        """What of it was not fine, in a few words; empty where the failures say it."""
        found = [] if self.judged else ["not judged"]
        found += [f"{number:,} {units.words(name)}" for name, number in self.verdict.counts().items() if number]
        return ", ".join(found)

    def write(self, path: Path) -> None:
        """Writes the JSON, all of it or nothing: an earlier file stays whole until the new one takes its place.

        Raises:
            FileFault: the file cannot be written.
        """
        files.put(path, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def read(path: Path) -> Result:
    """The result in a file.

    Raises:
        ResultFault: no such file, no result, or one of a version that this tool does not read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ResultFault(f"{path}: {error.strerror or error}") from None
    try:
        version = msgspec.json.decode(raw, type=_Versioned).version
        if version != VERSION:
            raise ResultFault(f"{path}: a result of version {version}; this tool reads version {VERSION}")
        return msgspec.json.decode(raw, type=Result)
    except msgspec.DecodeError as error:
        raise ResultFault(f"{path}: not a result of a load test: {error}") from None


class _Versioned(msgspec.Struct):
    version: int
