"""The demo page in a real browser: two people in two windows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from gateway.node import Node
from tests.nodes import running_node
from tests.servers import Server, chromium_binary, free_ports
from tests.waiting import eventually

# One browser for all tests: it takes longer to start than most of them.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SMUGGLED = "<img src=x onerror=\"document.title='smuggled'\">"


class Windows:
    """Windows of one browser, each with one person's page of the demo; `faults` is what the browser complained of."""

    def __init__(self, context: BrowserContext, node: Node) -> None:
        self.context = context
        self.gateway = f"http://localhost:{node.listener.port}"
        self.address = f"{self.gateway}/demo"
        self.faults: list[str] = []

    async def open(self, user: str) -> Page:
        """A window in which that person is connected."""
        page = await self.context.new_page()
        await page.goto(f"{self.address}?user={user}")
        await connected(page)
        return page


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Chromium's own sandbox cannot be had as root in a container; the only page that it sees is ours.
        browser = await playwright.chromium.launch(executable_path=chromium_binary(), args=["--no-sandbox"])
        yield browser
        await browser.close()


def serving(store: Server, port: int = 0) -> AbstractAsyncContextManager[Node]:
    return running_node(store.url, environment="development", reconnect_spread_ms=100, client_port=port)


@pytest_asyncio.fixture(loop_scope="module")
async def node(valkey: Server) -> AsyncIterator[Node]:
    async with serving(valkey) as node:
        yield node


@pytest_asyncio.fixture(loop_scope="module")
async def windows(browser: Browser, node: Node) -> AsyncIterator[Windows]:
    """Windows in which nothing may go wrong, least of all against the page's policy."""
    context = await browser.new_context()
    context.set_default_timeout(10_000)
    windows = Windows(context, node)
    faults = windows.faults
    context.on("weberror", lambda fault: faults.append(str(fault.error)))
    context.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    yield windows
    await context.close()
    assert faults == []


async def connected(page: Page) -> None:
    await expect(page.locator("#state")).to_have_text("Connected")


