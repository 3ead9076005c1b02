"""What a stage makes of what was seen: of made-up looks, so that each figure is known beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.acts import orders
from loadtest.ledger import Page
from loadtest.result import Cost, Verdict
from loadtest.scenario import Scenario
from loadtest.tally import Tally
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


async def test_a_connection_weighs_what_it_adds() -> None:
    stage = Staged()
    for connections, resident in ((100, 50_000_000), (1100, 58_000_000)):
        stage.tally.take(0, snapshot(connections=connections))
        stage.service.resident = resident
        await stage.weigh()
    assert stage.cost.bytes_per_connection == pytest.approx(8000)


async def test_a_service_that_cannot_be_weighed_weighs_nothing_known() -> None:
    stage = Staged()
    for connections in (100, 1100):
        stage.tally.take(0, snapshot(connections=connections))
        await stage.weigh()
    assert stage.cost.bytes_per_connection is None


async def test_idle_cpu_is_of_the_time_in_which_nobody_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Staged()
    stage.looks.gateway_s, stage.looks.store_s = 70.0, 30.0

    async def hold(seconds: float, phase: str = "") -> bool:
        stage.now += seconds
        stage.looks.gateway_s += 0.5
        stage.looks.store_s += 0.2
        return True

    monkeypatch.setattr(stage, "hold", hold)
    await stage.idle(20.0)
    assert stage.rates == pytest.approx({"idle_gateway_cpu": 0.025, "idle_store_cpu": 0.01})


async def test_users_who_are_not_let_in_fail_the_run() -> None:
    stage = Staged()
    stage.team.said["open"] = [{"came": 40, "of": 50, "refusals": {}}, {"came": 50, "of": 50, "refusals": {}}]
    stage.tally.take(0, snapshot(counts={"login_refused_401": 10}))
    await stage.connect()
    assert stage.failures == [
        "10 of 100 users were not let in: login refused 401: 10; are --app-key and --app-secret those of the target?"
    ]
    stage = Staged()
    stage.team.said["open"] = [{"came": 50, "of": 50, "refusals": {}}]
    await stage.connect()
    assert stage.failures == []


async def test_blocklists_that_are_not_answered_for_fail_the_run() -> None:
    stage = Staged(Scenario(refused_share=0.1))
    stage.team.said |= {"open": [{"came": 9, "of": 9, "refusals": {}}], "lists": [{"listed": 7, "of": 9}]}
    await stage.connect()
    assert stage.failures == ["2 of 9 blocklists were not answered for"]


async def test_nothing_is_over_while_an_answer_is_awaited() -> None:
    stage = Staged(Scenario(settle_s=0.5))
    stage.tally.take(0, snapshot(connections=2, heard=5, waiting=3))
    await stage.settle()
    assert stage.failures == ["3 messages had no answer 0.5 s after the last one"]


async def test_what_settles_is_judged_by_all_ledgers() -> None:
    stage = Staged()
    stage.tally.take(0, snapshot(connections=2, heard=5))
    kept = Verdict(wrongly_refused=1)
    stage.team.kept = [Page(said=[], heard=[], accepted=[], arrived=[], unsure={}, verdict=kept) for _ in range(2)]
    await stage.settle()
    assert stage.failures == []
    assert stage.verdict.wrongly_refused == 2
    assert stage.team.orders[0] == "run"
    assert stage.team.orders.count("look") == 2


def test_users_who_are_cut_off_fail_the_run() -> None:
    stage = Staged()
    stage.check_all_stayed()
    assert stage.failures == []
    stage.tally.take(0, snapshot(counts={"cut": 3}))
    stage.check_all_stayed()
    assert stage.failures == ["3 connections ended, though nobody was to go"]


def test_a_run_that_delivers_nothing_fails_unless_it_was_interrupted() -> None:
    stage = Staged()
    stage.rates["delivered"] = 1.0
    stage.check_delivered()
    assert stage.failures == []
    stage.rates.clear()
    stage.check_delivered()
    assert stage.failures == ["no message was delivered in the measured time"]
    stage = Staged()
    stage.interrupt()
    stage.check_delivered()
    assert stage.failures == []


async def test_who_does_not_come_back_fails_the_run() -> None:
    stage = Staged()
    stage.team.said["back"] = [{"so": True}, {"so": False}]
    await orders.until(stage, "back", "not everybody came back", 0.0)
    assert stage.failures == ["not everybody came back within 0 s"]
    stage = Staged()
    stage.team.said["back"] = [{"so": True}, {"so": True}]
    await orders.until(stage, "back", "not everybody came back", 0.0)
    assert stage.failures == []


class TestTally:
    def test_latencies_of_messages_count_in_the_measured_time_alone(self) -> None:
        tally = Tally()
        took = {"delivery": {1000: 2}, "sent": {1000: 2}, "login": {1000: 2}, "delivery_after": {1000: 4}}
        tally.take(0, snapshot(took=took))
        assert tally.histograms.keys() == {"login"}
        tally.measuring = True
        tally.take(0, snapshot(took=took))
        tally.take(1, snapshot(took=took))
        assert {name: latency.count for name, latency in tally.latencies().items()} == {
            "delivery": 4,
            "sent": 4,
            "login": 6,
        }

    def test_a_generator_that_tells_again_tells_totals(self) -> None:
        tally = Tally()
        for number, heard, connections in ((0, 5, 7), (1, 6, 7), (0, 9, 2)):
            tally.take(number, snapshot(heard=heard, connections=connections, counts={"logins": heard}))
        assert tally.counts() == {"sent": 0, "delivered": 15, "acknowledged": 0, "logins": 15}
        assert (tally.connections, tally.most_connections) == (9, 14)
