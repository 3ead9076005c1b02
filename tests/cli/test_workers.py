"""`gateway serve --workers`: one port and several processes, what happens when one ends, and how all end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import ssl
import time
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.core.claims import ISSUED_AT_MS, sign
from gateway.protocol.codes import SERVICE_RESTART
from tests.certificates import self_signed
from tests.cli.processes import START_DEADLINE_S, Gateway, run
from tests.waiting import eventually, wait_until

CLIENTS = 12

HASTY = """
import sys
from gateway.cli import app
from gateway.cli.workers import worker
worker.RESTART_WAIT_S, worker.RESTARTS_MAX = 0.01, 3
sys.exit(app.run(sys.argv[1:]))
"""


class Workers(Gateway):
    """A gateway with two workers."""

    def __init__(self, cwd: Path, *arguments: str, ports: tuple[int, int] | None = None, **env: str) -> None:
        super().__init__(cwd, "--workers", "2", "--node-id", "web", *arguments, ports=ports, **env)

    @property
    def pids(self) -> dict[int, int]:
        """Worker → its process, while both run: the first is the one with the admin port."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        workers = [
            int(pid) for pid in children.split() if b"workers.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        listening = self._listening()
        return {0 if listening & _sockets(pid) else 1: pid for pid in workers}

    def _listening(self) -> set[str]:
        """The sockets that listen on the admin port, as the links of their owners' descriptors name them."""
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return {
            f"socket:[{row[9]}]"
            for row in rows
            if row[3] == "0A" and int(row[1].partition(":")[2], 16) == self.admin_port
        }

    def metrics(self) -> dict[str, float]:
        text = httpx.get(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=10).text
        rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def nodes(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.ctl("nodes", "--json").stdout)["nodes"]
        return found


def _sockets(pid: int) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        # Some are closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(each))
    return found


async def _client(gateway: Gateway, user: str, trusting: ssl.SSLContext | None = None) -> ClientConnection:
    kept = json.loads((gateway.cwd / "data" / "credentials.json").read_text())
    now_ms = time.time_ns() // 1_000_000
    claims = {"sub": user, "aud": kept["app_key"], "iat": now_ms // 1000, ISSUED_AT_MS: now_ms, "jti": user}
    client = await connect(
        f"{'wss' if trusting else 'ws'}://127.0.0.1:{gateway.client_port}/v1/connect",
        additional_headers={"Authorization": f"Bearer {sign(claims, kept['app_secret'])}"},
        ssl=trusting,
        proxy=None,
    )
    assert "welcome" in await client.recv()
    return client


def _sum(metrics: dict[str, float], name: str) -> float:
    return sum(value for series, value in metrics.items() if series.partition("{")[0] == name)


async def test_two_workers_serve_one_port_and_one_exposition(tmp_path: Path) -> None:
    gateway = await asyncio.to_thread(Workers, tmp_path)
    with gateway:
        assert "runs as nodes web-0 to web-1, 2 workers on one client port" in gateway.output
        clients = [await _client(gateway, f"user{number}") for number in range(CLIENTS)]
        metrics = await asyncio.to_thread(gateway.metrics)
        assert _sum(metrics, "gateway_sessions") == CLIENTS
        assert _sum(metrics, "gateway_sessions_opened_total") == CLIENTS
        each = [metrics[f'gateway_sessions{{worker="{index}"}}'] for index in (0, 1)]
        assert all(each), "the kernel spreads connections over the workers"
        assert [metrics[f'gateway_worker_answered{{worker="{index}"}}'] for index in (0, 1)] == [1, 1]
        nodes = await asyncio.to_thread(gateway.nodes)
        assert [node["node"] for node in nodes] == ["web-0", "web-1"]
        assert [node["sessions"] for node in nodes] == each
        # The record for `connect` and `health` is of all.
        assert (await asyncio.to_thread(run, "health", cwd=tmp_path)).returncode == 0
        kept = json.loads((tmp_path / "data" / "gateway.json").read_text())
        assert (kept["pid"], kept["node"]) == (gateway.process.pid, "web")
        # Messages go from any worker to any other.
        await clients[0].send('{"type":"send","id":"1","to":"user1","body":"hello"}')
        assert "hello" in await clients[1].recv()
        store = gateway.store_pid
        await asyncio.gather(*(client.close() for client in clients))
        assert await asyncio.to_thread(gateway.stop) == 0
        assert not _runs(store)
        assert {path.name for path in (tmp_path / "data").iterdir()} == {"credentials.json", "store.lock", "valkey"}


async def test_a_worker_that_stands_still_is_named_and_the_others_measures_are_there(tmp_path: Path) -> None:
    gateway = await asyncio.to_thread(Workers, tmp_path)
    with gateway:
        frozen = gateway.pids[1]
        os.kill(frozen, signal.SIGSTOP)
        metrics = await asyncio.to_thread(gateway.metrics)
        assert metrics['gateway_worker_answered{worker="0"}'] == 1
        assert metrics['gateway_worker_answered{worker="1"}'] == 0
        assert 'gateway_sessions{worker="0"}' in metrics
        assert 'gateway_sessions{worker="1"}' not in metrics
        os.kill(frozen, signal.SIGCONT)

        async def answers() -> bool:
            found = await asyncio.to_thread(gateway.metrics)
            return found['gateway_worker_answered{worker="1"}'] == 1

        await eventually(answers, 10)
        assert await asyncio.to_thread(gateway.stop) == 0


def test_a_worker_that_is_asked_while_it_starts_answers_afterwards(tmp_path: Path) -> None:
    with Workers(tmp_path) as gateway:
        os.kill(gateway.pids[1], signal.SIGKILL)

        def asked_until_it_runs() -> bool:
            gateway.metrics()
            return "a worker runs again" in gateway.output

        wait_until(asked_until_it_runs, START_DEADLINE_S)
        wait_until(lambda: gateway.metrics()['gateway_worker_answered{worker="1"}'] == 1, 10)
        assert gateway.stop() == 0


def test_killed_workers_are_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    with Workers(tmp_path) as gateway, gateway.connect("alice") as alice, gateway.connect("bob") as bob:
        for index in (1, 0):
            before = gateway.pids
            alice.say(f"/to bob before {index}")
            os.kill(before[index], signal.SIGKILL)
            wait_until(lambda: gateway.output.count("a worker runs again") == 2 - index, START_DEADLINE_S)  # noqa: B023
            after = gateway.pids
            assert after[index] != before[index]
            assert after[1 - index] == before[1 - index]
            metrics = gateway.metrics()
            assert metrics[f'gateway_worker_restarts{{worker="{index}"}}'] == 1
            alice.say(f"/to bob after {index}")
            bob.shows(f"alice: after {index}", 30)
            bob.shows(f"alice: before {index}")
        assert [bob.output.count(f"alice: {when} {index}") for when in ("before", "after") for index in (0, 1)] == [
            1
        ] * 4
        ended = [line for line in gateway.output.splitlines() if "a worker has ended" in line]
        assert [json.loads(line)["worker"] for line in ended] == [1, 0]
        assert all("killed by SIGKILL" in line for line in ended)
        assert gateway.stop() == 0


def test_a_worker_for_which_nothing_is_left_is_started_when_there_is(tmp_path: Path) -> None:
    with Workers(tmp_path) as gateway:
        supervisor, pid = gateway.process.pid, gateway.pids[1]
        few, usual = resource.RLIMIT_NOFILE, resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, few, (3, usual[1]))
        os.kill(pid, signal.SIGKILL)
        gateway.shows("it could not be started: Too many open files", START_DEADLINE_S)
        assert gateway.metrics()['gateway_worker_answered{worker="0"}'] == 1
        resource.prlimit(supervisor, few, usual)
        gateway.shows("a worker runs again", START_DEADLINE_S)
        assert gateway.stop() == 0


