"""`docker compose --profile demo up`: a gateway, a dashboard in the browser, and visitors who make the figures move."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.browser.conftest import chromium
from tests.containers.conftest import until
from tests.containers.engine import BUILD_TIMEOUT_S, Compose
from workers.demo.traffic import catalogue
from workers.local.embedded import free_port

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]
KEY = "look-at-the-demo"
SERVICES = ("demo-gateway", "demo-dashboard", "demo-traffic")
ANSWER_S, WAIT_MS = 240.0, 60_000
TITLES = {item["item_id"]: item["title"] for item in catalogue(0)}


@dataclass(frozen=True)
class Demo:
    """The running profile and its ports on this machine."""

    compose: Compose
    gateway: str
    dashboard: str


@pytest.fixture(scope="module")
def demo(_engine: None) -> Iterator[Demo]:
    """Run the profile, and remove everything but the image afterwards."""
    gateway, dashboard = free_port(), free_port()
    ports = {"RECSYS_KAFKA_PORT": free_port(), "RECSYS_GATEWAY_PORT": gateway, "RECSYS_DASHBOARD_PORT": dashboard}
    variables = {**{name: str(port) for name, port in ports.items()}, "COMPOSE_PROFILES": "demo"}
    compose = Compose(f"recsys-demo-{uuid.uuid4().hex[:8]}", variables)
    try:
        compose("build", "--quiet", timeout_s=BUILD_TIMEOUT_S)
        compose("up", "--detach", "--no-build", timeout_s=300.0)
        yield Demo(compose, f"http://127.0.0.1:{gateway}", f"http://127.0.0.1:{dashboard}")
    finally:
        compose("down", "--volumes", "--timeout", "5", "--remove-orphans")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the containers' logs to a failed test."""
    report = yield
    running = getattr(item, "funcargs", {}).get("demo")
    if report.failed and running is not None:
        report.sections.append(("docker compose logs", running.compose("logs", "--no-color", "--tail", "60", "stream", *SERVICES)))
    return report


def answer(url: str, key: str | None = KEY) -> Any:
    """Return the JSON that a URL answers with; its status where it refuses; None where nothing answers."""
    request = urllib.request.Request(url, headers={} if key is None else {"X-API-Key": key})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as found:
            return json.loads(found.read())
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return None


def newest_figures(demo: Demo) -> dict[str, Any]:
    """Return the first figures of the live overview; none where it does not answer."""
    request = urllib.request.Request(f"{demo.dashboard}/api/overview/live", headers={"X-API-Key": KEY})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    figures: dict[str, Any] = json.loads(line.removeprefix(b"data:"))
                    return figures
    except OSError:
        pass
    return {}


def test_visitors_get_lists_over_http_and_nobody_does_without_the_key(demo: Demo) -> None:
    path = f"{demo.gateway}/v1/users/visitor-1/lists"

    def listed() -> Any:
        made = answer(path)
        return made if isinstance(made, dict) and made["items"] and not made["is_default"] else None

    made = until(listed, "a list of visitor-1", ANSWER_S)
    assert {item["item_id"] for item in made["items"]} <= set(TITLES)
    assert answer(path, None) == 401 and answer(f"{demo.dashboard}/api/users/visitor-1/page", None) == 401


def test_the_overview_counts_what_visitors_do_at_both_workers(demo: Demo) -> None:
    def moving() -> Any:
        figures = newest_figures(demo)
        if not figures.get("events_per_s") or figures["freshness_p50_ms"] is None:
            return None
        return figures if sorted(worker["state"] for worker in figures["workers"]) == ["ready"] * 4 else None

    figures = until(moving, "figures of two stream workers, the trainer and the gateway", ANSWER_S)
    assert len(figures["lag"]) == 8 and figures["lists_per_s"] is not None


def test_the_page_of_a_visitor_opens_and_a_click_changes_it(demo: Demo) -> None:
    until(lambda: answer(f"{demo.dashboard}/ready") not in (None, 503), "the dashboard is ready", ANSWER_S)
    until(lambda: isinstance(made := answer(f"{demo.dashboard}/api/users/visitor-1/page"), dict) and made, "a page", ANSWER_S)
    page_of = f"{demo.dashboard}/users/visitor-2"
    program = chromium()
    if program is None:
        request = urllib.request.Request(page_of, headers={"X-API-Key": KEY})
        with urllib.request.urlopen(request, timeout=20) as found:
            text = found.read().decode()
        assert sum(title in text for title in TITLES.values()) >= 10
        return
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        page = running.chromium.launch(executable_path=program, args=["--no-sandbox"]).new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(page_of)
        page.fill("#key", KEY)
        page.click("main button")
        page.wait_for_url(page_of)
        card = page.locator(".shelf .card").first
        title = card.locator("h3").inner_text()
        assert title in TITLES.values()
        card.locator('button[data-type="hide"]').click()
        page.locator("[data-status]", has_text=re.compile(r"\d+ ms")).wait_for()
        assert title not in page.locator(".shelf h3").all_inner_texts()


def test_its_containers_are_healthy_confined_and_end_in_order(demo: Demo) -> None:
    def ailing() -> list[str]:
        return [c["Name"] for c in demo.compose.containers() if c["State"].get("Health", {}).get("Status", "healthy") != "healthy"]

    until(lambda: not ailing(), "all containers are healthy", ANSWER_S)
    for service in SERVICES:
        (container,) = demo.compose.running(service)
        host = container["HostConfig"]
        assert container["Config"]["User"] not in ("", "0", "root") and host["CapDrop"] == ["ALL"] and host["ReadonlyRootfs"], service
        published = [at for bindings in (container["NetworkSettings"]["Ports"] or {}).values() for at in bindings or []]
        assert all(at["HostIp"] == "127.0.0.1" for at in published) and bool(published) == (service != "demo-traffic"), service
    demo.compose("stop", "--timeout", "90", *SERVICES)
    ended = {service: container["State"]["ExitCode"] for service in SERVICES for container in demo.compose.containers(service)}
    assert ended == dict.fromkeys(SERVICES, 0)
