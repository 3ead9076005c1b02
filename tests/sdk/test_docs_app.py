"""The small app of docs/javascript-sdk.md, as it is printed there, in a real browser against a real gateway."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from gateway.node import Node
from tests.cli.processes import Gateway
from tests.nodes import login
from tests.sdk.apps import connected, url
from tests.sdk.stage import PageStage
from tests.servers import node_binary

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGE = Path(__file__).parents[2] / "docs" / "javascript-sdk.md"
START_MS = 20_000


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    [page], (server,) = blocks("html"), (each for each in blocks("js") if "createServer" in each)
    (tmp_path / "chat.html").write_text(page, "utf-8")
    (tmp_path / "server.mjs").write_text(server, "utf-8")
    with Gateway(tmp_path, "--environment", "development") as running:
        yield running


@asynccontextmanager
async def app_server(gateway: Gateway) -> AsyncIterator[str]:
    """The app's own server; its address."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    server = await asyncio.create_subprocess_exec(
        node_binary(),
        "server.mjs",
        f"http://localhost:{gateway.client_port}",
        cwd=gateway.cwd,
        env=os.environ | {"PATH": path, "PORT": "0"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    try:
        async with asyncio.timeout(20):
            address = (await server.stdout.readline()).decode().strip()
        yield address
    finally:
        server.kill()
        await server.wait()


async def write(page: Page, text: str) -> None:
    await page.fill("[name=text]", text)
    await page.click("button")


async def test_two_people_chat_over_a_restart_of_the_gateway(gateway: Gateway, browser: Browser) -> None:
    context = await browser.new_context()
    faults: list[str] = []
    context.on("weberror", lambda fault: faults.append(str(fault.error)))
    context.set_default_timeout(START_MS)
    async with app_server(gateway) as address:
        alice, bob = await context.new_page(), await context.new_page()
        await alice.goto(f"{address}?me=alice&with=bob")
        await expect(alice.locator("#state")).to_have_text("alice: live ", timeout=START_MS)
        await write(alice, "anybody?")
        await expect(alice.locator("li").nth(0)).to_have_text("alice: anybody? (not sent: no such user)")
        await bob.goto(f"{address}?me=bob&with=alice")
        await expect(alice.locator("#other")).to_have_text("bob is online", timeout=START_MS)
        await write(alice, "hello")
        await expect(bob.locator("li").nth(0)).to_have_text("alice: hello")
        await expect(alice.locator("li").nth(1)).to_have_text("alice: hello ✓")
        ports = (gateway.client_port, gateway.admin_port)
        gateway.process.kill()
        gateway.ended()
        await write(alice, "are you still there?")
        with Gateway(gateway.cwd, "--environment", "development", ports=ports) as again:
            # The network is back, as the page sees it: the back-off, which starting a gateway has made long, is over.
            await context.set_offline(True)
            await context.set_offline(False)
            await expect(bob.locator("li").nth(1)).to_have_text("alice: are you still there?", timeout=60_000)
            await bob.reload()
            await expect(bob.locator("#state")).to_have_text("bob: live ", timeout=START_MS)
            await write(alice, "and now?")
            # What was read before the reload does not come again.
            await expect(bob.locator("li").nth(0)).to_have_text("alice: and now?", timeout=START_MS)
            await context.close()
            assert again.stop() == 0
    assert faults == []


async def test_the_other_fragments_run(node: Node, page: PageStage) -> None:
    (fragment,) = (each for each in blocks("js") if "client.watch" in each)
    bob = await login(node, "bob")
    await connected(page, url(node), await node.services.tokens.issue("alice", "Alice"))
    told: list[str] = []
    page.page.on("console", lambda message: told.append(message.text))
    await page.run(f"const {{ client }} = app; {fragment}")
    assert await page.run("return [...await app.client.blocklist.check('mallory')]") == [["mallory", True]]
    assert await page.run("return app.client.users.cached('bob').name") == "Bob"
    await bob.close()
