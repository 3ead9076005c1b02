"""`gateway serve`: what it says, what keeps it from starting, and how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.sync.client
from websockets.asyncio.client import ClientConnection, connect

from gateway.core.claims import ISSUED_AT_MS, sign
from tests.cli.processes import Gateway, run
from tests.servers import Server
from tests.waiting import wait_until

CLIENTS = 40


def test_it_says_what_runs_where_and_keeps_the_secret_to_itself(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        output = gateway.output
        assert f"ws://127.0.0.1:{gateway.client_port}/v1/connect" in output
        assert f"http://127.0.0.1:{gateway.admin_port}/v4" in output
        assert httpx.get(f"http://127.0.0.1:{gateway.admin_port}/docs").status_code == 200
        assert f"http://127.0.0.1:{gateway.admin_port}/docs" in output
        assert json.loads((tmp_path / "data" / "credentials.json").read_text())["app_key"] in output
        assert "data/credentials.json" in output
        assert gateway.secret not in output
        lines = [line.strip() for line in output.splitlines()]
        assert [line.rpartition(" -m gateway ")[2] for line in lines if " -m gateway " in line] == [
            "connect alice",
            "connect bob",
        ]
        store = gateway.store_pid
        assert gateway.stop() == 0
        assert not _runs(store)
        assert {each.name for each in (tmp_path / "data").iterdir()} == {"credentials.json", "store.lock", "valkey"}


def test_an_admin_port_open_to_everybody_is_told(tmp_path: Path) -> None:
    with Gateway(tmp_path, "--admin-host", "0.0.0.0") as gateway:
        assert f"http://127.0.0.1:{gateway.admin_port}/v4 (every address of this machine)" in gateway.output
        assert "warning: the Server API is open beyond this machine, without TLS" in gateway.output


def test_the_demo_is_named_where_it_can_be_opened(tmp_path: Path) -> None:
    with Gateway(tmp_path, "--environment", "development") as gateway:
        address = f"http://127.0.0.1:{gateway.client_port}/demo"
        assert address in gateway.output
        assert httpx.get(address).status_code == 200
    with Gateway(tmp_path) as gateway:
        assert "/demo" not in gateway.output
        assert httpx.get(f"http://127.0.0.1:{gateway.client_port}/demo").status_code == 404


def test_v1_is_served_when_asked_for_and_warned_of_without_a_secret_of_its_own(tmp_path: Path) -> None:
    warning = "warning: v1 is on and signed with the app's own secret"
    with Gateway(tmp_path, "--v1-enabled") as gateway:
        assert warning in gateway.output
        assert _calls_v1(gateway, gateway.secret) == {"code": 200, "status": "0"}
        assert gateway.stop() == 0
    own = "x" * 32
    with Gateway(tmp_path, GATEWAY_V1_ENABLED="1", GATEWAY_V1_APP_SECRET=own) as gateway:
        assert warning not in gateway.output
        assert own not in gateway.output
        assert _calls_v1(gateway, own) == {"code": 200, "status": "0"}
        assert _calls_v1(gateway, gateway.secret)["code"] == 1004


def _calls_v1(gateway: Gateway, secret: str) -> dict[str, Any]:
    app_key = json.loads((gateway.cwd / "data" / "credentials.json").read_text())["app_key"]
    stated = str(int(time.time()))
    signature = hashlib.sha1(f"{secret}1{stated}".encode()).hexdigest()
    headers = {"App-Key": app_key, "Nonce": "1", "Timestamp": stated, "Signature": signature}
    url = f"http://127.0.0.1:{gateway.admin_port}/user/checkOnline.json"
    content: dict[str, Any] = httpx.post(url, headers=headers, data={"userId": "alice"}).json()
    return content


def test_the_lines_to_paste_name_a_data_directory_that_is_not_the_default(tmp_path: Path) -> None:
    with Gateway(tmp_path, "--data-dir", "elsewhere") as gateway:
        assert "connect bob --data-dir elsewhere" in gateway.output
        assert run("health", "--data-dir", "elsewhere", cwd=tmp_path).returncode == 0


def test_five_faults_in_three_sources_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('client_port = "x"\nhearbeat_s = 3\nlease_s = 100\n')
    done = run("serve", "--admin-port", "99999", cwd=tmp_path, GATEWAY_AUTH_TIMEOUT_S="never")
    assert done.returncode == 2
    assert [line.split(": ")[1:3] for line in done.stderr.splitlines()] == [
        ["gateway.toml", "client_port"],
        ["gateway.toml", "hearbeat_s"],
        ["GATEWAY_AUTH_TIMEOUT_S", "must be a number, not 'never'"],
        ["--admin-port", "must be 0 to 65_535, not 99999"],
        ["gateway.toml", "lease_s"],
    ]
    assert "did you mean heartbeat_s?" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--redis-url", "redis://127.0.0.1:1"], 1, "redis_url 127.0.0.1:1: Redis is away"),
        (["--redis-url", "http://127.0.0.1"], 2, "--redis-url: must begin with redis://"),
        (["--data-dir", "file/data"], 1, "data directory file/data: cannot be made: "),
        (["--workers", "2", "--role", "admin"], 2, "workers = 2: workers share the client port"),
        (["--tls-cert", "file", "--tls-key", "file"], 1, "are not a PEM certificate and its key"),
        (["--config", "nowhere.toml"], 2, "nowhere.toml: cannot be read"),
        (["--client-prot", "1"], 2, "Did you mean --client-port?"),
        (["--replay-cache", "yes"], 2, "not understood: yes (what is yes or no is --name or --no-name"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(tmp_path: Path, arguments: list[str], status: int, told: str) -> None:
    (tmp_path / "file").write_text("no directory, no certificate")
    done = run("serve", "--client-port", "0", "--admin-port", "0", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_damaged_credentials_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "credentials.json").write_text('{"app_key": "half')
    done = run("serve", cwd=tmp_path)
    assert done.returncode == 1
    assert "credentials.json: is damaged" in done.stderr
    assert (tmp_path / "data" / "credentials.json").read_text() == '{"app_key": "half'


@pytest.mark.parametrize("name", ["client", "admin"])
def test_a_port_in_use_is_named_and_nothing_is_left_running(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"client": "0", "admin": "0"} | {name: str(taken.getsockname()[1])}
        done = run(
            "serve",
            *("--client-host", "127.0.0.1", "--client-port", ports["client"], "--admin-port", ports["admin"]),
            cwd=tmp_path,
        )
    assert done.returncode == 1
    # Log lines are JSON here; what is for the person is the rest.
    told = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    where = f"{name} port {ports[name]} on 127.0.0.1"
    assert told == [f"gateway: {where} is in use by another program; choose another with --{name}-port"]
    assert not (tmp_path / "data" / "store.json").exists()


def test_another_number_of_partitions_than_the_deployments_is_refused(tmp_path: Path, valkey: Server) -> None:
    with valkey.client() as client:
        client.hset("gw:meta", "partitions", "16")
    done = run("serve", "--redis-url", valkey.url, "--client-port", "0", "--admin-port", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert "set partitions = 16" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_short_secret_of_old_is_taken_and_warned_of_in_one_line(tmp_path: Path) -> None:
    with Gateway(tmp_path, GATEWAY_APP_KEY="old-key", GATEWAY_APP_SECRET="14-characters.") as gateway:
        token = ("token", "alice", "--data-dir", str(tmp_path / "data"))
        done = run(*token, cwd=tmp_path, GATEWAY_APP_KEY="old-key", GATEWAY_APP_SECRET="14-characters.")
        assert (done.returncode, done.stderr) == (0, "")
        url = f"ws://127.0.0.1:{gateway.client_port}/v1/connect"
        bearer = {"Authorization": f"Bearer {done.stdout.strip()}"}
        with websockets.sync.client.connect(url, additional_headers=bearer, proxy=None) as client:
            assert json.loads(client.recv())["type"] == "welcome"
        assert gateway.output.count("warning: the app secret is shorter than 32 bytes") == 1
        assert "InsecureKeyLengthWarning" not in gateway.output


def test_nodes_that_share_a_redis_need_the_same_credentials(tmp_path: Path, fresh_valkey: Server) -> None:
    (tmp_path / "second").mkdir()
    store = ("--redis-url", fresh_valkey.url)
    with Gateway(tmp_path, *store):
        kept = (tmp_path / "data" / "credentials.json").read_text()
        told = f"this deployment is that of app key {json.loads(kept)['app_key']}"
        done = run("serve", *store, "--client-port", "0", "--admin-port", "0", cwd=tmp_path / "second")
        assert done.returncode == 1
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
        for command in (("token", "alice"), ("check", "--client-port", "0", "--admin-port", "0")):
            done = run(*command, *store, cwd=tmp_path / "second")
            assert done.returncode == 1
            assert told in done.stdout + done.stderr
        (tmp_path / "second" / "data" / "credentials.json").write_text(kept)
        with Gateway(tmp_path / "second", *store, "--node-id", "second") as second:
            assert run("token", "alice", *store, cwd=second.cwd).returncode == 0


def test_a_second_gateway_on_the_same_data_directory_is_refused(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        done = run("serve", "--client-port", "0", "--admin-port", "0", cwd=tmp_path)
        assert done.returncode == 1
        assert f"in use by process {gateway.process.pid}" in done.stderr


def test_a_killed_embedded_store_is_started_again_and_clients_go_on(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, gateway.connect("alice") as alice, gateway.connect("bob") as bob:
        killed = gateway.store_pid
        os.kill(killed, signal.SIGKILL)
        gateway.shows("the embedded store runs again")
        assert gateway.store_pid != killed
        wait_until(lambda: run("health", cwd=tmp_path).returncode == 0, 20)
        alice.say("/to bob back again")
        bob.shows("alice: back again")
        assert "connecting again" not in alice.output + bob.output
        assert gateway.stop() == 0


async def test_the_first_signal_drains_and_the_second_ends_it_at_once(tmp_path: Path) -> None:
    # One close in 0.1 s: the drain takes as many tenths of a second as there are clients.
    gateway = await asyncio.to_thread(Gateway, tmp_path, "--drain-s", "60")
    with gateway:
        clients = [await _client(gateway, f"user{number}") for number in range(CLIENTS)]
        gateway.process.terminate()
        assert "going_away" in await clients[-1].recv()
        started = time.monotonic()
        gateway.process.terminate()
        assert await asyncio.to_thread(gateway.ended) == 0
        assert time.monotonic() - started < CLIENTS * 0.1 / 2
        await asyncio.gather(*(client.close() for client in clients))


async def _client(gateway: Gateway, user: str) -> ClientConnection:
    kept = json.loads((gateway.cwd / "data" / "credentials.json").read_text())
    now_ms = time.time_ns() // 1_000_000
    claims = {"sub": user, "aud": kept["app_key"], "iat": now_ms // 1000, ISSUED_AT_MS: now_ms, "jti": user}
    token = sign(claims, kept["app_secret"])
    client = await connect(
        f"ws://127.0.0.1:{gateway.client_port}/v1/connect",
        additional_headers={"Authorization": f"Bearer {token}"},
        proxy=None,
    )
    assert "welcome" in await client.recv()
    return client


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
