"""Takes the pictures of docs/dashboard.md of a running shop, and those of the scenario pages of each running scenario: `make screenshots`.

    python -m tests.browser.screenshots news social    takes those of two scenarios
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.browser.conftest import chromium
from tests.browser.scenarios import running_scenario
from tests.browser.shop import Shop, events, running_shop
from workers.operations.sample_data.files import SAMPLES

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZE = {"width": 1280, "height": 860}
TALL, PHONE = {"width": 1280, "height": 1200}, {"width": 390, "height": 844}
DASHBOARD = "dashboard"


def bustle(shop: Shop, page: Any) -> None:
    """Send events for half a minute, so that the figures are those of a shop with visitors."""
    for number, one in enumerate(events(n_users=40, seed=1)):
        shop.act(one["user_id"], one["item_id"], one["type"])
        if number % 4 == 0:
            page.wait_for_timeout(250)


def dashboard_pictures(browser: Any) -> None:
    """Take the pictures of docs/dashboard.md."""
    with running_shop() as shop:
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


def scenario_pictures(browser: Any, name: str) -> None:
    """Take the pictures of a scenario's page: on a wide screen and on a phone."""
    with running_scenario(name) as scene:
        for suffix, size in (("", TALL), ("-phone", PHONE)):
            page = browser.new_page(viewport=size)
            page.goto(f"{scene.url}/users/{scene.user_id}")
            page.locator(".card").first.wait_for()
            page.screenshot(path=FOLDER / f"scenario-{name}{suffix}.png")
            page.close()


def main() -> None:
    """Write the pictures, or those that are named: `dashboard` and scenarios."""
    from playwright.sync_api import sync_playwright

    os.environ.setdefault("RECSYS_CONFIG", os.devnull)
    program = chromium()
    if program is None:
        sys.exit("screenshots: there is no Chromium; set RECSYS_CHROMIUM")
    wanted = sys.argv[1:] or [DASHBOARD, *SAMPLES]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name in wanted:
            if name == DASHBOARD:
                dashboard_pictures(browser)
            else:
                scenario_pictures(browser, name)
        browser.close()


if __name__ == "__main__":
    main()
