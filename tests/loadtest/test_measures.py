"""The figures of the budget, taken of made-up runs: each is known beforehand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loadtest import api, measures
from loadtest.bench import Bench, BenchFault
from loadtest.result import Cost, Latency, Limit, Machine, Result, Sample
from loadtest.target import Target

Answer = Callable[[Target, dict[str, Any], str], Result]


def latency(p50_ms: float, p99_ms: float, count: int = 100) -> Latency:
    """One of which nothing else is asked."""
    return Latency(count=count, p50_ms=p50_ms, p90_ms=0, p99_ms=p99_ms, p999_ms=0, max_ms=0)


def result(us: float | None = None, per_s: float = 1000.0, **more: Any) -> Result:
    """A run whose messages cost so much, a third of it the store's."""
    store = None if us is None else us / 3
    values: dict[str, Any] = {
        "service": Cost(cpu_us_per_message=us, store_us_per_message=store, gateway_us_per_message=us and us * 2 / 3),
        "rates": {"delivered": per_s},
        "latencies": {"delivery": latency(2.0, 5.0)},
    }
    machine = Machine(architecture="x86_64", cores=2)
    return Result(name="x", scenario={}, machine=machine, started_at="", seconds=1.0, **(values | more))


class Made(Bench):
    """A bench on which nothing runs: ``answer`` says what each run found; ``ran`` is what was asked for, in order."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(5.0, pinned=False)
        self.ran: list[tuple[str, dict[str, Any], str]] = []
        self._answer = answer

    def run(self, target: Target, title: str, keys: dict[str, Any], *, run: str = "", spread: bool = False) -> Result:
        self.ran.append((target.kind, keys, run))
        return self._answer(target, keys, run)

    @contextmanager
    def gateway(self, command: str = "", *, spread: bool = False, connections: int = 0) -> Iterator[Target]:
        yield Target("ws://1/", known={"gateway": os.getpid(), "store": os.getpid()})

    @contextmanager
    def bare(self) -> Iterator[Target]:
        yield Target("ws://2/", kind="bare")

    @contextmanager
    def two_nodes(self) -> Iterator[Target]:
        yield Target("ws://3/", kind="two")

    def fill_blocklists(self, target: Target, users: int, entries: int) -> str:
        return f"{entries} of {users}"

    def rehearse_drops(self, target: Target) -> None:
        """Nobody is there."""


def test_messages_beside_the_bare_relay() -> None:
    bench = Made(lambda target, *_: result(10.0, 60_000) if target.kind == "bare" else result(30.0, 30_000))
    assert measures.relay(8)(bench) == pytest.approx(
        {
            "cpu_us": 30,
            "gateway_us": 20,
            "store_us": 10,
            "per_s": 30_000,
            "p50_ms": 2,
            "p99_to_p50": 2.5,
            "bare_us": 10,
            "bare_per_s": 60_000,
            "cpu_to_bare": 3,
            "per_s_to_bare": 0.5,
            "bare_held_back": 0,
        }
    )
    assert [kind for kind, _, _ in bench.ran[:4]] == ["gateway", "bare", "bare", "gateway"]
    assert {keys["window"] for _, keys, _ in bench.ran} == {8}


def test_a_bare_relay_that_was_held_back_is_told() -> None:
    held = Limit(what="generator")
    bench = Made(lambda target, *_: result(10.0, limit=held if target.kind == "bare" else Limit()))
    assert measures.relay(1)(bench)["bare_held_back"] == 1


def test_figures_of_turns_are_medians_of_their_ratios() -> None:
    costs = itertools.cycle([20.0, 20.0, 40.0, 100.0, 30.0])
    bench = Made(lambda target, *_: result(10.0 if target.kind == "bare" else next(costs)))
    assert measures.relay(1)(bench)["cpu_to_bare"] == pytest.approx(3)
    turns = [({"calls_per_s": 100.0}, {"calls_per_s": value}) for value in (10.0, 20.0, 90.0)]
    assert api._to_bare(turns) == pytest.approx(0.2)


def test_a_message_without_a_cost_has_no_figures() -> None:
    with pytest.raises(BenchFault, match="not known"):
        measures.relay(1)(Made(lambda *_: result(None)))


def test_two_nodes_beside_one() -> None:
    bench = Made(lambda target, *_: result(60.0 if target.kind == "two" else 40.0))
    assert measures.two_nodes(bench) == pytest.approx({"one_us": 40, "two_us": 60, "two_to_one": 1.5})


def test_idle_connections_and_their_logins() -> None:
    service = Cost(bytes_per_connection=7000.0, cpu_us_per_login=400.0)
    quiet = result(service=service, latencies={"login": latency(1.0, 9.0)})
    bench = Made(lambda target, *_: result(16.0) if target.kind == "bare" else quiet)
    assert measures.idle(bench) == pytest.approx(
        {"bytes": 7000, "login_us": 400, "logins_per_s": 2500, "login_to_bare": 25, "login_p99_ms": 9}
    )
    with pytest.raises(BenchFault):
        measures.idle(Made(lambda *_: result(16.0)))


def test_many_connections_and_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [{"usersOnline": 5, "sessions": 9}, {"usersOnline": 49_990, "sessions": 49_000}, {}]
    rates = {"idle_gateway_cpu": 0.03, "idle_store_cpu": 0.01}
    found = result(rates=rates, counts={"connections": 50_000}, service=Cost(bytes_per_connection=6000.0))

    @contextmanager
    def watched(_: Target) -> Iterator[list[dict[str, int]]]:
        yield seen

    monkeypatch.setattr(measures, "watched", watched)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert measures.many(Made(lambda *_: found)) == pytest.approx(
        {
            "connections": 50_000,
            "online_missing": 10 + 1000,
            "idle_share": 0.01,
            "idle_cores": 0.04,
            "bytes": 6000,
            "processes": 2,
        }
    )


def test_drops_under_half_of_the_load_and_a_calm_one() -> None:
    def answer(_: Target, keys: dict[str, Any], __: str) -> Result:
        if keys["act"] == "chat":
            return result(50.0, 12_000)
        calm = keys["rate"] < 3000
        return result(50.0, keys["rate"], latencies={"drop": latency(1.0, 3.0 if calm else 6.0, 40)})

    assert measures.kick(Made(answer)) == pytest.approx(
        {
            "p99_ms": 6,
            "p50_ms": 1,
            "drops": 40,
            "per_s": 6000,
            "busy": 0.3,
            "calm_p99_ms": 3,
            "calm_p50_ms": 1,
            "calm_drops": 40,
            "calm_per_s": 2000,
            "calm_busy": 0.1,
        }
    )


def test_the_lag_is_what_the_sampler_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen:
        def figures(self) -> dict[str, float]:
            return {"lag_ms_p99": 9.0, "lag_ms_p50": 1.0, "own_lag_ms_p99": 4.0}

    @contextmanager
    def sampled(_: int | None) -> Iterator[tuple[Target, Seen]]:
        yield Target("ws://1/"), Seen()

    monkeypatch.setattr(measures, "sampled", sampled)
    bench = Made(lambda *_: result(50.0, 10_000))
    assert measures.lag(bench) == pytest.approx(
        {"p99_ms": 9, "p50_ms": 1, "own_p99_ms": 4, "per_s": 10_000, "delivery_p99_ms": 5}
    )
    assert bench.ran[-1][1]["rate"] == pytest.approx(8000)


def test_many_connections_beside_few_before_and_after() -> None:
    costs = iter((20.0, 30.0, 40.0))
    bench = Made(lambda *_: result(next(costs)))
    assert measures.growing(bench) == pytest.approx({"few_us": 30, "many_us": 30, "many_to_few": 1})
    assert [keys["users"] for _, keys, _ in bench.ran] == [1_000, 50_000, 1_000]
    costs = iter((20.0, 40.0, 20.0))
    assert measures.growing(Made(lambda *_: result(next(costs))))["many_to_few"] == pytest.approx(2)


def test_long_inboxes_beside_short_ones() -> None:
    # From 20 µs a message to 60: what is looked at is the first fifth and the last, and short ones once more.
    series = [
        Sample(t=10.0 + number, delivered_per_s=1000, gateway_cpu=us * 6e-4, store_cpu=us * 4e-4)
        for number, us in enumerate((900, 20, 20, 35, 40, 45, 50, 55, 60, 60, 60, 900))
    ]
    long = result(40.0, counts={"delivered": 4000}, series=series, measured_from_s=10.0, measured_to_s=20.0)
    bench = Made(lambda _, keys, __: long if keys["seconds"] > 10 else result(28.0))
    assert measures.inbox(bench) == pytest.approx(
        {"entries": 4000 / measures.INBOX_USERS, "short_us": 24, "long_us": 60, "long_to_short": 2.5}
    )


def test_blocklists_beside_none() -> None:
    bench = Made(lambda _, __, run: result(24.0 if run else 20.0))
    assert measures.blocklist(bench) == pytest.approx({"none_us": 20, "listed_us": 24, "listed_to_none": 1.2})
    assert {run for _, _, run in bench.ran} == {"", f"{measures.BLOCKED} of {measures.INBOX_USERS}"}
