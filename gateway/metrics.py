"""Plain counters: adding one costs an attribute increment; Prometheus reads them when it scrapes.

Every counter is declared once, with its help text; the table in ``docs/metrics.md`` is generated from this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from msgspec import Struct


def _counter(text: str) -> int:
    counter: int = field(default=0, metadata={"help": text})
    return counter


@dataclass(slots=True)
class Metrics:
    """One attribute a counter, all starting at 0."""

    connections_opened: int = _counter("TCP connections accepted on the client port")
    connections_refused: int = _counter("connections refused before the upgrade or by a close code at connect")
    sessions_opened: int = _counter("sessions that got their welcome")
    sessions_closed: int = _counter("sessions that ended, for whatever reason")
    messages_relayed: int = _counter("direct messages stored (or, ephemeral, handed on)")
    messages_refused: int = _counter("direct messages refused by policy, limits or the store")
    messages_word_blocked: int = _counter("messages refused because of a profanity word")
    messages_word_replaced: int = _counter("messages in which profanity words were replaced")
    messages_echoed: int = _counter("copies stored for the sender's other devices")
    broadcasts_taken: int = _counter("broadcasts and recalls of them that users of this node have taken")
    broadcasts_put_off: int = _counter("times a user could not take a broadcast: offline by then, or the inbox full")
    broadcasts_retried: int = _counter("times the store did not answer whether a user took a broadcast")
    echoes_lost: int = _counter("copies for the sender's other devices that could not be stored")
    echoes_unstored: int = _counter("copies for the sender's other devices only pushed, because the inbox is half full")
    acks_lost: int = _counter(
        "acks that the store did not take before their session ended: what they cover may come again"
    )
    messages_delivered: int = _counter("messages written to clients, replays included")
    messages_replayed: int = _counter("messages written to clients out of the inbox")
    ephemeral_dropped: int = _counter("messages that are in no inbox, for a session that was catching up")
    commands_bad: int = _counter("commands that could not be decoded or were not allowed")
    rate_refusals: int = _counter("commands refused because a session sent too fast")
    slow_consumers: int = _counter("sessions closed because their outbound bytes waited too much or too long")
    drops_received: int = _counter("drops published to this node")
    sessions_dropped: int = _counter("sessions that a drop closed")
    heartbeat_timeouts: int = _counter("sessions closed because no pong came")
    gaps: int = _counter("times the event loop stood still for longer than gap_ms")
    leases_lost: int = _counter("times this node found its own lease ended")
    sessions_reclaimed: int = _counter("sessions registered again after a break or a lost lease")
    sessions_resynced: int = _counter("sessions that went on in a new epoch, all unacked messages sent again")
    sessions_reaped: int = _counter("sessions of dead nodes that this node removed")
    presence_pushed: int = _counter("presence pushes written to watchers")
    store_refused: int = _counter("store calls refused because too many were waiting")
    store_timeouts: int = _counter("store calls without an answer in time")
    replication_shortfalls: int = _counter("messages stored and answered 504 because too few replicas had them in time")
    store_reconnects: int = _counter("times a link to Redis was lost")
    callbacks_failed: int = _counter(
        "callbacks of a link to Redis that raised: a defect, whose traceback is in the log"
    )
    admin_rate_refusals: int = _counter("Server API calls refused because they came too often")
    control_commands: int = _counter("control commands heard on gw:control")
    webhook_events_queued: int = _counter("events queued for the app's server")
    webhook_events_unqueued: int = _counter("events lost because the store did not take them")
    webhook_events_overflowed: int = _counter("events dropped, the oldest first, because the queue was full")
    webhook_events_told: int = _counter("events that the app's server has answered with 200")
    webhook_events_given_up: int = _counter("events put on the shelf after all tries")
    webhook_tries_failed: int = _counter("requests to the app's server without an answer of 200")
    webhook_pauses: int = _counter("times the sending of events paused because nobody answered")
    checks_passed: int = _counter("messages that the app's server let pass")
    checks_refused: int = _counter("messages that the app's server refused")
    checks_unanswered: int = _counter("messages refused because the app's server did not answer")
    checks_discarded: int = _counter("messages whose sender was gone before they were checked")
    closes: dict[str, int] = field(default_factory=dict)

    def closed(self, name: str) -> None:
        """Counts a close by its name."""
        self.closes[name] = self.closes.get(name, 0) + 1

    def snapshot(self) -> dict[str, int]:
        """All counters at this moment."""
        return {name: getattr(self, name) for name in COUNTERS}


COUNTERS: dict[str, str] = {each.name: each.metadata["help"] for each in fields(Metrics) if "help" in each.metadata}
"""Every counter's name with its help text."""

METRICS = Metrics()
"""This process's counters."""


class Measures(Struct):
    """What one worker measures at a moment.

    Attributes:
        counters: name → value; closes: close name → count; gauges: name → value.
    """

    counters: dict[str, int]
    closes: dict[str, int]
    gauges: dict[str, float]

    @classmethod
    def now(cls, gauges: Mapping[str, float], metrics: Metrics = METRICS) -> Measures:
        """This process's counters, and the gauges given."""
        return cls(metrics.snapshot(), dict(metrics.closes), dict(gauges))


def exposition(measures: Measures, texts: Mapping[str, str]) -> bytes:
    """The Prometheus text format of one process.

    Args:
        measures: its counters and gauges.
        texts: gauge name → help text.
    """
    return _written({(): measures}, texts, {})


WORKER_GAUGES = {
    "worker_answered": "1 where the worker's own measures are among these, 0 where it did not answer in time",
    "worker_restarts": "how often the worker was started again after it had died",
}
"""What is told of each of several workers: name → help text."""


def exposition_of_workers(
    found: Mapping[str, Measures | None], texts: Mapping[str, str], restarts: Mapping[str, int]
) -> bytes:
    """The Prometheus text format of several workers, each series labelled with its worker.

    No sums: counters of a worker that was started again begin at 0, which Prometheus makes good by series.

    Args:
        found: worker → its measures; None = it did not answer.
        texts: gauge name → help text.
        restarts: worker → how often it was started again.
    """
    more = {
        "worker_answered": {worker: float(each is not None) for worker, each in found.items()},
        "worker_restarts": {worker: float(restarts.get(worker, 0)) for worker in found},
    }
    return _written({(worker,): each for worker, each in found.items() if each is not None}, texts, more)


def _written(
    found: Mapping[tuple[str, ...], Measures], texts: Mapping[str, str], more: Mapping[str, Mapping[str, float]]
) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

    labels = ["worker"] if any(found) or more else []

    class _Plain(Collector):
        def collect(self) -> Iterable[Metric]:
            for name, text in COUNTERS.items():
                counter = CounterMetricFamily(f"gateway_{name}", text, labels=labels)
                for label, each in found.items():
                    counter.add_metric(label, each.counters[name])
                yield counter
            closes = CounterMetricFamily("gateway_closes", "closes sent to clients, by name", labels=[*labels, "name"])
            for label, each in found.items():
                for name, count in each.closes.items():
                    closes.add_metric([*label, name], count)
            yield closes
            for name, text in texts.items():
                gauge = GaugeMetricFamily(f"gateway_{name}", text, labels=labels)
                for label, each in found.items():
                    gauge.add_metric(label, each.gauges[name])
                yield gauge
            for name, values in more.items():
                gauge = GaugeMetricFamily(f"gateway_{name}", WORKER_GAUGES[name], labels=labels)
                for worker, value in values.items():
                    gauge.add_metric([worker], value)
                yield gauge

    registry = CollectorRegistry()
    registry.register(_Plain())
    return generate_latest(registry)
