"""The app's own server, as tests want it: a real HTTP server that writes down what it gets and answers as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any] | None
"""Status and body (JSON, or bytes as they are); None = no answer at all."""


@dataclass
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any

    @property
    def data(self) -> dict[str, Any]:
        """The one object that the envelope tells."""
        assert set(self.body) == {"type", "id", "time", "data"}
        [told] = self.body["data"]
        assert isinstance(told, dict)
        return told

    @property
    def body_list(self) -> list[dict[str, Any]]:
        """The body of an older form that is a list."""
        assert isinstance(self.body, list)
        return self.body


class AppServer:
    """Answers 200 unless told otherwise.

    Attributes:
        requests: all of them, as soon as they are read.
        answer: what to say to a request.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda _: (200, {})
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self) -> None:
        """Opens the port: the one it had before, once it had one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port and every connection."""
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def told(self, kind: str) -> list[Request]:
        """The requests about one type of event."""
        return [
            request for request in self.requests if isinstance(request.body, dict) and request.body.get("type") == kind
        ]

    def answers_by_pass(self, verdict: Callable[[str], Answer]) -> None:
        """Message checks are answered by their content, everything else with 200."""

        def answer(request: Request) -> Answer:
            if request.body["type"] == "direct_channel:pre_messaging":
                return verdict(request.data["content"])
            return 200, {}

        self.answer = answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (request := await self._read(reader)) is not None:
                self.requests.append(request)
                answer = self.answer(request)
                while answer is None:
                    # Until told otherwise, or until the other side has had enough.
                    if reader.at_eof() or writer.transport.is_closing():
                        return
                    await asyncio.sleep(0.01)
                    answer = self.answer(request)
                status, body = answer
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                writer.write(b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        parts = urlsplit(target)
        query = {name: value for name, [value] in parse_qs(parts.query, strict_parsing=True).items()}
        return Request(method, parts.path, query, headers, json.loads(body))


@asynccontextmanager
async def app_server() -> AsyncIterator[AppServer]:
    """One that runs."""
    app = AppServer()
    await app.start()
    try:
        yield app
    finally:
        await app.stop()
