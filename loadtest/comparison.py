"""What changed between two runs, or two sets of runs: every figure by ratio, with the spread on either side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.result import VERDICTS, Result

RUNS_MIN = 4
"""On each side, for a difference to be clear. Of two runs a side of the same thing the spreads lie apart in a third of
all cases, of three in a tenth, of four in 3 %."""

FEW = f"Under {RUNS_MIN} runs on a side spreads say nothing: give more of each (compare A1 A2 A3 A4 -- B1 B2 B3 B4)."
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")


class Side(msgspec.Struct, frozen=True):
    """One figure over the runs of one side."""

    median: float
    low: float
    high: float
    runs: int

    @property
    def words(self) -> str:
        """With the spread, where there is one."""
        if self.runs < 2:
            return _number(self.median)
        return f"{_number(self.median)} ({_number(self.low)}..{_number(self.high)})"


class Line(msgspec.Struct, frozen=True):
    """One figure on both sides."""

    name: str
    before: Side
    after: Side

    @property
    def ratio(self) -> float | None:
        """After to before; None where there was nothing before."""
        return self.after.median / self.before.median if self.before.median else None

    @property
    def certain(self) -> bool | None:
        """Whether the spreads do not even touch; None where a side has too few runs for that to be more than chance."""
        if min(self.before.runs, self.after.runs) < RUNS_MIN:
            return None
        return self.before.high < self.after.low or self.after.high < self.before.low


class Comparison(msgspec.Struct, frozen=True):
    """Everything that both sides have.

    Attributes:
        lines: figures that both sides have.
        only: figures that one side has, in words.
        changes: what was not the same in the runs, in words; figures may differ because of it.
    """

    lines: list[Line]
    only: list[str]
    changes: list[str]


def compare(before: Sequence[Result], after: Sequence[Result]) -> Comparison:
    """Compares the runs of two sides, at least one on each."""
    sides = [[figures(result) for result in results] for results in (before, after)]
    names = [list(dict.fromkeys(name for each in side for name in each)) for side in sides]
    lines = [Line(name, _side(sides[0], name), _side(sides[1], name)) for name in names[0] if name in names[1]]
    only = [f"{name}: only before" for name in names[0] if name not in names[1]]
    only += [f"{name}: only after" for name in names[1] if name not in names[0]]
    return Comparison(lines, only, _changes(before, after))


def figures(result: Result) -> dict[str, float]:
    """All figures of a run by their names, with their units."""
    found: dict[str, float] = {f"rate {name}/s": value for name, value in result.rates.items()}
    found |= {name: value for name, value in msgspec.structs.asdict(result.service).items() if value is not None}
    for kind, latency in result.latencies.items():
        found |= {f"{kind} {name}": getattr(latency, name) for name in PERCENTILES}
    found |= {name: float(getattr(result.verdict, name)) for name in VERDICTS}
    return found


def _side(runs: Sequence[dict[str, float]], name: str) -> Side:
    values = [run[name] for run in runs if name in run]
    return Side(statistics.median(values), min(values), max(values), len(values))


def _changes(before: Sequence[Result], after: Sequence[Result]) -> list[str]:
    found: list[str] = []
    for what in ("name", "target", "loaded", "scenario", "machine", "software"):
        one, other = (_kinds(results, what) for results in (before, after))
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                label = f"{what} {key}".strip()
                found.append(f"{label}: {_told(one.get(key))} → {_told(other.get(key))}")
    for words, results in (("before", before), ("after", after)):
        for result in results:
            if result.interrupted or not result.fine:
                why = "interrupted" if result.interrupted else "failed"
                found.append(f"a run {words} was {why}: {'; '.join(result.failures) or 'see its verdict'}")
            if result.limit.what == "generator":
                found.append(f"{words}, the load generator was the limit: {result.limit.why}")
    return found


def _kinds(results: Sequence[Result], what: str) -> dict[str, set[str]]:
    """Each key with the values that it has in the runs."""
    kinds: dict[str, set[str]] = {}
    for result in results:
        value: Any = getattr(result, what)
        if isinstance(value, msgspec.Struct):
            value = msgspec.structs.asdict(value)
        for key, each in value.items() if isinstance(value, dict) else [("", value)]:
            kinds.setdefault(key, set()).add(str(each))
    return kinds


def _told(values: set[str] | None) -> str:
    return "nothing" if values is None else " or ".join(sorted(values)) or "nothing"


def table(comparison: Comparison, console: Console) -> None:
    """Prints it."""
    spread = any(line.certain is not None for line in comparison.lines)
    rows = Table("figure", "before", "after", "ratio", "clear?", box=None, header_style="bold")
    for line in comparison.lines:
        if line.name in VERDICTS and not line.before.high and not line.after.high:
            continue
        ratio = "" if line.ratio is None else f"{line.ratio:.2f} \N{MULTIPLICATION SIGN}"
        certain = {True: "yes", False: "no", None: ""}[line.certain]
        rows.add_row(line.name, line.before.words, line.after.words, ratio, certain)
    console.print(rows, "Clear: the spreads of the two sides do not touch." if spread else FEW)
    for title, words in (("Not the same in the runs:", comparison.changes), ("Not on both sides:", comparison.only)):
        if words:
            console.print(f"\n{title}")
            for each in words:
                console.print(f"  {each}", markup=False, highlight=False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
