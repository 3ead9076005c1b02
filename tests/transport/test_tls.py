"""TLS by certificate and key files."""

import asyncio
import ssl
import struct
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.certificates import self_signed
from tests.servers import Server
from tests.transport.conftest import Edge
from tests.transport.wire import CLOSE, RawSocket, frame, raw_socket, upgrade_request
from tests.waiting import eventually


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


async def test_a_client_that_trusts_the_certificate_connects(edge: Edge, files: tuple[Path, Path]) -> None:
    certificate, key = files
    async with edge(tls_cert=certificate, tls_key=key) as node:
        token = await node.services.tokens.issue("alice", "Alice")
        trusting = ssl.create_default_context(cafile=str(certificate))
        uri = f"wss://127.0.0.1:{node.listener.port}/v1/connect"
        async with connect(
            uri, ssl=trusting, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None, compression=None
        ) as socket:
            assert '"welcome"' in str(await socket.recv())
            kicked = asyncio.create_task(node.services.control.kick(users=["alice"]))
            async with asyncio.timeout(5):
                await socket.wait_closed()
            assert socket.close_code == 4505
            assert (await kicked).sessions_closed == 1
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(uri, ssl=ssl.create_default_context(), proxy=None)


async def test_a_close_over_tls_waits_for_its_answer(edge: Edge, files: tuple[Path, Path]) -> None:
    certificate, key = files
    trusted = ssl.create_default_context(cafile=certificate)
    async with edge(tls_cert=certificate, tls_key=key, close_linger_ms=60_000) as node:
        token = await node.services.tokens.issue("alice", "Alice")
        async with raw_socket(node, tls=trusted) as client:
            client.send(upgrade_request(token=token))
            assert (await client.response()).status == 101
            await client.message("welcome")
            await node.services.control.kick(users=["alice"], reason="enough")
            assert (await client.closed())[0] == 4505
            client.send(frame(CLOSE, struct.pack("!H", 4505)))
            assert await client.ended() == b""
            await eventually(lambda: not node.listener.connections)


async def test_http_answers_come_whole_over_tls(edge: Edge, files: tuple[Path, Path]) -> None:
    certificate, key = files
    async with edge(tls_cert=certificate, tls_key=key) as node:
        for data, status in (
            (b"GET /healthz HTTP/1.1\r\n\r\n", 200),
            (upgrade_request(token="x"), 401),
            (b"\n\n", 400),
        ):
            trusting = ssl.create_default_context(cafile=str(certificate))
            reader, writer = await asyncio.open_connection("127.0.0.1", node.listener.port, ssl=trusting)
            client = RawSocket(reader, writer)
            client.send(data)
            assert (await client.response()).status == status
            assert await client.ended() == b""
            writer.close()


async def test_one_that_speaks_no_tls_or_nothing_is_given_up(
    edge: Edge, files: tuple[Path, Path], valkey: Server
) -> None:
    certificate, key = files
    async with edge(tls_cert=certificate, tls_key=key, handshake_timeout_s=0.3) as node:
        async with raw_socket(node) as plain, raw_socket(node) as silent:
            plain.send(upgrade_request())
            await plain.ended()
            await silent.ended()
        await eventually(lambda: not node.listener.connections)
