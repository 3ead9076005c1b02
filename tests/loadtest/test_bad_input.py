"""What a load test says and does when something is wrong: before the run where it can be known, and never silently."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.cli import record
from loadtest.result import read
from tests.cli.processes import Gateway
from tests.loadtest.runs import LIFTED, against, finished, heard, run, start
from tests.servers import free_ports
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), *LIFTED) as running:
        yield running


CHAT = ("run", "chat", "--users", "10", "--seconds", "1", "--plain")


def test_a_target_that_is_down_is_named(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    at = ("--url", f"ws://127.0.0.1:{port}/v1/connect", "--api", f"http://127.0.0.1:{port}")
    status, output = run(*CHAT, *at, "--app-key", "key", "--app-secret", "s" * 32)
    assert status == 2
    assert f"127.0.0.1:{port}" in output
    assert "Traceback" not in output


def test_logins_that_are_refused_are_counted_and_the_rest_go_on(tmp_path: Path) -> None:
    written = tmp_path / "result.json"
    with Gateway(tmp_path, *LIFTED, "--connections-max", "10") as full:
        status, output = run(
            *("run", "connect", "--users", "20", "--seconds", "1", "--plain", "--json", str(written)), *against(full)
        )
    assert status == 1
    assert "Traceback" not in output
    result = read(written)
    assert result.counts["logins"] == 10
    assert result.counts["login_refused_503"] == 10
    assert any("10 of 20" in failure and "503" in failure for failure in result.failures)


@pytest.mark.parametrize("scenario", [("chat",), ("kick",), ("soak", "--warm-s", "60")])
def test_a_run_into_which_nobody_is_let_ends_after_the_logins(
    tmp_path: Path, gateway: Gateway, scenario: tuple[str, ...]
) -> None:
    written = tmp_path / "result.json"
    keys = ("--app-key", "key", "--app-secret", "s" * 32)
    flags = ("--users", "10", "--processes", "1", "--seconds", "300", "--plain", "--json", str(written))
    process = start("run", *scenario, *flags, *against(gateway), *keys)
    status, output = finished(process, 30)
    assert status == 1, output
    result = read(written)
    assert (result.interrupted, result.counts["login_refused_401"]) == (False, 10)
    first = result.failures[0]
    assert re.fullmatch(r"nobody was let in: login refused 401 \(.+\): 10; .*--app-key.*--app-secret.*", first)
    assert "warming up" not in output


def test_more_connections_than_descriptors_are_said_before_the_run(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    status, output = run("run", "connect", "--users", "2000", "--processes", "1", "--start", "", prepare=few)
    assert status == 2
    assert "256" in output
    assert "2,064" in output
    assert "ulimit" in output
    assert "Traceback" not in output


def test_more_connections_than_ports_are_said_before_the_run() -> None:
    status, output = run("run", "connect", "--users", "100000", "--source-addresses", "1", "--start", "")
    assert status == 2
    assert "source" in output
    assert "Traceback" not in output


def test_a_target_elsewhere_is_refused_until_it_is_named() -> None:
    # An address for documents (RFC 5737): nobody is there.
    at = ("--url", "ws://192.0.2.1:8080/v1/connect", "--api", "http://192.0.2.1:8081")
    status, output = run(*CHAT, *at, "--app-key", "key", "--app-secret", "s" * 32)
    assert status == 2
    assert "--i-own-this-target" in output
    assert "192.0.2.1" in output


def test_owning_another_target_does_not_help() -> None:
    at = ("--url", "ws://192.0.2.1:8080/v1/connect", "--api", "http://192.0.2.1:8081")
    status, _ = run(*CHAT, *at, "--app-key", "key", "--app-secret", "s" * 32, "--i-own-this-target", "192.0.2.2")
    assert status == 2


def test_faults_of_a_scenario_are_listed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('act = "chatt"\nusers = -1\nwindo = 8\nrate = "fast"\n')
    status, output = run("run", str(file), "--start", "")
    assert status == 2
    for said in ("chatt", "users", "windo", "window", "rate"):
        assert said in output
    assert "Traceback" not in output


def test_a_file_that_is_no_toml_and_one_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("users = = 3\n")
    status, output = run("run", str(file), "--start", "")
    assert (status, "line 1" in output) == (2, True)
    status, output = run("run", str(tmp_path / "none.toml"), "--start", "")
    assert (status, "none.toml" in output) == (2, True)


def test_a_scenario_nobody_knows_brings_the_nearest() -> None:
    status, output = run("run", "chatt", "--start", "")
    assert status == 2
    assert "chat" in output


@pytest.mark.parametrize(
    ("ending", "whole_group"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGHUP, True)],
)
def test_an_interrupted_run_reports_what_it_has(
    tmp_path: Path, gateway: Gateway, ending: signal.Signals, whole_group: bool
) -> None:
    written, page = tmp_path / "result.json", tmp_path / "report.html"
    process = start(
        *("run", "chat", "--users", "10", "--window", "1", "--seconds", "600", "--plain"),
        *("--json", str(written), "--html", str(page), *against(gateway)),
    )
    relayed = _relayed(gateway)
    wait_until(lambda: _relayed(gateway) > relayed + 100, 30)
    # A terminal sends it to every process of the group, and so does one that is closed; `kill` to one.
    (os.killpg if whole_group else os.kill)(process.pid, ending)
    status, output = finished(process, 30)
    assert status == 130, output
    assert "Traceback" not in output
    result = read(written)
    assert result.interrupted
    assert result.counts["delivered"] > 0
    assert (result.failures, result.verdict.faults) == ([], 0)
    assert "<svg" in page.read_text()


def test_a_run_whose_terminal_is_closed_ends_with_its_gateway(tmp_path: Path) -> None:
    written = tmp_path / "result.json"
    process = start(
        *("run", "chat", "--users", "10", "--window", "1", "--seconds", "600", "--plain", "--json", str(written)),
        *("--start", f"gateway serve --data-dir {tmp_path / 'data'}"),
    )
    wait_until(lambda: (kept := record.read(tmp_path / "data")) is not None and kept.client is not None, 30)
    kept = record.read(tmp_path / "data")
    assert kept is not None
    wait_until(lambda: _generators(process.pid) > 0, 30)
    process.send_signal(signal.SIGHUP)
    status, output = finished(process, 60)
    assert status == 130, output
    assert read(written).interrupted
    assert not Path(f"/proc/{kept.pid}").exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_what_comes_while_the_gateway_is_stopped_loses_nothing(tmp_path: Path, ending: signal.Signals) -> None:
    (tmp_path / "slow.py").write_text(SLOW_TO_STOP)
    written, page = tmp_path / "result.json", tmp_path / "report.html"
    process = start(
        *(*CHAT, "--window", "1", "--warm-s", "0", "--json", str(written), "--html", str(page)),
        *("--start", f"{sys.executable} {tmp_path / 'slow.py'} serve --data-dir {tmp_path / 'data'}"),
    )
    wait_until(lambda: (tmp_path / "stopping").exists(), 60)
    kept = int((tmp_path / "stopping").read_text())
    process.send_signal(ending)
    status, output = finished(process, 30)
    assert status == 0, output
    assert read(written).counts["delivered"] > 0
    assert "<svg" in page.read_text()
    assert not Path(f"/proc/{kept}").exists()


SLOW_TO_STOP = """
import os, pathlib, sys, time