async def write(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.press("#text", "Enter")


async def shows(page: Page, *texts: str) -> None:
    """Waits until these are the messages on the page, no more and no fewer, in this order."""
    await expect(page.locator(".message p")).to_have_text(list(texts))


async def test_two_people_chat_and_see_each_other_come_and_go(windows: Windows) -> None:
    alice = await windows.open("alice")
    bob_there = alice.locator("#people a[data-user=bob]")
    await expect(bob_there).to_have_attribute("data-online", "false")
    await write(alice, "are you there?")
    await expect(alice.locator(".mine small")).to_contain_text("waits for them")

    bob = await windows.open("bob")
    await expect(bob_there).to_have_attribute("data-online", "true")
    await expect(bob.locator("#people a[data-user=alice]")).to_have_attribute("data-online", "true")
    await shows(bob, "are you there?")
    await expect(bob.locator(".message small")).to_contain_text("waited for you")

    await bob.locator("#text").press_sequentially("ye")
    await expect(alice.locator("#typing")).to_have_text("Bob is typing …")
    await write(bob, "yes")
    await expect(bob.locator(".mine small")).to_contain_text("stored, they are online")
    await shows(alice, "are you there?", "yes")
    await expect(alice.locator("#typing")).to_have_text("")

    # What somebody writes is text, whatever it looks like.
    await write(alice, SMUGGLED)
    await shows(bob, "are you there?", "yes", SMUGGLED)
    assert await bob.title() == "Bob · Gateway demo"

    await bob.close()
    await expect(bob_there).to_have_attribute("data-online", "false")
    await expect(alice.locator("#events")).to_contain_text("Bob is offline")


async def test_who_is_blocked_is_told_so(windows: Windows) -> None:
    alice, bob = await windows.open("alice"), await windows.open("bob")
    await alice.get_by_role("button", name="Block Bob", exact=True).click()
    await expect(alice.locator("#block")).to_have_text("Unblock Bob")
    await write(bob, "refused")
    await expect(bob.locator(".failed small")).to_have_text("not sent: Alice has blocked you")
    # The page asks for it again.
    await alice.reload()
    await expect(alice.locator("#block")).to_have_text("Unblock Bob")
    await alice.locator("#block").click()
    await expect(alice.locator("#block")).to_have_text("Block Bob")
    await write(bob, "taken")
    await shows(alice, "taken")


async def test_who_is_kicked_stays_out_until_he_asks(windows: Windows, node: Node) -> None:
    alice, bob = await windows.open("alice"), await windows.open("bob")
    await alice.get_by_role("button", name="Kick Bob").click()
    await expect(bob.locator("#notice")).to_contain_text("You were kicked by an admin")
    await expect(bob.locator("#state")).to_have_text("Not connected")
    await expect(alice.locator("#events")).to_contain_text("Bob is kicked: 1 session closed in")
    await expect(alice.locator("#events")).to_contain_text("Bob is offline")
    await write(alice, "gone?")
    await expect(alice.locator(".mine small")).to_contain_text("waits for them")
    assert [session.user for session in node.hub] == ["alice"]
    await bob.get_by_role("button", name="Connect again").click()
    await connected(bob)
    await expect(bob.locator("#notice")).to_be_hidden()
    await shows(bob, "gone?")


async def test_who_is_banned_cannot_come_before_it_is_lifted(windows: Windows) -> None:
    alice, bob = await windows.open("alice"), await windows.open("bob")
    await alice.get_by_role("button", name="Ban Bob for a minute").click()
    await expect(bob.locator("#notice")).to_contain_text("You are banned until")
    await bob.get_by_role("button", name="Connect again").click()
    await expect(bob.locator("#events li")).to_contain_text(["banned until", "banned until", "Connected"])
    await expect(bob.locator("#text")).to_be_disabled()
    await alice.get_by_role("button", name="Unban Bob").click()
    await expect(alice.locator("#events")).to_contain_text("Bob is free to come again")
    await bob.get_by_role("button", name="Connect again").click()
    await connected(bob)


async def test_nothing_is_missing_after_a_while_away(windows: Windows) -> None:
    alice, bob = await windows.open("alice"), await windows.open("bob")
    await write(alice, "one")
    await shows(bob, "one")
    await bob.get_by_role("button", name="Go away").click()
    await expect(bob.locator("#state")).to_have_text("Not connected")
    await write(alice, "two")
    await expect(alice.locator(".mine small").nth(1)).to_contain_text("waits for them")
    await bob.get_by_role("button", name="Come back").click()
    await shows(bob, "one", "two")
    await expect(bob.locator("#events li").first).to_contain_text("nothing is missing (recovered: true)")
    # The page keeps what it has shown, and goes on from there.
    await bob.reload()
    await connected(bob)
    await write(alice, "three")
    await shows(bob, "one", "two", "three")


async def test_a_node_that_drains_and_a_network_that_goes(windows: Windows, node: Node) -> None:
    alice, bob = await windows.open("alice"), await windows.open("bob")
    node.drain()
    await expect(bob.locator("#state")).not_to_have_text("Connected")
    await write(bob, "written meanwhile")
    node.resume()
    await connected(bob)
    await shows(alice, "written meanwhile")
    await windows.context.set_offline(True)
    await expect(alice.locator("#state")).to_have_text("Not connected, trying again")
    await windows.context.set_offline(False)
    await connected(alice)
    await connected(bob)
    await write(alice, "back")
    await shows(bob, "written meanwhile", "back")


async def test_a_gateway_that_is_started_again(windows: Windows, valkey: Server) -> None:
    (port,) = free_ports(1)
    windows.address = f"http://localhost:{port}/demo"
    async with serving(valkey, port):
        alice, bob = await windows.open("alice"), await windows.open("bob")
    await expect(bob.locator("#state")).not_to_have_text("Connected")
    await write(bob, "written meanwhile")
    async with serving(valkey, port):
        await connected(bob)
        await connected(alice)
        await shows(alice, "written meanwhile")
        await alice.close()
        await bob.close()
    assert all("ERR_CONNECTION" in fault or "ERR_EMPTY_RESPONSE" in fault for fault in windows.faults), windows.faults
    windows.faults.clear()


async def test_pages_of_other_origins_get_the_sdk_and_no_tokens(windows: Windows, node: Node) -> None:
    page = await windows.context.new_page()
    # Another port of this machine: as near as an origin can be without being the same.
    await page.goto(f"http://localhost:{node.admin.port}/healthz")
    module = f"import('{windows.gateway}/sdk/gateway.js').then((sdk) => typeof sdk.Client)"
    assert await page.evaluate(module) == "function"
    for options in ("{}", "{ headers: { 'X-Gateway-Demo': '1' } }"):
        token = f"fetch('{windows.address}/token?user=alice', {options})"
        assert await page.evaluate(f"{token}.then(() => 'answered', () => 'refused')") == "refused"
    # Two lines for each of the two; and the admin port has no icon.
    await eventually(lambda: sum("CORS policy" in fault for fault in windows.faults) == 2)
    assert all(re.search("CORS policy|ERR_FAILED|401", fault) for fault in windows.faults), windows.faults
    windows.faults.clear()


async def test_the_same_person_in_a_second_window_takes_over(windows: Windows) -> None:
    first = await windows.open("alice")
    second = await windows.open("alice")
    await expect(first.locator("#notice")).to_contain_text("You are here in another window now")
    await connected(second)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_on_a_phone_by_day_and_night(windows: Windows, scheme: Literal["light", "dark"]) -> None:
    page = await windows.context.new_page()
    await page.emulate_media(color_scheme=scheme)
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.goto(windows.address)
    await page.get_by_role("link", name="Alice").click()
    await connected(page)
    await write(page, "a-word-that-is-longer-than-a-phone-is-wide-" * 4)
    await expect(page.locator(".mine small")).to_contain_text("waits for them")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.evaluate("document.querySelector('#composer').getBoundingClientRect().bottom <= innerHeight")
    red, green, blue = await page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)"
    )
    assert (red + green + blue > 384) is (scheme == "light")
