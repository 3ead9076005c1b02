"""What a run says of itself: who ran where, and what kept it from being faster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtest.conductor import Placement, actual
from loadtest.target import Target

CORE = min(os.sched_getaffinity(0))
ASKED = Placement(CORE, (CORE + 1,))


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
    if not pinned and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core: whoever is anywhere is on it")
    placement = actual(ASKED, target)
    assert placement.generators == ASKED.generators
    assert placement.service == (CORE if pinned else None)
    where = f"service on core {CORE}" if pinned else "service not pinned"
    assert placement.words == f"{where}, generators on {CORE + 1}"


def test_of_a_service_whose_processes_are_unknown_nothing_is_claimed() -> None:
    assert actual(ASKED, Target("ws://127.0.0.1:1/")).service is None


def test_nobody_is_pinned_who_was_not_asked_to(service: tuple[Target, bool]) -> None:
    assert actual(Placement(), service[0]).words == "nobody pinned"
