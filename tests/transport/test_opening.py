"""The opening handshake: plain HTTP, broken requests, Origins, rates and fullness; each with its own clear answer."""

import asyncio
import socket
import time
from contextlib import AsyncExitStack, ExitStack

import pytest
from websockets.datastructures import Headers

from gateway.metrics import METRICS
from gateway.transport.handshake import origin_allowed
from gateway.transport.listener import ACCEPTS_A_TURN, ADDRESS_SLACK, NODE_SLACK
from tests.nodes import login, open_socket
from tests.servers import Server
from tests.transport.asking import ask, get
from tests.transport.conftest import Edge
from tests.transport.wire import PING, TEXT, Ended, Response, frame, raw_socket, upgrade_request
from tests.waiting import eventually


class TestAccepting:
    async def test_a_turn_of_the_loop_takes_several(self, edge: Edge) -> None:
        async with edge() as node:
            with ExitStack() as stack:
                for _ in range(ACCEPTS_A_TURN + 1):
                    # The kernel completes these by itself.
                    stack.enter_context(socket.create_connection(("127.0.0.1", node.listener.port)))
                while not node.listener.connections:
                    await asyncio.sleep(0)
                assert len(node.listener.connections) == ACCEPTS_A_TURN
            await eventually(lambda: not node.listener.connections)

    async def test_nobody_is_taken_any_more(self, edge: Edge) -> None:
        async with edge() as node:
            address = ("127.0.0.1", node.listener.port)
            socket.create_connection(address).close()
            node.listener.stop_accepting()

            def refused() -> bool:
                try:
                    socket.create_connection(address).close()
                except ConnectionRefusedError:
                    return True
                return False

            await eventually(refused)


class TestPlainHttp:
    async def test_health_and_readiness(self, edge: Edge, valkey: Server) -> None:
        async with edge(probe_s=0.1, probe_timeout_s=0.2) as node:
            for path in ("/healthz", "/readyz", "/readyz?verbose"):
                response = await ask(node, get(path))
                assert (response.status, response.json) == (200, {"code": 0})
            valkey.pause()
            assert (await ask(node, get("/healthz"))).status == 200

            async def unready() -> Response | None:
                response = await ask(node, get("/readyz"))
                return response if response.status == 503 else None

            response = await eventually(unready)
            assert (response.json["code"], response.json["reason"]) == (503, "the store is away")
            assert response.headers["retry-after"] == "1"
            valkey.resume()

            async def ready() -> bool:
                return (await ask(node, get("/readyz"))).status == 200

            await eventually(ready)

    async def test_a_draining_node_is_not_ready(self, edge: Edge) -> None:
        async with edge() as node:
            node.drain()
            assert (await ask(node, get("/readyz"))).status == 503
            assert (await ask(node, get("/healthz"))).status == 200
            node.resume()
            assert (await ask(node, get("/readyz"))).status == 200

    async def test_what_is_not_there(self, edge: Edge) -> None:
        async with edge() as node:
            for path in ("/", "/v1", "/v1/connect/", "/v1/connectx", "/v4/user/ban/add", "//v1/connect", "/metrics"):
                response = await ask(node, get(path))
                assert (response.status, response.json["code"]) == (404, 404)
            # The socket path without the slash, asked for by a WebSocket client.
            response = await ask(node, upgrade_request("/v1/sockets"))
            assert response.status == 404
            response = await ask(node, get("/healthz", "POST"))
            assert (response.status, response.headers["allow"]) == (405, "GET")

    async def test_head_has_no_body(self, edge: Edge) -> None:
        async with edge() as node, raw_socket(node) as client:
            client.send(get("/healthz", "HEAD"))
            head = await client.ended()
            assert b"Content-Length: 10" in head
            assert head.endswith(b"\r\n\r\n")


class TestSessions:
    async def test_a_session_is_named_by_letters_and_digits_only(self, edge: Edge) -> None:
        # A command line would take what begins with a dash for a flag.
        async with edge() as node:
            for _ in range(20):
                client = await login(node, "alice")
                assert client.welcome["session"].isalnum()
                await client.close()


