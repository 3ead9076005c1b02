"""When to try again: full jitter, and what a close code or an HTTP status advises."""

from __future__ import annotations

import random
from collections.abc import Callable

from gateway.protocol import codes

FIRST_S = 0.5
CAP_S = 30.0

_FAULTS = frozenset(each.code for each in (codes.PROTOCOL_ERROR, codes.UNSUPPORTED, codes.INVALID_DATA, codes.TOO_BIG))
"""Close codes by which one side says that the other breaks the protocol: the next connection would do the same."""

_RECONNECT_STATUSES = frozenset({408, 425, 429})


def comes_again(close_code: int) -> bool:
    """Whether a client reconnects after this close code."""
    if close_code in _FAULTS:
        return False
    return close_code < codes.STOP_FROM


def status_comes_again(status: int) -> bool:
    """Whether a client tries again after a handshake refused with this HTTP status."""
    return status in _RECONNECT_STATUSES or status >= 500


class Backoff:
    """Waits between attempts: random between nothing and twice as long at every failure in a row.

    Args:
        clock: seconds that only go on.
        chance: a number in 0..1 for every wait.
    """

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._not_before = 0.0

    def hold(self, delay_ms: float) -> None:
        """The gateway asks not to come before so many milliseconds from now."""
        self._not_before = max(self._not_before, self._clock() + delay_ms / 1000)

    def succeeded(self) -> None:
        """The last attempt was good; the next failure is the first in a row."""
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait from now, counting one more failure."""
        spread: float = min(CAP_S, FIRST_S * 2 ** min(self._failures, 16))
        self._failures += 1
        return max(spread * self._chance(), self._not_before - self._clock())
