"""How often the Server API may be called, and that a signature is used once: both counted over the whole cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.metrics import METRICS
from gateway.services.errors import RATE_EXCEEDED, Refused
from gateway.store import rates
from gateway.store.store import Store


class RateExceeded(Refused):
    """A call came too often.

    Attributes:
        retry_after_s: in how many whole seconds it may be repeated.
    """

    def __init__(self, retry_after_s: int, reason: str = "the rate limit is exceeded") -> None:
        super().__init__(RATE_EXCEEDED, f"{reason}; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Rates:
    """Limits of operations.

    Args:
        store: where calls are counted.
        enabled: False = everything passes and nothing is counted.
    """

    def __init__(self, store: Store, enabled: bool) -> None:
        self._store = store
        self._enabled = enabled

    async def take(self, operation: str, windows: Sequence[tuple[int, int]], weight: int = 1) -> None:
        """Counts one call in every window of an operation, or in none.

        Args:
            operation: its name.
            windows: (how many, in how many seconds).
            weight: as how many it counts; more than a window holds counts as all of it.

        Raises:
            RateExceeded: a window is full.
            StoreUnavailable, OutcomeUnknown: as the operation itself would answer.
        """
        if not self._enabled:
            return
        wait_ms = int(await self._store.execute(rates.take(self._store.keys, operation, windows, weight)))
        if wait_ms:
            METRICS.admin_rate_refusals += 1
            raise RateExceeded(math.ceil(wait_ms / 1000))


class Replays:
    """Signatures seen within the time in which they would be accepted again.

    Keyed on the signature itself: nonce and timestamp are joined without a separator, so digits moved from one to the
    other would make another pair with the same signature.

    Args:
        store: where they are remembered.
        window_s: how far a timestamp may be from now, either way.
    """

    def __init__(self, store: Store, window_s: int) -> None:
        self._store = store
        # A timestamp may lie a whole window ahead and then stays acceptable for two.
        self._lifetime_s = 2 * window_s + 1

    async def first(self, signature: str) -> bool:
        """Uses a verified signature up; whether it was unused.

        Raises:
            StoreUnavailable, OutcomeUnknown.
        """
        return bool(await self._store.execute(rates.use_signature(self._store.keys, signature, self._lifetime_s)))
