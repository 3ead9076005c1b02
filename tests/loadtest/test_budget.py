"""The budget: how figures are judged and told, and that its lines can be measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loadtest import lines
from loadtest.bench import Bench, BenchFault, watched
from loadtest.budget import Found, Measured, budget, measured, text
from loadtest.calling import CallFault
from loadtest.lines import LINES, Goal, Line
from loadtest.measures import Figures
from loadtest.result import Machine
from loadtest.sampled import sampled
from loadtest.scenario import ScenarioFault
from loadtest.target import TargetFault

MACHINE = Machine(architecture="x86_64", cores=2, cpu="A CPU", system="Linux", python="3.11", placement="pinned")


def found(*measured_lines: Measured, scale: float = 1.0) -> Found:
    return Found(
        machine=MACHINE, started_at="2026-01-01T00:00:00Z", runs=3, seconds=1.0, scale=scale, lines=list(measured_lines)
    )


def line(measure: Callable[[Bench], Figures], name: str = "idle") -> Line:
    return Line(name, "", "", (Goal("x", "x"),), measure)


def row(whole: str, words: str) -> str:
    return next(each for each in whole.splitlines() if each.startswith(f"| {words}"))


class TestGoals:
    @pytest.mark.parametrize(
        ("limit", "most", "value", "reached"),
        [(30.0, True, 30.0, True), (30.0, True, 30.1, False), (9.0, False, 9.0, True), (9.0, False, 8.9, False)],
    )
    def test_a_limit_is_the_most_or_the_least(self, limit: float, most: bool, value: float, reached: bool) -> None:
        assert Goal("x", "x", limit, most).reached(value) is reached

    def test_what_is_only_told_is_not_judged(self) -> None:
        assert Goal("x", "x").reached(5.0) is None

    def test_every_line_of_the_budget_has_a_limit(self) -> None:
        assert all(any(goal.limit is not None for goal in each.goals) for each in LINES.values())

    def test_limits_in_us_have_one_as_a_ratio(self) -> None:
        goals = {goal.figure: goal for goal in LINES["relay-8"].goals}
        assert goals["cpu_us"].limit == 30.0
        assert goals["cpu_to_bare"].limit == pytest.approx(30.0 / lines.BARE_US, abs=0.01)


class TestText:
    def test_the_median_its_spread_and_the_verdict(self) -> None:
        runs = [{"two_to_one": ratio, "one_us": 50.0, "two_us": 50.0 * ratio} for ratio in (1.5, 1.2, 1.3)]
        whole = text(found(Measured(name="two-nodes", runs=runs)))
        assert row(whole, "CPU a message, two nodes to one") == (
            "| CPU a message, two nodes to one | 1.30 (1.20 to 1.50) | ≤ 1.4 | yes |"
        )
        assert row(whole, "µs with one node").endswith("|  |  |")
        assert "`python -m loadtest budget --only two-nodes`" in whole

    def test_what_is_not_reached_says_so(self) -> None:
        runs = [{"two_to_one": 1.41, "one_us": 50.0, "two_us": 70.5}]
        assert row(text(found(Measured(name="two-nodes", runs=runs))), "CPU a message, two").endswith("| **no** |")

    def test_where_the_time_goes_is_told_where_a_limit_is_not_kept(self) -> None:
        kept = dict.fromkeys((goal.figure for goal in LINES["many"].goals), 0.0) | {"connections": 50_000.0}
        assert "perf record" not in text(found(Measured(name="many", runs=[kept])))
        assert "perf record" in text(found(Measured(name="many", runs=[kept | {"idle_share": 0.02}])))

    def test_a_failed_run_is_told_in_the_place_of_figures(self) -> None:
        whole = text(found(Measured(name="kick", faults=["two messages were lost", "two messages were lost"])))
        assert whole.count("two messages were lost") == 1
        assert "| figure |" not in whole

    def test_a_small_bench_does_not_pass_for_the_whole(self) -> None:
        assert "Not at full size" in text(found(scale=0.1))
        assert "Not at full size" not in text(found())


class TestCommand:
    def test_bad_words_are_refused_before_anything_runs(self, tmp_path: Path) -> None:
        with pytest.raises(ScenarioFault) as raised:
            budget(only=("relay-8", "rely-8", "idel"))
        assert [fault.partition(":")[0] for fault in raised.value.faults] == ["rely-8", "idel"]
        with pytest.raises(ScenarioFault):
            budget(runs=0)
        with pytest.raises(TargetFault, match="no such directory"):
            budget(json=tmp_path / "absent" / "x.json")
        with pytest.raises(TargetFault, match="absent"):
            budget(from_json=(tmp_path / "absent",))

    def test_figures_of_several_files_make_one_document(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        figures = {"two_to_one": 1.1, "one_us": 50.0, "two_us": 55.0}
        early = found(Measured(name="inbox", faults=["early"]), Measured(name="two-nodes", runs=[figures]))
        late = found(Measured(name="two-nodes", runs=[figures | {"two_to_one": 1.3}]))
        files = []
        for number, each in enumerate((early, late)):
            files.append(tmp_path / f"{number}.json")
            files[-1].write_bytes(msgspec.json.encode(each))
        document = tmp_path / "benchmarks.md"
        document.write_text("# Benchmarks\n\nkept\n")
        assert budget(from_json=tuple(files), write=document) == 1
        whole = document.read_text()
        assert whole.index("different nodes") < whole.index("long inbox")
        assert whole.count("early") == 1
        assert "kept" in whole
        assert "1 to 2 runs of each line" in whole
        assert "1.20 (1.10 to 1.30)" in capsys.readouterr().out

    def test_a_line_that_fails_leaves_the_others(self) -> None:
        def fail(bench: Bench) -> Figures:
            raise BenchFault("lost one")

        kept = measured([line(fail), line(lambda _: {"x": 1.0}, "kick")], runs=2, seconds=0.5, pin=False)
        assert [(each.faults, each.runs) for each in kept.lines] == [
            (["lost one", "lost one"], []),
            ([], [{"x": 1.0}, {"x": 1.0}]),
        ]

    def test_an_interrupted_one_ends_with_what_there_is(self) -> None:
        def interrupted(bench: Bench) -> Figures:
            bench.interrupted = True
            raise BenchFault("interrupted")

        kept = measured([line(lambda _: {"x": 1.0}), line(interrupted)], runs=2, seconds=0.5, pin=False)
        assert kept.interrupted
        assert [each.runs for each in kept.lines] == [[{"x": 1.0}]]

    def test_an_interrupted_run_is_no_fault_of_its_line(self) -> None:
        runs = iter([{"x": 1.0}])

        def interrupted_at_last(bench: Bench) -> Figures:
            if (figures := next(runs, None)) is None:
                bench.interrupted = True
                raise BenchFault("interrupted")
            return figures

        (kept,) = measured([line(interrupted_at_last)], runs=2, seconds=0.5, pin=False).lines
        assert (kept.runs, kept.faults) == ([{"x": 1.0}], [])

    def test_what_nobody_foresaw_is_one_runs_fault_with_its_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        faults: list[Exception] = [CallFault("/v4/user/kick", 503, b"later"), ZeroDivisionError("by zero")]

        def fail(bench: Bench) -> Figures:
            raise faults.pop(0)

        kept = measured([line(fail), line(lambda _: {"x": 1.0}, "kick")], runs=2, seconds=0.5, pin=False)
        assert kept.lines[0].faults == ["/v4/user/kick answered 503: later", "ZeroDivisionError: by zero"]
        assert len(kept.lines[1].runs) == 2
        shown = capsys.readouterr().err
        assert shown.count("Traceback") == 1
        assert "raise faults.pop(0)" in shown

    def test_ctrl_c_keeps_the_figures_and_leaves_the_document(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(bench: Bench) -> Figures:
            # Between two loads: nobody but the budget sees it.
            raise KeyboardInterrupt

        figures = {"two_to_one": 1.1, "one_us": 50.0, "two_us": 55.0}
        for name, measure in (("two-nodes", lambda _: figures), ("inbox", interrupted)):
            monkeypatch.setitem(LINES, name, dataclasses.replace(LINES[name], measure=measure))
        written, document = tmp_path / "figures.json", tmp_path / "benchmarks.md"
        document.write_text("as it was")
        words = {"only": ("two-nodes", "inbox"), "runs": 1, "pin": False}
        assert budget(**words, json=written, write=document) == 130  # type: ignore[arg-type]
        kept = msgspec.json.decode(written.read_bytes(), type=Found)
        assert (kept.interrupted, [each.runs for each in kept.lines]) == (True, [[figures]])
        assert document.read_text() == "as it was"
        assert "the document is left as it was" in capsys.readouterr().err


class TestMeasuring:
    """Each way of measuring once, small: a figure must come out, not a good one."""

    def test_messages_beside_the_bare_relay(self) -> None:
        (kept,) = measured([LINES["relay-8"]], runs=1, seconds=0.5, pin=False).lines
        assert not kept.faults
        figures = {goal.figure: kept.runs[0][goal.figure] for goal in LINES["relay-8"].goals}
        assert figures.pop("bare_held_back") in (0, 1)
        assert all(value > 0 for value in figures.values())

    def test_users_of_a_pair_are_on_different_nodes(self) -> None:
        bench = Bench(0.5, pinned=False)
        with bench.two_nodes() as target:
            with watched(target, every_s=0.1) as answers:
                bench.chat(target, 1, users=20, seconds=1.0)
            assert max(min(node["sessions"] for node in answer["nodes"]) for answer in answers) == 10

    def test_blocklists_are_filled_before_a_run(self) -> None:
        bench = Bench(0.5, pinned=False)
        with bench.gateway() as target:
            run = bench.fill_blocklists(target, 4, 30)
            assert bench.chat(target, 1, users=4, run=run).rates["delivered"] > 0

    def test_idle_connections_and_their_logins(self) -> None:
        (kept,) = measured([LINES["idle"]], runs=1, seconds=0.5, scale=0.004, pin=False).lines
        assert not kept.faults
        assert kept.runs[0]["logins_per_s"] > 0

    def test_how_late_the_loop_is(self) -> None:
        with sampled(None) as (_, samples):
            samples.begin()
            # A quarter of a second of timers; the sleep is what is sampled.
            time.sleep(0.25)
            samples.end()
            lag = samples.figures()
        assert 0 <= lag["own_lag_ms_p50"] <= lag["lag_ms_p50"] <= lag["lag_ms_max"]
