"""The stream worker as a process, on a real broker and a real Redis: what it publishes, what it refuses, and that nothing is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine
from recsys.state.interactions import Interactions
from recsys.state.user_table import quantise_weights
from schemas import Recommendations
from schemas.events import EventType
from tests.builders import START_MS, learn, play, records_of, value_of
from tests.fold import Fact, State, fold, read_state
from workers.bootstrap import open_store
from workers.errors import Fatal
from workers.kafka.connection import aiokafka_consumer_arguments, aiokafka_producer_arguments
from workers.kafka.partitioner import partition_for
from workers.lists.engine_config import engine_config
from workers.local.embedded import Child
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.stream.pipeline import Pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

DEADLINE_S = 180.0
CATEGORIES = ("drama", "comedy", "war")


class Topics:
    """A producer, and everything that came on the recommendations and dead-letter topics so far."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        self.settings, self._producer, self._consumer = settings, producer, consumer
        self.log: dict[int, list[Fact | None]] = {partition: [] for partition in range(settings.topics.partitions)}
        self.lists: dict[str, list[Recommendations]] = {}
        self.dead: list[dict[str, Any]] = []

    async def event(self, fact: Fact) -> int:
        """Publish an event as a user's client would; its offset."""
        return await self.record(fact.user_id.encode(), value_of(fact), fact)

    async def events(self, facts: Sequence[Fact]) -> dict[str, int]:
        """Publish events in their order without waiting for each; user ▸ offset of the last one."""
        sending = []
        for fact in facts:
            partition = partition_for(fact.user_id.encode(), self.settings.topics.partitions)
            self.log[partition].append(fact)
            key = fact.user_id.encode()
            sending.append(await self._producer.send(self.settings.topics.events, value_of(fact), key=key, partition=partition))
        sent = await asyncio.gather(*sending)
        assert all(self.log[at.partition][at.offset] is fact for at, fact in zip(sent, facts, strict=True))
        return {fact.user_id: int(at.offset) for at, fact in zip(sent, facts, strict=True)}

    async def record(self, key: bytes | None, value: bytes, fact: Fact | None = None) -> int:
        """Publish any record; its offset."""
        partition = partition_for(key or b"", self.settings.topics.partitions)
        sent = await self._producer.send_and_wait(self.settings.topics.events, value, key=key, partition=partition)
        assert sent.offset == len(self.log[partition])
        self.log[partition].append(fact)
        return int(sent.offset)

    async def item(self, item_id: str, **fields: Any) -> None:
        await self._keyed(self.settings.topics.items, item_id, {"item_id": item_id, **fields})

    async def remove_item(self, item_id: str) -> None:
        await self._producer.send_and_wait(self.settings.topics.items, None, key=item_id.encode())

    async def profile(self, user_id: str, **fields: Any) -> None:
        await self._keyed(self.settings.topics.users, user_id, {"user_id": user_id, **fields})

    async def _keyed(self, topic: str, key: str, record: Mapping[str, Any]) -> None:
        partition = partition_for(key.encode(), self.settings.topics.partitions)
        await self._producer.send_and_wait(topic, json.dumps(record).encode(), key=key.encode(), partition=partition)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Read on until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S:.0f} s"
            for at, records in (await self._consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    if at.topic == self.settings.topics.dead_letters:
                        self.dead.append(json.loads(record.value))
                    else:
                        made = Recommendations.model_validate_json(record.value)
                        assert made.user_id.encode() == record.key
                        self.lists.setdefault(made.user_id, []).append(made)

    def answered(self, user_id: str, source_offset: int) -> bool:
        """Whether a list of the user is up to date with this offset."""
        return any(made.trigger.source_offset >= source_offset for made in self.lists.get(user_id, []))

    async def until_answered(self, user_id: str, source_offset: int) -> Recommendations:
        await self.until(lambda: self.answered(user_id, source_offset), f"a list of {user_id} for offset {source_offset}")
        return max(self.lists[user_id], key=lambda made: (made.trigger.source_offset, made.generated_ts_ms))


@asynccontextmanager
async def topics_of(settings: Settings) -> AsyncIterator[Topics]:
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings), max_request_size=8_000_000, max_batch_size=8_000_000)
    arguments = {**aiokafka_consumer_arguments(settings), "auto_offset_reset": "earliest", "enable_auto_commit": False}
    consumer = AIOKafkaConsumer(**arguments, group_id=None)
    await producer.start()
    try:
        await consumer.start()
        try:
            names = (settings.topics.recommendations, settings.topics.dead_letters)
            partitions = [settings.topics.partitions, 1]
            consumer.assign([TopicPartition(name, p) for name, count in zip(names, partitions, strict=True) for p in range(count)])
            yield Topics(settings, producer, consumer)
        finally:
            await consumer.stop()
    finally:
        await producer.stop()


