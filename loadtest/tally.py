"""What all generators have told so far, merged: totals, latencies, and one sample after another."""

from __future__ import annotations

import msgspec

from loadtest.generator import Snapshot
from loadtest.histogram import AFTER, UNDER_LOAD, Histogram
from loadtest.result import Latency, Sample, Verdict
from loadtest.sampling import Seen

SERIES_MAX = 7200
"""Samples that are kept; when there are more, every second one goes, and from then on half as many are kept."""

ONLY_IN_TOTAL = ("failures",)


class Tally:
    """Takes snapshots in.

    Attributes:
        latest: of each generator.
        most_connections: at the same time.
        measuring: whether the measured time has begun; what was to be sent after it the generators tell apart.
        histograms: latencies that count, by name.
        series: one sample for each interval.
    """

    def __init__(self) -> None:
        self.latest: dict[int, Snapshot] = {}
        self.measuring = False
        self.histograms: dict[str, Histogram] = {}
        self.series: list[Sample] = []
        self.most_connections = 0
        self._lately: dict[str, Histogram] = {}
        self._before: dict[str, int] = {}
        self._at = 0.0
        self._every = 1
        self._skipped = 0

    def take(self, number: int, snapshot: Snapshot) -> None:
        """A generator has told something."""
        self.latest[number] = snapshot
        self.most_connections = max(self.most_connections, self.connections)
        for name, counts in snapshot.took.items():
            self._lately.setdefault(name.removesuffix(AFTER), Histogram()).merge(counts)
            if name.endswith(AFTER):
                continue
            if self.measuring or name not in UNDER_LOAD:
                self.histograms.setdefault(name, Histogram()).merge(counts)

    def counts(self) -> dict[str, int]:
        """All counts, over all generators."""
        total = {"sent": 0, "delivered": 0, "acknowledged": 0}
        for snapshot in self.latest.values():
            own = {"sent": snapshot.said, "delivered": snapshot.heard, "acknowledged": snapshot.acknowledged}
            for name, count in (own | snapshot.counts).items():
                total[name] = total.get(name, 0) + count
        return total

    @property
    def connections(self) -> int:
        """Sockets that are welcomed."""
        return sum(snapshot.connections for snapshot in self.latest.values())

    @property
    def waiting(self) -> int:
        """Messages without an answer."""
        return sum(snapshot.waiting for snapshot in self.latest.values())

    @property
    def failures(self) -> list[str]:
        """What the users complain of."""
        return [failure for snapshot in self.latest.values() for failure in snapshot.failures]

    def verdict(self) -> Verdict:
        """What is known before the ledgers are laid side by side."""
        seen = [snapshot.verdict for snapshot in self.latest.values()]
        totals = {name: sum(each.counts()[name] for each in seen) for name in Verdict().counts()}
        return Verdict(**totals, examples=[text for each in seen for text in each.examples])

    def sample(self, t: float, seen: Seen) -> Sample:
        """What happened since the last one.

        Args:
            t: seconds since the run's beginning.
            seen: what the processes used.
        """
        counts, took = self.counts(), max(t - self._at, 1e-6)
        rates = {
            name: (count - self._before.get(name, 0)) / took
            for name, count in counts.items()
            if name not in ONLY_IN_TOTAL
        }
        lately = {name: found for name, histogram in self._lately.items() if (found := histogram.at_ms(0.5, 0.99))}
        p50, p99 = lately.pop("delivery", (None, None))
        sample = Sample(
            t=t,
            connections=self.connections,
            sent_per_s=rates.pop("sent"),
            delivered_per_s=rates.pop("delivered"),
            errors_per_s=rates.pop("errors", 0.0),
            p50_ms=p50,
            p99_ms=p99,
            rates=rates,
            spreads={name: (found[0], found[1]) for name, found in lately.items()},
            **msgspec.structs.asdict(seen),
        )
        self._before, self._at, self._lately = counts, t, {}
        self._keep(sample)
        return sample

    def _keep(self, sample: Sample) -> None:
        self._skipped += 1
        if self._skipped >= self._every:
            self._skipped = 0
            self.series.append(sample)
        if len(self.series) > SERIES_MAX:
            self.series = self.series[::2]
            self._every *= 2

    def latencies(self) -> dict[str, Latency]:
        """Those that count."""
        return {name: histogram.latency() for name, histogram in self.histograms.items() if histogram.counts}
