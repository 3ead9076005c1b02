"""A picture of a report, as a browser shows it: what the README has.

python -m loadtest.picture RESULT.json FILE.png [--scheme dark] [--width 1160] [--height 1480]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from loadtest import report
from loadtest.result import ResultFault, read

# Dots a pixel: as many as a README shows on a fine screen.
SHARPNESS = 1.5
Scheme = Literal["light", "dark"]


def draw(page: Path, picture: Path, *, scheme: Scheme = "light", width: int = 1160, height: int | None = None) -> None:
    """Draws an HTML file.

    Args:
        page: the file.
        picture: where the PNG goes.
        scheme: which of the page's two faces.
        width: of the window, in CSS pixels.
        height: what is cut off below; None = the whole page.

    Raises:
        SystemExit: no Chromium, or no playwright.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no chromium: on Debian install the package chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("no playwright: make test installs it, as does pip install '.[test]'") from None
    # Chromium's own sandbox cannot be had as root; the only page that it sees is ours.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        try:
            window = browser.new_page(
                viewport={"width": width, "height": height or 800}, device_scale_factor=SHARPNESS, color_scheme=scheme
            )
            window.goto(page.resolve().as_uri())
            window.wait_for_selector("html[data-drawn]")
            window.screenshot(path=str(picture), full_page=height is None)
        finally:
            browser.close()


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--width", type=int, default=1160)
    parser.add_argument("--height", type=int, default=None, help="cut off below; without it the whole page")
    options = parser.parse_args()
    try:
        result = read(options.result)
    except ResultFault as fault:
        raise SystemExit(str(fault)) from None
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "report.html"
        report.write(result, page)
        draw(page, options.picture, scheme=options.scheme, width=options.width, height=options.height)


if __name__ == "__main__":
    main()
