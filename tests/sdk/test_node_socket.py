"""The small WebSocket client for Node, held against peers that speak RFC 6455 well, badly, or not at all."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from tests.sdk.stage import SDK, NodeStage, node_stage, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="session")
async def stage() -> AsyncIterator[NodeStage]:
    async with node_stage(module=SDK / "node-socket.js") as stage:
        yield stage


@asynccontextmanager
async def served(peer: Peer) -> AsyncIterator[str]:
    """A server whose one connection does what `peer` does after the request was read; its URL."""
    faults: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                await peer(reader, writer)
        except BaseException as fault:
            faults.append(fault)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert faults == []


async def open_socket(stage: NodeStage, url: str) -> None:
    await stage.run(f"""
        const socket = app.socket = new sdk.NodeSocket({json.dumps(url)}, ['one', 'two']);
        app.got = [];
        app.ended = null;
        socket.onopen = () => app.got.push('open');
        socket.onmessage = (event) => app.got.push(event.data);
        socket.onclose = ({{ code, reason, status }}) => {{ app.ended = [code, reason, status]; }};
    """)


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, more: bytes = b"", **wrong: str) -> None:
    """Reads the request, judges it, and answers it."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    asked = {name.lower(): value for name, value in lines.items()}
    assert asked["upgrade"] == "websocket"
    assert asked["sec-websocket-version"] == "13"
    assert asked["sec-websocket-protocol"] == "one, two"
    key = asked["sec-websocket-key"]
    assert len(base64.b64decode(key)) == 16
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    answer = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept} | {
        name.replace("_", "-"): value for name, value in wrong.items()
    }
    text = "".join(f"{name}: {value}\r\n" for name, value in answer.items())
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{text}\r\n".encode() + more)


