"""`recsys demo --stay` as a user runs it: it ends with a homepage in the browser, a click changes the list, and Ctrl-C leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from workers.demo.movielens import fetch_ml100k
from workers.errors import Transient
from workers.local.embedded import die_with_parent
from workers.local.processes import left_over

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run `make test-browser`").expect
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
COMMAND = ("-m", "workers.cli", "demo", "--stay", "--events", "5000", "--rate", "100")
WAIT_MS = 120_000


@pytest.fixture
def demo(browser: Any, has_servers: None) -> Iterator[subprocess.Popen[str]]:
    try:
        fetch_ml100k(ROOT / ".data")
    except Transient as error:
        pytest.skip(str(error))
    running = subprocess.Popen(
        [sys.executable, *COMMAND],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_parent(),
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def test_the_demo_ends_with_a_homepage_that_a_click_changes_and_ctrl_c_leaves_nothing(demo: subprocess.Popen[str], window: Any) -> None:
    assert demo.stdout is not None
    lines, address = [], None
    for line in demo.stdout:
        lines.append(line)
        if address is None:
            address = re.search(r"a homepage: (http://127\.0\.0\.1:\d+/users/\S+)", line)
        if "watch the list change" in line:
            break
    assert address is not None, "".join(lines[-20:])
    assert not [line for line in lines if r"\x" in line], "what is printed can be read"

    page = window()
    page.goto(address[1])
    shelves = page.locator(".shelf")
    expect(shelves).to_have_count(3, timeout=WAIT_MS)
    titles, list_id = shelves.first.locator("h3").all_inner_texts(), page.get_attribute("#page", "data-list")
    assert len(titles) == 20 and len(set(titles)) == 20
    shelves.first.locator('.card button[data-type="hide"]').first.click()
    page.locator("[data-status]", has_text=re.compile(r"\d+ ms")).wait_for(timeout=WAIT_MS)
    expect(page.locator("#page")).not_to_have_attribute("data-list", list_id, timeout=WAIT_MS)
    shown = shelves.first.locator("h3").all_inner_texts()
    assert titles[0] not in shown and set(titles) & set(shown), "one film that is hidden does not turn the whole page over"

    page.close()  # its console would tell of a server that is gone
    children = [child.pid for child in psutil.Process(demo.pid).children(recursive=True)]
    assert len(children) >= 5  # broker, Valkey, stream worker, trainer, dashboard
    demo.send_signal(signal.SIGINT)
    said = demo.communicate(timeout=120)[0]
    assert demo.returncode == 0, said
    assert "processes ended, none left" in said and "Traceback" not in said
    assert left_over(children) == []
