"""The report in a real browser: its charts are drawn, by day and night, on a phone, and nothing is fetched."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from loadtest.histogram import Histogram
from loadtest.report import html, write
from loadtest.result import Cost, Latency, Limit, Machine, Mark, Result, Sample, Verdict
from tests.servers import chromium_binary

NASTY = '</script><img src="http://192.0.2.1/x" onerror="alert(1)"> & "quoted"'


def latency(*spread: int) -> Latency:
    """Of these µs."""
    histogram = Histogram()
    for us in spread:
        histogram.add(us)
    return histogram.latency()


def result(**more: object) -> Result:
    """A run of ten seconds, with everything that a report shows."""
    series = [
        Sample(
            t=number / 2,
            connections=min(number * 20, 100),
            sent_per_s=1000.0 + number,
            delivered_per_s=990.0 + number,
            p50_ms=1.0 + number / 10,
            p99_ms=3.0 + number / 5,
            rates={"logins": 40.0 if number < 5 else 0.0, "refused": 10.0},
            spreads={"sent": (1.0, 2.5)},
            gateway_cpu=0.5,
            store_cpu=0.3,
            generator_cpu=0.2,
            gateway_bytes=60_000_000 + number * 1000,
            store_bytes=20_000_000,
            gauges={"gateway_pending_calls": float(number)},
        )
        for number in range(1, 21)
    ]
    values: dict[str, object] = {
        "name": "chat",
        "scenario": {"act": "chat", "users": 100, "rate": 1000.0, "body_bytes": 120, "spread": "pairs"},
        "machine": Machine(architecture="x86_64", cores=2, memory_bytes=8 << 30),
        "started_at": "2026-01-01T12:00:00+00:00",
        "seconds": 10.0,
        "measured_from_s": 1.0,
        "measured_to_s": 9.0,
        "counts": {"sent": 10_000, "delivered": 9_990},
        "rates": {"sent": 1000.0, "delivered": 999.0},
        "latencies": {
            "delivery": latency(*range(500, 5000, 7)),
            "sent": latency(*range(400, 4000, 7)),
            "login": latency(20_000, 30_000),
        },
        "series": series,
        "service": Cost(gateway_us_per_message=20.0, store_us_per_message=10.0, cpu_us_per_message=30.0),
        "limit": Limit(what="rate", why="no more was asked for"),
        "marks": [Mark(t=0.5, what="logins"), Mark(t=5.0, what="a break")],
    }
    return Result(**(values | more))  # type: ignore[arg-type]


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page of a browser without a network, in which nothing may go wrong and nothing is asked for."""
    async with async_playwright() as playwright:
        # Chromium's own sandbox cannot be had as root in a container; the only page that it sees is ours.
        browser = await playwright.chromium.launch(executable_path=chromium_binary(), args=["--no-sandbox"])
        context = await browser.new_context(offline=True)
        page = await context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
        yield page
        await browser.close()
        assert faults == []


async def opened(page: Page, found: Result, directory: Path) -> None:
    """Shows the report of a result, drawn."""
    path = directory / "report.html"
    write(found, path)
    await page.goto(path.as_uri())
    await page.wait_for_selector("html[data-drawn]")


async def test_charts_are_drawn_by_day_and_night_on_a_phone_and_a_desk(page: Page, tmp_path: Path) -> None:
    for scheme, width in itertools.product(("light", "dark"), (390, 1160)):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.set_viewport_size({"width": width, "height": 800})
        await opened(page, result(), tmp_path)
        drawn = await page.evaluate(
            "[...document.querySelectorAll('figure svg')].map((svg) => svg.querySelectorAll('path.line').length)"
        )
        assert len(drawn) >= 4, (scheme, width)
        assert all(drawn), (scheme, width)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (scheme, width)
        red, green, blue = await page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)"
        )
        assert (red + green + blue > 384) is (scheme == "light")
        # Words stand out from the page by WCAG's ratio for text.
        assert await page.evaluate(CONTRAST) >= 4.5, (scheme, width)


CONTRAST = """(() => {
  const light = (colour) => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => Number(part) / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const all = [...document.querySelectorAll("h1, h2, .what, .note, td, dt, dd")].map((node) => {
    const own = light(getComputedStyle(node).color);
    return (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05);
  });
  return Math.min(...all);
})()"""


async def test_pointing_at_a_chart_shows_the_values_of_that_moment(page: Page, tmp_path: Path) -> None:
    await opened(page, result(), tmp_path)
    chart = page.locator("figure[data-chart] svg").first
    assert await page.locator("figure[data-chart] .legend b").first.inner_text() == ""
    await chart.scroll_into_view_if_needed()
    await chart.hover()
    assert await page.locator("figure[data-chart] .legend b").first.inner_text() != ""


async def test_words_from_outside_are_text_and_never_markup(page: Page, tmp_path: Path) -> None:
    nasty = result(name=NASTY, failures=[NASTY], marks=[Mark(t=1.0, what=NASTY)], software={NASTY: NASTY})
    await opened(page, nasty, tmp_path)
    assert NASTY in await page.locator("h1").inner_text()
    assert await page.locator("img").count() == 0


async def test_a_run_that_failed_says_so_and_why(page: Page, tmp_path: Path) -> None:
    failed = result(verdict=Verdict(lost=3, examples=["a to b: number 7 never arrived"]), failures=["no answer"])
    await opened(page, failed, tmp_path)
    shown = await page.locator("main").inner_text()
    for words in ("3 lost", "number 7 never arrived", "no answer"):
        assert words in shown


async def test_a_run_that_ended_at_once_has_a_report_too(page: Page, tmp_path: Path) -> None:
    bare = Result(
        name="chat",
        scenario={},
        machine=Machine(architecture="x86_64", cores=1),
        started_at="2026-01-01T12:00:00+00:00",
        seconds=0.1,
        interrupted=True,
    )
    await opened(page, bare, tmp_path)
    assert "Interrupted" in await page.locator("main").inner_text()


def test_what_is_of_the_measured_time_is_told_from_what_is_of_the_whole_run() -> None:
    written = html(result())
    assert "Deliveries and answers to senders are of the measured time" in written
    assert "all else is of the whole run" in written


def test_the_page_names_no_other_file_or_host() -> None:
    written = html(result())
    assert "http://www.w3.org/2000/svg" in written
    assert "http" not in written.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "Infinity" not in written
    assert "NaN" not in written
