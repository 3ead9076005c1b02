"""What the machine does not allow is said before the run, with the limit, the need and the way out."""

import resource

import pytest

from loadtest import limits
from loadtest.limits import check, raised, sources
from loadtest.scenario import Scenario

PLENTY = 10**7


def test_a_small_run_is_allowed() -> None:
    assert check(Scenario(users=100), 1024) == []


def test_too_few_descriptors_name_the_processes_that_would_do() -> None:
    scenario = Scenario(users=5000, processes=2)
    (fault,) = check(scenario, 1024)
    assert "file descriptors" in fault
    assert "2,564" in fault
    assert "1,024" in fault
    enough = int(fault.partition("--processes ")[2].partition(")")[0])
    assert check(Scenario(users=5000, processes=enough), 1024) == []
    assert check(Scenario(users=5000, processes=enough - 1), 1024) != []


def test_where_no_number_of_processes_suffices_none_is_advised() -> None:
    for scenario, descriptors in ((Scenario(users=2), 65), (Scenario(users=100_000), 1024)):
        (fault,) = [each for each in check(scenario, descriptors) if each.startswith("file")]
        assert "ulimit" in fault
        assert "--processes" not in fault


def test_the_gateways_own_descriptors_count_where_it_is_started_for_the_run() -> None:
    scenario = Scenario(users=20_000, processes=4)
    assert check(scenario, 8_000, workers=8) == []
    (fault,) = check(scenario, 8_000, workers=2)
    assert "--workers 4" in fault
    assert check(scenario, 8_000, workers=4) == []


def test_where_no_number_of_workers_suffices_none_is_advised() -> None:
    (fault,) = check(Scenario(users=100), 256, workers=1)
    assert "ulimit" in fault
    assert "--workers" not in fault


def test_too_few_ports_name_the_addresses_that_would_do() -> None:
    found = [fault for fault in check(Scenario(users=100_000, processes=10), PLENTY) if fault.startswith("ports")]
    enough = int(found[0].partition("--source-addresses ")[2].partition(")")[0])
    scenario = Scenario(users=100_000, processes=10, source_addresses=enough)
    assert not [fault for fault in check(scenario, PLENTY) if fault.startswith("ports")]
    assert len(set(sources(scenario))) == enough


def test_too_little_memory_is_told() -> None:
    found = check(Scenario(users=1_000_000, devices=6, processes=64, source_addresses=250), PLENTY)
    assert [fault for fault in found if fault.startswith("memory")]


def test_the_users_that_there_is_memory_for_have_all_their_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_available_bytes", lambda: 1 << 30)
    scenario = Scenario(users=20_000, devices=3, source_addresses=3)
    (fault,) = check(scenario, PLENTY)
    enough = int(fault.partition("--users ")[2].partition(")")[0])
    assert check(Scenario(users=enough, devices=3, source_addresses=3), PLENTY) == []


def test_source_addresses_reach_this_machine_only() -> None:
    assert check(Scenario(users=10, source_addresses=2), PLENTY, remote=True)


def test_the_limit_of_descriptors_is_raised_as_far_as_it_goes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
        assert raised() == before[1] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
