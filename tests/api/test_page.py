"""The readable page of the Server API in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright

from gateway.api import v4
from tests.api.admin import Admin
from tests.servers import chromium_binary


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page of a browser in which nothing may go wrong."""
    async with async_playwright() as playwright:
        # Chromium's own sandbox cannot be had as root in a container; the only page that it sees is ours.
        browser = await playwright.chromium.launch(executable_path=chromium_binary(), args=["--no-sandbox"])
        page = await browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("requestfailed", lambda request: faults.append(request.url))
        yield page
        await browser.close()
        assert faults == []


async def test_it_shows_every_operation_and_filters_them(admin: Admin, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{admin.base_url}/docs")
    links = page.locator("nav a:visible")
    shown = set(await links.all_inner_texts())
    assert {path for row in v4.OPERATIONS for path in row.paths} <= shown
    await page.locator("nav input").fill("blocklist")
    found = set(await links.all_inner_texts())
    assert {path for path in shown if "blocklist" in path} <= found
    assert not found & {"/v4/user/ban", "/v4/user/tag/batch/set", "/healthz"}
    assert not await page.get_by_text("Ban users for a number of minutes").first.is_visible()
    await page.locator("nav input").fill("")
    assert set(await links.all_inner_texts()) == shown
    # Nothing is fetched from anywhere.
    assert asked == [f"{admin.base_url}/docs"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_on_a_phone_by_day_and_night(admin: Admin, page: Page, scheme: str) -> None:
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.goto(f"{admin.base_url}/docs")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    red, green, blue = await page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)"
    )
    assert (red + green + blue > 384) is (scheme == "light")
