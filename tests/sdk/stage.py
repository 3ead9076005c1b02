"""Where the JavaScript SDK runs in tests: a Node process or a page in Chromium, both given pieces of code to run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson
from playwright.async_api import Browser, Page

from tests.servers import node_binary

SDK = Path(__file__).parents[2] / "gateway" / "sdk"
RUN_S = 20.0
LINE_BYTES_MAX = 1 << 24


class Stage(Protocol):
    """One app. Pieces share the global `app`; `sdk` is the module."""

    async def run(self, code: str) -> Any:
        """Runs a piece as the body of an async function; what it returns, as JSON. What it throws is raised."""


async def until(stage: Stage, expression: str, deadline_s: float = 10.0) -> Any:
    """Waits until an expression is true in the app; its value."""
    late = orjson.dumps(f"not within {deadline_s:g} s: {expression}").decode()
    return await stage.run(f"""
        const deadline = performance.now() + {deadline_s * 1000};
        for (;;) {{
            const value = {expression};
            if (value) return value;
            if (performance.now() > deadline) throw new Error({late});
            await new Promise((resolve) => setTimeout(resolve, 5));
        }}
    """)


class NodeStage:
    """A Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def run(self, code: str) -> Any:
        number = next(self._numbers)
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps({"number": number, "code": code}) + b"\n")
        async with asyncio.timeout(RUN_S):
            answer = await waiting
        assert "error" not in answer, answer["error"]
        return answer["value"]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = orjson.loads(line)
            waiting = self._answers.pop(answer["number"])
            if not waiting.done():
                waiting.set_result(answer)

    async def end(self) -> str:
        """Lets it come to its end by itself, as it does when nothing is left open; what it wrote to stderr."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                complaint = (await self._process.stderr.read()).decode()
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            complaint = "the process did not end: something was left open"
        await self._reading
        return complaint


@asynccontextmanager
async def node_stage(*flags: str, module: Path = SDK / "gateway.js") -> AsyncIterator[NodeStage]:
    """A Node process that has loaded the module; at the end it must end by itself and have nothing to complain of."""
    process = await asyncio.create_subprocess_exec(
        node_binary(),
        *flags,
        str(Path(__file__).with_name("runner.mjs")),
        str(module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
    )
    stage = NodeStage(process)
    try:
        yield stage
        await stage.run("for (const each of Object.values(app)) await each?.close?.()")
    except BaseException:
        process.kill()
        await stage.end()
        raise
    assert await stage.end() == ""


class PageStage:
    """A page in Chromium."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def run(self, code: str) -> Any:
        async with asyncio.timeout(RUN_S):
            return await self.page.evaluate(f"async () => {{ {code} }}")


@asynccontextmanager
async def page_stage(browser: Browser) -> AsyncIterator[PageStage]:
    """A page that has loaded the module and in which no error may go unhandled."""
    context = await browser.new_context()
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    async with _site() as origin:
        await page.goto(origin)
        await page.evaluate("async () => { window.app = {}; window.sdk = await import('/gateway.js'); }")
        yield PageStage(page)
        await context.close()
    assert faults == []


@asynccontextmanager
async def _site() -> AsyncIterator[str]:
    """An app's own web server; its URL. A page must be of this machine, or the browser lets it open no socket to it."""
    files = {"/": ("text/html", "<!doctype html><title>a page</title><link rel=icon href=data:>")}
    files["/gateway.js"] = ("text/javascript", (SDK / "gateway.js").read_text())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        kind, text = files[path]
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nConnection: close\r\n\r\n{text}".encode()
        )
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
