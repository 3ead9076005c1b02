"""Comparing results: ratios, spreads, and what was not the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.cli import main
from loadtest.comparison import compare
from loadtest.result import Cost, Latency, Limit, Machine, Result, Verdict


def run(delivered: float, p99_ms: float = 2.0, **more: object) -> Result:
    """A result with a few figures."""
    values: dict[str, object] = {
        "name": "chat",
        "scenario": {"users": 100},
        "machine": Machine(architecture="x86_64", cores=2),
        "started_at": "2026-01-01T00:00:00+00:00",
        "seconds": 10.0,
        "rates": {"delivered": delivered},
        "service": Cost(cpu_us_per_message=1e6 / delivered),
        "latencies": {"delivery": Latency(count=10, p50_ms=1, p90_ms=1.5, p99_ms=p99_ms, p999_ms=3, max_ms=4)},
    }
    return Result(**(values | more))  # type: ignore[arg-type]


def test_every_figure_has_its_ratio() -> None:
    lines = {line.name: line for line in compare([run(1000)], [run(2000, 3.0)]).lines}
    assert lines["rate delivered/s"].ratio == 2.0
    assert lines["cpu_us_per_message"].ratio == 0.5
    assert lines["delivery p99_ms"].ratio == 1.5
    assert lines["lost"].ratio is None
    assert all(line.certain is None for line in lines.values())


def test_a_difference_is_certain_only_beyond_the_spread() -> None:
    def rate(before: list[float], after: list[float]) -> bool | None:
        found = compare([run(value) for value in before], [run(value) for value in after])
        return next(line.certain for line in found.lines if line.name == "rate delivered/s")

    assert rate([900, 1000, 1050, 1100], [1200, 1250, 1300, 1400]) is True
    assert rate([900, 1000, 1050, 1100], [1075, 1250, 1300, 1400]) is False
    assert rate([1200, 1250, 1300, 1350, 1400], [900, 1000, 1050, 1100]) is True


@pytest.mark.parametrize(("before", "after"), [(1, 4), (2, 2), (3, 3), (4, 3)])
def test_few_runs_make_nothing_certain(before: int, after: int) -> None:
    found = compare([run(1000 + number) for number in range(before)], [run(2000 + number) for number in range(after)])
    assert {line.certain for line in found.lines} == {None}


def test_several_runs_are_told_by_median_and_spread() -> None:
    line = compare([run(900), run(1000), run(5000)], [run(1000), run(1000)]).lines[0]
    assert (line.before.median, line.before.low, line.before.high, line.before.runs) == (1000, 900, 5000, 3)
    assert line.ratio == 1.0


def test_what_was_not_the_same_is_told() -> None:
    after = run(
        1000,
        loaded="gateway serve --workers 2",
        scenario={"users": 200},
        machine=Machine(architecture="arm64", cores=2),
        verdict=Verdict(lost=1),
        limit=Limit(what="generator", why="busy"),
    )
    text = "\n".join(compare([run(1000)], [after]).changes)
    assert "loaded: nothing → gateway serve --workers 2" in text
    assert "scenario users: 100 → 200" in text
    assert "machine architecture: x86_64 → arm64" in text
    assert "a run after was failed" in text
    assert "after, the load generator was the limit" in text
    assert compare([run(1000)], [run(1000)]).changes == []


def test_a_figure_of_one_side_is_named() -> None:
    assert "cpu_us_per_message: only before" in compare([run(1)], [run(1, service=Cost())]).only


@pytest.mark.parametrize(
    ("words", "clear"),
    [("a0 b0", False), ("a0 a1 -- b0 b1", False), ("a0 a1 a2 a3 -- b0 b1 b2 b3", True)],
)
def test_the_command_prints_ratios(words: str, clear: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, rate in (("a", 1000), ("b", 2000)):
        for number in range(4):
            run(rate * (1 + number / 100)).write(tmp_path / f"{side}{number}.json")
    files = (word if word == "--" else str(tmp_path / f"{word}.json") for word in words.split())
    assert main(["compare", *files]) == 0
    shown = capsys.readouterr().out
    assert "2.00 \N{MULTIPLICATION SIGN}" in shown
    assert (" yes" in shown) is clear
    assert ("Under 4 runs" in shown) is not clear
