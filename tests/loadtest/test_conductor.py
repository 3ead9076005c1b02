"""What a run says of itself: who ran where, and what kept it from being faster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.conductor import Placement, _complaints, _limit, actual
from loadtest.result import Limit, Sample
from loadtest.scenario import Scenario
from loadtest.target import Target
from tests.loadtest.staged import Staged

CORE = min(os.sched_getaffinity(0))
ASKED = Placement(CORE, (CORE + 1,))
ANYWHERE = Placement()


@pytest.fixture(params=["on its core", "anywhere"])
def service(request: pytest.FixtureRequest) -> Iterator[tuple[Target, bool]]:
    """A service, and whether it was put on the core."""
    pinned = request.param == "on its core"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        os.sched_setaffinity(process.pid, {CORE} if pinned else os.sched_getaffinity(0))
        yield Target("ws://127.0.0.1:1/", root=process.pid), pinned
        process.communicate(b"\n")


def test_a_placement_is_what_the_system_says(service: tuple[Target, bool]) -> None:
    target, pinned = service
    placement = actual(ASKED, target)
    assert placement.generators == ASKED.generators
    # Where there is one core, whoever is anywhere is on it.
    pinned = pinned or len(os.sched_getaffinity(0)) == 1
    assert placement.service == (CORE if pinned else None)
    where = f"service on core {CORE}" if pinned else "service not pinned"
    assert placement.words == f"{where}, generators on {CORE + 1}"


def test_of_a_service_whose_processes_are_unknown_nothing_is_claimed() -> None:
    assert actual(ASKED, Target("ws://127.0.0.1:1/")).service is None


def test_nobody_is_pinned_who_was_not_asked_to(service: tuple[Target, bool]) -> None:
    assert actual(ANYWHERE, service[0]).words == "nobody pinned"


class TestLimit:
    """Of a stage on which ten seconds were measured, from the tenth on."""

    def limit(self, placement: Placement = ANYWHERE, generator_cpu: float = 0.3, **keys: Any) -> Limit:
        """What is said of a generator that used so much, and for the rest of a service that had room."""
        stage = Staged(Scenario(**keys.pop("scenario", {})))
        stage.measured_from_s, stage.measured_to_s = 10.0, 20.0
        stage.looks.store_seen = keys.pop("store_seen", True)
        for name, value in {"service_share": 0.6, "busiest_share": 0.4, **keys}.items():
            setattr(stage, name, value)
        # What is before and after the measured time is of no interest.
        for t, cpu in ((9.0, 5.0), (12.0, generator_cpu - 0.1), (18.0, generator_cpu + 0.1), (21.0, 5.0)):
            stage.tally.series.append(Sample(t=t, generator_cpu=cpu))
        return _limit(stage, stage.tally, placement)

    def test_a_generator_without_room_is_the_limit(self) -> None:
        limit = self.limit(generator_cpu=0.9, service_share=1.0, busiest_share=1.0)
        assert limit.what == "generator"
        assert "used 90% of a core" in limit.why

    def test_generators_that_share_a_core_are_one_limit(self) -> None:
        both = {"processes": 2}
        assert self.limit(generator_cpu=0.5, scenario=both).what == "unknown"
        assert self.limit(Placement(0, (1, 2)), generator_cpu=0.5, scenario=both).what == "unknown"
        assert self.limit(Placement(0, (1,)), generator_cpu=0.5, scenario=both).what == "generator"

    def test_a_rate_that_was_answered_is_the_limit(self) -> None:
        asked = {"rate": 1000.0}
        assert self.limit(scenario=asked, rates={"acknowledged": 900.0, "refused": 60.0}).what == "rate"
        assert self.limit(scenario=asked, rates={"acknowledged": 900.0, "sent": 1000.0}).what == "unknown"

    def test_processes_on_one_core_are_one_limit(self) -> None:
        limit = self.limit(Placement(0, (1,)), service_share=0.9)
        assert limit.what == "service"
        assert "the service used 90% of a core, the busiest generator 30%" in limit.why
        assert self.limit(Placement(0, (1,)), service_share=0.8).what == "unknown"

    def test_of_processes_on_several_cores_the_busiest_is_the_limit(self) -> None:
        limit = self.limit(service_share=1.6, busiest_share=0.8)
        assert limit.what == "unknown"
        assert "the service's busiest process used 80% of a core" in limit.why
        assert self.limit(service_share=1.6, busiest_share=0.9).what == "service"

    def test_what_is_not_known_is_told(self) -> None:
        assert "what its store used is not known" in self.limit(store_seen=False).why
        assert "the gateway's busiest process" in self.limit(store_seen=False).why
        assert "not known" not in self.limit().why
        assert "the service's CPU is not known" in self.limit(service_share=0.0).why
        stage = Staged()
        assert _limit(stage, stage.tally, ANYWHERE).why == "nothing was measured"


def test_sends_that_fail_are_complained_of_but_for_those_of_a_break() -> None:
    stage = Staged()
    counts = {"error_503": 2, "refused": 5}
    assert _complaints(stage, stage.tally, counts) == ["sends failed for other reasons than policy, by code: 503: 2"]
    stage.excused = {"error_503": 2}
    assert _complaints(stage, stage.tally, counts) == []
