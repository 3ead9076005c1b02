"""What a run shows while it goes on: a live panel in a terminal, else a line every few seconds; and its end's summary.

Everything goes to the console that it is given, by default standard error: standard output is for figures.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest import units
from loadtest.result import Result, Sample, Verdict

PLAIN_EVERY_S = 5.0
TREND = 240
BARS = " ▁▂▃▄▅▆▇█"
# A process that uses more of its one core than this is what the run waits for.
BUSY = 0.9
LABEL = 11


class Screen:
    """The state of a run as far as it is shown."""

    def __init__(self, name: str, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            name: the scenario's.
            seconds: how long the run is expected to take; None = nobody knows.
            clock: seconds.
        """
        self.name, self.seconds, self._clock = name, seconds, clock
        self._started = clock()
        self._phase = "starting"
        self._sample: Sample | None = None
        self._counts: Mapping[str, int] = {}
        self._verdict = Verdict()
        self._delivered: deque[float] = deque(maxlen=TREND)
        self._p99: deque[float] = deque(maxlen=TREND)

    @property
    def elapsed_s(self) -> float:
        """Since this was made."""
        return self._clock() - self._started

    def phase(self, what: str) -> None:
        """Says what the run does now."""
        self._phase = what
        self.changed()

    def sample(self, sample: Sample, counts: Mapping[str, int], verdict: Verdict) -> None:
        """Shows the newest sample, the counts so far and what was wrong so far."""
        self._sample, self._counts, self._verdict = sample, counts, verdict
        self._delivered.append(sample.delivered_per_s)
        if sample.p99_ms is not None:
            self._p99.append(sample.p99_ms)
        self.changed()

    def say(self, line: str) -> None:
        """Shows one line that stays."""

    def changed(self) -> None:
        """Called after each change."""

    def __rich__(self) -> RenderableType:
        return Panel(
            Group(self._head(), Text(), *self._body()),
            title=Text.assemble(("load test ", "dim"), (self.name, "bold")),
            title_align="left",
            border_style="dim",
            padding=(0, 1),
        )

    def _head(self) -> RenderableType:
        elapsed = self.elapsed_s
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", no_wrap=True)
        if self.seconds:
            done = min(elapsed, self.seconds)
            bar: RenderableType = ProgressBar(self.seconds, done, complete_style="cyan", finished_style="cyan")
            clock = f"{units.duration(elapsed)} of {units.duration(self.seconds)}"
        else:
            bar, clock = Text(), units.duration(elapsed)
        grid.add_row(Text(self._phase, "bold cyan"), bar, Text(clock, "dim"))
        return grid

    def _body(self) -> Iterator[RenderableType]:
        sample = self._sample
        if sample is None:
            return
        yield _row("connections", units.count(sample.connections), _counted(self._counts, "logins", "users"))
        yield _row("sent", f"{units.count(sample.sent_per_s)}/s", _counted(self._counts, "sent", "refused"))
        yield _row("delivered", f"{units.count(sample.delivered_per_s)}/s", Trend(self._delivered, "cyan"))
        latency = f"{units.milliseconds(sample.p50_ms)} / {units.milliseconds(sample.p99_ms)}"
        yield _row("p50 / p99", latency, Trend(self._p99, "magenta"))
        for name, (middle, tail) in sorted(sample.spreads.items()):
            yield _row(name, f"{units.milliseconds(middle)} / {units.milliseconds(tail)}", Text())
        yield Text()
        for label, share, size in (
            ("gateway", sample.gateway_cpu, sample.gateway_bytes),
            ("store", sample.store_cpu, sample.store_bytes),
            ("generator", sample.generator_cpu, None),
        ):
            if share is not None:
                yield _row(label, f"{units.cores(share)} CPU", _load(share, size))
        yield Text()
        yield _judged(self._verdict, sample.errors_per_s)


class Trend:
    """A line of little bars, as wide as there is room, the newest at the right; from zero to the highest one shown."""

    def __init__(self, values: deque[float], style: str) -> None:
        self._values, self._style = values, style

    def __rich_console__(self, console: Console, options: object) -> Iterator[Text]:
        width = getattr(options, "max_width", console.width)
        yield Text(bars(list(self._values)[-width:]), self._style, no_wrap=True, overflow="crop")


def bars(values: list[float]) -> str:
    """Each value as a bar of eight steps; the highest fills the line."""
    top = max(values, default=0.0)
    if top <= 0:
        return BARS[1] * len(values)
    return "".join(BARS[max(1, min(8, round(value / top * 8)))] for value in values)


def _row(label: str, value: str, rest: RenderableType) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(width=LABEL, no_wrap=True)
    grid.add_column(width=20, no_wrap=True, justify="right")
    grid.add_column(width=1)
    grid.add_column(ratio=1, no_wrap=True)
    grid.add_row(Text(label, "dim"), Text(value, "bold"), "", rest)
    return grid


def _counted(counts: Mapping[str, int], *names: str) -> Text:
    told = [f"{units.count(counts[name])} {units.words(name)}" for name in names if name in counts]
    return Text(" · ".join(told), "dim")


