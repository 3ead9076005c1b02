"""The only place that reads clocks; tests move it."""

from __future__ import annotations

import time


class Clock:
    """Two clocks: one that only goes forward and counts sleep, and the wall's."""

    def now(self) -> float:
        """Seconds since boot, suspended time included (CLOCK_BOOTTIME), so that a frozen node notices."""
        return time.clock_gettime(_BOOT)

    def wall_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000


_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
