"""What a run shows: lines without a terminal, a panel in one, and the table of its end."""

from __future__ import annotations

import io

from rich.console import Console

from loadtest.result import Cost, Limit, Machine, Result, Sample, Verdict
from loadtest.screen import PLAIN_EVERY_S, line, shown, summary

SAMPLE = Sample(t=1.0, connections=100, sent_per_s=1000, delivered_per_s=990, p50_ms=1.5, p99_ms=4.0, gateway_cpu=0.5)


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    """A console and what it was told."""
    told = io.StringIO()
    return Console(file=told, force_terminal=terminal, width=120), told


def test_a_line_holds_the_rates_the_latencies_and_what_is_wrong() -> None:
    shown_line = line(SAMPLE, Verdict(lost=2))
    for words in ("100 connections", "1,000 sent/s", "990 delivered/s", "p99 4.00 ms", "gateway 50 %", "2 lost"):
        assert words in shown_line


def test_without_a_terminal_a_line_comes_every_few_seconds() -> None:
    now = [0.0]
    into, told = console()
    with shown("chat", console=into, clock=lambda: now[0]) as screen:
        screen.phase("measuring")
        for tenth in range(int(PLAIN_EVERY_S * 2 / 0.5)):
            now[0] = tenth * 0.5
            screen.sample(SAMPLE, {"sent": 10}, Verdict())
    lines = told.getvalue().splitlines()
    assert any("measuring" in each for each in lines)
    assert 1 <= sum("990 delivered/s" in each for each in lines) <= 3
    assert "\x1b" not in told.getvalue()


def test_in_a_terminal_a_panel_shows_them() -> None:
    into, told = console(terminal=True)
    with shown("chat", seconds=10, console=into) as screen:
        screen.phase("measuring")
        screen.sample(SAMPLE, {"sent": 10}, Verdict(lost=1))
        screen.say("a worker was killed")
    for words in ("measuring", "990", "a worker was killed"):
        assert words in told.getvalue()


def test_the_end_tells_what_was_found_and_why_it_failed() -> None:
    into, told = console()
    into.print(
        summary(
            Result(
                name="connect",
                scenario={},
                machine=Machine(architecture="x86_64", cores=2),
                started_at="2026-01-01T00:00:00+00:00",
                seconds=1.0,
                rates={"logins": 900.0, "idle_gateway_cpu": 0.01},
                service=Cost(cpu_us_per_login=400.0),
                limit=Limit(why="the service's CPU is not known"),
                failures=["3 users were not let in"],
                verdict=Verdict(lost=1, examples=["a to b: number 7 never arrived"]),
            )
        )
    )
    text = told.getvalue()
    for words in (
        "1 lost",
        "3 users were not let in",
        "number 7 never arrived",
        "900/s",
        "1 %",
        "400.0 µs",
        "not known",
    ):
        assert words in text