def _load(share: float, size: int | None) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    style = "yellow" if share > BUSY else "green"
    grid.add_row(
        ProgressBar(1.0, min(share, 1.0), width=24, complete_style=style, finished_style=style),
        Text(units.size(size) if size else "", "dim"),
    )
    return grid


def _judged(verdict: Verdict, errors_per_s: float) -> Text:
    wrong = [f"{number:,} {units.words(name)}" for name, number in verdict.counts().items() if number]
    if wrong:
        text = Text("✗ " + ", ".join(wrong), "bold red")
    else:
        text = Text("✓ nothing lost, doubled, out of order, or against policy", "green")
    if errors_per_s:
        text.append(f"   {units.count(errors_per_s)} errors/s", "red")
    return text


class _Live(Screen):
    def __init__(self, name: str, seconds: float | None, console: Console) -> None:
        super().__init__(name, seconds)
        self.live = Live(self, console=console, refresh_per_second=4, transient=True)

    def say(self, line: str) -> None:
        self.live.console.print(Text(line))


class _Plain(Screen):
    def __init__(self, name: str, seconds: float | None, console: Console, clock: Callable[[], float]) -> None:
        super().__init__(name, seconds, clock)
        self._console, self._next = console, 0.0

    def phase(self, what: str) -> None:
        super().phase(what)
        self.say(what)

    def say(self, line: str) -> None:
        self._console.print(Text(f"{self.elapsed_s:7.1f} s  {line}"), soft_wrap=True)

    def changed(self) -> None:
        if self._sample is not None and self._clock() >= self._next:
            self._next = self._clock() + PLAIN_EVERY_S
            self.say(line(self._sample, self._verdict))


def line(sample: Sample, verdict: Verdict) -> str:
    """A sample in one line."""
    told = [
        f"{units.count(sample.connections)} connections",
        f"{units.count(sample.sent_per_s)} sent/s",
        f"{units.count(sample.delivered_per_s)} delivered/s",
        f"p50 {units.milliseconds(sample.p50_ms)}",
        f"p99 {units.milliseconds(sample.p99_ms)}",
    ]
    told += [f"{name} p99 {units.milliseconds(tail)}" for name, (_, tail) in sorted(sample.spreads.items())]
    shares = (("gateway", sample.gateway_cpu), ("store", sample.store_cpu), ("generator", sample.generator_cpu))
    told += [f"{name} {units.cores(share)}" for name, share in shares if share is not None]
    told += [f"{units.count(sample.errors_per_s)} errors/s"] if sample.errors_per_s else []
    told += [f"{number:,} {units.words(name)}" for name, number in verdict.counts().items() if number]
    return ", ".join(told)


@contextmanager
def shown(
    name: str,
    *,
    seconds: float | None = None,
    plain: bool = False,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Screen]:
    """Shows a run while the block goes on; plain where it is asked for or where there is no terminal."""
    console = console or Console(stderr=True)
    if plain or not console.is_terminal:
        yield _Plain(name, seconds, console, clock)
        return
    screen = _Live(name, seconds, console)
    with screen.live:
        yield screen


def summary(result: Result) -> RenderableType:
    """The end of a run in a table: is it fine, how fast, how late, what did it cost, what was the limit."""
    if result.interrupted and not result.counts.get("logins"):
        return Text.assemble((result.name, "bold"), f" on {result.target}: interrupted before anybody logged in")
    parts: list[RenderableType] = [_ended(result)]
    parts += [Text(f"  {each}", "red") for each in (*result.failures, *result.verdict.examples)]
    told = Table.grid(padding=(0, 2))
    told.add_column(style="dim", no_wrap=True)
    told.add_column()
    for name, value in result.rates.items():
        # CPU seconds in a second are cores.
        told.add_row(units.words(name), units.cores(value) if name.endswith("_cpu") else f"{units.count(value)}/s")
    for label, cost in (
        ("CPU per message", units.microseconds(result.service.cpu_us_per_message)),
        ("  gateway", units.microseconds(result.service.gateway_us_per_message)),
        ("  store", units.microseconds(result.service.store_us_per_message)),
        ("CPU per login", units.microseconds(result.service.cpu_us_per_login)),
        ("memory per connection", units.size(result.service.bytes_per_connection)),
    ):
        if cost != units.NONE:
            told.add_row(label, cost)
    if result.limit.what != "unknown" or result.limit.why:
        told.add_row("limited by", ": ".join(filter(None, (result.limit.what, result.limit.why))))
    parts += [told, latency_table(result)] if result.latencies else [told]
    return Group(*parts)


def _ended(result: Result) -> Text:
    how = "interrupted after" if result.interrupted else "ran"
    name = Text.assemble((result.name, "bold"), f" on {result.target}, {how} {units.duration(result.seconds)}: ")
    if result.fine:
        return name.append("fine", "bold green")
    return name.append(result.wrong or "failed", "bold red")


def latency_table(result: Result) -> Table:
    """The percentiles of every kind of latency."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("latency")
    for heading in ("count", "p50", "p90", "p99", "p99.9", "max"):
        table.add_column(heading, justify="right")
    for name, each in result.latencies.items():
        points = (each.p50_ms, each.p90_ms, each.p99_ms, each.p999_ms, each.max_ms)
        table.add_row(name, units.count(each.count), *(units.milliseconds(point) for point in points))
    return table
