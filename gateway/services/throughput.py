"""How much passes this node: the counters' growth over the last seconds."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from gateway.metrics import METRICS, Metrics

WINDOW = 10
"""Samples, one a second, over which the rates are."""


class Sample(NamedTuple):
    """The counters at a moment; ``at`` is in seconds of the node's clock."""

    at: float
    messages: int
    logins: int


class Throughput:
    """Rates for who asks; reading them costs nothing on the relay path."""

    def __init__(self, now: float, metrics: Metrics = METRICS) -> None:
        self._metrics = metrics
        self._samples: deque[Sample] = deque(maxlen=WINDOW + 1)
        self.sample(now)

    def sample(self, now: float) -> None:
        """Notes the counters; to be called once a second."""
        self._samples.append(Sample(now, self._metrics.messages_relayed, self._metrics.sessions_opened))

    def rates(self, now: float) -> dict[str, float]:
        """Direct messages relayed and sessions opened, a second."""
        first = self._samples[0]
        seconds = max(now - first.at, 1.0)
        return {
            "messages_per_s": round((self._metrics.messages_relayed - first.messages) / seconds, 1),
            "logins_per_s": round((self._metrics.sessions_opened - first.logins) / seconds, 1),
        }
