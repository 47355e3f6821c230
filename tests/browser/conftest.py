"""A shop that all tests of a browser share, and pages of Chromium that hold every message of their console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.shop import Shop, running_shop

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Return the browser's program: RECSYS_CHROMIUM, or one that the system has."""
    return os.environ.get("RECSYS_CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run `make test-browser`")
    program = chromium()
    if program is None:
        pytest.skip("there is no Chromium: install it, or set RECSYS_CHROMIUM")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def shop(browser: Any, has_servers: None) -> Iterator[Shop]:
    """A shop without keys: everybody on this machine may do everything."""
    with running_shop() as running:
        yield running


@pytest.fixture(scope="session")
def kept_shop(browser: Any, has_servers: None) -> Iterator[Shop]:
    """A shop with keys."""
    with running_shop(keys=True) as running:
        yield running


class Window:
    """One page of the browser and what its console said."""

    def __init__(self, page: Any) -> None:
        self.page, self.messages = page, []  # type: Any, list[str]
        page.on("console", lambda message: self.messages.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.messages.append(str(error)))


@pytest.fixture
def window(browser: Any) -> Iterator[Any]:
    """Open windows with `window(width=…)`. A test fails where a console holds an error."""
    contexts, windows = [], []

    def opened(width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(120_000)
        contexts.append(context)
        windows.append(Window(context.new_page()))
        return windows[-1].page

    yield opened
    for context in contexts:
        context.close()
    assert [message for one in windows for message in one.messages] == []
