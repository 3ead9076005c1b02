"""What a report draws, as plain lists: the series over time, thinned, and the curves of the percentiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hdrh.histogram import HdrHistogram

from loadtest import units
from loadtest.result import Latency, Result, Sample

# More points than this are more than a screen shows: an hours' run is drawn by the means (or the worst) of equal parts.
POINTS = 900
CURVE_POINTS = 90
# A latency whose highest value is this many times its median is drawn on a logarithmic scale.
STEEP = 30.0
# Gauges that the connections' chart shows already, or that say nothing in a line.
DULL_GAUGES = {"gateway_connections", "gateway_sessions", "gateway_ready"}
GAUGES_SHOWN = 4

# What happened beside the messages: shown in this order, and what is not named here after it. Acks and answers come as
# often as messages and would press all others to the ground; the kinds of drops are told together.
EVENTS = ("logins", "reconnects", "drops", "kept_out", "presence", "refused", "left_out", "unanswered")
HIDDEN_EVENTS = ("acknowledged", "acks", "echoes", "changes", "cut")
LINES = 6
LATENCIES = ("delivery", "sent", "drop", "drop_answer", "presence", "reconnect", "replay", "login")
SPREADS = ("drop", "presence", "reconnect", "login", "replay", "sent")

TONES = {
    "delivered": "blue",
    "sent": "grey",
    "delivery": "blue",
    "presence": "teal",
    "drop": "rose",
    "drops": "rose",
    "drop_answer": "brown",
    "login": "amber",
    "logins": "amber",
    "reconnect": "violet",
    "reconnects": "violet",
    "replay": "olive",
    "kept_out": "brown",
    "refused": "grey",
    "left_out": "olive",
    "unanswered": "blue",
    "errors": "bad",
}
SPARE_TONES = ("violet", "teal", "amber", "rose", "blue", "grey")

Reader = Callable[[Sample], float | None]
Values = list[float | None]


def drawn(result: Result) -> dict[str, Any]:
    """Everything that the report's script draws."""
    parts = list(thinned(result.series))
    return {
        "t": [_short(part[-1].t) for part in parts],
        "measured": [result.measured_from_s, result.measured_to_s],
        "marks": [[mark.t, mark.what] for mark in result.marks],
        "charts": [chart for chart in _charts(result, parts) if chart["series"]],
        "curves": curves(result.latencies),
    }


