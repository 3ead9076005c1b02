"""Files on the client port: what a browser needs to run them, to keep them, and to ask whether they changed."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.metrics import METRICS
from gateway.transport import files
from gateway.transport.files import FOR_ANY_PAGE, File
from tests.certificates import self_signed
from tests.transport.asking import ask, get
from tests.transport.conftest import Edge
from tests.transport.wire import raw_socket
from tests.waiting import eventually

SDK = Path(files.PACKAGE / "sdk")
SDK_BYTES_MAX = 512 * 1024


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gateway.js", "text/javascript; charset=utf-8"), ("gateway.d.ts", "application/typescript; charset=utf-8")],
)
class TestSdk:
    @pytest.mark.parametrize("environment", ["production", "development"])
    async def test_it_is_served_to_pages_of_any_origin(
        self, edge: Edge, name: str, kind: str, environment: str
    ) -> None:
        async with edge(environment=environment) as node:
            response = await ask(node, get(f"/sdk/{name}", Host="gateway.example", Origin="https://app.example"))
            again = await ask(node, get(f"/sdk/{name}?v=2"))
        assert (response.status, response.body) == (200, (SDK / name).read_bytes())
        assert again.body == response.body
        assert response.headers["content-type"] == kind
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers["cross-origin-resource-policy"] == "cross-origin"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-cache"

    async def test_it_is_not_sent_again_where_it_is_known(self, edge: Edge, name: str, kind: str) -> None:
        async with edge() as node:
            tag = (await ask(node, get(f"/sdk/{name}"))).headers["etag"]
            for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                response = await ask(node, get(f"/sdk/{name}", If_None_Match=known))
                assert (response.status, response.body) == (304, b"")
                assert response.headers["etag"] == tag
                assert "content-length" not in response.headers
                assert "content-type" not in response.headers
            for unknown in ('"other"', tag.strip('"'), ""):
                assert (await ask(node, get(f"/sdk/{name}", If_None_Match=unknown))).status == 200

    async def test_head_has_no_body(self, edge: Edge, name: str, kind: str) -> None:
        async with edge() as node, raw_socket(node) as client:
            client.send(get(f"/sdk/{name}", "HEAD"))
            head = await client.ended()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert f"Content-Length: {(SDK / name).stat().st_size}\r\n".encode() in head
        assert head.endswith(b"\r\n\r\n")

    async def test_other_methods_are_refused(self, edge: Edge, name: str, kind: str) -> None:
        async with edge() as node:
            for method in ("POST", "OPTIONS", "DELETE"):
                response = await ask(node, get(f"/sdk/{name}", method))
                assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")

    def test_it_is_small(self, name: str, kind: str) -> None:
        assert (SDK / name).stat().st_size < SDK_BYTES_MAX


class TestPaths:
    async def test_only_files_that_are_listed_are_served(self, edge: Edge) -> None:
        async with edge() as node:
            for path in (
                "/sdk",
                "/sdk/",
                "/sdk/package.json",
                "/sdk/../sdk/gateway.js",
                "/sdk/%67ateway.js",
                "//sdk/gateway.js",
                "/sdk/gateway.js/",
                "/SDK/gateway.js",
            ):
                response = await ask(node, get(path))
                assert (response.status, response.json["code"]) == (404, 404), path


class TestLimits:
    async def test_files_count_against_the_rate_of_an_address(self, edge: Edge) -> None:
        async with edge(connect_rate_per_address_s=1, connect_burst_per_address=2) as node:
            statuses = [(await ask(node, get("/sdk/gateway.js"))).status for _ in range(2)]
            counted = METRICS.connections_refused
            refused = await ask(node, get("/sdk/gateway.js"))
            assert METRICS.connections_refused == counted + 1
            assert statuses == [200, 200]
            assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (429, 429, "1")
            assert (await ask(node, get("/healthz"))).status == 200

    async def test_a_full_node_serves_none(self, edge: Edge) -> None:
        async with edge(connections_max=1) as node, raw_socket(node):
            response = await ask(node, get("/sdk/gateway.js"))
            assert (response.status, response.headers["retry-after"]) == (503, "5")

    async def test_a_draining_node_serves_them(self, edge: Edge) -> None:
        async with edge() as node:
            node.drain()
            assert (await ask(node, get("/sdk/gateway.js"))).status == 200

    async def test_what_follows_the_request_is_not_read(self, edge: Edge) -> None:
        async with edge() as node, raw_socket(node) as client:
            client.send(get("/healthz") + get("/sdk/gateway.js"))
            assert (await client.response()).json == {"code": 0}
            assert await client.ended() == b""

    @pytest.mark.parametrize("encrypted", [False, True])
    async def test_a_slow_link_gets_the_whole_file(self, edge: Edge, tmp_path: Path, encrypted: bool) -> None:
        # More than the kernel takes at once: the rest waits in this process when other connections would be aborted.
        large = tmp_path / "large.js"
        large.write_bytes(b"0123456789abcdef" * 2**20)
        settings: dict[str, Any] = {"close_linger_ms": 20}
        trusting = None
        if encrypted:
            settings["tls_cert"], settings["tls_key"] = self_signed(tmp_path)
            trusting = ssl.create_default_context(cafile=settings["tls_cert"])
        async with edge(**settings) as node, raw_socket(node, receive_buffer=4096, tls=trusting) as client:
            node.listener.sdk = {"/sdk/large.js": File(large, FOR_ANY_PAGE)}
            client.send(get("/sdk/large.js"))
            started = node.clock.now()
            await eventually(lambda: node.clock.now() > started + 0.2)
            assert len((await client.response()).body) == large.stat().st_size

    async def test_who_does_not_take_it_is_not_waited_for(self, edge: Edge, tmp_path: Path) -> None:
        large = tmp_path / "large.js"
        large.write_bytes(b"0123456789abcdef" * 2**20)
        async with edge(close_linger_ms=20, outbound_age_max_s=0.2) as node:
            node.listener.sdk = {"/sdk/large.js": File(large, FOR_ANY_PAGE)}
            async with raw_socket(node, receive_buffer=4096) as client:
                client.send(get("/sdk/large.js"))
                await eventually(lambda: len(node.listener.connections) == 1)
                await eventually(lambda: not node.listener.connections)
