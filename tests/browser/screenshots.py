"""Takes the pictures of docs/dashboard.md of a running shop: `make screenshots`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.browser.conftest import chromium
from tests.browser.shop import Shop, events, running_shop

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZE = {"width": 1280, "height": 860}


def bustle(shop: Shop, page: Any) -> None:
    """Send events for half a minute, so that the figures are those of a shop with visitors."""
    for number, one in enumerate(events(n_users=40, seed=1)):
        shop.act(one["user_id"], one["item_id"], one["type"])
        if number % 4 == 0:
            page.wait_for_timeout(250)


def main() -> None:
    """Write the pictures."""
    from playwright.sync_api import sync_playwright

    os.environ.setdefault("RECSYS_CONFIG", os.devnull)
    program = chromium()
    if program is None:
        sys.exit("screenshots: there is no Chromium; set RECSYS_CHROMIUM")
    with running_shop() as shop, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(shop.url)
        bustle(shop, page)
        page.screenshot(path=FOLDER / "dashboard-overview.png")
        page.goto(f"{shop.url}/users/ada")
        page.locator('.card button[data-type="like"]').nth(2).click()
        page.locator("[data-status].good").wait_for()
        page.screenshot(path=FOLDER / "dashboard-homepage.png")
        page.goto(f"{shop.url}/why?user=ada&item={page.locator('.card').first.get_attribute('data-item')}")
        page.screenshot(path=FOLDER / "dashboard-why.png")
        browser.close()


if __name__ == "__main__":
    main()
