"""From `recsys init news --with-data` to lists: what the printed commands do, on the stack of the tests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.conftest import TestStack
from workers.kafka.offsets import group_lag
from workers.kafka.topics import provision
from workers.lists.reader import newest_list
from workers.settings import load_settings

DEADLINE_S = 240.0


@pytest.mark.long
def test_made_up_news_are_imported_whole_and_listed_while_they_are_new(
    stack: TestStack, sections: dict[str, Any], worker_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "news"
    done = forked.spawner().run_command({**worker_env, "COLUMNS": "200"}, "init", "news", "--with-data", "--folder", str(folder))
    assert done.returncode == 0, done.stderr
    commands = done.stdout.splitlines()[-5:]
    user_id = commands[-1].split()[3]
    monkeypatch.setenv("RECSYS_CONFIG", str(folder / "recsys.toml"))
    settings, env = load_settings(**sections), {**worker_env, "RECSYS_CONFIG": str(folder / "recsys.toml")}
    assert settings.lists.freshness.weight > 0, "the settings are those of the scenario"
    provision(settings)
    files = [str(folder / name) for name in commands[3].split()[2:-1]]
    worker = stack.start_worker("stream", env)
    try:
        done = forked.spawner().run_command({**env, "COLUMNS": "200"}, "import", *files, "--yes", "--json")
        assert done.returncode == 0, done.stderr
        reports = [json.loads(line) for line in done.stdout.splitlines()][1::2]
        assert [report["bad"] for report in reports] == [0, 0, 0]
        until = time.monotonic() + DEADLINE_S
        while sum(group_lag(settings, settings.stream.group_id, settings.topics.events).values()) or newest_list(settings, user_id) is None:
            assert worker.running and time.monotonic() < until, worker.last_lines()
            time.sleep(1.0)
        listed = newest_list(settings, user_id)
        assert listed is not None
        expires = {item["item_id"]: item for item in _items(folder)}
        shown = {item.item_id for item in listed.items} | {item.item_id for row in listed.rows for item in row.items}
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(listed.generated_ts_ms // 1_000))
        assert len(listed.items) >= 10 and all(expires[one]["expires_ts_ms"] > made for one in shown)
        assert [row.kind for row in listed.rows][:1] == ["for_you"]
        until = time.monotonic() + DEADLINE_S
        while (status := _status(env))["items"] < len(expires):  # the catalogue has a topic of its own
            assert worker.running and time.monotonic() < until, status
            time.sleep(1.0)
        assert status["dead_letters"] == 0 and status["items"] == len(expires)
    finally:
        stack.embedded.stop_workers()


def _status(env: dict[str, str]) -> dict[str, Any]:
    return dict(json.loads(forked.spawner().run_command(env, "status", "--json").stdout))


def _items(folder: Path) -> list[dict[str, str]]:
    import csv

    with (folder / "sample" / "items.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
