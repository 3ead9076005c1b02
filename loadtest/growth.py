"""Whether something grows over the time of a run: a straight line through what was seen."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

POINTS_MIN = 4


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A line through points of time.

    Attributes:
        per_h: what an hour adds, by the slope.
        share: of the line's value at the beginning, over the whole time; 0.1 = a tenth more at the end.
        spread: of the points around the line (standard deviation), in the points' unit: a slope whose rise over the
            whole time is not well above it says nothing.
        rise: the line's value at the end less that at the beginning.
    """

    per_h: float
    share: float
    spread: float
    rise: float

    @property
    def certain(self) -> bool:
        """Whether the rise stands out of the spread."""
        return abs(self.rise) > 3 * self.spread


def growth(points: Sequence[tuple[float, float]]) -> Growth | None:
    """The line of least squares through (seconds, value); None where there are too few points or no time between."""
    count = len(points)
    if count < POINTS_MIN:
        return None
    middle_t = sum(t for t, _ in points) / count
    middle = sum(value for _, value in points) / count
    over = sum((t - middle_t) ** 2 for t, _ in points)
    if not over:
        return None
    slope = sum((t - middle_t) * (value - middle) for t, value in points) / over
    first, last = min(t for t, _ in points), max(t for t, _ in points)
    begin, rise = middle + slope * (first - middle_t), slope * (last - first)
    off = sum((value - middle - slope * (t - middle_t)) ** 2 for t, value in points)
    return Growth(
        per_h=slope * 3600, share=rise / begin if begin else 0.0, spread=(off / (count - 1)) ** 0.5, rise=rise
    )