class TestBrokenRequests:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n", 400),
            (b"hello\r\n\r\n", 400),
            (b"GET /v1/connect HTTP/2.0\r\n\r\n", 400),
            (b"GET /v1/connect HTTP/1.1\r\nno colon\r\n\r\n", 400),
            (b"GET /v1/c\xc3\xb6nnect HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            (b"POST /v1/connect HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 400),
            (b"POST /v1/connect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400),
            (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 414),
            (b"GET /v1/connect HTTP/1.1\r\nX: " + b"x" * 10_000 + b"\r\n\r\n", 431),
            (b"GET /v1/connect HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
            (upgrade_request().replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
            (upgrade_request().replace(b"GET", b"PUT"), 405),
            (upgrade_request(upgrade=None), 426),
            (upgrade_request(connection=None), 426),
            (upgrade_request(connection="close"), 426),
            (upgrade_request(upgrade="h2c"), 426),
            (upgrade_request(sec_websocket_key=None), 400),
            (upgrade_request(sec_websocket_key="short"), 400),
            (upgrade_request(sec_websocket_version=None), 400),
            (upgrade_request(sec_websocket_version="8"), 400),
        ],
        ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else str(value),
    )
    async def test_it_is_answered_in_json_and_ended(self, edge: Edge, data: bytes, status: int) -> None:
        async with edge() as node:
            response = await ask(node, data)
            assert response.status == status
            assert response.json["code"] == 400
            assert response.json["reason"]
            if status == 426:
                assert response.headers["upgrade"] == "websocket"

    @pytest.mark.parametrize("head", [b"", b"GET /v1/con", upgrade_request()[:-2]], ids=["silence", "line", "headers"])
    async def test_half_a_request_is_given_up_in_time(self, edge: Edge, head: bytes) -> None:
        async with edge(handshake_timeout_s=0.2) as node:
            response = await ask(node, head)
            assert (response.status, response.json["code"]) == (408, 400)
            await eventually(lambda: not node.listener.connections)

    async def test_slow_bytes_do_not_hold_it_open(self, edge: Edge) -> None:
        async with edge(handshake_timeout_s=0.4) as node, raw_socket(node) as client:
            began = time.monotonic()

            async def drip() -> None:
                for byte in upgrade_request() * 10:
                    client.send(bytes([byte]))
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            response = await client.response()
            dripping.cancel()
            assert response.status == 408
            assert time.monotonic() - began < 2.0

    async def test_a_request_in_single_bytes_is_a_request(self, edge: Edge) -> None:
        async with edge() as node, raw_socket(node) as client:
            for byte in upgrade_request():
                client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.response()).status == 101

    @pytest.mark.parametrize(
        "early",
        [
            frame(TEXT, b'{"type":"ping"}'),
            frame(PING, b"x"),
            frame(8, b""),
            b"\x81",
            frame(0, b""),
            frame(TEXT, b"", mask=None),
        ],
        ids=["text", "ping", "close", "half a frame", "wrong frame", "unmasked"],
    )
    @pytest.mark.parametrize("with_token", [False, True], ids=["no token", "token"])
    async def test_bytes_before_the_answer_are_refused(self, edge: Edge, early: bytes, with_token: bool) -> None:
        async with edge() as node:
            token = await node.services.tokens.issue("alice", "Alice") if with_token else None
            response = await ask(node, upgrade_request(token=token) + early)
            assert (response.status, response.json["code"]) == (400, 400)
            assert len(node.hub) == 0

    async def test_bytes_while_the_store_is_asked_are_refused(self, edge: Edge, valkey: Server) -> None:
        async with edge(gap_ms=10_000, lease_s=60) as node, raw_socket(node) as client:
            token = await node.services.tokens.issue("alice", "Alice")
            valkey.pause()
            client.send(upgrade_request(token=token))
            await eventually(lambda: len(node.hub) == 1)
            client.send(frame(PING, b"early"))
            assert (await client.response()).status == 400
            assert len(node.hub) == 0
            valkey.resume()


