"""Rates as token buckets."""

from __future__ import annotations


class TokenBucket:
    """Allows ``rate`` units a second on average and ``burst`` at once.

    A rate of 0 allows everything.
    """

    __slots__ = ("burst", "filled_at", "level", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.level = burst
        self.filled_at = now

    def take(self, cost: float, now: float) -> float:
        """Takes ``cost`` units.

        Returns:
            0.0 when they were there and are now taken; else the seconds until they will be, and nothing is taken.
        """
        rate = self.rate
        if rate <= 0.0:
            return 0.0
        level = self.level + (now - self.filled_at) * rate
        if level > self.burst:
            level = self.burst
        self.filled_at = now
        if level >= cost:
            self.level = level - cost
            return 0.0
        self.level = level
        return (cost - level) / rate

    def full(self, now: float) -> bool:
        """Whether nothing has been taken lately, so that the bucket need not be remembered."""
        return self.rate <= 0.0 or self.level + (now - self.filled_at) * self.rate >= self.burst
