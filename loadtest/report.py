"""A run's report: one HTML file that needs no network, no server and no other file.

    python -m loadtest report RESULT.json [-o FILE.html]

Words and tables are written here; the charts are drawn by the page's own script out of the figures inside the page.
Whatever came from outside (a scenario's name, a server's error) is text in it, never markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import orjson

from loadtest import charts, files, units
from loadtest.result import Latency, Result

_HERE = Path(__file__).parent
# Which latencies come first in the tiles, by act; all others after them.
FIRST = {"kick": ("drop",), "connect": ("login",), "presence": ("presence",), "reconnect": ("reconnect",)}
TILES = 6
TALK = ("", "chat", "kick")
# Of the cells with median, p90, p99 …: what a phone has no room for, and what counts most.
CLASSES = {1: " class=lesser", 2: " class=p99"}
TILE_LATENCIES = ("delivery", "drop", "presence", "reconnect", "login")
CALLED = {
    "delivery": "Delivery",
    "sent": "Answer to sender",
    "login": "Login",
    "presence": "Presence",
    "drop": "Kick to close",
    "drop_answer": "Kick to answer",
    "reconnect": "Reconnect",
}
# Where the generator was the limit the figures say less about the service than about the tool.
LIMITS = {
    "service": "The service was the limit.",
    "generator": "The load generator was the limit, not the service.",
    "rate": "The rate that was asked for was the limit.",
    "unknown": "What the limit was is not known.",
}


def write(result: Result, path: Path) -> None:
    """Writes the report, all of it or nothing.

    Raises:
        FileFault: the file cannot be written.
    """
    files.put(path, html(result))


def html(result: Result) -> str:
    """The whole page."""
    figures = charts.drawn(result)
    # No text inside can end the script element or begin a comment.
    embedded = orjson.dumps(figures).decode().replace("<", "\\u003c")
    return Template((_HERE / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{result.name}: load test of {result.target}"),
        style=(_HERE / "report.css").read_text(encoding="utf-8").strip(),
        script=(_HERE / "report.js").read_text(encoding="utf-8").strip(),
        content="\n".join(_sections(result, figures)),
        figures=embedded,
    )


def _sections(result: Result, figures: Mapping[str, Any]) -> Iterator[str]:
    yield _head(result)
    yield f'<dl class="tiles">{"".join(_tiles(result))}</dl>'
    yield _verdict(result)
    yield from _said(result)
    if result.latencies:
        yield _latencies(result, bool(figures["curves"]))
    if figures["charts"]:
        yield _over_time(result, figures["charts"])
    yield _facts(result)
    yield "<footer>Made by <code>python -m loadtest</code>. Figures of two machines, or of two different loads, \
cannot be compared; two runs of one evening can: <code>python -m loadtest compare A.json B.json</code>.</footer>"


def _head(result: Result) -> str:
    tone, word = "good", "Fine"
    if not result.fine:
        tone, word = "bad", result.wrong[:1].upper() + result.wrong[1:] or "Failed"
    pills = f'<span class="pill {tone}">{escape(word)}</span>'
    if result.interrupted:
        pills += '<span class="pill wait">Interrupted</span>'
    day, _, hour = result.started_at.partition("T")
    return f"""<header>
<p class="kind">Load test of {escape(result.target)}, {escape(day)} {escape(hour[:5])} UTC</p>
<div class="name"><h1>{escape(result.name)}</h1>{pills}</div>
<p class="what">{escape(described(result))}</p>
</header>"""


def described(result: Result) -> str:
    """What the run did, in a sentence, out of the scenario's keys."""
    keys = result.scenario
    told = [f"{units.count(keys['users'])} users"] if keys.get("users") else []
    told += {"zipf": ["Zipf-spread messages"], "pairs": ["who write to each other in pairs"]}.get(
        str(keys.get("spread")), []
    )
    if keys.get("rate"):
        told.append(f"{units.count(keys['rate'])} messages a second, each at its own time (open loop)")
    elif keys.get("window"):
        told.append(f"{keys['window']} in flight per user (closed loop)")
    told += [f"bodies of {keys['body_bytes']} bytes"] if keys.get("body_bytes") else []
    told += [f"{keys['refused_share']:.0%} that policy must refuse"] if keys.get("refused_share") else []
    measured = result.measured_to_s - result.measured_from_s
    told.append(f"{units.duration(measured if measured > 0 else result.seconds)} measured")
    return ", ".join(told) + "."


def _tiles(result: Result) -> Iterator[str]:
    tiles = list(_figures(result))
    for label, value, more in tiles[:TILES]:
        number, _, unit = value.rpartition(" ")
        shown = f"{escape(number)}<small>{escape(unit)}</small>" if number else escape(value)
        yield f'<div class="card tile"><dt>{escape(label)}</dt><dd><div class="value">{shown}</div>{more}</dd></div>'


