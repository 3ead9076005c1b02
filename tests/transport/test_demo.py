"""The demo's gate: this machine, environment development, its own page, its own people; and its acts."""

from __future__ import annotations

import re
import socket
from contextlib import AsyncExitStack
from functools import partial

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from gateway.transport.demo import ACTS_MAX, PEOPLE, Demo
from tests.nodes import login, open_socket
from tests.servers import Server
from tests.transport.asking import ask, get
from tests.transport.conftest import Edge
from tests.transport.wire import Response, raw_socket
from tests.waiting import eventually

ACTS = ("token", "kick", "ban", "unban")
BY_PAGE = partial(get, X_Gateway_Demo="1")


@pytest.fixture
def demo(edge: Edge) -> Edge:
    return partial(edge, environment="development")


def own_addresses() -> list[str]:
    """This machine's addresses: one that is not loopback is as far away as a machine can be from itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ["127.0.0.1"]
        return ["127.0.0.1", probe.getsockname()[0]]


class TestGate:
    async def test_production_has_none(self, edge: Edge) -> None:
        async with edge() as node:
            for path in ("/demo", "/demo/", "/demo/demo.js", "/demo/token?user=alice"):
                response = await ask(node, BY_PAGE(path))
                assert (response.status, response.json["reason"]) == (404, "sockets are at /v1/connect")

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "LOCALHOST"]
    )
    async def test_this_machine_by_its_own_names(self, demo: Edge, host: str) -> None:
        async with demo() as node:
            assert (await ask(node, get("/demo", Host=host))).status == 200

    @pytest.mark.parametrize(
        "host",
        ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "evil.example@localhost",
         "localhost:8080:1", "localhost, evil.example", "10.0.0.7", "localhost."],
    )  # fmt: skip
    async def test_a_foreign_name_that_leads_here(self, demo: Edge, host: str) -> None:
        async with demo() as node:
            for path in ("/demo", "/demo/demo.js", "/demo/token?user=alice"):
                assert (await ask(node, BY_PAGE(path, Host=host))).status == 403

    async def test_two_hosts_are_none(self, demo: Edge) -> None:
        async with demo() as node:
            data = b"GET /demo HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
            assert (await ask(node, data)).status == 403

    @pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "x-real-ip"])
    async def test_a_proxy_on_this_machine_lends_its_address_to_nobody(self, demo: Edge, header: str) -> None:
        async with demo() as node:
            assert (await ask(node, BY_PAGE("/demo/token?user=alice", **{header: "203.0.113.9"}))).status == 403

    @pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"])
    async def test_another_machine(self, demo: Edge, address: str) -> None:
        async with demo() as node:
            page = Demo(node.services, lambda act: pytest.fail(f"{act} is under way"))
            request = Request("/demo/token?user=alice", Headers({"Host": "localhost", "X-Gateway-Demo": "1"}))
            answer = page.answer(request, address, lambda _: None)
            assert answer is not None
            assert answer.status == 403

    async def test_another_address_of_this_machine(self, demo: Edge) -> None:
        async with demo(client_host="0.0.0.0") as node:
            for own in own_addresses():
                async with raw_socket(node, host=own) as client:
                    client.send(BY_PAGE("/demo/token?user=alice"))
                    status = (await client.response()).status
                assert status == (200 if own == "127.0.0.1" else 403), own

    @pytest.mark.parametrize("act", ACTS)
    async def test_acts_are_for_the_demos_own_page(self, demo: Edge, act: str) -> None:
        async with demo() as node:
            refused = await ask(node, get(f"/demo/{act}?user=alice", Origin="http://localhost:3000"))
            assert refused.status == 403
            assert "access-control-allow-origin" not in refused.headers
            # A browser asks first whether another origin may send that header: it may not.
            asked = await ask(
                node, get(f"/demo/{act}?user=alice", "OPTIONS", Access_Control_Request_Headers="x-gateway-demo")
            )
            assert asked.status == 405
            assert "access-control-allow-headers" not in asked.headers
            assert (await ask(node, BY_PAGE(f"/demo/{act}?user=alice", "DELETE"))).status == 405
            async with raw_socket(node) as client:
                client.send(BY_PAGE(f"/demo/{act}?user=alice", "HEAD"))
                assert (await client.ended()).startswith(b"HTTP/1.1 405 ")

    @pytest.mark.parametrize("act", ACTS)
    @pytest.mark.parametrize("user", ["", "erin", "alice%0abob", "Alice", "alice,bob"])
    async def test_acts_are_for_the_demos_people(self, demo: Edge, act: str, user: str) -> None:
        async with demo() as node:
            response = await ask(node, BY_PAGE(f"/demo/{act}?user={user}"))
            assert (response.status, response.json["reason"]) == (400, f"user must be one of {', '.join(PEOPLE)}")

    async def test_what_is_not_there(self, demo: Edge) -> None:
        async with demo() as node:
            for path in ("/demo/index.html", "/demo/../credentials.json", "/demo/demo", "/demo//token?user=alice"):
                assert (await ask(node, BY_PAGE(path))).status == 404
            assert (await ask(node, BY_PAGE("/demonstration"))).status == 404


class TestPage:
    async def test_nothing_runs_in_it_but_its_own_files(self, demo: Edge) -> None:
        async with demo() as node:
            page = await ask(node, get("/demo"))
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert "access-control-allow-origin" not in page.headers
            assert page.headers["cross-origin-resource-policy"] == "same-origin"
            text = page.body.decode()
            assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", text)
            named = re.findall(r'(?:src|href)="(/[^"]*)"', text)
            assert "/demo/demo.js" in named
            for path in named:
                assert (await ask(node, get(path))).status == 200

    async def test_scripts_import_only_what_is_served(self, demo: Edge) -> None:
        async with demo() as node:
            wanted, seen = ["/demo/demo.js"], set[str]()
            while wanted:
                path = wanted.pop()
                seen.add(path)
                script = await ask(node, get(path))
                assert (script.status, script.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
                imported = re.findall(r"^import [^']*'([^']+)';$", script.body.decode(), re.MULTILINE)
                wanted += [each for each in imported if each not in seen]
            assert "/sdk/gateway.js" in seen


class TestActs:
    async def test_a_token_opens_the_account_of_who_is_played(self, demo: Edge) -> None:
        async with demo() as node:
            response = await ask(node, BY_PAGE("/demo/token?user=alice"))
            assert (response.status, response.headers["cache-control"]) == (200, "no-store")
            client = await login(node, "alice", token=response.json["token"])
            assert client.welcome["user"] == "alice"
            assert client.welcome["token_expires_at"] is not None
            await client.close()

    async def test_kick_ban_and_unban(self, demo: Edge) -> None:
        async with demo() as node:

            async def act(name: str) -> Response:
                return await ask(node, BY_PAGE(f"/demo/{name}?user=bob"))

            token = (await act("token")).json["token"]
            client = await login(node, "bob", token=token)
            assert (await act("kick")).json["sessions_closed"] == 1
            assert (await client.closed())[0] == 4505
            client = await login(node, "bob", token=token)
            assert (await act("ban")).json["sessions_closed"] == 1
            code, reason = await client.closed()
            assert code == 4502
            assert reason["until"] > node.clock.wall_ms()
            assert (await act("unban")).json == {"lifted": 1}
            assert (await act("unban")).json == {"lifted": 0}
            await (await open_socket(node, token)).close()

    async def test_the_store_is_away(self, demo: Edge, valkey: Server) -> None:
        async with demo(probe_s=0.1, probe_timeout_s=0.2) as node:
            valkey.kill()
            await eventually(lambda: node.bus.fault)
            response = await ask(node, BY_PAGE("/demo/token?user=alice"))
            assert (response.status, response.json["reason"]) == (503, "the store is away")

    async def test_acts_at_the_same_time_are_bounded(self, demo: Edge, valkey: Server) -> None:
        async with demo(store_timeout_ms=1000, probe_s=300.0) as node:
            valkey.pause()
            try:
                async with AsyncExitStack() as stack:
                    waiting = [await stack.enter_async_context(raw_socket(node)) for _ in range(ACTS_MAX)]
                    for each in waiting:
                        each.send(BY_PAGE("/demo/token?user=alice"))
                    await eventually(lambda: len(node.context.background.running) >= ACTS_MAX)
                    refused = await ask(node, BY_PAGE("/demo/token?user=alice"))
                    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
                    valkey.resume()
                    assert {(await each.response()).status for each in waiting} <= {200, 503, 504}
            finally:
                valkey.resume()
            assert (await ask(node, BY_PAGE("/demo/token?user=alice"))).status == 200
