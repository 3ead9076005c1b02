"""Peers of the gateway: they do the same work, and what is written of them is what was found."""

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest import scenario as scenarios
from loadtest import stamp
from loadtest.conductor import Placement, conduct
from loadtest.document import put
from loadtest.peers import peer as peer_module
from loadtest.peers import rounds, starting
from loadtest.peers.document import text
from loadtest.peers.peer import PeerFault, process
from loadtest.peers.registry import DUTIES, PEERS, peer
from loadtest.peers.rounds import Found, Measured, Run
from loadtest.result import Machine, Result
from loadtest.screen import Screen
from loadtest.target import Target
from loadtest.team import GeneratorFault
from loadtest.wire import frame
from tests.loadtest.runs import run
from tests.servers import lacking


@pytest.mark.parametrize("name", PEERS)
async def test_every_peer_delivers_each_message_once_and_in_order(name: str) -> None:
    if why := peer(name).missing():
        lacking(why)
    scenario = scenarios.of("peer", {"act": "chat", "users": 6, "window": 3, "seconds": 0.3, "warm_s": 0.1})
    with starting(name, None) as target:
        result = await conduct(scenario, target, Screen("peer", None), Placement())
        pids = list(target.pids().values())
    assert result.failures == []
    assert result.verdict.faults == 0
    assert result.counts["logins"] == 6
    assert result.counts["delivered"] == result.counts["sent"] >= 6 * 3
    assert result.service.cpu_us_per_message
    assert (result.target, name in ("bare", "ejabberd")) == (name, "store" not in target.pids())
    assert _running(pids) == []


def _running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("name", PEERS)
def test_a_message_holds_its_number_and_its_body_where_the_generator_fills_them_in(name: str) -> None:
    module, _, cls = peer(name).dialect.partition(":")
    dialect = getattr(importlib.import_module(module), cls)("ws://127.0.0.1:1/")
    body, number = stamp.sample(stamp.stream(b"lt1-0", b"lt1-1"), 120)
    payload = dialect.message("lt1-1", body, number)
    filled = stamp.template(frame(payload)) % (10_000_001, 7, 81_234_567)
    assert filled.count(b"10000001") == 1
    assert stamp.read(filled.replace(b"`", b'"')) == (b"lt1-0:lt1-1", 7, 81_234_567)


def test_a_peer_that_does_not_exist_or_is_not_installed_is_said() -> None:
    with pytest.raises(PeerFault, match="no peer 'phoenix'; there are socketio, ejabberd"), starting("phoenix", None):
        pass
    status, output = run("peers", "phoenix")
    assert (status, "no peer 'phoenix'" in output) == (2, True)


def test_what_installs_node_is_said_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install the packages nodejs and npm" in peer("socketio").missing()


def test_a_server_that_ends_at_once_is_said() -> None:
    with pytest.raises(PeerFault, match="the server did not start"), process(["true"], None) as child:
        peer_module.address(child, "the server")
    with pytest.raises(PeerFault, match="the server did not start"), process(["true"], None) as child:
        peer_module.until(lambda: False, child, "the server")


def _found(**figures: list[Run]) -> Found:
    servers = [
        Measured(
            name=name, title=name.title(), settings=f"as {name} is", versions={name: "v1.2"}, runs={"window 8": runs}
        )
        for name, runs in figures.items()
    ]
    machine = Machine(architecture="x86_64", cores=2, system="Linux", python="3.13")
    return Found(
        machine=machine, started_at="2026-01-02T03:04:05", rounds=3, seconds=5, connections=1000, servers=servers
    )


def _costs(*cpu_us: float) -> list[Run]:
    return [Run(cpu_us=each, messages_per_s=1e6 / each if each else 0) for each in cpu_us]


def _line(document: str, start: str) -> str:
    return next(line for line in document.splitlines() if line.startswith(start))


def test_who_is_ahead_is_said_of_the_ratios_of_the_same_rounds() -> None:
    whole = text(
        _found(gateway=_costs(40, 50, 60), slow=_costs(80, 100, 120), fast=_costs(20, 25, 20), like=_costs(30, 60, 60))
    )
    assert "**ahead**, 2.00 times as many (2.00 to 2.00); window 1: not measured" in _line(whole, "- Slow:")
    assert "**behind**, 0.50 times as many (0.33 to 0.50)" in _line(whole, "- Fast:")
    assert "**neither**, 1.00 times as many (0.75 to 1.20)" in _line(whole, "- Like:")
    assert "| 20,000 (16,667 to 25,000) | 1 | 20,000 (16,667 to 25,000) | 50.0 | - |" in _line(whole, "| Gateway")
    assert "| 0.50 (0.50 to 0.50) |" in _line(whole, "| Slow |")


def test_a_failed_run_has_no_figures_and_moves_no_other_round() -> None:
    found = _found(gateway=_costs(40, 50, 60), other=_costs(80, 0, 120))
    found.faults = ["Other, window 8: 3 lost"]
    whole = text(found)
    assert "2.00 times as many (2.00 to 2.00)" in _line(whole, "- Other:")
    assert "- Other, window 8: 3 lost" in whole
    assert "none was lost" not in whole
    assert "none was lost" in text(_found(gateway=_costs(40)))