@contextmanager
def workers(stack: Any, env: Mapping[str, str], count: int = 1) -> Iterator[list[Child]]:
    """Stream workers of these settings; all of them are gone afterwards."""
    started = [stack.start_worker("stream", env) for _ in range(count)]
    try:
        yield started
    finally:
        stack.embedded.stop_workers()


async def state_and_fold(settings: Settings, log: Mapping[int, Sequence[Fact | None]]) -> tuple[State, State]:
    """What Redis holds once every partition is applied to its end, and what it should."""
    store = open_store(settings)
    await store.open(layout_of(settings))
    try:
        deadline = time.monotonic() + DEADLINE_S
        wanted = {p: len(records) - 1 for p, records in log.items() if records}
        while any(
            (-1 if (w := mark) is None else w.last_applied_offset) < wanted[p] for p, mark in (await store.watermarks(list(wanted))).items()
        ):
            assert time.monotonic() < deadline, "the log was not applied to its end"
            await asyncio.sleep(0.05)
        expected = fold(log, settings)
        return await read_state(store, settings, expected), expected
    finally:
        await store.close()


def short_stream(n_events: int) -> list[Fact]:
    """Plays of a few users with tastes of their own, a minute apart."""
    random = np.random.default_rng(4)
    users = random.integers(0, 7, n_events).tolist()
    items = (random.integers(0, 12, n_events) * 3 + np.array(users) % 3).tolist()
    return [play(f"u{user}", f"i{item}", n, at_ms=START_MS + 60_000 * n) for n, (user, item) in enumerate(zip(users, items, strict=True))]