def test_a_worker_that_cannot_start_again_is_given_up_in_one_line(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)

    class Hasty(Workers):
        program = ("-c", HASTY)

    with Hasty(tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key)) as gateway:
        key.write_text("no key")
        store = gateway.store_pid
        os.kill(gateway.pids[1], signal.SIGKILL)
        assert gateway.ended(START_DEADLINE_S) == 1
        told = [line for line in gateway.output.splitlines() if line.startswith("gateway: worker")]
        assert told == [
            f"gateway: worker 1 has ended 4 times, at last: tls_cert {certificate} and tls_key {key} "
            "are not a PEM certificate and its key"
        ]
        assert not _runs(store)


def test_a_port_that_anybody_else_has_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # As other workers have it: the kernel would let ours have it too.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(
            *("serve", "--workers", "2", "--client-host", "127.0.0.1", "--client-port", port, "--admin-port", "0"),
            cwd=tmp_path,
        )
    assert done.returncode == 1
    assert done.stderr == (
        f"gateway: client port {port} on 127.0.0.1 is in use by another program; choose another with --client-port\n"
    )
    assert not (tmp_path / "data" / "store.json").exists()


def test_what_keeps_the_first_worker_from_starting_is_told_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(
            *("serve", "--workers", "3", "--client-host", "127.0.0.1", "--client-port", "0", "--admin-port", port),
            cwd=tmp_path,
        )
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert told == [
        f"gateway: admin port {port} on 127.0.0.1 is in use by another program; choose another with --admin-port"
    ]


async def test_workers_drain_one_after_another_and_nobody_hops(tmp_path: Path) -> None:
    gateway = await asyncio.to_thread(Workers, tmp_path, "--drain-s", "2")
    with gateway:
        clients = [await _client(gateway, f"user{number}") for number in range(CLIENTS)]
        homes = [await _home(gateway, f"user{number}") for number in range(CLIENTS)]
        assert set(homes) == {"web-0", "web-1"}
        order: list[str] = []

        async def until_closed(home: str, client: ClientConnection) -> None:
            with pytest.raises(ConnectionClosed):
                while True:
                    if "going_away" in await client.recv():
                        order.append(home)
            assert client.close_code == SERVICE_RESTART.code

        waiting = asyncio.gather(*map(until_closed, homes, clients))
        gateway.process.terminate()
        await waiting
        # The first worker, which has the admin port, is the last.
        assert order == sorted(homes, reverse=True)
        assert await asyncio.to_thread(gateway.ended) == 0
        assert "stopping 2 workers, one after another" in gateway.output