class TestOrigin:
    @pytest.mark.parametrize(
        ("origin", "origins", "development", "allowed"),
        [
            (None, (), False, True),
            ("https://app.example", (), False, False),
            ("https://gw.example", (), False, True),
            ("http://gw.example", (), False, True),
            ("https://gw.example:444", (), False, False),
            ("https://gw.example.evil", (), False, False),
            ("null", (), False, False),
            ("", (), False, False),
            ("http://[::1", (), False, False),
            ("http://localhost:3000", (), False, False),
            ("http://localhost:3000", (), True, True),
            ("http://127.0.0.1", (), True, True),
            ("https://[::1]:8443", (), True, True),
            ("http://localhost.evil", (), True, False),
            ("http://localhost:3000@evil", (), True, False),
            ("https://app.example", ("https://app.example",), False, True),
            ("https://app.example", ("https://other.example",), False, False),
            ("https://gw.example", ("https://app.example",), False, False),
            ("https://app.example.evil", ("https://app.example",), False, False),
            ("anything", ("*",), False, True),
        ],
    )
    def test_rules(self, origin: str | None, origins: tuple[str, ...], development: bool, allowed: bool) -> None:
        headers = Headers({"Host": "gw.example"} | ({"Origin": origin} if origin is not None else {}))
        assert origin_allowed(headers, origins, development) is allowed

    def test_two_origins_are_none(self) -> None:
        headers = Headers([("Host", "a"), ("Origin", "http://a"), ("Origin", "http://b")])
        assert not origin_allowed(headers, (), False)

    async def test_refused_by_status_or_by_close(self, edge: Edge) -> None:
        async with edge(origins=("https://app.example",)) as node:
            token = await node.services.tokens.issue("alice", "Alice")
            response = await ask(node, upgrade_request(token=token, origin="https://evil.example"))
            assert (response.status, response.json["code"]) == (403, 403)
            for offered in ("gateway.v1", f"gateway.v1, gateway.bearer.{token}"):
                async with raw_socket(node) as client:
                    client.send(upgrade_request(origin="https://evil.example", sec_websocket_protocol=offered))
                    assert (await client.response()).status == 101
                    assert (await client.closed())[0] == 4508
            client = await login(node, "alice", origin="https://app.example")
            await client.close()