def _figures(result: Result) -> Iterator[tuple[str, str, str]]:
    act = str(result.scenario.get("act", ""))
    first = [name for name in FIRST.get(act, ()) if name in result.latencies]
    yield from (_latency_figure(name, result.latencies[name]) for name in first)
    if result.rates.get("delivered"):
        more = _more(f"{units.count(result.counts['delivered'])} in all") if "delivered" in result.counts else ""
        yield "Messages delivered", f"{units.count(result.rates['delivered'])} /s", more
    if act == "connect" and result.rates.get("logins"):
        yield "Logins", f"{units.count(result.rates['logins'])} /s", ""
    cost = result.service
    # Where people come and go all the time, the messages are not what the CPU went into.
    if cost.cpu_us_per_message is not None and act in TALK:
        yield "CPU per message", units.microseconds(cost.cpu_us_per_message), _split(result)
    for name in (name for name in TILE_LATENCIES if name in result.latencies and name not in first):
        yield _latency_figure(name, result.latencies[name])
    if cost.bytes_per_connection is not None:
        yield "Memory per connection", units.size(cost.bytes_per_connection), _more("resident growth, all processes")
    peak = max((sample.connections for sample in result.series), default=0)
    if peak:
        yield "Connections", units.count(peak), _more("at most at one time")


def _latency_figure(name: str, latency: Latency) -> tuple[str, str, str]:
    more = f"median {units.milliseconds(latency.p50_ms)}"
    return f"{CALLED.get(name, units.words(name).capitalize())} p99", units.milliseconds(latency.p99_ms), _more(more)


def _more(text: str) -> str:
    return f'<div class="more">{escape(text)}</div>'


def _split(result: Result) -> str:
    gateway, store = result.service.gateway_us_per_message, result.service.store_us_per_message
    if gateway is None or store is None or gateway + store <= 0:
        return ""
    bar = "".join(
        f'<i style="flex:{value:.3f};background:var(--{tone})"></i>'
        for value, tone in ((gateway, "blue"), (store, "amber"))
    )
    named = f"<span>gateway {gateway:.1f}</span><span>store {store:.1f}</span>"
    return f'<div class="split">{bar}</div><div class="more parts">{named}</div>'


def _verdict(result: Result) -> str:
    if not result.judged:
        return '<p class="card said bad"><b>Not judged.</b> The books of the generators were not laid side by side.</p>'
    cells = "".join(
        f"<div{'' if not number else ' class=wrong'}><dt>{units.words(name).capitalize()}</dt><dd>{number:,}</dd></div>"
        for name, number in result.verdict.counts().items()
    )
    return f'<dl class="card verdict">{cells}</dl>'


def _said(result: Result) -> Iterator[str]:
    wrong = [*result.failures, *result.verdict.examples]
    if wrong:
        yield f'<div class="card said bad"><ul>{_each("li", wrong)}</ul></div>'
    if result.interrupted:
        yield '<p class="card said wait">The run was interrupted: the figures are of the part that was done.</p>'
    limit = result.limit
    if limit.what != "unknown" or limit.why:
        tone = " wait" if limit.what == "generator" else ""
        why = f" {limit.why[:1].upper()}{limit.why[1:].rstrip('.')}." if limit.why else ""
        yield f'<p class="card said{tone}"><b>{LIMITS[limit.what]}</b>{escape(why)}</p>'


def _latencies(result: Result, drawn: bool) -> str:
    loop = (
        "counted from the time at which each message was due, whether or not the service was ready for it"
        if result.scenario.get("rate")
        else "counted from the sending"
    )
    found = [latency for latency in result.latencies.values() if latency.count]
    low = min((latency.p50_ms for latency in found), default=1.0) / 3
    top = max((latency.max_ms for latency in found), default=1.0)
    rows = "".join(
        _latency_row(name, result.latencies[name], charts.TONES.get(name, "grey"), low, top)
        for name in charts.ordered(result.latencies)
    )
    names = ((curve["name"], curve["tone"]) for curve in charts.curves(result.latencies)) if drawn else ()
    chart = _figure("Latency by percentile", names, "wide", "data-curves") if drawn else ""
    return f"""<section>
<h2>Latencies</h2>
<p class="note">Deliveries and answers to senders are of the measured time, {loop}; all else is of the whole run.</p>
<div class="card scroll"><table>
<thead><tr><th></th><th class="lesser">count</th><th>median</th><th class="lesser">p90</th>
<th>p99</th><th>p99.9</th><th>max</th>
<th class="range" aria-hidden="true"></th></tr></thead>
<tbody>{rows}</tbody></table></div>
<div class="charts below">{chart}</div>
</section>"""