def thinned(series: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """The samples in as many equal parts as are drawn, in order, none left out."""
    size = max(1, math.ceil(len(series) / POINTS))
    for start in range(0, len(series), size):
        yield series[start : start + size]


def _charts(result: Result, parts: Sequence[Sequence[Sample]]) -> Iterator[dict[str, Any]]:
    def lines(*wanted: tuple[str, str, Reader, bool]) -> list[dict[str, Any]]:
        return [
            {"name": name, "tone": tone, "values": values}
            for name, tone, read, worst in wanted
            if any(values := _values(parts, read, worst))
        ]

    yield _chart(
        "messages",
        "Messages per second",
        "rate",
        lines(
            ("delivered", "blue", lambda s: s.delivered_per_s, False),
            ("sent", "grey", lambda s: s.sent_per_s, False),
        ),
        area=True,
    )
    yield _latencies(
        "delivery",
        "Delivery latency",
        lines(("p99", "violet", lambda s: s.p99_ms, True), ("median", "blue", lambda s: s.p50_ms, False)),
    )
    yield _chart(
        "connections", "Connections", "count", lines(("open", "teal", lambda s: s.connections, False)), area=True
    )
    rates = [
        name
        for name in ordered(_names(sample.rates for sample in result.series), EVENTS)
        if name not in HIDDEN_EVENTS and not name.startswith("drops_")
    ][:LINES]
    rated = lines(*((units.words(name), _tone(name, i), _rate(name), False) for i, name in enumerate(rates)))
    errors = lines(("errors", "bad", lambda s: s.errors_per_s, False))
    yield _chart("events", "Also per second", "rate", [*rated, *errors])
    spreads = ordered(_names(sample.spreads for sample in result.series), SPREADS)[:LINES]
    yield _latencies(
        "others",
        "Other latencies, p99",
        lines(*((units.words(name), _tone(name, i), _tail(name), True) for i, name in enumerate(spreads))),
    )
    yield _chart(
        "cpu",
        "CPU",
        "cores",
        lines(
            ("gateway", "blue", lambda s: s.gateway_cpu, False),
            ("store", "amber", lambda s: s.store_cpu, False),
            ("busiest generator", "grey", lambda s: s.generator_cpu, False),
        ),
    )
    yield _chart(
        "memory",
        "Resident memory",
        "bytes",
        lines(
            ("gateway", "blue", lambda s: s.gateway_bytes, False), ("store", "amber", lambda s: s.store_bytes, False)
        ),
        area=True,
    )
    gauges = [name for name in _names(sample.gauges for sample in result.series) if name not in DULL_GAUGES]
    for i, name in enumerate(gauges[:GAUGES_SHOWN]):
        title = units.words(name.removeprefix("gateway_")).capitalize()
        yield _chart(name, title, "count", lines(("now", SPARE_TONES[i], _gauge(name), False)))


def _chart(key: str, title: str, unit: str, series: list[dict[str, Any]], *, area: bool = False) -> dict[str, Any]:
    return {"key": key, "title": title, "unit": unit, "area": area, "log": False, "series": series}


def _latencies(key: str, title: str, series: list[dict[str, Any]]) -> dict[str, Any]:
    chart = _chart(key, title, "ms", series)
    found = [value for line in series for value in line["values"] if value]
    chart["log"] = bool(found) and max(found) > STEEP * statistics.median(found)
    return chart


def _rate(name: str) -> Reader:
    return lambda sample: sample.rates.get(name, 0.0)


def _tail(name: str) -> Reader:
    return lambda sample: spread[1] if (spread := sample.spreads.get(name)) else None


def _gauge(name: str) -> Reader:
    return lambda sample: sample.gauges.get(name)


def _names(found: Iterable[dict[str, Any]]) -> list[str]:
    """Each name once, in the order of its first appearance."""
    return list(dict.fromkeys(name for each in found for name in each))


def ordered(names: Iterable[str], first: Sequence[str] = LATENCIES) -> list[str]:
    """The names in their order of interest, by default that of latencies; unknown ones last."""
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def _tone(name: str, index: int) -> str:
    return TONES.get(name, SPARE_TONES[index % len(SPARE_TONES)])


def _values(parts: Sequence[Sequence[Sample]], read: Reader, worst: bool) -> Values:
    values: Values = []
    for part in parts:
        found = [value for sample in part if (value := read(sample)) is not None]
        one = (max(found) if worst else statistics.fmean(found)) if found else None
        values.append(None if one is None else _short(one))
    return values


def _short(value: float) -> float:
    # Five digits are more than a chart shows, and the file stays small.
    return float(f"{value:.5g}")


def curves(latencies: dict[str, Latency]) -> list[dict[str, Any]]:
    """Each latency's value by percentile: points of (-log10(1 - share), ms), as far as there are values to tell it."""
    found = []
    for index, name in enumerate(ordered(latencies)):
        points = curve(latencies[name])
        if points:
            found.append({"name": units.words(name), "tone": _tone(name, index), "points": points})
    return found


def curve(latency: Latency) -> list[tuple[float, float]]:
    """One latency's points; empty where its histogram was not kept."""
    if not latency.hdr or latency.count < 2:
        return []
    histogram = HdrHistogram.decode(latency.hdr)
    end = math.log10(latency.count)
    steps = [end * step / (CURVE_POINTS - 1) for step in range(CURVE_POINTS)]
    # From the 30th percentile on: what is below says little and takes half of a logarithmic scale.
    return [
        (round(x, 3), _short(max(1, histogram.get_value_at_percentile(100 * (1 - 10**-x))) / 1000))
        for x in steps
        if x >= 0.15
    ]