class TestAdmissionByNumber:
    async def test_an_address_that_connects_too_fast(self, edge: Edge) -> None:
        async with edge(connect_rate_per_address_s=1, connect_burst_per_address=2) as node:
            token = await node.services.tokens.issue("alice", "Alice")
            sockets = [await open_socket(node, token, "?platform=other") for _ in range(2)]
            response = await ask(node, upgrade_request(token=token))
            assert (response.status, response.json["code"]) == (429, 429)
            assert response.headers["retry-after"] == "1"
            assert response.json["retry_after_ms"] > 0
            async with raw_socket(node) as client:
                client.send(upgrade_request())
                assert (await client.response()).status == 101
                code, reason = await client.closed()
                assert (code, reason["code"]) == (4006, 429)
                assert reason["retry_after_ms"] > 0
            # Health is asked for from the same address as often as one likes.
            for _ in range(5):
                assert (await ask(node, get("/healthz"))).status == 200
            for socket in sockets:
                await socket.close()

    async def test_too_many_connections_of_an_address(self, edge: Edge) -> None:
        async with edge(connections_per_address_max=1) as node, raw_socket(node) as first:
            first.send(upgrade_request())
            assert (await first.response()).status == 101
            response = await ask(node, upgrade_request(token="x"))
            assert (response.status, response.json["code"]) == (429, 429)

    async def test_a_full_node(self, edge: Edge) -> None:
        async with edge(connections_max=1) as node, raw_socket(node) as first:
            first.send(upgrade_request())
            assert (await first.response()).status == 101
            response = await ask(node, upgrade_request(token="x"))
            assert (response.status, response.json["code"]) == (503, 503)
            assert response.headers["retry-after"] == "5"
            async with raw_socket(node) as client:
                client.send(upgrade_request())
                await client.response()
                code, reason = await client.closed()
                assert (code, reason["code"], reason["retry_after_ms"]) == (4006, 503, 5000)

    @pytest.mark.parametrize("limit", ["connections_max", "connections_per_address_max"])
    async def test_who_comes_later_takes_no_place_from_who_has_not_asked_yet(self, edge: Edge, limit: str) -> None:
        async with edge(**{limit: 2}) as node, AsyncExitStack() as stack:
            clients = []
            for number in range(4):
                clients.append(await stack.enter_async_context(raw_socket(node)))
                await eventually(lambda count=number + 1: len(node.listener.connections) == count)
            for client in clients:
                client.send(upgrade_request(token="x"))
            statuses = [(await client.response()).status for client in clients]
            refused = 503 if limit == "connections_max" else 429
            assert statuses == [401, 401, refused, refused]

    @pytest.mark.parametrize(
        ("limit", "slack"), [("connections_max", NODE_SLACK), ("connections_per_address_max", ADDRESS_SLACK)]
    )
    async def test_half_open_connections_are_bounded(self, edge: Edge, limit: str, slack: int) -> None:
        async with edge(**{limit: 1}) as node, AsyncExitStack() as stack:
            for _ in range(slack + 1):
                await stack.enter_async_context(raw_socket(node))
            await eventually(lambda: len(node.listener.connections) == slack + 1)
            refused = METRICS.connections_refused
            async with raw_socket(node) as client:
                assert await client.ended() == b""
            assert METRICS.connections_refused == refused + 1
            await eventually(lambda: len(node.listener.connections) == slack + 1)

    async def test_connections_without_a_request_count_as_connects(self, edge: Edge) -> None:
        async with (
            edge(connect_rate_per_address_s=1, connect_burst_per_address=2) as node,
            raw_socket(node),
            raw_socket(node),
        ):
            await eventually(lambda: len(node.listener.connections) == 2)
            assert (await ask(node, upgrade_request(token="x"))).status == 429

    async def test_a_draining_node(self, edge: Edge) -> None:
        async with edge() as node:
            node.drain()
            response = await ask(node, upgrade_request(token="x"))
            assert (response.status, response.json["code"]) == (503, 503)

    async def test_the_store_is_away(self, edge: Edge, valkey: Server) -> None:
        async with edge(store_timeout_ms=300, probe_s=0.1, probe_timeout_s=0.1) as node:
            token = await node.services.tokens.issue("alice", "Alice")
            valkey.kill()
            await eventually(lambda: node.unready() is not None)
            response = await ask(node, upgrade_request(token=token))
            assert (response.status, response.json["code"]) == (503, 503)
            assert int(response.headers["retry-after"]) >= 1
            async with raw_socket(node) as client:
                client.send(upgrade_request())
                await client.response()
                client.text({"type": "auth", "token": token})
                code, reason = await client.closed()
                assert (code, reason["code"]) == (4006, 503)
            valkey.restart()

    async def test_a_store_that_does_not_answer_is_a_503_in_time(self, edge: Edge, valkey: Server) -> None:
        async with edge(store_timeout_ms=60_000, handshake_timeout_s=0.3, probe_s=60) as node:
            token = await node.services.tokens.issue("alice", "Alice")
            valkey.pause()
            response = await ask(node, upgrade_request(token=token))
            assert (response.status, response.json["code"]) == (503, 503)
            assert len(node.hub) == 0
            valkey.resume()


async def test_a_client_that_leaves_before_the_answer_leaves_nothing(edge: Edge, valkey: Server) -> None:
    async with edge(gap_ms=10_000, lease_s=60) as node:
        token = await node.services.tokens.issue("alice", "Alice")
        valkey.pause()
        async with raw_socket(node) as client:
            client.send(upgrade_request(token=token))
            await eventually(lambda: len(node.hub) == 1)
        await eventually(lambda: not node.listener.connections)
        valkey.resume()

        async def offline() -> bool:
            return not await node.services.presence.online("alice")

        await eventually(offline)
        assert len(node.hub) == 0


async def test_a_peer_that_resets_is_forgotten(edge: Edge) -> None:
    async with edge() as node:
        async with raw_socket(node) as client:
            client.send(b"GET /")
            await eventually(lambda: len(node.listener.connections) == 1)
        await eventually(lambda: not node.listener.connections)
        with pytest.raises(Ended):
            await client.response()
