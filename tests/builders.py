"""Builders for tests of the core and the pipeline: small settings, events, logs, and a store that fails on demand."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from recsys.engine import Engine
from recsys.lists.feature_names import FEATURES
from recsys.lists.recipe import Recipe
from recsys.state.interactions import Interactions
from schemas import Item, encode
from tests.fold import Fact
from tests.memory_store import MemoryStore
from workers.errors import Transient
from workers.kafka.records import Record
from workers.settings import Settings, load_settings
from workers.state.port import ItemRecord, StateStore
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline

NOW_S = 1_800_000_000
START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
TOPIC_ID = "topic"
ALL_TYPES = ("impression", "view", "play", "click", "like", "rating", "add_to_cart", "purchase", "share", "dislike", "hide")


def small_settings(**sections: Mapping[str, Any]) -> Settings:
    """Return settings with two partitions, three item groups, epochs of a day, and limits that a short log reaches.

    `duplicate_chunk` and `user_budget` are below what settings allow.
    """
    state = {"item_groups": 3, "half_life_days": 1.0, "history_length": 20, "seen_length": 3, "duplicate_chunk": 16, "live_epochs": 32}
    state |= {"user_budget": 30} | dict(sections.get("state", {}))
    unbounded = {name: state.pop(name) for name in ("duplicate_chunk", "user_budget")}
    others = {name: dict(values) for name, values in sections.items() if name != "state"}
    topics = {"partitions": 2, "wrong_partition": "accept"} | others.pop("topics", {})  # tests choose the partitions of their users
    settings = load_settings(topics=topics, **others, state=state)
    return settings.model_copy(update={"state": settings.state.model_copy(update=unbounded)})


def value_of(fact: Fact) -> bytes:
    """Return the record of an event, or that of an erasure."""
    if fact.erases:
        return orjson.dumps({"user_id": fact.user_id, "type": "erase", "event_ts_ms": fact.event_ts_ms})
    fields: dict[str, Any] = {"event_id": fact.event_id, "user_id": fact.user_id, "item_id": fact.item_id}
    fields |= {"type": fact.type, "event_ts_ms": fact.event_ts_ms}
    return orjson.dumps(fields if fact.value is None else fields | {"value": fact.value})


def erase(user_id: str, number: int) -> Fact:
    """Return the record that erases a user, by default `number` seconds after the start."""
    return Fact(user_id, "", f"e{number}", "erase", None, START_MS + number * 1000)


def play(user_id: str, item_id: str, number: int, *, at_ms: int | None = None, type: str = "play", value: float | None = None) -> Fact:
    """Return an event with the id `e<number>`, by default `number` seconds after the start."""
    return Fact(user_id, item_id, f"e{number}", type, value, START_MS + number * 1000 if at_ms is None else at_ms)


def records_of(facts: Sequence[Fact | None], first_offset: int = 0) -> list[Record]:
    """Return records at successive offsets. None becomes one of several kinds of unreadable record."""
    future = value_of(Fact("u0", "i0", "future", "play", None, NOW_S * 1000 + DAY_MS))
    broken = (b"{", b"", b'{"event_id": 1}', b"\xff\xfe", future)
    return [
        Record("events", 0, at, b"u0", broken[at % len(broken)], NOW_S * 1000)
        if fact is None
        else Record("events", 0, at, fact.user_id.encode(), value_of(fact), NOW_S * 1000)
        for at, fact in enumerate(facts, first_offset)
    ]


def random_log(
    seed: int, n_events: int, *, n_users: int = 4, n_items: int | None = None, partitions: int = 2, erasures: float = 0.0
) -> dict[int, list[Fact | None]]:
    """Return a log with events of every type: ratings, dislikes after likes, repeats, duplicates, unreadable records, events that are a
    little or very late, several epochs, and a bot that goes to and fro between two items. Without `n_items` there are few or many. A share
    of `erasures` of the records erases a user."""
    chance = random.Random(seed)
    n_items = n_items or chance.choice((8, 8, 40))
    log: dict[int, list[Fact | None]] = {partition: [] for partition in range(partitions)}
    at_ms = START_MS
    for number in range(n_events):
        user = min(chance.randrange(n_users), chance.randrange(n_users))  # the first ones do more, so that their histories overflow
        mine = log[user % partitions]
        at_ms += chance.choice((0, 1_000, 60_000, 3_600_000, DAY_MS // 3))
        kind = chance.random()
        if user == n_users - 1 and kind > 0.75:
            kind, at_ms = 0.5, at_ms + 1_000
            mine += [Fact(f"u{user}", f"i{n % 2}", f"e{number}/{n}", "like", None, at_ms + n) for n in range(9)]
        earlier = [fact for fact in mine if fact is not None and not fact.erases]
        if erasures and chance.random() < erasures:
            mine.append(erase(f"u{user}", number))
        elif kind < 0.05:
            mine.append(None)
        elif kind < 0.15 and earlier:
            mine.append(chance.choice(earlier[-20:]))
        else:
            late_ms = chance.choice((0, 0, 0, 30_000, 900_000, DAY_MS // 2, DAY_MS))
            what = chance.choice(ALL_TYPES + ("play",) * 10)
            value = chance.choice((0.5, 1.0, 2.5, 3.0, 4.5, 5.0)) if what == "rating" else None
            mine.append(Fact(f"u{user}", f"i{chance.randrange(n_items)}", f"e{number}", what, value, at_ms - late_ms))
    return log


Ints = Sequence[int] | NDArray[np.integer[Any]]


def batch_of(
    slots: Ints,
    counts: Ints,
    items: Ints,
    times_s: Ints,
    weights: Ints,
    types: Ints | None = None,
) -> Interactions:
    """Return interactions from plain lists or arrays, in partition 0 with offsets in order; of type 0 unless `types` are given."""
    n = len(items)
    return Interactions(
        np.array(slots, np.int64),
        np.array(counts, np.int64),
        np.array(items, np.uint32),
        np.array(times_s, np.uint32),
        np.array(weights, np.int8),
        np.zeros(n, np.int8) if types is None else np.array(types, np.int8),
        np.zeros(n, np.int32),
        np.arange(n, dtype=np.int64),
    )


def learn(engine: Engine, batch: Interactions) -> None:
    """Let an engine that nobody else feeds learn a batch."""
    derived = engine.derive(batch)
    engine.learn_items(derived.delta(engine.config))
    engine.learn_histories(derived)


async def opened_pipeline(store: StateStore, settings: Settings, *, ranks: bool = True, now_s: float = NOW_S) -> Pipeline:
    """Return a pipeline with an opened store and a clock that stands still."""
    pipeline = Pipeline(settings, store, ranks=ranks, wall_clock=lambda: now_s)
    await pipeline.open()
    return pipeline


async def put_items(pipeline: Pipeline, source_offset: int, *items: Item) -> None:
    """Store items as the items topic gives them at this offset."""
    store = pipeline.state.store
    numbers = await store.item_numbers([item.item_id for item in items])
    await store.upsert_items([ItemRecord(number, 0, source_offset, encode(item)) for number, item in zip(numbers, items, strict=True)])


def own(partitions: Partitions, numbers: Sequence[int]) -> None:
    """Own these partitions from their start."""
    partitions.take(numbers)
    for number in numbers:
        partitions.own(number, 0, has_deferred_lists=False)


async def run_log(log: Mapping[int, Sequence[Fact | None]], settings: Settings, store: StateStore | None = None) -> Pipeline:
    """Apply a log in one batch and return the pipeline."""
    pipeline = await opened_pipeline(store or MemoryStore(), settings)
    await pipeline.assign(list(log), TOPIC_ID)
    await pipeline.process({partition: records_of(facts) for partition, facts in log.items()})
    return pipeline


class Fault(Enum):
    """A failure of one call of the store."""

    BEFORE = "before"
    """The call never arrives."""
    AFTER = "after"
    """The call is done, the answer is lost."""
    HALF = "half"
    """The call is done for the first half of its groups or partitions; the answer is lost."""


class FailingStore:
    """A store whose next calls fail as in `faults`: one entry per call, None for success; later calls succeed."""

    def __init__(self, inner: StateStore, faults: Iterable[Fault | None] = ()) -> None:
        self._inner = inner
        self.faults = deque(faults)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(method) or name in ("open", "close"):
            return method

        async def call(*args: Any) -> Any:
            fault = self.faults.popleft() if self.faults else None
            if fault is None:
                return await method(*args)
            if fault is Fault.AFTER:
                await method(*args)
            if fault is Fault.HALF and name == "apply_items":
                await method(args[0], args[1][: (len(args[1]) + 1) // 2])
            if fault is Fault.HALF and name == "commit_users":
                await method(args[0][: (len(args[0]) + 1) // 2])
            raise Transient(f"{name} failed on purpose")

        return call


def recipe_of(extras: Mapping[str, tuple[float, float]] | None = None, /, **linear: float) -> Recipe:
    """Return a recipe without hidden units that gives weights to some features and to some `extras`, and none to all others."""
    weights = np.array([linear.get(name, 0.0) for name in FEATURES], np.float32)
    none, hidden = np.zeros(0, np.float32), np.zeros((len(weights), 0), np.float32)
    return Recipe(np.zeros_like(weights), np.ones_like(weights), weights, hidden, none, none, extras=extras or {})
