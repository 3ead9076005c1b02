"""The load test's socket reads frames however the network cuts them, and answers what RFC 6455 wants answered."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from loadtest.wire import FRAME_BYTES_MAX, HEAD_BYTES_MAX, Wire, frame, request

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def pushed(payload: bytes, first: int = 0x81) -> bytes:
    """A server's frame."""
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65_536:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


class Listener:
    """A crowd and a dialect that write down what a wire tells them."""

    def __init__(self) -> None:
        self.now = 0
        self.payloads: list[bytes] = []
        self.ends: list[tuple[int | None, bytes]] = []
        self.opens = 0
        self.gone_ = asyncio.Event()

    def opening(self, wire: Wire) -> bytes:
        return request("127.0.0.1", "/v1/connect")

    def opened(self, wire: Wire) -> None:
        self.opens += 1

    def received(self, wire: Wire, payload: bytes) -> None:
        self.payloads.append(payload)
        if payload.startswith(b"echo "):
            wire.frame(frame(payload[5:]))

    def closing(self, wire: Wire) -> None:
        pass

    def gone(self, wire: Wire) -> None:
        self.ends.append((wire.close_code, wire.close_reason))
        self.gone_.set()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def connected(script: Script) -> AsyncIterator[tuple[Wire, Listener]]:
    """A wire at a server that does what the script says, once it has the opening handshake."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await script(reader, writer)
            writer.close()
            await writer.wait_closed()
            done.set_result(None)
        except Exception as error:
            done.set_exception(error)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listener: Any = Listener()
    host, port = server.sockets[0].getsockname()
    _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire(listener, listener, None, 0), host, port)  # type: ignore[arg-type]
    try:
        yield wire, listener
        await asyncio.wait_for(done, 10)
    finally:
        if wire.transport is not None:
            wire.transport.abort()
        server.close()
        await server.wait_closed()


PAYLOADS = [b"", b"one", b"x" * 125, b"y" * 126, b"z" * 300]
STREAM = ANSWER + b"".join(pushed(payload) for payload in PAYLOADS) + pushed(b"\x03\xe8bye", 0x88)


def test_frames_are_read_wherever_they_are_cut() -> None:
    """Without a network: the same bytes in two pieces."""

    async def feed() -> None:
        for cut in range(len(STREAM)):
            listener: Any = Listener()
            wire = Wire(listener, listener, None, 0)  # type: ignore[arg-type]
            for piece in (STREAM[:cut], STREAM[cut:]):
                wire.data_received(piece)
            assert listener.payloads == PAYLOADS, cut
            assert (wire.close_code, wire.close_reason, listener.opens) == (1000, b"bye", 1), cut

    uvloop.run(feed())


def test_frames_are_read_one_byte_at_a_time() -> None:
    async def feed() -> None:
        listener: Any = Listener()
        wire = Wire(listener, listener, None, 0)  # type: ignore[arg-type]
        whole = STREAM[: -len(pushed(b"\x03\xe8bye", 0x88))] + pushed(b"w" * 70_000)
        for place in range(len(ANSWER)):
            wire.data_received(whole[place : place + 1])
        for place in range(len(ANSWER), len(whole), 7):
            wire.data_received(whole[place : place + 7])
        assert listener.payloads == [*PAYLOADS, b"w" * 70_000]

    uvloop.run(feed())


async def test_pings_are_answered_and_the_answers_of_one_read_go_out_together() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER + pushed(b"echo a") + pushed(b"here?", 0x89) + pushed(b"echo b"))
        expected = frame(b"a") + frame(b"here?", 0x8A) + frame(b"b")
        assert await reader.readexactly(len(expected)) == expected

    async with connected(script) as (_, listener):
        await asyncio.wait_for(listener.gone_.wait(), 10)
    assert listener.payloads == [b"echo a", b"echo b"]


async def test_a_close_is_answered_and_told() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER + pushed(struct.pack("!H", 4505) + b"kicked", 0x88) + pushed(b"too late"))
        expected = frame(struct.pack("!H", 4505), 0x88)
        assert await reader.readexactly(len(expected)) == expected

    async with connected(script) as (_, listener):
        await asyncio.wait_for(listener.gone_.wait(), 10)
    assert listener.ends == [(4505, b"kicked")]
    assert listener.payloads == []


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\nbanned", -403, b"banned"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", None, b"what answers is no HTTP server"),
        (b"HTTP/1.1 " + b"x" * HEAD_BYTES_MAX, None, b"what answers is no HTTP server"),
        (ANSWER + struct.pack("!BBQ", 0x81, 127, FRAME_BYTES_MAX + 1), None, b"the server sent a frame of"),
        (ANSWER + pushed(b"part", 0x01), None, b"the server sent a frame that begins with 0x01"),
    ],
)
async def test_what_cannot_go_on_ends_with_its_reason(said: bytes, code: int | None, reason: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()

    async with connected(script) as (wire, listener):
        await asyncio.wait_for(listener.gone_.wait(), 10)
        assert not await wire.opened
    assert listener.ends[0][0] == code
    assert listener.ends[0][1].startswith(reason)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_clients_frame_says_its_length_and_its_mask(length: int) -> None:
    whole = frame(b"x" * length)
    assert whole.endswith(b"\0\0\0\0" + b"x" * length)
    assert whole[0] == 0x81
    assert whole[1] & 0x80