from gateway.__main__ import main

try:
    main()
finally:
    here = pathlib.Path(__file__).parent
    (here / "to_be").write_text(str(os.getpid()))
    (here / "to_be").rename(here / "stopping")
    time.sleep(1)
"""


def _generators(pid: int) -> int:
    """How many processes a load test has started, beside its gateway; they begin when it listens to signals."""
    return len(_children(pid)) - 1


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_run_is_interrupted_before_anybody_has_logged_in(gateway: Gateway) -> None:
    process = start(
        "run", "chat", "--users", "10", "--processes", "4", "--seconds", "300", "--plain", *against(gateway)
    )
    heard(process, "starting generators")
    os.killpg(process.pid, signal.SIGINT)
    status, output = finished(process, 30)
    assert (status, "Traceback" in output) == (130, False), output
    assert output.endswith("chat on gateway: interrupted before anybody logged in\n")


def test_a_generator_ignores_what_ends_the_run(tmp_path: Path, gateway: Gateway) -> None:
    written = tmp_path / "result.json"
    flags = ("--users", "10", "--window", "1", "--seconds", "2", "--plain", "--json", str(written))
    process = start("run", "chat", *flags, *against(gateway))
    relayed = _relayed(gateway)
    wait_until(lambda: _relayed(gateway) > relayed + 100, 30)
    (generator,) = _children(process.pid)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(generator, ending)
    status, output = finished(process, 30)
    assert (status, read(written).failures) == (0, []), output


def test_a_generator_that_is_killed_ends_the_run(tmp_path: Path, gateway: Gateway) -> None:
    written, page = tmp_path / "result.json", tmp_path / "report.html"
    flags = ("--users", "10", "--window", "1", "--processes", "2", "--seconds", "300", "--plain")
    process = start("run", "chat", *flags, "--json", str(written), "--html", str(page), *against(gateway))
    relayed = _relayed(gateway)
    wait_until(lambda: _relayed(gateway) > relayed + 100, 30)
    os.kill(_children(process.pid)[0], signal.SIGKILL)
    status, output = finished(process, 30)
    result = read(written)
    assert (status, result.interrupted, result.judged) == (1, False, False), output
    (failure,) = [each for each in result.failures if "cut off" not in each]
    assert re.fullmatch(r"generator \d was ended by signal 9 after \d+\.\d s", failure)
    assert output.count(failure) == 1
    assert "not judged" in output
    assert "Not judged" in page.read_text()
    assert "<dt>Lost</dt>" not in page.read_text()


def test_an_act_in_the_middle_of_its_orders_is_interrupted_as_well(tmp_path: Path, gateway: Gateway) -> None:
    written = tmp_path / "result.json"
    flags = ("--users", "20", "--rate", "100", "--churn-per-s", "10", "--drops-per-s", "5", "--seconds", "300")
    process = start("run", "mixed", *flags, "--plain", "--json", str(written), *against(gateway))
    relayed = _relayed(gateway)
    wait_until(lambda: _relayed(gateway) > relayed + 20, 30)
    process.send_signal(signal.SIGINT)
    status, output = finished(process, 60)
    assert status == 130, output
    result = read(written)
    assert result.interrupted
    assert (result.failures, result.verdict.faults) == ([], 0)
    assert [mark.what for mark in result.marks].count("settled") == 1


def test_drops_need_the_server_api(gateway: Gateway) -> None:
    keys = ("--app-key", "key", "--app-secret", "s" * 32)
    at = ("--url", f"ws://127.0.0.1:{gateway.client_port}/v1/connect", *keys)
    status, output = run("run", "kick", "--users", "4", "--tokens", "api", "--seconds", "1", "--plain", *at)
    assert status == 2
    # Both of what needs it, and nothing was begun.
    assert output.count("--api") == 2
    assert "generators" not in output
    assert "Traceback" not in output


def test_what_a_day_breaks_is_asked_for_before_it_begins(gateway: Gateway) -> None:
    at = ("--url", f"ws://127.0.0.1:{gateway.client_port}/v1/connect", "--app-key", "key", "--app-secret", "s" * 32)
    status, output = run("run", "mixed", "--users", "20", "--plain", *at)
    assert status == 2
    assert "--api" in output
    assert "draining" in output
    assert "generators" not in output


def test_a_gateway_that_was_not_started_here_is_not_killed(gateway: Gateway) -> None:
    flags = ("--users", "4", "--seconds", "1", "--breaks", "kill", "--plain")
    status, output = run("run", "reconnect", *flags, *against(gateway))
    assert status == 2
    assert "--start" in output
    assert "generators" not in output
    assert gateway.process.poll() is None


def test_a_target_that_dies_in_the_middle_is_a_failure(tmp_path: Path) -> None:
    written = tmp_path / "result.json"
    with Gateway(tmp_path, *LIFTED) as mortal:
        process = start(
            *("run", "chat", "--users", "10", "--window", "1", "--seconds", "3", "--settle-s", "1", "--plain"),
            *("--json", str(written), *against(mortal)),
        )
        wait_until(lambda: _relayed(mortal) > 100, 30)
        mortal.kill()
        status, output = finished(process, 60)
    assert status == 1, output
    assert "Traceback" not in output
    assert any("cut off: no close frame" in failure for failure in read(written).failures)


@pytest.mark.parametrize("scenario", ["chat", "kick"])
def test_a_run_whose_own_gateway_dies_ends_with_it(tmp_path: Path, scenario: str) -> None:
    written = tmp_path / "result.json"
    process, pid = _measuring(tmp_path, "run", scenario)
    os.kill(pid, signal.SIGKILL)
    status, output = finished(process, 30)
    result = read(written)
    assert (status, result.interrupted, result.judged) == (1, False, True), output
    assert re.fullmatch(r"the gateway ended \(signal 9\) at \d+\.\d s", result.failures[0])
    if scenario == "chat":
        assert len([failure for failure in result.failures if "cut off" in failure]) == 3
        assert result.failures[-1] == "and 7 more"
    assert "Traceback" not in output


@pytest.mark.parametrize(("settle_s", "at"), [("3600", "settling"), ("0.5", "interrupted after")])
def test_a_second_interrupt_does_not_wait_for_a_gateway_that_stands_still(
    tmp_path: Path, settle_s: str, at: str
) -> None:
    process, pid = _measuring(tmp_path, "run", "chat", "--settle-s", settle_s)
    os.kill(pid, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    heard(process, at)
    process.send_signal(signal.SIGINT)
    status, output = finished(process, 20)
    assert status == 130, output
    assert read(tmp_path / "result.json").interrupted
    assert "Traceback" not in output
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 5)


def _measuring(directory: Path, *words: str) -> tuple[subprocess.Popen[str], int]:
    """A long run that has begun to measure a gateway of its own, and this gateway's process."""
    data = directory / "data"
    process = start(
        *(*words, "--users", "10", "--window", "1", "--seconds", "300", "--plain"),
        *("--json", str(directory / "result.json"), "--start", f"gateway serve --data-dir {data}"),
    )
    heard(process, "measuring")
    kept = record.read(data)
    assert kept is not None
    return process, kept.pid


