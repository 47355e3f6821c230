"""Lists that keep their order: a worker knows the lists that it made, and those that were published before it started."""

from __future__ import annotations

import orjson

from schemas import Item, Recommendations
from tests.builders import TOPIC_ID, opened_pipeline, own, play, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.kafka.records import Record
from workers.kafka.rights import kafka_rights
from workers.lists.encoding import ListHead
from workers.stream.kept_lists import list_looks
from workers.stream.list_renewal import ListRenewal
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline

STABLE = small_settings(lists={"stability": {"margin": 20.0, "users": 10}, "size": 6})
ITEMS = [Item(item_id=f"i{n}", categories=("c",)) for n in range(6)]


async def world(store: MemoryStore) -> Pipeline:
    pipeline = await opened_pipeline(store, STABLE)
    await pipeline.assign((0, 1), TOPIC_ID)
    return pipeline


def order_of(value: bytes | None) -> list[str]:
    return [item.item_id for item in Recommendations.model_validate_json(value or b"").items]


async def listed(pipeline: Pipeline, number: int) -> list[str]:
    outcome = await pipeline.process({0: records_of([play("u0", "i0", number, type="view")], number)})
    ((_, value),) = outcome.lists[0]
    return order_of(value)


async def test_a_list_keeps_the_order_of_the_one_before_also_of_another_worker() -> None:
    store = MemoryStore()
    first = await world(store)
    await put_items(first, 0, *ITEMS)
    before = await listed(first, 0)
    others = [play(f"u{2 * n}", before[-1], 100 + n) for n in range(1, 9)]  # what was last is trending now
    await first.process({0: records_of(others, 1)})
    assert await listed(first, 9) == before
    restarted = await world(store)
    assert await listed(restarted, 10) != before, "it knows no list before"
    restarted = await world(store)
    partitions = Partitions(STABLE.topics.events)
    own(partitions, [0, 1])
    renewal = ListRenewal(STABLE, restarted, partitions)
    published = orjson.dumps({"items": [{"item_id": item} for item in before]})
    renewal._note(0, [Record(STABLE.topics.recommendations, 0, 5, b"u0", published, 0)])
    assert await listed(restarted, 11) == before


async def test_a_deferred_list_keeps_the_order_too() -> None:
    pipeline = await world(MemoryStore())
    await put_items(pipeline, 0, *ITEMS)
    before = await listed(pipeline, 0)
    await pipeline.process({0: records_of([play(f"u{2 * n}", before[-1], 100 + n) for n in range(1, 9)], 1)})
    await pipeline.defer({0: ["u0"]})
    deferred = await pipeline.deferred_lists(0, 10)
    assert deferred is not None and order_of(deferred.records[0][1]) == before


async def test_a_state_with_other_numbers_forgets_the_lists() -> None:
    pipeline = await world(MemoryStore())
    await put_items(pipeline, 0, *ITEMS)
    await listed(pipeline, 0)
    head = ListHead("u0", 0, 0, None)
    assert pipeline.lists.listed_items.previous([head, ListHead("u9", 0, 0, None)], 6).min() == -1
    assert len(pipeline.lists.listed_items) == 1
    pipeline.state.resets += 1
    assert (pipeline.lists._previous([head]) == -1).all() and len(pipeline.lists.listed_items) == 0


async def test_only_workers_that_keep_orders_remember_lists_and_read_the_topic() -> None:
    pipeline, partitions = await world(MemoryStore()), Partitions(STABLE.topics.events)
    assert "list_renewal" in list_looks(STABLE, pipeline, partitions, producer=lambda: None)  # type: ignore[arg-type,return-value]
    plain = small_settings()
    assert list_looks(plain, pipeline, partitions, producer=lambda: None) == {}  # type: ignore[arg-type,return-value]
    reads = [any(right.operation == "Read" and right.name == one.topics.recommendations for right in kafka_rights(one, "stream"))
             for one in (STABLE, plain)]  # fmt: skip
    assert reads == [True, False]
