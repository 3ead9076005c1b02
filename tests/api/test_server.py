from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.api.server import FIELDS_MAX, HEAD_BYTES_MAX, REQUESTS_A_TURN, AdminServer
from gateway.config import Config
from tests.certificates import self_signed


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_the_real_port_is_known_after_start() -> None:
    server = AdminServer(app, Config(admin_port=0))
    await server.start()
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{server.port}/")
    await server.stop()
    assert (server.port > 0, answer.text) == (True, "ok")


async def test_who_asks_for_a_websocket_brings_nothing_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server = AdminServer(app, Config(admin_port=0))
    await server.start()
    asking = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "eA==",
    }
    async with httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{server.port}/", headers=asking)
    await server.stop()
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_a_stopped_server_has_let_go_of_its_port() -> None:
    first = AdminServer(app, Config(admin_port=0))
    await first.start()
    await first.stop()
    second = AdminServer(app, Config(admin_port=first.port))
    await second.start()
    await second.stop()


async def test_stopping_closes_idle_connections_at_once() -> None:
    server = AdminServer(app, Config(admin_port=0))
    await server.start()
    async with httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{server.port}/")
        await asyncio.wait_for(server.stop(), timeout=2)


async def test_stopping_what_was_never_started_is_harmless() -> None:
    await AdminServer(app, Config(admin_port=0)).stop()


async def test_a_port_in_use_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"admin port {port} on 127\.0\.0\.1 is in use .* --admin-port"):
            await AdminServer(app, Config(admin_port=port)).start()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_said_in_one_sentence(host: str) -> None:
    with pytest.raises(OSError, match=r"cannot listen on admin port 0 on .*--admin-host"):
        await AdminServer(app, Config(admin_host=host, admin_port=0)).start()


async def test_listens_on_ipv6() -> None:
    server = AdminServer(app, Config(admin_host="::1", admin_port=0))
    await server.start()
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://[::1]:{server.port}/")
    await server.stop()
    assert answer.text == "ok"


async def test_leaves_signals_and_logging_alone() -> None:
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    handlers = list(logging.getLogger().handlers)
    server = AdminServer(app, Config(admin_port=0))
    await server.start()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == signals
    assert logging.getLogger().handlers == handlers
    assert not logging.getLogger("uvicorn").handlers
    await server.stop()


async def test_beyond_loopback_it_speaks_tls_where_there_is_a_certificate(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    config = Config(admin_host="0.0.0.0", admin_port=0, tls_cert=certificate, tls_key=key)
    server = AdminServer(app, config)
    await server.start()
    trusted = ssl.create_default_context(cafile=str(certificate))
    async with httpx.AsyncClient(verify=trusted) as client:
        answer = await client.get(f"https://localhost:{server.port}/")
    await server.stop()
    assert answer.text == "ok"


async def test_a_certificate_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    server = AdminServer(app, Config(admin_host="0.0.0.0", admin_port=0, tls_cert=missing, tls_key=missing))
    with pytest.raises(OSError, match="admin port"):
        await server.start()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"BREW / HTTP/1.1\r\n\r\n", 405, 405),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400, 1002),
        (b"POST / HTTP/9.9\r\n\r\n", 400, 1002),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, 1002),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 70_000, 431, 413),
        (b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 12_000, 431, 413),
        (b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * (FIELDS_MAX + 1) + b"\r\n", 431, 413),
    ],
)
async def test_what_never_becomes_a_request_is_answered_in_json(sent: bytes, status: int, code: int) -> None:
    server = AdminServer(app, Config(admin_port=0))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    await server.stop()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/json; charset=utf-8" in head
    assert orjson.loads(body)["code"] == code


async def test_requests_that_come_together_begin_a_few_a_turn() -> None:
    begun = 0
    most = 0
    answering = asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await answering.wait()
        await app(scope, receive, send)

    server = AdminServer(waiting, Config(admin_port=0))
    await server.start()
    clients = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(40)]
    for _, writer in clients:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        while begun < len(clients):
            before = begun
            await asyncio.sleep(0)
            most = max(most, begun - before)
    answering.set()
    answers = await asyncio.wait_for(asyncio.gather(*(reader.readline() for reader, _ in clients)), 5)
    for _, writer in clients:
        writer.close()
    await server.stop()
    assert answers == [b"HTTP/1.1 200 OK\r\n"] * len(clients)
    assert 0 < most <= 2 * REQUESTS_A_TURN


async def test_bodies_that_come_together_arrive_whole() -> None:
    async def measuring(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        answer = str(size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": answer})

    server = AdminServer(measuring, Config(admin_port=0))
    await server.start()

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = b""
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
            for _ in range(10):
                writer.write(b"x" * 30_000)
                await writer.drain()
            await reader.readuntil(b"\r\n\r\n")
            body += await reader.readexactly(6)
        writer.close()
        return body

    answers = await asyncio.wait_for(asyncio.gather(*(ask() for _ in range(30))), 20)
    await server.stop()
    assert answers == [b"300000300000"] * 30


async def test_headers_behind_a_body_are_not_kept() -> None:
    """Nobody who has no signature may fill the memory with them."""
    begun, ended = asyncio.Event(), asyncio.Event()
    seen: list[Any] = []

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        begun.set()
        while (message := await receive())["type"] != "http.disconnect":
            if not message["more_body"]:
                break
        ended.set()
        seen.append(message["type"])

    server = AdminServer(waiting, Config(admin_port=0))
    await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nmore: x\r\n")
    await asyncio.wait_for(begun.wait(), 5)
    # The server ends the connection before this comes to its end.
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            writer.write(b"x: %b\r\n" % (b"x" * HEAD_BYTES_MAX))
            await writer.drain()
        writer.write(b"\r\n")
    await asyncio.wait_for(ended.wait(), 5)
    writer.close()
    await server.stop()
    assert seen == [(b"host", b"x"), (b"transfer-encoding", b"chunked"), "http.disconnect"]


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost:", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"])
async def test_a_request_that_does_not_arrive_is_not_waited_for(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.server.REQUEST_S", 0.2)
    ended = asyncio.Event()

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    server = AdminServer(reading, Config(admin_port=0))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    if sent.endswith(b"x"):
        await asyncio.wait_for(ended.wait(), 5)
    writer.close()
    await server.stop()


async def test_a_request_that_has_arrived_is_answered_however_long_that_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.server.REQUEST_S", 0.1)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await app(scope, receive, send)

    server = AdminServer(slow, Config(admin_port=0))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for part in (b"GET / HTTP/1.1\r\n", b"Host: x\r\n\r\n"):
        writer.write(part)
        await asyncio.sleep(0.01)
    assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    await server.stop()
