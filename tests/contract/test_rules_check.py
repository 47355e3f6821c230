"""`recsys rules check` on a real server: it reads the state that a worker wrote, and writes nothing."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import orjson
import pytest
import redis

from tests.builders import TOPIC_ID, opened_pipeline, play, records_of, small_settings
from workers.bootstrap import open_store
from workers.cli.app import run
from workers.settings import Settings
from workers.state.port import StoredItem

RULES = [
    {"name": "no [c1]", "when": '"c1" in item.categories', "action": "deny"},
    {"name": "shelf", "when": "item.price > 25.0 && user.history_size < 9", "action": "pin", "places": [1]},
]


def stored(url: str, namespace: str) -> dict[bytes, Any]:
    """Return all keys of a namespace with what they hold."""
    with redis.Redis.from_url(url) as client:
        return {key: client.dump(key) for key in client.scan_iter(f"{{{namespace}*")}


async def filled(settings: Settings) -> None:
    pipeline = await opened_pipeline(open_store(settings), settings)
    await pipeline.assign([0, 1], TOPIC_ID)
    items = [{"item_id": f"i{n}", "categories": [f"c{n % 3}"], "numeric_attributes": {"price": float(n)}} for n in range(30)]
    await pipeline.state.store_items([(str(item["item_id"]), StoredItem(0, n, orjson.dumps(item))) for n, item in enumerate(items)])
    await pipeline.process({0: records_of([play(f"u{n % 4}", f"i{n * 7 % 30}", n) for n in range(16)])})
    await pipeline.state.close()


async def test_the_command_reads_a_workers_state_and_changes_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace = f"rules-{secrets.token_hex(4)}"
    settings = small_settings(redis={"url": redis_url, "namespace": namespace}, lists={"size": 10})
    await filled(settings)
    before = stored(redis_url, namespace)
    assert len(before) > 10
    rules = small_settings(lists={"rules": RULES}).lists.rules
    chosen = settings.model_copy(update={"lists": settings.lists.model_copy(update={"rules": rules})})
    monkeypatch.setattr("workers.cli.rules.settings", lambda: chosen)

    def answer(*arguments: str) -> dict[str, Any]:
        assert run(["rules", "check", *arguments, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    report = await asyncio.to_thread(answer)
    assert report["n_users"] == 4 and [rule["items"] for rule in report["rules"]] == [10, 4]
    assert report["rules"][0]["before"] > 0 == report["rules"][0]["after"]
    assert len((await asyncio.to_thread(answer, "--user", "u1"))["users"]) == 1
    assert stored(redis_url, namespace) == before
    monkeypatch.setattr("workers.cli.rules.settings", lambda: settings)
    assert await asyncio.to_thread(run, ["rules", "check"]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