def frame(opcode: int, body: bytes, final: bool = True, flags: int = 0) -> bytes:
    """One frame of a server."""
    size = len(body)
    length = (
        bytes([size])
        if size < 126
        else struct.pack(">BH", 126, size)
        if size < 65536
        else struct.pack(">BQ", 127, size)
    )
    return bytes([(0x80 if final else 0) | flags | opcode]) + length + body


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(opcode, body) of one frame of the client, which must be whole and masked."""
    first, second = await reader.readexactly(2)
    assert first & 0xF0 == 0x80
    assert second & 0x80
    size = second & 0x7F
    if size == 126:
        [size] = struct.unpack(">H", await reader.readexactly(2))
    elif size == 127:
        [size] = struct.unpack(">Q", await reader.readexactly(8))
    mask = await reader.readexactly(4)
    masked = await reader.readexactly(size)
    return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))


async def test_frames_arrive_however_they_are_cut(stage: NodeStage) -> None:
    texts = ["", "a", "é" * 100, "x" * 125, "x" * 126, "x" * 65535, "x" * 65536, "👋" * 30000]
    stream = b"".join(frame(1, text.encode()) for text in texts)
    waving = "👋".encode()
    # In fragments, cut within a character, with a ping between them.
    stream += frame(1, waving[:1], final=False) + frame(9, b"there?") + frame(0, waving[1:3], final=False)
    stream += frame(0, waving[3:])

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The first bytes come along with the answer to the upgrade, the rest in odd pieces.
        await upgrade(reader, writer, stream[:3], Sec_WebSocket_Protocol="two")
        at, piece = 3, 1
        while at < len(stream):
            writer.write(stream[at : at + piece])
            await writer.drain()
            at, piece = at + piece, min(piece * 3, 40_000)
            await asyncio.sleep(0)
        assert await read_frame(reader) == (10, b"there?")
        writer.write(frame(8, struct.pack(">H", 4505) + "außer Haus".encode()))
        assert await read_frame(reader) == (8, struct.pack(">H", 4505))
        assert await reader.read() == b""

    async with served(peer) as url:
        await open_socket(stage, url)
        await until(stage, "app.ended")
    assert await stage.run("return app.got") == ["open", *texts, "👋"]
    assert await stage.run("return app.ended") == [4505, "außer Haus", None]


async def test_what_it_sends_is_masked_and_of_every_length(stage: NodeStage) -> None:
    sizes = [0, 1, 125, 126, 65535, 65536, 200_000]

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        for size in sizes:
            assert await read_frame(reader) == (1, b"x" * size)
        assert await read_frame(reader) == (8, struct.pack(">H", 1000) + b"bye")
        writer.write(frame(8, struct.pack(">H", 1000)))

    async with served(peer) as url:
        await open_socket(stage, url)
        await until(stage, "app.got.length === 1")
        await stage.run(
            f"for (const size of {sizes}) app.socket.send('x'.repeat(size)); app.socket.close(1000, 'bye');"
        )
        await until(stage, "app.ended")
    # After its own close frame the app hears no more than that it is over.
    assert await stage.run("return app.socket.readyState") == 3


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (frame(1, b"\xff\xfe"), 1007),
        (frame(2, b"\x00"), 1003),
        (frame(3, b""), 1002),
        (frame(1, b"x", flags=0x40), 1002),
        (frame(0, b"x"), 1002),
        (frame(1, b"x", final=False) + frame(1, b"y"), 1002),
        (frame(9, b"x", final=False), 1002),
        (b"\x89\x7e\x00\x7e" + b"x" * 126, 1002),
        (b"\x81\x81\x00\x00\x00\x00x", 1002),
        (b"\x81\x7f" + struct.pack(">Q", 1 << 40), 1009),
        (frame(1, b"x" * 60_000, final=False) + b"\x80\x7f" + struct.pack(">Q", (64 << 20) - 50_000), 1009),
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_told_so(stage: NodeStage, sent: bytes, said: int) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer, sent)
        assert await read_frame(reader) == (8, struct.pack(">H", said))

    async with served(peer) as url:
        await open_socket(stage, url)
        await until(stage, "app.ended")
    assert (await stage.run("return app.ended"))[0] == 1006
    assert await stage.run("return app.got") == ["open"]


@pytest.mark.parametrize("wrong", [{"Sec_WebSocket_Accept": "x"}, {"Sec_WebSocket_Protocol": "three"}])
async def test_an_answer_to_another_question_opens_nothing(stage: NodeStage, wrong: dict[str, str]) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer, **wrong)
        assert await reader.read() == b""

    async with served(peer) as url:
        await open_socket(stage, url)
        await until(stage, "app.ended")
    assert await stage.run("return [app.got, app.ended[0]]") == [[], 1006]


async def test_a_refusal_tells_its_status_and_why(stage: NodeStage) -> None:
    body = '{"code":31009,"reason":"banned"}'

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    async with served(peer) as url:
        await open_socket(stage, url)
        await until(stage, "app.ended")
    assert await stage.run("return app.ended") == [1006, body, 403]


@pytest.mark.parametrize(("status", "stops"), [(401, True), (403, True), (404, True), (429, False), (503, False)])
async def test_the_client_heeds_the_status_of_a_refusal(status: int, stops: bool) -> None:
    """As a proxy in front of the gateway may answer; the gateway itself says all by close codes."""
    asked: list[int] = []
    body = {401: '{"code":31020,"reason":"late"}', 403: '{"code":31009,"reason":"banned","until":5}'}.get(status, "no")

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(status)
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    async with served(peer) as url, node_stage() as stage:
        failed: Any = await stage.run(f"""
            const client = app.client = new sdk.Client('{url}', {{ token: 'x', connectS: 1 }});
            const why = await client.connect().catch((error) => error);
            return [why.name, why.closeCode ?? null, why.until ?? null];
        """)
    expected = {401: ["TokenExpired", 4501, None], 403: ["Banned", 4502, 5], 404: ["Stopped", 404, None]}
    assert failed == expected.get(status, ["Unreachable", None, None])
    assert (len(asked) == 1) is stops
