"""A soak's judgement of memory, on series that are made up."""

import random

import pytest

from loadtest.acts.soak import Soak, grown
from loadtest.result import Sample
from loadtest.scenario import Scenario
from tests.loadtest.staged import Staged

MB = 1_000_000


def series(seconds: int, gateway_bytes_per_s: float, store_bytes_per_s: float = 0.0) -> list[Sample]:
    """A look every second; memory starts at 100 MB and wobbles by 1 MB."""
    chance = random.Random(3)
    return [
        Sample(
            t=float(t),
            gateway_bytes=int(100 * MB + gateway_bytes_per_s * t + chance.uniform(-MB, MB)),
            store_bytes=int(100 * MB + store_bytes_per_s * t),
        )
        for t in range(seconds)
    ]


def test_a_leak_fails_a_long_soak() -> None:
    rates, failures = grown(series(3600, 10_000))
    assert 9_500 < rates["gateway_growth_bytes"] < 10_500
    assert len(failures) == 1
    assert "the gateway's memory grew by 36%" in failures[0]


def test_a_wobble_is_no_leak() -> None:
    rates, failures = grown(series(3600, 0))
    assert abs(rates["gateway_growth_bytes"]) < 100
    assert failures == []


def test_a_leak_at_the_end_fails_a_long_soak() -> None:
    late = [
        Sample(t=each.t, gateway_bytes=2 * (each.gateway_bytes or 0)) if each.t > 3240 else each
        for each in series(3600, 0)
    ]
    (failure,) = grown(late)[1]
    assert "the gateway's memory grew by 100%" in failure


def test_a_store_that_keeps_messages_may_grow() -> None:
    rates, failures = grown(series(3600, 0, 100_000))
    assert 99_000 < rates["store_growth_bytes"] < 101_000
    assert failures == []


def test_a_short_run_is_told_of_and_not_judged() -> None:
    rates, failures = grown(series(300, 100_000))
    assert rates["gateway_growth_bytes"] > 90_000
    assert failures == []


def test_unknown_processes_say_nothing() -> None:
    assert grown([Sample(t=float(t)) for t in range(1000)]) == ({}, [])


@pytest.mark.parametrize(("bytes_per_s", "failures"), [(0, 0), (100_000, 1)])
async def test_the_act_fails_by_a_leak(bytes_per_s: float, failures: int) -> None:
    stage = Staged(Scenario(act="soak", seconds=0, warm_s=0))
    stage.team.said |= {"open": [{"came": 9, "of": 9}], "watching": [{"so": True}], "back": [{"so": True}]}
    stage.tally.series += series(3600, bytes_per_s)
    await Soak().run(stage)
    assert len(stage.failures) == failures
    assert stage.rates["gateway_growth_bytes"] == pytest.approx(bytes_per_s, abs=500)
