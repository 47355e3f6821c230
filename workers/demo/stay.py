"""`recsys demo --stay`: the stack goes on with a dashboard until Ctrl-C, and the address of a homepage is printed."""

from __future__ import annotations

import time
import urllib.request
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from workers.demo.report import Narrator
from workers.demo.session import DemoFailed
from workers.local.embedded import Child, EmbeddedStack, environment, free_port, is_free
from workers.settings import load_settings

READY_S = 60.0
ROWS = [{"kind": "for_you", "size": 20}, {"kind": "because", "size": 12}, {"kind": "popular_now", "size": 12}]
"""What the page of a user shows."""
LOOK_S = 0.3


@dataclass
class Stay:
    """Runs a dashboard beside the workers of a demo. `metrics_port` is the stream worker's; the browser is opened only if asked."""

    open_browser: bool = False
    metrics_port: int = field(default_factory=free_port)

    def worker_env(self) -> dict[str, str]:
        """Return the settings by which the stream worker answers with its figures."""
        return environment({"metrics": {"port": self.metrics_port, "host": "127.0.0.1"}})

    def run(self, stack: EmbeddedStack, env: Mapping[str, str], users: list[str], narrator: Narrator) -> None:
        """Start the dashboard, say where the first user's page is, and wait for Ctrl-C. Raises DemoFailed if something ends."""
        wanted = load_settings().dashboard.port
        port = wanted if is_free(wanted) else free_port()
        sections: dict[str, dict[str, Any]] = {
            "dashboard": {"host": "127.0.0.1", "port": port, "workers": [f"http://127.0.0.1:{self.metrics_port}"]}
        }
        address = f"http://127.0.0.1:{port}"
        with narrator.stage("starting a dashboard"):
            child = stack.start_worker("dashboard", {**env, **environment(sections)})
            _until(lambda: _is_ready(address), child)
        page = f"{address}/users/{quote(users[0], safe='')}" if users else address
        narrator.say(f"dashboard: {address} · a homepage: {page} · Ctrl-C ends it")
        narrator.say("these are real events on this stack: click, like, hide or buy, and watch the list change")
        if self.open_browser:
            webbrowser.open(page)
        try:
            while not (dead := stack.dead()):
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            return
        raise DemoFailed(f"{dead[0].name} ended with code {dead[0].process.returncode}; its log ends with: {dead[0].last_lines(1)}")


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/ready", timeout=2.0):
            return True
    except OSError:
        return False


def _until(condition: Callable[[], bool], child: Child) -> None:
    deadline = time.monotonic() + READY_S
    while not condition():
        if not child.running or time.monotonic() > deadline:
            raise DemoFailed(f"the dashboard does not start; its log ends with: {child.last_lines(1)}")
        time.sleep(LOOK_S)