class _Rounds:
    """The gateway and one peer, whose runs are said beforehand instead of being run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *runs: Result | BaseException) -> None:
        self._runs = list(runs)
        monkeypatch.setattr(rounds, "placed", lambda pin: Placement())
        monkeypatch.setattr(rounds, "_target", lambda *_: contextlib.nullcontext(Target("")))
        monkeypatch.setattr(rounds, "conduct", self._conduct)

    async def _conduct(self, *_: object) -> Result:
        run = self._runs.pop(0) if self._runs else _result()
        if isinstance(run, BaseException):
            raise run
        return run

    def measured(self, count: int = 1) -> Found:
        return rounds.measured(["bare"], count, 1.0, 10, lambda _: None)


def _result(**more: Any) -> Result:
    machine = Machine(architecture="x86_64", cores=2)
    return Result(name="", scenario={}, machine=machine, started_at="", seconds=1.0, rates={"delivered": 5.0}, **more)


@pytest.mark.parametrize("ctrl_c", [KeyboardInterrupt(), _result(interrupted=True)], ids=["between-runs", "in-a-run"])
def test_ctrl_c_keeps_the_figures_until_then(
    monkeypatch: pytest.MonkeyPatch, ctrl_c: Result | KeyboardInterrupt
) -> None:
    found = _Rounds(monkeypatch, _result(), _result(), ctrl_c).measured()
    assert found.interrupted
    assert [len(runs) for runs in found.server("gateway").runs.values()] == [1, 1]


@pytest.mark.parametrize(
    ("fault", "words"),
    [(ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"), (GeneratorFault("it died"), "it died")],
)
def test_a_run_that_breaks_off_costs_its_own_figures_alone(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, words: str
) -> None:
    found = _Rounds(monkeypatch, _result(), fault).measured()
    assert found.faults == [f"gateway, window 1: {words}"]
    assert found.server("gateway").runs["window 1"] == [Run()]
    assert [[run.messages_per_s for run in runs] for runs in found.server("bare").runs.values()] == [[5.0]] * 3


def test_a_full_generator_and_an_absent_peer_are_said() -> None:
    found = _found(gateway=_costs(40), bare=[Run(cpu_us=10, messages_per_s=70_000, starved=True)])
    found.absent = {"socketio": "node is not installed"}
    whole = text(found)
    assert "70,000 \\*" in _line(whole, "| Bare |")
    assert "The generator's core was full" in whole
    assert "Not measured: socketio (node is not installed)." in whole
    assert "The generator's core was full" not in text(_found(gateway=_costs(40)))


def test_how_it_is_done_again_is_what_was_done() -> None:
    flags = "--rounds 3 --seconds 5 --connections 1000"
    some = _found(gateway=_costs(40), fastapi=_costs(80), bare=_costs(10))
    assert f'`make peers ARGS="fastapi bare {flags}"` is what was run here' in text(some)
    some.absent = dict.fromkeys(PEERS, "not installed")
    assert f'`make peers ARGS="{flags}"` is what was run here' in text(some)


def test_no_peer_is_said_to_do_all_that_the_gateway_does() -> None:
    assert all(set(each.does) < set(DUTIES) for each in PEERS.values())


def test_a_part_of_a_document_is_replaced_and_the_rest_is_left(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    put(path, "peers", "first \\1\n")
    put(path, "budget", "kept")
    assert path.read_text().startswith("# Benchmarks\n")
    path.write_text(path.read_text() + "\nby hand\n")
    put(path, "peers", "second \\g<0>")
    whole = path.read_text()
    assert [whole.count(words) for words in ("first", "second \\g<0>", "kept", "by hand", "# Benchmarks")] == [
        0,
        1,
        1,
        1,
        1,
    ]
    assert whole.index("second") < whole.index("kept") < whole.index("by hand")
    assert list(tmp_path.iterdir()) == [path]


# Slow for what it is: six runs, each with servers and a generator of its own.
def test_the_command_measures_gateway_and_peer_and_writes_the_document(tmp_path: Path) -> None:
    document, figures = tmp_path / "benchmarks.md", tmp_path / "figures.json"
    words = ("--rounds", "1", "--seconds", "0.3", "--connections", "10")
    status, output = run("peers", "bare", *words, "--write", str(document), "--json", str(figures))
    if len(os.sched_getaffinity(0)) < 2:
        assert (status, "needs two cores" in output, document.exists()) == (2, True, False), output
        return
    assert status == 0, output
    found = msgspec.json.decode(figures.read_bytes(), type=Found)
    assert [server.name for server in found.servers] == ["gateway", "bare"]
    for server in found.servers:
        assert [len(runs) for runs in server.runs.values()] == [1, 1, 1]
        assert all(each.cpu_us > 0 for work in ("window 8", "window 1") for each in server.runs[work])
    assert "- bare relay (the limit): window 8: **" in document.read_text()
    again = tmp_path / "again.md"
    assert run("peers", "--from-json", str(figures), "--write", str(again))[0] == 0
    assert again.read_text() == document.read_text()
