"""What a stage makes of what was seen: of made-up looks, so that each figure is known beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.result import Cost
from tests.loadtest.staged import Staged, snapshot


async def measured(stage: Staged, *, gateway_s: float, store_s: float, seconds: float = 10.0, **seen: Any) -> None:
    """A measured time from second 100 on, in which this was used and that was seen; much of both was before it."""
    before = dict.fromkeys(seen, 1000)
    stage.tally.take(0, snapshot(heard=before.pop("heard", 0), counts=before))
    stage.now, stage.looks.gateway_s, stage.looks.store_s = 100.0, 50.0, 20.0
    await stage.begin_measuring()
    after = {name: 1000 + count for name, count in seen.items()}
    stage.tally.take(0, snapshot(heard=after.pop("heard", 0), counts=after))
    stage.now, stage.looks.gateway_s, stage.looks.store_s = 100 + seconds, 50 + gateway_s, 20 + store_s
    await stage.end_measuring()


async def test_messages_cost_what_was_used_in_the_measured_time() -> None:
    stage = Staged()
    await measured(stage, gateway_s=4.0, store_s=2.0, heard=200_000, logins=50)
    assert stage.cost.gateway_us_per_message == pytest.approx(20)
    assert stage.cost.store_us_per_message == pytest.approx(10)
    assert stage.cost.cpu_us_per_message == pytest.approx(30)
    assert stage.cost.cpu_us_per_login is None
    assert stage.rates == {"delivered": 20_000, "logins": 5}
    assert stage.service_share == pytest.approx(0.6)
    assert stage.busiest_share == pytest.approx(0.3)
    assert (stage.measured_from_s, stage.measured_to_s) == (100, 110)


async def test_logins_cost_it_where_nobody_writes() -> None:
    stage = Staged()
    await measured(stage, gateway_s=4.0, store_s=2.0, logins=20_000)
    assert stage.cost.cpu_us_per_login == pytest.approx(300)
    assert stage.cost.cpu_us_per_message is None


async def test_a_store_that_is_not_seen_is_not_free() -> None:
    stage = Staged()
    stage.service.names, stage.looks.store_seen = ("gateway",), False
    await measured(stage, gateway_s=4.0, store_s=0.0, heard=200_000)
    assert stage.cost.gateway_us_per_message == pytest.approx(20)
    assert stage.cost.store_us_per_message is None
    assert stage.cost.cpu_us_per_message is None
    await stage.idle(0.0)
    assert "idle_store_cpu" not in stage.rates


async def test_a_peer_without_a_store_costs_what_its_processes_use() -> None:
    stage = Staged()
    stage.service.kind, stage.service.names, stage.looks.store_seen = "bare", ("server",), False
    await measured(stage, gateway_s=4.0, store_s=0.0, heard=200_000)
    assert stage.cost.cpu_us_per_message == pytest.approx(20)


async def test_a_service_of_unknown_processes_has_no_cost() -> None:
    stage = Staged()
    stage.service.names = ()
    await measured(stage, gateway_s=0.0, store_s=0.0, heard=200_000)
    assert stage.cost == Cost()


async def test_what_samples_in_the_service_does_so_in_the_measured_time() -> None:
    stage = Staged()
    told: list[tuple[str, float]] = []

    class Within:
        def begin(self) -> None:
            told.append(("begin", stage.now))

        def end(self) -> None:
            told.append(("end", stage.now))

    stage.service.sampler = Within()
    stage.now = 3.0
    await stage.begin_measuring()
    stage.now = 8.0
    await stage.end_measuring()
    await stage.settle()
    await stage.end_measuring()
    assert told == [("begin", 3.0), ("end", 8.0)]
