from __future__ import annotations

from gateway.metrics import Metrics
from gateway.services.throughput import WINDOW, Throughput


def test_rates_are_over_the_last_seconds() -> None:
    metrics = Metrics(messages_relayed=1000, sessions_opened=50)
    throughput = Throughput(100.0, metrics)
    assert throughput.rates(100.0) == {"messages_per_s": 0.0, "logins_per_s": 0.0}
    metrics.messages_relayed += 10
    metrics.sessions_opened += 1
    # Of less than a second there is no rate yet.
    assert throughput.rates(100.1) == {"messages_per_s": 10.0, "logins_per_s": 1.0}
    for second in range(1, WINDOW + 1):
        throughput.sample(100.0 + second)
        metrics.messages_relayed += 20
    assert throughput.rates(110.0) == {"messages_per_s": 21.0, "logins_per_s": 0.1}
    throughput.sample(111.0)
    # What was before the window is not counted any more.
    assert throughput.rates(111.0) == {"messages_per_s": 20.0, "logins_per_s": 0.0}
