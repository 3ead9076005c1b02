"""`gateway check` and `gateway health`."""

from __future__ import annotations

import asyncio
import resource
import socket
from pathlib import Path

import pytest

from tests.cli.processes import Gateway, run
from tests.replicas import followed
from tests.servers import Server, redis7_binary


def test_faults_of_settings_files_ports_and_store_are_told_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("neither directory nor certificate")
    (tmp_path / "gateway.toml").write_text('auth_timeout_s = "soon"\nbody_bytes = 1\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(
            "check",
            *("--redis-url", "redis://127.0.0.1:1", "--data-dir", "file/data"),
            *("--tls-cert", "file", "--tls-key", "file", "--client-host", "127.0.0.1", "--client-port", str(port)),
            *("--admin-port", "0"),
            cwd=tmp_path,
            GATEWAY_LEASE_S="-1",
        )
    faults = [line.removeprefix("fault").strip() for line in done.stdout.splitlines() if line.startswith("fault")]
    told = [
        "gateway.toml: auth_timeout_s: must be a number",
        "gateway.toml: body_bytes: unknown setting; did you mean body_bytes_max?",
        "GATEWAY_LEASE_S: must be 1 to 300",
        "data_dir file/data",
        "tls_cert file",
        f"client port {port} on 127.0.0.1 is in use by another program",
        "redis_url 127.0.0.1:1: Redis is away",
    ]
    assert len(faults) == len(told), done.stdout
    assert all(fault.startswith(text) for fault, text in zip(faults, told, strict=True)), done.stdout
    assert done.returncode == 1
    assert done.stderr == "gateway: 7 faults: serve would not start\n"
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://127.0.0.1:1/3", "--redis-url: database 3 cannot be used"),
        ("rediss://127.0.0.1:1/?ssl_ca_certs=/nowhere.pem", "--redis-url: ssl_ca_certs: /nowhere.pem cannot be used"),
    ],
)
def test_a_store_url_that_cannot_be_used_is_a_fault_of_the_settings(tmp_path: Path, url: str, told: str) -> None:
    done = run("check", "--redis-url", url, "--client-port", "x", "--admin-port", "0", cwd=tmp_path)
    assert done.returncode == 1
    faults = [line.removeprefix("fault").strip() for line in done.stdout.splitlines() if line.startswith("fault")]
    assert faults[0] == "--client-port: must be a whole number, not 'x'"
    assert faults[1].startswith(told)
    assert len(faults) == 2
    for command in (["serve"], ["ctl", "nodes"], ["token", "alice"]):
        done = run(*command, "--redis-url", url, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"gateway: {told}")


def test_a_refused_password_is_told_as_one(tmp_path: Path, fresh_valkey: Server) -> None:
    with fresh_valkey.client() as client:
        client.config_set("requirepass", "right")
    url = fresh_valkey.url.replace("://", "://:wrong@")
    for arguments in (["serve"], ["ctl", "nodes"], ["check", "--client-port", "0", "--admin-port", "0"]):
        done = run(*arguments, "--redis-url", url, cwd=tmp_path)
        assert done.returncode == 1
        told = " refuses the user or password (redis_url)"
        assert any(line.endswith(told) for line in (done.stdout + done.stderr).splitlines()), done
        assert "wrong" not in done.stdout + done.stderr
    done = run("ctl", "nodes", "--redis-url", fresh_valkey.url, cwd=tmp_path)
    assert "asks for a password (redis_url)" in done.stderr


