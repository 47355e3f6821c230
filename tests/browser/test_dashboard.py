"""The dashboard in Chromium, on a real broker, a real Redis and a stream worker."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from recsys.models.ials import model as ials
from tests.browser.shop import ADMIN, READER, SCRIPT, Shop
from workers.models.manifest import TrainedOn
from workers.models.store import ModelStore

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run `make test-browser`").expect
WAIT_MS = 120_000
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
PATHS = (
    *("/", "/users", "/users/ada", "/why?user=ada&item=books-1", "/catalogue?q=tea", "/items/tea-1"),
    *("/models", "/dead-letters", "/system"),
)


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


def stored(store: ModelStore) -> str:
    """Store and promote a small model."""
    version = store.save(
        ials.IALSModel(ials.IALSConfig(factors=4), ["tea-0", "tea-1"], np.eye(2, 4, dtype=np.float32)),
        parent=None,
        metrics={"challenger": {"ndcg@10": 0.2, "recall@10": 0.4, "n_targets": 200.0}, "popularity": {"ndcg@10": 0.1}},
        decision="for a test",
        trained_on=TrainedOn(n_events=9, first_event_ts_ms=1_700_000_000_000, last_event_ts_ms=1_700_000_000_009, next_offsets={0: 4}),
        trained_ts_ms=1_700_000_001_000,
        train_s=0.5,
        refit=None,
        code_version="1",
    ).version
    store.promote("ials", version)
    return version


def test_a_rollback_asks_first(shop: Shop, window: Any) -> None:
    store = ModelStore(shop.settings.trainer.model_url)
    first, second = stored(store), stored(store)
    page = window()
    page.goto(f"{shop.url}/models")
    serving, button = page.locator("tr.chosen th a"), page.get_by_role("button", name="Roll back", exact=True)
    assert serving.inner_text() == second
    button.click()
    expect(page.locator("dialog[open]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert store.champion("ials") == second
    button.click()
    page.locator("dialog[open]").get_by_role("button", name="Yes, do it").click()
    expect(serving).to_have_text(first, timeout=WAIT_MS)
    assert store.champion("ials") == first


def test_the_pages_of_dead_letters_and_of_the_system_are_answered(shop: Shop, window: Any) -> None:
    page = window()
    page.goto(f"{shop.url}/dead-letters")
    assert page.locator("h1").inner_text() == "Dead letters" and page.locator(".notice").count() == 1
    page.goto(f"{shop.url}/system?doctor=1")
    expect(page.locator("tbody tr").first).to_be_visible(timeout=WAIT_MS)