def _latency_row(name: str, latency: Latency, tone: str, low: float, top: float) -> str:
    points = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms)
    cells = "".join(f"<td{CLASSES.get(i, '')}>{escape(units.milliseconds(each))}</td>" for i, each in enumerate(points))
    return (
        f'<tr><th scope="row"><i class="swatch" style="background:var(--{tone})"></i>'
        f"{escape(CALLED.get(name, units.words(name).capitalize()))}</th>"
        f'<td class="lesser">{latency.count:,}</td>{cells}'
        f'<td class="range">{_range(latency, tone, low, top)}</td></tr>'
    )


def _range(latency: Latency, tone: str, low: float, top: float) -> str:
    """A strip on one logarithmic scale for all rows: the median, the part up to p99, and the highest value."""

    def at(value: float) -> float:
        return round(100 * math.log(max(value, low) / low) / math.log(max(top / low, 1.001)), 2)

    median, tail, end = at(latency.p50_ms), at(latency.p99_ms), at(latency.max_ms)
    return (
        f'<div title="median, p99 and highest, logarithmic">'
        f'<i class="whole" style="left:{median}%;width:{max(end - median, 0):.2f}%"></i>'
        f'<i class="most" style="left:{median}%;width:{max(tail - median, 0):.2f}%;background:var(--{tone})"></i>'
        f'<i class="middle" style="left:{median}%;background:var(--{tone})"></i>'
        f'<i class="end" style="left:{end}%"></i></div>'
    )


def _over_time(result: Result, drawn: Iterable[Mapping[str, Any]]) -> str:
    marks = "".join(
        f"<li><b>{number}</b>{escape(mark.what)} <span>{units.duration(mark.t)}</span></li>"
        for number, mark in enumerate(result.marks, 1)
    )
    figures = "".join(
        _figure(
            chart["title"] + (", logarithmic" if chart["log"] else ""),
            ((line["name"], line["tone"]) for line in chart["series"]),
            "wide" if index == 0 else "",
            f'data-chart="{index}" data-key="{escape(chart["key"])}"',
        )
        for index, chart in enumerate(drawn)
    )
    shaded = " Shaded: before and after the measured part." if result.measured_to_s else ""
    return f"""<section>
<h2>Over time</h2>
<p class="note">Seconds since the start.{shaded} Point at a chart to read the values of that moment in all of them.</p>
<ol class="marks">{marks}</ol>
<div class="charts">{figures}</div>
</section>"""


def _figure(title: str, lines: Iterable[tuple[str, str]], kind: str, attribute: str) -> str:
    lines = list(lines)
    # So that the values of a moment, shown behind the names, move nothing.
    many = " many" if len(lines) > 3 and "data-chart" in attribute else ""
    legend = "".join(
        f'<span><i class="swatch" style="background:var(--{tone})"></i>{escape(name)}<b></b></span>'
        for name, tone in lines
    )
    return (
        f'<figure class="card chart {kind}" {attribute}><figcaption><h3>{escape(title)}<span class="at"></span></h3>'
        f'<span class="legend{many}">{legend}</span></figcaption>'
        f'<svg role="img" tabindex="0" aria-label="{escape(title)}"></svg></figure>'
    )


def _facts(result: Result) -> str:
    machine = result.machine
    rows = {
        "processor": machine.cpu or machine.architecture,
        "cores": machine.cores,
        "memory": units.size(machine.memory_bytes) if machine.memory_bytes else "",
        "system": machine.system,
        "placement": machine.placement,
        **result.software,
    }
    if "python" not in rows and machine.python:
        rows["python"] = machine.python
    counted = {units.words(name): f"{number:,}" for name, number in result.counts.items()}
    scenario = {units.words(name): _plain(value) for name, value in result.scenario.items() if _plain(value)}
    loaded = {"loaded": result.loaded} if result.loaded else {}
    cards = (("Scenario", loaded | scenario), ("Counted", counted), ("Machine", rows))
    listed = "".join(
        f'<div class="card"><h3>{title}</h3><dl>{_pairs(facts)}</dl></div>' for title, facts in cards if facts
    )
    return f'<section><h2>What was run</h2><div class="facts">{listed}</div></section>'


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, (int, float)):
        return f"{value:,}" if value else ""
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return str(value) if isinstance(value, str) else orjson.dumps(value).decode() if value else ""


def _pairs(facts: Mapping[str, Any]) -> str:
    return "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items() if value != ""
    )


def _each(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)
