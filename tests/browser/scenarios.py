"""A scenario of `recsys init --with-data` on the embedded stack, imported by `recsys import`, with a stream worker and a dashboard.

    python -m tests.browser.scenarios news    runs it until Ctrl-C and prints the address of a page
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browser.shop import fetched, until
from workers.kafka.offsets import group_lag
from workers.kafka.topics import provision
from workers.local.embedded import EmbeddedStack, free_port
from workers.operations.sample_data.files import write_sample
from workers.operations.scenarios import write_files


@dataclass(frozen=True)
class Scene:
    """A running scenario: the address of its dashboard, the user with most to show, and that user's page as the dashboard has it."""

    url: str
    user_id: str
    page: dict[str, Any]
    env: dict[str, str]


@contextlib.contextmanager
def running_scenario(name: str) -> Iterator[Scene]:
    """Run it with the settings and the data of `recsys init NAME --with-data`, whose events end now."""
    with EmbeddedStack() as stack:
        folder, end_s = Path(stack.folder) / "scenario", int(time.time())
        write_files(name, folder)
        written = write_sample(name, folder, end_s)
        user_id = written.user_id
        before, os.environ["RECSYS_CONFIG"] = os.environ.get("RECSYS_CONFIG"), str(folder / "recsys.toml")
        try:
            port = free_port()
            sections = {"topics": {"partitions": 4}, "dashboard": {"port": port}}
            settings = stack.settings(**sections)
            provision(settings)
            env = {**os.environ, "OMP_NUM_THREADS": "1", **stack.env(**sections)}
            stream = stack.start_worker("stream", env)
            dashboard = stack.start_worker("dashboard", env)
            command = [sys.executable, "-m", "workers.cli", "import", *map(str, written.paths), "--yes"]
            done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout + done.stderr
            url = f"http://127.0.0.1:{port}"
            until(lambda: b'"ready":true' in fetched(f"{url}/ready"), "the dashboard is ready", dashboard)
            group, topic = settings.stream.group_id, settings.topics.events
            until(lambda: not any(group_lag(settings, group, topic).values()), "all events are read", stream)
            page = until(lambda: json.loads(fetched(f"{url}/api/users/{user_id}/page") or b"{}"), "there is a page", dashboard)
            yield Scene(url, user_id, page, env)
        finally:
            if before is None:
                del os.environ["RECSYS_CONFIG"]
            else:
                os.environ["RECSYS_CONFIG"] = before


def main() -> None:
    """Run one until Ctrl-C."""
    with running_scenario(sys.argv[1]) as scene, contextlib.suppress(KeyboardInterrupt):
        print(f"{scene.url}/users/{scene.user_id}", flush=True)
        while True:
            time.sleep(0.5)


if __name__ == "__main__":
    main()