async def _home(gateway: Gateway, user: str) -> str:
    """The worker that serves a user's only session."""
    listed = await asyncio.to_thread(gateway.ctl, "sessions", user, "--json")
    (sessions,) = json.loads(listed.stdout).values()
    return str(sessions[0]["node"]).partition(".")[0]


async def test_a_second_signal_ends_all_workers_at_once(tmp_path: Path) -> None:
    gateway = await asyncio.to_thread(Workers, tmp_path, "--drain-s", "600")
    with gateway:
        clients = [await _client(gateway, f"user{number}") for number in range(CLIENTS)]
        gateway.process.terminate()
        await eventually(lambda: "stopping 2 workers" in gateway.output)
        gateway.process.terminate()
        # Far sooner than one worker's share of the drain.
        assert await asyncio.to_thread(gateway.ended, 60) == 0
        await asyncio.gather(*(client.close() for client in clients))


async def test_sighup_brings_a_new_certificate_to_every_worker(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    first = ssl.create_default_context(cafile=str(certificate))
    gateway = await asyncio.to_thread(Workers, tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key))
    with gateway:
        alice = await _client(gateway, "alice", first)
        key.write_text("no key")
        gateway.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(gateway.shows, "SIGHUP: the certificate in use stays")
        for number in range(CLIENTS):
            await (await _client(gateway, f"user{number}", first)).close()
        self_signed(tmp_path)
        second = ssl.create_default_context(cafile=str(certificate))
        gateway.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(gateway.shows, f"SIGHUP: certificate {certificate} is in use")

        async def new_everywhere() -> bool:
            place = ("127.0.0.1", gateway.client_port)
            served = {await asyncio.to_thread(ssl.get_server_certificate, place) for _ in range(8)}
            return served == {_as_served(certificate)}

        await eventually(new_everywhere, 10)
        for number in range(CLIENTS):
            await (await _client(gateway, f"user{number}", second)).close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await _client(gateway, "late", first)
        # Who was connected stays so.
        await alice.send('{"type":"ping","id":"1"}')
        assert "pong" in await alice.recv()
        await alice.close()
        assert await asyncio.to_thread(gateway.stop) == 0


def _as_served(certificate: Path) -> str:
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(certificate.read_text()))


def test_sighup_takes_a_new_certificate_where_there_is_one_process(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with Gateway(tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key)) as gateway:
        self_signed(tmp_path)
        gateway.process.send_signal(signal.SIGHUP)
        gateway.shows(f"SIGHUP: certificate {certificate} is in use for new connections")
        served = ssl.get_server_certificate(("127.0.0.1", gateway.client_port))
        assert served == _as_served(certificate)
        assert gateway.stop() == 0


def test_workers_and_store_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with Workers(tmp_path) as gateway:
        left = [*gateway.pids.values(), gateway.store_pid]
        assert len(left) == 3
        gateway.process.kill()
        wait_until(lambda: not any(map(_runs, left)), 30)
        with Workers(tmp_path, ports=(gateway.client_port, gateway.admin_port)) as again:
            assert again.stop() == 0


def test_a_worker_that_is_told_to_end_is_replaced(tmp_path: Path) -> None:
    with Workers(tmp_path) as gateway, gateway.connect("alice") as alice:
        os.kill(gateway.pids[0], signal.SIGTERM)
        gateway.shows("a worker runs again", START_DEADLINE_S)
        # The same admin port, and its clients are back.
        assert gateway.metrics()['gateway_worker_restarts{worker="0"}'] == 1
        alice.say("/to alice still there")
        alice.shows("still there", 30)
        assert gateway.stop() == 0


def test_workers_are_drained_by_the_name_of_all(tmp_path: Path) -> None:
    with Workers(tmp_path, "--drain-s", "0") as gateway:
        assert json.loads(gateway.ctl("drain", "web-1", "--json").stdout)["nodes"][0].startswith("web-1.")
        assert [node["draining"] for node in gateway.nodes()] == [False, True]
        done = json.loads(gateway.ctl("drain", "web", "--json").stdout)["nodes"]
        assert [node.partition(".")[0] for node in done] == ["web-0", "web-1"]
        assert [node["draining"] for node in gateway.nodes()] == [True, True]
        assert gateway.ctl("resume", "web").returncode == 0
        assert [node["draining"] for node in gateway.nodes()] == [False, False]
        assert gateway.ctl("drain", "we").returncode == 1
        assert gateway.stop() == 0


def test_check_tells_what_the_limits_of_workers_are(tmp_path: Path) -> None:
    ports = ("--client-port", "0", "--admin-port", "0")
    done = run("check", "--workers", "3", "--node-id", "web", "--connections-max", "100", *ports, cwd=tmp_path)
    assert "3 workers, nodes web-0 to web-2" in done.stdout
    assert "connections_max is each worker's: 300 together" in done.stdout


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