def test_an_empty_directory_is_all_that_serve_needs(tmp_path: Path) -> None:
    done = run("check", "--client-port", "0", "--admin-port", "0", "--connections-max", "1000000", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1_000_000:
        assert "warning connections_max is 1000000, but this process may open only" in done.stdout
    assert "store: an embedded one will be started in data" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_beside_the_running_gateway_its_ports_are_no_fault(gateway: Gateway) -> None:
    ports = ("--client-port", str(gateway.client_port), "--admin-port", str(gateway.admin_port))
    done = run("check", "--client-host", "127.0.0.1", *ports, cwd=gateway.cwd)
    assert done.returncode == 0, done.stdout
    assert f"client port {gateway.client_port} on 127.0.0.1: the gateway of data runs there, ready" in done.stdout
    assert f"admin port {gateway.admin_port} on 127.0.0.1: the gateway of data runs there, ready" in done.stdout
    assert "store: the embedded one in data" in done.stdout


def test_ports_of_another_gateway_are_a_fault(gateway: Gateway, tmp_path: Path) -> None:
    ports = ("--client-port", str(gateway.client_port), "--admin-port", str(gateway.admin_port))
    done = run("check", "--client-host", "127.0.0.1", *ports, cwd=tmp_path)
    assert done.returncode == 1
    for name, port in (("client", gateway.client_port), ("admin", gateway.admin_port)):
        assert f"{name} port {port} on 127.0.0.1 is in use by a gateway that does not run on data;" in done.stdout


def test_what_is_bad_for_a_store_but_not_fatal_is_a_warning(tmp_path: Path, fresh_valkey: Server) -> None:
    with fresh_valkey.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 60")
    arguments = ("check", "--client-port", "0", "--admin-port", "0", "--redis-url", fresh_valkey.url)
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "warning" in done.stdout
    assert "client-output-buffer-limit" in done.stdout
    with fresh_valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.hset("gw:meta", "partitions", "16")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "maxmemory-policy allkeys-lru" in done.stdout


def test_how_the_store_keeps_what_it_is_told_is_said(tmp_path: Path, fresh_valkey: Server) -> None:
    arguments = ("check", "--client-port", "0", "--admin-port", "0", "--redis-url", fresh_valkey.url)
    with fresh_valkey.client() as client:
        done = run(*arguments, cwd=tmp_path)
        footing = "no replicas, appendonly yes, appendfsync always, min-replicas-to-write 0"
        assert f"info    Redis at {fresh_valkey.url.removeprefix('unix://')}: {footing}" in done.stdout
        assert "power failure" not in done.stdout
        client.config_set("appendfsync", "everysec")
        done = run(*arguments, cwd=tmp_path)
        assert "info    a power failure may lose about a second of what got `sent`" in done.stdout
        client.config_set("appendonly", "no")
        done = run(*arguments, cwd=tmp_path, GATEWAY_DURABILITY="replicated")
    assert done.returncode == 0
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning Redis") and "pubsub" not in line]
    assert len(warnings) == 2
    assert "has appendonly no: restarted, it comes back empty, and it has no replica" in warnings[0]
    assert "has no replicas, durability = replicated waits for 1: sends are stored and answered 504" in warnings[1]
    assert "with min-replicas-to-write 1 sends are refused (503)" in done.stdout


async def test_replicas_are_counted_and_what_a_failover_costs_is_said(tmp_path: Path) -> None:
    async with followed(redis7_binary()) as pair:
        with pair.master.client() as client:
            client.config_set("appendonly", "yes")
        arguments = ("check", "--client-port", "0", "--admin-port", "0", "--redis-url", pair.master.url)
        done = await asyncio.to_thread(run, *arguments, cwd=tmp_path)
        assert "1 replica, appendonly yes" in done.stdout
        assert "a failover may lose the last of what got `sent`; durability = replicated closes that" in done.stdout
        done = await asyncio.to_thread(run, *arguments, cwd=tmp_path, GATEWAY_DURABILITY="replicated")
        assert "a failover may lose" not in done.stdout
        assert "sends are stored and answered 504" not in done.stdout


def test_health_asks_the_gateway_of_the_directory(gateway: Gateway, tmp_path: Path) -> None:
    done = run("health", cwd=gateway.cwd)
    assert (done.returncode, done.stdout) == (0, f"ws://127.0.0.1:{gateway.client_port} is ready\n")
    nobody = run("health", "--client-port", "1", cwd=tmp_path)
    assert nobody.returncode == 1
    assert nobody.stderr == "gateway: no gateway answers at ws://127.0.0.1:1\n"


def test_addresses_of_webhooks_are_judged_and_not_shown_whole(tmp_path: Path, valkey: Server) -> None:
    done = run(
        "check",
        *("--redis-url", valkey.url, "--client-port", "0", "--admin-port", "0"),
        cwd=tmp_path,
        GATEWAY_WEBHOOK_URL="http://user:hunter2@app.example/s3cret?key=s3cret",
        GATEWAY_WEBHOOK_V1_STATUS_URL="https://app.example/s3cret",
    )
    assert done.returncode == 0, done.stdout
    (warning,) = (line for line in done.stdout.splitlines() if line.startswith("warning") and "webhook" in line)
    assert "webhook_url: http:// beyond this machine" in warning
    assert "webhook_v1_status_url: https://app.example" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
