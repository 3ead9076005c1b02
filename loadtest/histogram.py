"""Latencies: counted cheaply while they happen, folded into an HDR histogram when somebody looks."""

from __future__ import annotations

from collections.abc import Mapping

from hdrh.histogram import HdrHistogram

from loadtest.result import Latency

LOWEST_US = 1
HIGHEST_US = 3_600_000_000
DIGITS = 3
UNDER_LOAD = ("delivery", "sent")
"""Latencies of messages that were to be sent in the measured time; those of logins and drops are few, and all count."""

AFTER = "_after"
"""Behind the name of one of them: what was to be sent later."""

_EXACT_BITS = 11
"""Values under 2,048 are kept exactly, higher ones in 1,024 steps for each power of two: within 0.1 %."""


class Histogram:
    """How often each latency was seen, in µs, between 1 µs and 1 h (what lies beyond counts as the bound)."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def add(self, us: int) -> None:
        """Counts one."""
        if us > 2047:
            if us > HIGHEST_US:
                us = HIGHEST_US
            shift = us.bit_length() - _EXACT_BITS
            us = us >> shift << shift
        elif us < LOWEST_US:
            us = LOWEST_US
        counts = self.counts
        counts[us] = counts.get(us, 0) + 1

    def merge(self, counts: Mapping[int, int]) -> None:
        """Adds what another has counted."""
        own = self.counts
        for us, count in counts.items():
            own[us] = own.get(us, 0) + count

    def take(self) -> dict[int, int]:
        """What was counted since the last time."""
        taken, self.counts = self.counts, {}
        return taken

    @property
    def total(self) -> int:
        """How many."""
        return sum(self.counts.values())

    def at_ms(self, *shares: float) -> list[float]:
        """The latencies in ms under which these shares (ascending, 0..1) lie; empty where nothing was counted."""
        found: list[float] = []
        total, seen, wanted = self.total, 0, iter(shares)
        share = next(wanted, None)
        for us in sorted(self.counts):
            seen += self.counts[us]
            while share is not None and seen >= share * total:
                found.append(us / 1000)
                share = next(wanted, None)
        return found

    def hdr(self) -> HdrHistogram:
        """The same as hdrhistogram's own."""
        histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        for us, count in self.counts.items():
            histogram.record_value(us, count)
        return histogram

    def latency(self) -> Latency:
        """For the result; at least one must have been counted."""
        histogram = self.hdr()
        percentiles = {
            f"{name}_ms": histogram.get_value_at_percentile(percent) / 1000
            for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("p999", 99.9))
        }
        return Latency(
            count=self.total, **percentiles, max_ms=histogram.get_max_value() / 1000, hdr=histogram.encode().decode()
        )


def decoded(encoded: str) -> HdrHistogram:
    """A histogram of a result again."""
    return HdrHistogram.decode(encoded.encode())
