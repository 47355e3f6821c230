"""The dashboard in Chromium, on a real broker, a real Redis and a stream worker."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.shop import ADMIN, READER, SCRIPT, Shop

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run `make test-browser`").expect
WAIT_MS = 20_000
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
PATHS = ("/", "/users", "/users/ada", "/why?user=ada&item=books-1", "/catalogue?q=tea", "/items/tea-1")


def sign_in(page: Any, shop: Shop, key: str, path: str) -> None:
    page.goto(shop.url + path)
    page.fill("#key", key)
    page.click("main button")
    page.wait_for_url(shop.url + path)


def test_the_overview_shows_figures_that_change_by_themselves(shop: Shop, window: Any) -> None:
    page = window()
    page.goto(shop.url)
    page.wait_for_selector(".live.on")
    events = page.locator('[data-figure="events_per_s"]')
    expect(events).to_have_text(re.compile(r"^\d"), timeout=WAIT_MS)
    for item in range(5):
        shop.act("live-user", f"tea-{item}")
    expect(events).to_have_text(re.compile(r"[1-9]"), timeout=WAIT_MS)
    expect(page.locator('[data-figure="freshness_p50_ms"]')).to_have_text(re.compile(r"\d"), timeout=WAIT_MS)
    assert page.locator("[data-workers] li.good").count() == 1
    assert page.locator('[data-line="lists_per_s"] polyline').get_attribute("points")


def test_a_click_changes_the_list_before_your_eyes_and_says_in_how_many_milliseconds(shop: Shop, window: Any) -> None:
    page = window()
    page.goto(f"{shop.url}/users/grace")
    card = page.locator(".shelf .card").first
    title, list_id = card.locator("h3").inner_text(), page.get_attribute("#page", "data-list")
    card.locator('button[data-type="hide"]').click()
    expect(page.locator("#page")).not_to_have_attribute("data-list", list_id, timeout=WAIT_MS)
    page.locator("[data-status]", has_text=re.compile(r"\d+ ms")).wait_for()
    assert title not in page.locator(".shelf h3").all_inner_texts()
    assert title in page.locator(".touches .what").first.inner_text()


def test_a_list_that_changes_elsewhere_reaches_an_open_page(shop: Shop, window: Any) -> None:
    page = window()
    page.goto(f"{shop.url}/users/visitor-7")
    list_id = page.get_attribute("#page", "data-list")
    shop.act("visitor-7", "garden-1", "purchase")
    expect(page.locator("#page")).not_to_have_attribute("data-list", list_id, timeout=WAIT_MS)
    page.locator(".touches .what", has_text="Watering Can").wait_for()


def test_a_readers_key_sees_pages_without_buttons_and_cannot_write(kept_shop: Shop, window: Any) -> None:
    page = window()
    sign_in(page, kept_shop, READER, "/users/ada")
    assert page.locator(".card").count() and not page.locator("button[data-type]").count()
    fields = {"item_id": "tea-0", "type": "like"}
    refused = page.request.post(f"{kept_shop.url}/api/users/ada/events", data=fields, headers={"Origin": kept_shop.url})
    assert refused.status == 403
    page.context.clear_cookies()
    sign_in(page, kept_shop, ADMIN, "/users/ada")
    assert page.locator("button[data-type]").count()
    page.get_by_role("button", name=re.compile("Sign out")).click()
    page.wait_for_url("**/sign-in")


def test_a_card_leads_to_why_it_is_there(shop: Shop, window: Any) -> None:
    page = window()
    page.goto(f"{shop.url}/users/visitor-9")
    title = page.locator(".shelf h3").first.inner_text()
    page.locator(".why-link").first.click()
    expect(page.locator(".story h2")).to_have_text(title, timeout=WAIT_MS)
    assert page.locator(".story .verdict.good").count() == 1 and page.locator("tr.chosen").count() == 1


def test_an_item_is_switched_off_only_after_the_question_and_leaves_every_page(shop: Shop, window: Any) -> None:
    page = window()
    page.goto(f"{shop.url}/catalogue?q=oolong")
    page.locator(".card a").click()
    switch, dialog = page.get_by_role("button", name="Make unavailable"), page.locator("dialog")
    switch.click()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.locator(".facts .good").count() == 1
    switch.click()
    page.get_by_role("button", name="Yes, do it").click()
    expect(page.locator(".facts .bad")).to_have_text("not available", timeout=WAIT_MS)
    page.goto(f"{shop.url}/users/visitor-9")
    assert "Oolong Alishan" not in page.locator(".shelf h3").all_inner_texts()


def test_data_is_text_wherever_it_is_shown(shop: Shop, window: Any) -> None:
    page = window()
    page.goto(f"{shop.url}/users")
    page.fill("main #user", SCRIPT)
    page.click("main form button")
    page.wait_for_url("**/users/%3C**")
    assert SCRIPT in page.locator("h1").inner_text() and "bad" not in page.title().replace(SCRIPT, "")
    page.goto(f"{shop.url}/users/nobody-knows")
    assert page.locator(".notice").count()


def test_language_and_appearance_are_switched_and_kept(shop: Shop, window: Any) -> None:
    page = window(locale="de-DE", color_scheme="light")
    page.goto(shop.url)
    assert page.locator("h1").inner_text() == "Übersicht"
    page.get_by_role("button", name="中文").click()
    page.locator("html[lang=zh]").wait_for()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator('button[name="theme"][value="dark"]').click()
    page.locator("html[data-theme=dark]").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_the_keyboard_reaches_everything_and_leaves_again(shop: Shop, window: Any) -> None:
    page = window()
    page.goto(f"{shop.url}/users/ada")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.outerHTML"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert len(seen) == 12


@pytest.mark.parametrize("path", PATHS)
def test_pages_fit_a_phone(shop: Shop, window: Any, path: str) -> None:
    page = window(width=360, height=740)
    page.goto(shop.url + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing_serious(shop: Shop, window: Any, path: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = window(color_scheme=scheme, bypass_csp=True)
    page.goto(shop.url + path)
    found = axe.Axe().run(page).response["violations"]
    serious = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