async def test_a_short_stream_gives_the_lists_of_the_core_alone(stack: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    facts = short_stream(120)
    items = list(dict.fromkeys(fact.item_id for fact in facts))
    with workers(stack, worker_env):
        async with topics_of(settings) as topics:
            for number, item_id in enumerate(items):
                await topics.item(item_id, title=item_id, categories=[CATEGORIES[number % 3]])
            store = open_store(settings)
            await store.open(layout_of(settings))
            deadline = time.monotonic() + DEADLINE_S
            while len(await store.item_names()) < len(items) or len((await store.changed_items(0))[1]) < len(items):
                assert time.monotonic() < deadline, "the catalogue was not taken in"
                await asyncio.sleep(0.05)
            numbering = await store.item_names()
            await store.close()
            # one at a time, so that each is a batch of its own
            published = [await topics.until_answered(fact.user_id, await topics.event(fact)) for fact in facts]
            found, expected = await state_and_fold(settings, topics.log)
    assert found == expected

    engine = Engine(engine_config(settings))
    engine.ensure_items(len(numbering))
    engine.neighbours.hold_all()
    for item_id in items:
        engine.describe_item(numbering.index(item_id), ItemContent(categories=[CATEGORIES[items.index(item_id) % 3]]))
    for fact, made in zip(facts[-60:], published[-60:], strict=True):  # the catalogue has surely reached the worker by then
        assert made.trigger.event_id == fact.event_id
    for place, (fact, made) in enumerate(zip(facts, published, strict=True)):
        if fact.user_id not in engine.users:
            engine.users.load({fact.user_id: None})
        slot = engine.users.slot(fact.user_id)
        batch = Interactions(
            np.array([slot]),
            np.array([1]),
            np.array([numbering.index(fact.item_id)], np.uint32),
            np.array([fact.event_ts_ms // 1000], np.uint32),
            quantise_weights(np.ones(1, np.float32)),
            np.full(1, EventType.PLAY.code, np.int8),
            np.zeros(1, np.int32),
            np.array([place]),
        )
        engine.advance_time(fact.event_ts_ms // 1000)
        learn(engine, batch)
        lists = engine.recommend(np.array([slot]), {}, fact.event_ts_ms // 1000)
        if place < 60:
            continue
        listed = np.isfinite(lists.scores[0])
        assert [item.item_id for item in made.items] == [numbering[n] for n in lists.items[0][listed].tolist()]
        assert [item.score for item in made.items] == pytest.approx(lists.scores[0][listed].tolist(), abs=1e-3)


BAD = {
    "not json": (b"u1", b"{bad", "record"),
    "wrong type": (b"u1", b'{"event_id":"a","user_id":"u1","item_id":7,"type":"play","event_ts_ms":1700000000000}', "item_id"),
    "nan": (b"u1", b'{"event_id":"a","user_id":"u1","item_id":"i","type":"rating","value":NaN,"event_ts_ms":1700000000000}', "value"),
    "type": (b"u1", b'{"event_id":"a","user_id":"u1","item_id":"i","type":"smell","event_ts_ms":1700000000000}', "type"),
    "version": (b"u1", b'{"schema_version":9,"event_id":"a","user_id":"u1","item_id":"i","type":"play","event_ts_ms":1}', "schema_version"),
    "size": (b"u1", b'{"event_id":"' + b"x" * 5_000_000 + b'"}', "record"),
    "nesting": (b"u1", b'{"context":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "record"),
    "future": (b"u1", b'{"event_id":"a","user_id":"u1","item_id":"i","type":"play","event_ts_ms":4000000000000}', "event_ts_ms"),
    "key": (b"", b'{"event_id":"a","user_id":"u1","item_id":"i","type":"play","event_ts_ms":1700000000000}', "key"),
    "other key": (b"u2", b'{"event_id":"a","user_id":"u1","item_id":"i","type":"play","event_ts_ms":1700000000000}', "key"),
}


async def test_bad_records_become_dead_letters_and_lose_nothing_else(stack: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    real_broker = stack.kafka is not None
    bad = {name: case for name, case in BAD.items() if not (real_broker and name == "size")}  # Apache Kafka refuses 5 MB by itself
    facts = short_stream(40)
    async with topics_of(settings) as topics:
        last: dict[str, int] = {}
        for n, (key, value, _) in enumerate(bad.values()):
            for fact in facts[4 * n : 4 * n + 4]:
                last[fact.user_id] = await topics.event(fact)
            await topics.record(key, value)
        odd = play("u1", "odd", 99_999, at_ms=facts[-1].event_ts_ms)  # C05: it counts, whatever its optional fields hold
        context = {"deep": {"a": []}, "url": "x" * 999, **{str(n): n for n in range(40)}}
        optional = {"position": 0, "value": "x", "list_id": "", "context": context}
        last["u1"] = await topics.record(b"u1", json.dumps({**json.loads(value_of(odd)), **optional}).encode(), odd)
        with workers(stack, worker_env):
            await topics.until(lambda: len(topics.dead) >= len(bad), "dead letters")
            for user_id, source_offset in last.items():
                await topics.until_answered(user_id, source_offset)
            found, expected = await state_and_fold(settings, topics.log)
        assert found == expected
        assert sorted(letter["field"] for letter in topics.dead) == sorted(field for _, _, field in bad.values())
        assert all(letter["payload_base64"] is None and letter["source_topic"] == settings.topics.events for letter in topics.dead)


async def test_the_catalogue_and_profiles_reach_the_lists(stack: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    with workers(stack, worker_env):
        async with topics_of(settings) as topics:
            for n in range(9):
                await topics.item(f"i{n}", title=f"film {n}", categories=[CATEGORIES[n % 3]])
            first = await topics.until_answered("u0", await topics.event(play("u0", "i0", 0)))
            assert "i0" not in {item.item_id for item in first.items}
            await topics.profile("newcomer", preferred_categories=["comedy"])
            made = await topics.until_answered("newcomer", 0)
            assert made.trigger.event_id is None
            assert {item.item_id for item in made.items[:3]} == {"i1", "i4", "i7"}

            await topics.remove_item("i3")
            for n in range(1, 200):
                made = await topics.until_answered("u0", await topics.event(play("u0", "i0", n)))
                if "i3" not in {item.item_id for item in made.items}:
                    break
            assert "i3" not in {item.item_id for item in made.items}


async def test_a_killed_worker_loses_nothing_and_the_other_goes_on(stack: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    facts = short_stream(600)
    with workers(stack, worker_env, 2) as pair:
        async with topics_of(settings) as topics:
            last: dict[str, int] = {}
            for n, fact in enumerate(facts):
                last[fact.user_id] = await topics.event(fact)
                if n == 300:
                    await topics.until(lambda: bool(topics.lists), "a first list")
                    pair[0].process.kill()
            for user_id, source_offset in last.items():
                await topics.until_answered(user_id, source_offset)
            found, expected = await state_and_fold(settings, topics.log)
            assert found == expected
            assert not topics.dead
        assert pair[1].running
        pair[1].process.terminate()
        assert pair[1].process.wait(20) == 0


async def test_state_of_another_topic_is_refused_with_the_remedy(settings: Settings) -> None:
    pipeline = Pipeline(settings, open_store(settings))
    await pipeline.open()
    try:
        await pipeline.assign([0], "one")
        await pipeline.process({0: records_of([play("u0", "i0", 0)])})
        with pytest.raises(Fatal, match=r"redis\.namespace"):
            await pipeline.assign([0], "another")
    finally:
        await pipeline.state.store.close()
