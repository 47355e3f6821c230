"""Redis away, another topic of the same name, partitions that change hands: workers wait, refuse, or share, and lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.builders import play, records_of
from tests.conftest import TestStack
from tests.integration.test_stream import DEADLINE_S, short_stream, state_and_fold, topics_of, workers
from workers.bootstrap import open_store
from workers.kafka.offsets import group_lag
from workers.local.embedded import HOST, Child, start_server, valkey_binary
from workers.settings import Settings
from workers.stream.pipeline import Pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


class OwnValkey:
    """A server of one test that may be stopped and started again on its port with what it had on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.child, self.port = start_server("valkey", self._command, folder / "valkey.log")

    def _command(self, port: int) -> list[str | Path]:
        return [
            valkey_binary(),
            *("--bind", HOST, "--port", str(port), "--dir", str(self._folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"),
        ]

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def env(self) -> dict[str, str]:
        """What a worker needs to use this server, whatever the rest of the run uses."""
        return {"RECSYS_REDIS__URL": self.url, "RECSYS_REDIS__CLUSTER": "false"}

    def settings_of(self, settings: Settings) -> Settings:
        redis = settings.redis.model_copy(update={"url": SecretStr(self.url), "cluster": False})
        return settings.model_copy(update={"redis": redis})

    def kill(self) -> None:
        self.child.kill()

    def start_again(self) -> None:
        self.child = Child.start("valkey", self._command(self.port), self._folder / "valkey.log")


@contextlib.contextmanager
def own_valkey(folder: Path) -> Iterator[OwnValkey]:
    folder.mkdir()
    server = OwnValkey(folder)
    try:
        yield server
    finally:
        server.kill()


async def said(worker: Child, text: str) -> None:
    """Until a worker's log holds the text."""
    deadline = time.monotonic() + DEADLINE_S
    while text not in worker.log.read_text():
        assert worker.running, worker.last_lines(20)
        assert time.monotonic() < deadline, f"the worker never said {text!r}: {worker.last_lines(20)}"
        await asyncio.sleep(0.05)


async def test_events_published_while_redis_is_away_are_applied_when_it_is_back(
    stack: TestStack, settings: Settings, worker_env: dict[str, str], tmp_path: Path
) -> None:
    facts = short_stream(90)
    with own_valkey(tmp_path / "own") as server:
        mine = server.settings_of(settings)
        with workers(stack, {**worker_env, **server.env}) as (worker,):
            async with topics_of(mine) as topics:
                for fact in facts[:30]:
                    source_offset = await topics.event(fact)
                await topics.until_answered(facts[29].user_id, source_offset)
                server.kill()
                for fact in facts[30:60]:
                    await topics.event(fact)
                await said(worker, "waiting")
                server.start_again()
                last = {fact.user_id: await topics.event(fact) for fact in facts[60:]}
                for user_id, source_offset in last.items():
                    await topics.until_answered(user_id, source_offset)
                found, expected = await state_and_fold(mine, topics.log)
                assert found == expected and not topics.dead
            assert worker.running
            worker.process.terminate()
            assert worker.process.wait(20) == 0


async def test_two_workers_share_the_partitions_and_a_stopped_one_leaves_its_offsets_committed(
    stack: TestStack, settings: Settings, worker_env: dict[str, str]
) -> None:
    everything = list(range(settings.topics.partitions))
    with workers(stack, worker_env, 2) as pair:
        async with topics_of(settings) as topics:
            deadline = time.monotonic() + DEADLINE_S
            while sorted(_owned(pair[0]) + _owned(pair[1])) != everything or not all(map(_owned, pair)):
                assert time.monotonic() < deadline, f"shared out as {[_owned(worker) for worker in pair]}"
                await asyncio.sleep(0.05)
            last = {fact.user_id: await topics.event(fact) for fact in short_stream(80)}
            for user_id, source_offset in last.items():
                await topics.until_answered(user_id, source_offset)
            for worker in pair:
                worker.process.terminate()
            assert [worker.process.wait(20) for worker in pair] == [0, 0]
            lag = await asyncio.to_thread(group_lag, settings, settings.stream.group_id, settings.topics.events)
            assert lag == dict.fromkeys(everything, 0)
            found, expected = await state_and_fold(settings, topics.log)
            assert found == expected


def _owned(worker: Child) -> list[int]:
    """Partitions that a worker owns, as it says in its log."""
    said_last = re.findall(r"owns partitions \[([0-9, ]*)\]", worker.log.read_text())
    return [int(partition) for partition in said_last[-1].split(",") if partition.strip()] if said_last else []


async def test_a_worker_refuses_the_state_of_a_topic_that_was_made_again(
    stack: TestStack, settings: Settings, worker_env: dict[str, str]
) -> None:
    pipeline = Pipeline(settings, open_store(settings))
    await pipeline.open()
    await pipeline.assign([0], "the topic that was deleted")
    await pipeline.process({0: records_of([play("u0", "i0", 1)])})
    await pipeline.state.store.close()
    with workers(stack, worker_env) as (worker,):
        assert await asyncio.to_thread(worker.process.wait, DEADLINE_S) == 1
        assert "redis.namespace" in worker.last_lines(3) and "Traceback" not in worker.log.read_text()
