"""Whether something grows over the time of a run: a straight line through what was seen, and its end by its start."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, pstdev

import msgspec

POINTS_MIN = 4
PARTS = 10
"""The medians of the first and the last of so many are compared: what grows late bends away from every line."""


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """How points of time rise, by a line through them or by the medians of the first and the last of them.

    Attributes:
        per_h: what an hour adds, by the slope.
        share: of the value at the beginning, over the whole time; 0.1 = a tenth more at the end.
        spread: of the points around the line, or around those medians (standard deviation), in the points' unit: a
            slope whose rise over the whole time is not well above it says nothing.
        rise: the value at the end less that at the beginning.
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
    """How (seconds, value) grow, in order of time; None where there are too few points or no time between.

    The line of least squares, but where a rise from the first to the last tenth is certain and the line's is not, or is
    less.
    """
    if len(points) < POINTS_MIN or points[0][0] == points[-1][0]:
        return None
    line, late = _line(points), _late(points)
    return max((each for each in (line, late) if each and each.certain), key=lambda each: each.share, default=line)


def _line(points: Sequence[tuple[float, float]]) -> Growth:
    count = len(points)
    middle_t = sum(t for t, _ in points) / count
    middle = sum(value for _, value in points) / count
    over = sum((t - middle_t) ** 2 for t, _ in points)
    slope = sum((t - middle_t) * (value - middle) for t, value in points) / over
    first, last = points[0][0], points[-1][0]
    begin, rise = middle + slope * (first - middle_t), slope * (last - first)
    off = sum((value - middle - slope * (t - middle_t)) ** 2 for t, value in points)
    return Growth(
        per_h=slope * 3600, share=rise / begin if begin else 0.0, spread=(off / (count - 1)) ** 0.5, rise=rise
    )


def _late(points: Sequence[tuple[float, float]]) -> Growth | None:
    part = len(points) // PARTS
    if part < POINTS_MIN:
        return None
    first, last = ([value for _, value in chosen] for chosen in (points[:part], points[-part:]))
    begin, end = median(first), median(last)
    return Growth(
        per_h=(end - begin) / (points[-1][0] - points[0][0]) * 3600,
        share=(end - begin) / begin if begin else 0.0,
        # Of the calmer one: memory that doubles within the last tenth is not calm there.
        spread=min(pstdev(first, begin), pstdev(last, end)),
        rise=end - begin,
    )