def _relayed(gateway: Gateway) -> float:
    text = httpx.get(f"http://127.0.0.1:{gateway.admin_port}/metrics", trust_env=False).text
    return sum(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith("gateway_messages_relayed_total")
    )


def test_a_clock_that_goes_back_spoils_nothing(tmp_path: Path, gateway: Gateway) -> None:
    written = tmp_path / "result.json"
    (tmp_path / "sitecustomize.py").write_text(BACKWARDS)
    status, output = run(
        *("run", "chat", "--users", "10", "--window", "1", "--seconds", "2", "--plain", "--json", str(written)),
        *against(gateway),
        PYTHONPATH=str(tmp_path),
    )
    assert status == 0, output
    result = read(written)
    assert result.seconds > 0
    assert [sample.t for sample in result.series] == sorted(sample.t for sample in result.series)
    assert 0 < result.latencies["delivery"].p50_ms < result.seconds * 1000


BACKWARDS = """
import time

_real, _real_ns, _began = time.time, time.time_ns, time.monotonic()


def _back():
    # Half a second after each process began the wall clock jumps back by an hour.
    return 3600 if time.monotonic() - _began > 0.5 else 0


time.time = lambda: _real() - _back()
time.time_ns = lambda: _real_ns() - _back() * 1_000_000_000
"""
