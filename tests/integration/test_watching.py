"""What people watch a running worker by: its metrics move with its events, and its log is JSON without ids."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.builders import play
from tests.conftest import TestStack
from tests.integration.test_stream import DEADLINE_S, topics_of, workers
from workers.local.embedded import HOST, free_port
from workers.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=60) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


async def scraped(port: int, holds: Callable[[Samples], bool]) -> Samples:
    """Scrape until the samples hold what is expected."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds(found := await asyncio.to_thread(scrape, port)):
        assert time.monotonic() < deadline, {key: value for key, value in found.items() if key[0].startswith("recsys")}
        await asyncio.sleep(0.1)
    return found


async def test_a_running_worker_shows_what_it_does_and_logs_json_without_ids(
    stack: TestStack, settings: Settings, worker_env: dict[str, str]
) -> None:
    port = free_port()
    env = {**worker_env, "RECSYS_METRICS__PORT": str(port), "RECSYS_LOGS__FORMAT": "json"}
    async with topics_of(settings) as topics:
        for n in range(6):
            await topics.item(f"film-{n}", title=f"Film {n}", categories=["drama"])
        with workers(stack, env) as (worker,):
            for n in range(4):
                await topics.until_answered("anna", await topics.event(play("anna", f"film-{n}", n, at_ms=int(time.time() * 1000))))
            await topics.record(b"anna", b"{")
            await topics.until(lambda: bool(topics.dead), "a dead letter")
            state = ("recsys_state_redis_bytes", frozenset({("of", "used")}))
            found = await scraped(port, lambda samples: samples.get(("recsys_records_total", frozenset()), 0) >= 5 and state in samples)
            assert found["recsys_ready", frozenset()] == 1 and found["recsys_state_items", frozenset()] == 6
            for since in ("event", "record"):
                label = frozenset({("since", since)})
                assert 3 <= found["recsys_freshness_seconds_count", label] <= 4, "the first list may be owed since the start"
                assert 0 < found["recsys_freshness_seconds_sum", label] < 4 * DEADLINE_S
            stages = {dict(labels)["stage"] for name, labels in found if name == "recsys_stage_seconds_count"}
            assert {"decode", "read", "derive", "encode", "apply", "commit", "refresh", "lists", "publish"} <= stages
            for direction in ("sent", "received"):
                assert found["recsys_redis_bytes_total", frozenset({("direction", direction)})] > 1_000
            assert found["recsys_redis_commands_total", frozenset()] >= found["recsys_redis_calls_total", frozenset()] > 10
            live = sum(value for (name, _), value in found.items() if name == "recsys_live_events_total")
            assert live >= 3, "all but the first event follow a list"
            assert sum(value for (name, _), value in found.items() if name == "recsys_dead_letters_total") == 1
            lines = worker.log.read_text().splitlines()
            said = [json.loads(line) for line in lines]
            assert said and {line["worker"] for line in said} == {"stream"} and not [line for line in said if line["level"] == "ERROR"]
            assert "anna" not in "".join(lines) and "film-" not in "".join(lines)
            exposed = " ".join(value for _, labels in found for _, value in labels)
            assert "anna" not in exposed and "film-" not in exposed
