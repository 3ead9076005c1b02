"""Things that happen at a rate, whatever the service does: each at its own time, counted from the beginning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

BEHIND_MAX = 1000
"""Events that are made up for at once after the loop stood still; older ones are left out and counted."""

TIMER_S = 0.002
"""By how much a timer of the loop may be late: it counts in milliseconds, and rounds."""

RARE_S = 0.02
"""Events at least so far apart are awaited exactly: the last ``TIMER_S`` turn by turn, a tenth of a core at most."""


class Pace:
    """Events at a constant rate: an open loop, which a slow service does not slow down.

    Attributes:
        skipped: events left out because the loop was too far behind.
    """

    def __init__(self, per_s: float, phase: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            per_s: how many a second, above 0.
            phase: after which share of the time between two the first one is: processes that begin at once must not go
                on in step, or each event would wait for the others'.
            clock: seconds; must not go back.
        """
        if per_s <= 0:
            raise ValueError("a pace is above 0")
        self._gap = 1 / per_s
        self._clock = clock
        self._next = clock() + phase * self._gap
        self.skipped = 0

    def due(self) -> list[float]:
        """When each event that is due by now was to happen, oldest first; each is given once."""
        now = self._clock()
        times = []
        behind = int((now - self._next) / self._gap) - BEHIND_MAX
        if behind > 0:
            self.skipped += behind
            self._next += behind * self._gap
        while self._next <= now:
            times.append(self._next)
            self._next += self._gap
        return times

    async def events(self, seconds: float) -> AsyncIterator[float]:
        """The events of that many seconds, each when it is due: the time it was meant for."""
        until = self._clock() + seconds
        while self._clock() < until:
            for at in self.due():
                yield at
            await self._until(min(self._next, until))

    async def _until(self, then: float) -> None:
        if self._gap < RARE_S:
            await asyncio.sleep(max(0.001, then - self._clock()))
            return
        if (wait := then - self._clock() - TIMER_S) > 0:
            await asyncio.sleep(wait)
        while self._clock() < then:
            await asyncio.sleep(0)
