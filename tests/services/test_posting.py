"""The lean client against servers of all habits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.services.posting import ANSWER_BYTES_MAX, Address, Broken, Poster

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    poster = Poster()
    yield poster
    poster.close()
    await asyncio.sleep(0)


class Talker:
    """Says one thing after the other, one to a request, each as the pieces given; None ends the connection."""

    def __init__(self, *answers: list[bytes | None]) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                for piece in self.answers.pop(0):
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def talking(talker: Talker) -> AsyncIterator[Address]:
    server = await asyncio.start_server(talker.serve, "127.0.0.1", 0)
    async with server:
        yield Address.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a?b=c")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def test_a_connection_is_kept_for_the_next_request(poster: Poster) -> None:
    talker = Talker([OK], [OK])
    async with talking(talker) as address:
        assert await poster.post(address, "q=1", "X-One: 1\r\n", b"one") == (200, b"hi")
        assert await poster.post(address, "q=2", "", "zw\u00f6lf".encode()) == (200, b"hi")
    assert talker.connections == 1
    assert talker.bodies == [b"one", "zw\u00f6lf".encode()]
    first = talker.heads[0].split(b"\r\n")
    assert first[0] == b"POST /a?b=c&q=1 HTTP/1.1"
    assert first[1].startswith(b"Host: 127.0.0.1:")
    assert first[2:4] == [b"X-One: 1", b"Content-Length: 3"]


async def test_requests_at_the_same_time_have_connections_of_their_own(poster: Poster) -> None:
    talker = Talker(*[[OK]] * 4)
    async with talking(talker) as address:
        await asyncio.gather(*(poster.post(address, "", "", b"") for _ in range(4)))
    assert talker.connections == 4


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", b"1\r\n!\r\n0\r\n\r\n"], (200, b"hi!")),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], (200, b"hi")),
        ([bytes([byte]) for byte in OK], (200, b"hi")),
        ([b"HTTP/1.0 200 OK\r\n\r\nuntil", b" the end", None], (200, b"until the end")),
        ([b"HTTP/1.1 204 None\r\n\r\n"], (204, b"")),
        ([b"HTTP/1.1 301 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"], (301, b"")),
    ],
)
async def test_answers_in_all_their_forms(
    poster: Poster, pieces: list[bytes | None], expected: tuple[int, bytes]
) -> None:
    async with talking(Talker(pieces)) as address:
        assert await poster.post(address, "", "", b"x") == expected


@pytest.mark.parametrize(
    "pieces",
    [
        [None],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi", None],
        [b"HTTP/1.1 200 OK\r\n", None],
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
        [b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b"x" * (ANSWER_BYTES_MAX + 1)],
        [b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * (ANSWER_BYTES_MAX + 1)],
    ],
)
async def test_what_is_no_answer(poster: Poster, pieces: list[bytes | None]) -> None:
    async with talking(Talker(pieces)) as address:
        with pytest.raises(Broken):
            await asyncio.wait_for(poster.post(address, "", "", b"x"), 5)


async def test_a_kept_connection_that_ended_meanwhile_is_made_anew(poster: Poster) -> None:
    talker = Talker([OK], [None], [OK])
    async with talking(talker) as address:
        assert (await poster.post(address, "", "", b"1")).status == 200
        # The server reads the second request and ends the connection, as one does that had just decided to.
        assert (await poster.post(address, "", "", b"2")).status == 200
    assert talker.connections == 2
    assert talker.bodies == [b"1", b"2", b"2"]


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", OK + b"HTTP/1.1 200 OK\r\n"]
)
async def test_a_connection_that_may_not_be_used_again_is_not(poster: Poster, first: bytes) -> None:
    talker = Talker([first], [OK])
    async with talking(talker) as address:
        assert await poster.post(address, "", "", b"1") == (200, b"hi")
        assert await poster.post(address, "", "", b"2") == (200, b"hi")
    assert talker.connections == 2


async def test_who_gives_up_waiting_gets_no_answer_to_another_request(poster: Poster) -> None:
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"late" in head:
            await released.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + (b"late" if b"late" in head else b"soon"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = Address.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await poster.post(address, "late", "", b"")
        released.set()
        assert (await poster.post(address, "soon", "", b"")).body == b"soon"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", ("h", 80, False, "/", "Host: h\r\n")),
        ("https://H.example/p/%C3%A4?x=%26", ("h.example", 443, True, "/p/%C3%A4?x=%26", "Host: h.example\r\n")),
        ("http://[::1]:81/\u00e4 b", ("::1", 81, False, "/%C3%A4%20b", "Host: [::1]:81\r\n")),
        ("https://b\u00fccher.example", ("xn--bcher-kva.example", 443, True, "/", "Host: xn--bcher-kva.example\r\n")),
        ("http://u:p%40@h", ("h", 80, False, "/", "Host: h\r\nAuthorization: Basic dTpwQA==\r\n")),
        # Nothing of a URL becomes a line of its own.
        ("http://h/a\r\nX: y", ("h", 80, False, "/aX:%20y", "Host: h\r\n")),
    ],
)
def test_addresses(url: str, expected: tuple[object, ...]) -> None:
    assert Address.of(url) == expected


@pytest.mark.parametrize("url", ["ftp://h", "h", "http://", "http://h:x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError):
        Address.of(url)
