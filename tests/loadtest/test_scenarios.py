"""Every shipped scenario, small and for seconds, against a real gateway: what it must count, and nothing wrong.

Takes longer than a file of tests usually may: each scenario is a run of its own, with processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import record
from loadtest.result import Result, read
from loadtest.target import Target
from tests.cli.processes import Gateway
from tests.loadtest.runs import LIFTED, against, finished, measured, start


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), *LIFTED) as running:
        yield running


SHORT = ("--seconds", "1", "--warm-s", "0.2")


def timed(result: Result, name: str, least: int = 1) -> None:
    """A latency that was measured that often and makes sense."""
    latency = result.latencies[name]
    assert latency.count >= least
    assert 0 < latency.p50_ms <= latency.p99_ms <= latency.max_ms < result.seconds * 1000
    assert latency.hdr


def test_connect(tmp_path: Path, gateway: Gateway) -> None:
    result = measured(tmp_path, "connect", "--users", "60", *SHORT, *against(gateway))
    assert result.counts["logins"] == 60
    timed(result, "login", 60)
    assert max(sample.connections for sample in result.series) == 60


@pytest.mark.parametrize(
    "flags",
    [
        ("--window", "4", "--devices", "2"),
        ("--rate", "300", "--spread", "zipf", "--refused-share", "0.1", "--ephemeral-share", "0.1", "--tokens", "api"),
    ],
    ids=["closed-two-devices", "open-like-an-app"],
)
def test_chat(tmp_path: Path, gateway: Gateway, flags: tuple[str, ...]) -> None:
    result = measured(tmp_path, "chat", "--users", "20", "--processes", "2", *SHORT, *flags, *against(gateway))
    assert result.counts["delivered"] > 0
    timed(result, "delivery")
    timed(result, "sent")
    assert ("--refused-share" in flags) == (result.counts.get("refused", 0) > 0)
    assert ("--rate" in flags) == (result.limit.what == "rate")


def test_presence(tmp_path: Path, gateway: Gateway) -> None:
    result = measured(
        tmp_path,
        *("presence", "--users", "40", "--watch", "5", "--churn-per-s", "20", "--seconds", "2", "--warm-s", "0"),
        *against(gateway),
    )
    assert result.counts["changes"] >= 20
    timed(result, "presence", 20)


def test_kick(tmp_path: Path, gateway: Gateway) -> None:
    result = measured(
        tmp_path,
        *("kick", "--users", "40", "--rate", "200", "--drops-per-s", "10", "--seconds", "3", "--warm-s", "0"),
        *against(gateway),
    )
    assert result.counts["drops"] >= 15
    assert {name for name in result.counts if name.startswith("drops_")} >= {"drops_kick", "drops_ban", "drops_expire"}
    timed(result, "drop", 15)
    timed(result, "reconnect", 15)
    assert result.counts["delivered"] > 0


def test_reconnect(tmp_path: Path) -> None:
    own = ("--start", "gateway serve --drain-s 0.5 --reconnect-spread-ms 200")
    result = measured(tmp_path, "reconnect", "--users", "20", "--rate", "100", "--seconds", "1.5", *own)
    assert result.counts["reconnects"] >= 3 * 20
    timed(result, "reconnect", 3 * 20)
    marks = [mark.what for mark in result.marks if mark.what in ("drain", "restart", "kill")]
    assert marks == ["drain", "restart", "kill"]
    assert sum(mark.what.startswith("all back") for mark in result.marks) == 3


def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    own = ("--start", "gateway serve --workers 2", "--breaks", "kill")
    result = measured(tmp_path, "reconnect", "--users", "20", "--rate", "200", "--seconds", "1", *own)
    # About half of the users were on it.
    assert 0 < result.counts["reconnects"] < 20
    assert result.counts["delivered"] > 0


def test_a_worker_that_dies_in_a_soak_fails_it(tmp_path: Path) -> None:
    data, written = tmp_path / "data", tmp_path / "result.json"
    process = start(
        *("run", "soak", "--users", "20", "--rate", "50", "--seconds", "3", "--warm-s", "0", "--plain"),
        *("--start", f"gateway serve --workers 2 --data-dir {data}", "--json", str(written)),
    )
    assert process.stdout is not None
    next(line for line in process.stdout if "measuring" in line)
    kept = record.read(data)
    assert kept is not None
    workers = Target("", root=kept.pid).pids()
    os.kill(next(pid for name, pid in workers.items() if name.startswith("gateway-")), signal.SIGKILL)
    status, output = finished(process)
    assert status == 1, output
    assert any("nothing that the run does explains it, by code: none: " in each for each in read(written).failures)


def test_soak(tmp_path: Path, gateway: Gateway) -> None:
    result = measured(
        tmp_path,
        *("soak", "--users", "40", "--rate", "100", "--churn-per-s", "5", "--warm-s", "0.2", "--seconds", "3"),
        *against(gateway),
    )
    assert result.counts["delivered"] > 0
    assert all(sample.gateway_bytes for sample in result.series)


def test_mixed(tmp_path: Path, gateway: Gateway) -> None:
    result = measured(
        tmp_path,
        *("mixed", "--users", "60", "--rate", "200", "--churn-per-s", "10", "--drops-per-s", "10", "--seconds", "6"),
        *against(gateway),
    )
    phases = ["night", "morning", "day", "evening", "deploy"]
    assert [mark.what for mark in result.marks if mark.what in phases] == phases
    assert any(mark.what == "drain" for mark in result.marks)
    timed(result, "delivery")
    timed(result, "drop")
    timed(result, "presence")
    assert result.counts["refused"] > 0
