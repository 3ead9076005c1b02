"""The JavaScript SDK against a real node, in Node and in Chromium.

All on one event loop, because one browser serves all tests: it takes longer to start than most of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from gateway.node import Node
from tests.nodes import running_node
from tests.sdk.stage import PageStage, Stage, node_stage, page_stage
from tests.servers import Server, chromium_binary


@pytest_asyncio.fixture(loop_scope="session")
async def node(valkey: Server) -> AsyncIterator[Node]:
    async with running_node(valkey.url, origins=("*",), environment="development") as node:
        yield node


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Chromium's own sandbox cannot be had as root in a container; the only pages that it sees are ours.
        browser = await playwright.chromium.launch(executable_path=chromium_binary(), args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[PageStage]:
    async with page_stage(browser) as page:
        yield page


@pytest_asyncio.fixture(params=["node", "chromium"], loop_scope="session")
async def stage(request: pytest.FixtureRequest, browser: Browser) -> AsyncIterator[Stage]:
    """Each place in turn."""
    if request.param == "node":
        async with node_stage() as stage:
            yield stage
    else:
        async with page_stage(browser) as stage:
            yield stage
