"""Lists of items: published as they change, by one worker, never with an item that is gone, and nothing is lost by a failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from recsys.state.related import SIMILAR, TOGETHER
from schemas import Item
from schemas.decoding import decode_related
from schemas.related import BoughtTogether, SimilarItems, Trending
from tests.builders import NOW_S, TOPIC_ID, Fact, opened_pipeline, own, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.errors import Transient
from workers.settings import Settings
from workers.state.port import ItemRecord
from workers.stream import related_lists, trending_lists
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.related_lists import RelatedLists, owned_groups
from workers.stream.trending_lists import TrendingLists

RELATED = {"similar": True, "bought_together": True, "trending": True, "least_users": 2, "per_second": 1_000, "trending_least": 2}
SETTINGS = small_settings(related=RELATED)
MODELS: dict[str, Any] = {SIMILAR: SimilarItems, TOGETHER: BoughtTogether, "trending": Trending}


class World:
    """A worker that owns some partitions, a clock, and what is on the topics now."""

    def __init__(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
        self.pipeline, self.now_s, self.fails = pipeline, 0.0, False
        self.answers = True
        self.follower, self.partitions = CatalogueFollower(pipeline.state), Partitions(settings.topics.events)
        self.topics: dict[str, dict[str, Any]] = {SIMILAR: {}, TOGETHER: {}, "trending": {}}
        self.n_published = 0
        self.removed: list[str] = []
        self.old: dict[str, set[bytes]] = {}
        """Keys that have a list on a topic from before."""
        names = {settings.topics.similar: SIMILAR, settings.topics.bought_together: TOGETHER, settings.topics.trending: "trending"}
        clocks: dict[str, Any] = {"clock": lambda: self.now_s, "wall_clock": lambda: NOW_S + self.now_s}
        nobody: Any = None
        of: tuple[Any, ...] = settings, pipeline, self.partitions
        clocks["producer"] = lambda: nobody
        self.looks: dict[str, Any] = {topic: RelatedLists(*of, topic, **clocks) for topic in (SIMILAR, TOGETHER)}
        self.looks["trending"] = TrendingLists(*of, **clocks)
        world = self

        class Publisher:
            def __init__(self, producer: object, name: str) -> None:
                self.topic = names[name]

            async def publish(self, records: Mapping[int, Any]) -> None:
                if world.fails:
                    raise Transient("Kafka is away on purpose")
                for pairs in records.values():
                    for key, value in pairs:
                        world.n_published += 1
                        record = decode_related(MODELS[self.topic], value, key)
                        world.topics[self.topic].pop(key.decode(), None)
                        world.old.get(self.topic, set()).discard(key)
                        world.removed += [key.decode()] if value is None else []
                        if record is not None:
                            world.topics[self.topic][key.decode()] = json.loads(value)
                if not world.answers:
                    raise Transient("the broker's answer is lost on purpose")

        async def keys(_: object, name: str) -> set[bytes]:
            return {key.encode() for key in world.topics[names[name]]} | world.old.get(names[name], set())

        monkeypatch.setattr(related_lists, "published_keys", keys)
        monkeypatch.setattr(trending_lists, "published_keys", keys)
        monkeypatch.setattr(related_lists, "ListPublisher", Publisher)
        monkeypatch.setattr(trending_lists, "ListPublisher", Publisher)

    @classmethod
    async def opened(
        cls,
        monkeypatch: pytest.MonkeyPatch,
        store: MemoryStore | None = None,
        *,
        settings: Settings = SETTINGS,
        owns: tuple[int, ...] = (0, 1),
    ) -> World:
        pipeline = await opened_pipeline(store or MemoryStore(), settings)
        await pipeline.assign(owns, TOPIC_ID)
        world = cls(pipeline, monkeypatch, settings)
        own(world.partitions, owns)
        await world.follower.follow()
        return world

    async def put(self, source_offset: int, *items: Item) -> None:
        await put_items(self.pipeline, source_offset, *items)
        await self.follower.follow()

    async def buy(self, *bought: tuple[str, str], type: str = "purchase", hours: float = 0.0, first: int = 0) -> None:
        """Let users, all of partition 0, choose items, one after the other."""
        start = self.pipeline.last_applied(0)
        assert start is not None
        at_ms = int((NOW_S - 30 * 86_400 + hours * 3_600) * 1000)
        facts = [Fact(user, item, f"e{start + n}", type, None, at_ms + n) for n, (user, item) in enumerate(bought, 1)]
        await self.pipeline.process({0: records_of(facts, start + 1)})

    async def look(self, *topics: str, after_s: float = 1.0) -> int:
        """Look once; return how many records were published."""
        self.now_s += after_s
        before = self.n_published
        for topic in topics or (SIMILAR, TOGETHER):
            await self.looks[topic].look()
        return self.n_published - before

    def listed(self, topic: str, key: str) -> list[str]:
        record = self.topics[topic].get(key)
        return [] if record is None else [item["item_id"] for item in record["items"]]


def pairs(*items: str, users: int = 3) -> list[tuple[str, str]]:
    return [(f"{'/'.join(items)}{user}", item) for user in range(users) for item in items]


async def test_pairs_are_published_with_support_once_enough_users_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, *(Item(item_id=f"i{n}") for n in range(6)))
    await world.buy(*pairs("i0", "i1"), *pairs("i2", "i3"), ("x", "i0"), ("x", "i4"))
    assert await world.look(TOGETHER) == 4
    record = world.topics[TOGETHER]["i0"]
    (place,) = record["items"]
    assert place == {"rank": 1, "item_id": "i1", "score": place["score"], "support": 3, "confidence": 0.75, "lift": 1.75}
    assert record["users"] == 4 and record["generated_ts_ms"] == (NOW_S + 1) * 1000 and record["schema_version"] == 1
    assert "i4" not in world.topics[TOGETHER], "one user is not enough"
    assert await world.look(TOGETHER) == 0, "nothing has changed"
    await world.buy(("y", "i0"), ("y", "i4"))
    assert await world.look(TOGETHER) == 2
    assert [item["support"] for item in world.topics[TOGETHER]["i4"]["items"]] == [2]


@pytest.mark.parametrize("how", ["unavailable", "expires", "removed"])
async def test_an_item_that_is_gone_is_on_no_list_and_comes_back(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    world = await World.opened(monkeypatch)
    expires = Item(item_id="i1", categories=("a",), expires_ts_ms=(NOW_S + 10) * 1000 if how == "expires" else None)
    await world.put(0, Item(item_id="i0", categories=("a",)), expires, Item(item_id="i2", categories=("a",)), Item(item_id="i3"))
    await world.buy(*pairs("i0", "i1", "i2"), *pairs("i3", "i4"))
    await world.look()
    for topic in (SIMILAR, TOGETHER):
        assert {"i1", "i2"} == set(world.listed(topic, "i0"))
    if how == "unavailable":
        await world.put(1, Item(item_id="i1", categories=("a",), available=False))
    if how == "removed":
        (number,) = await world.pipeline.state.store.item_numbers(["i1"])
        await world.pipeline.state.store.upsert_items([ItemRecord(number, 0, 1, None)])
        await world.follower.follow()
    await world.look(after_s=20)
    for topic in (SIMILAR, TOGETHER):
        assert world.listed(topic, "i0") == ["i2"] and world.listed(topic, "i2") == ["i0"]
        assert set(world.listed(topic, "i1")) == (set() if how == "removed" else {"i0", "i2"}), "what is sold out keeps its own list"
    await world.put(2, Item(item_id="i1", categories=("a",)))
    await world.look()
    await world.look()
    for topic in (SIMILAR, TOGETHER):
        assert set(world.listed(topic, "i0")) == {"i1", "i2"}
        assert set(world.listed(topic, "i1")) == {"i0", "i2"}


async def test_a_list_of_which_nothing_is_left_becomes_a_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, Item(item_id="i0"), Item(item_id="i1"), Item(item_id="i2"))
    await world.buy(*pairs("i0", "i1"), ("x", "i2"))
    await world.look(TOGETHER)
    await world.put(1, Item(item_id="i1", available=False))
    assert await world.look(TOGETHER) == 1
    assert set(world.topics[TOGETHER]) == {"i1"}
    assert await world.look(TOGETHER) == 0


async def test_similar_items_follow_content_first_and_then_what_users_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    items = [Item(item_id=f"i{n}", categories=("a" if n < 3 else "b",)) for n in range(6)]
    await world.put(0, *items)
    await world.look(SIMILAR)
    assert set(world.listed(SIMILAR, "i0")) == {"i1", "i2"}
    assert [item["support"] for item in world.topics[SIMILAR]["i0"]["items"]] == [0, 0]
    await world.buy(*pairs("i0", "i5", users=40), type="play")
    await world.look(SIMILAR)
    best = world.topics[SIMILAR]["i0"]["items"][0]
    assert best["item_id"] == "i5" and best["support"] > 30 and best["score"] > 0.5


async def test_a_failed_publication_is_made_again_and_so_is_one_that_a_crash_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    world = await World.opened(monkeypatch, store)
    await world.put(0, *(Item(item_id=f"i{n}") for n in range(4)))
    await world.buy(*pairs("i0", "i1"), *pairs("i2", "i3"))
    world.fails = True
    with pytest.raises(Transient):
        await world.look(TOGETHER)
    successor = await World.opened(monkeypatch, store)
    assert await successor.look(TOGETHER) == 4
    third = await World.opened(monkeypatch, store)
    assert await third.look(TOGETHER) == 0, "it knows what is published"
    await third.put(1, Item(item_id="i1", available=False))
    fourth = await World.opened(monkeypatch, store)
    assert await fourth.look(TOGETHER) == 1, "an item went while nobody looked"


async def test_work_is_bounded_and_the_rest_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small_settings(related=RELATED | {"per_second": 2})
    world = await World.opened(monkeypatch, settings=settings)
    await world.put(0, *(Item(item_id=f"i{n}") for n in range(8)))
    await world.buy(*pairs("i0", "i1"), *pairs("i2", "i3"), *pairs("i4", "i5"), *pairs("i6", "i7"))
    assert await world.look(TOGETHER, after_s=1.0) == 2
    assert await world.look(TOGETHER, after_s=100.0) == 4, "two seconds' worth at most"
    assert await world.look(TOGETHER, after_s=1.0) == 2
    assert len(world.topics[TOGETHER]) == 8


async def test_each_group_belongs_to_one_worker_that_sees_what_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    first = await World.opened(monkeypatch, store, owns=(0,))
    await first.put(0, *(Item(item_id=f"i{n}") for n in range(6)))
    await first.buy(*pairs("i0", "i1"), *pairs("i2", "i3"), *pairs("i4", "i5"))
    await first.look(TOGETHER)
    mine = set(first.topics[TOGETHER])
    second = await World.opened(monkeypatch, store, owns=(1,))
    await second.look(TOGETHER)
    assert mine and set(second.topics[TOGETHER]) and mine | set(second.topics[TOGETHER]) == {f"i{n}" for n in range(6)}
    assert not mine & set(second.topics[TOGETHER])
    for groups, partitions in ((3, 2), (8, 4), (2, 5)):
        owners = [owned_groups({p: 1}, partitions, groups) for p in range(partitions)]
        assert sorted(group for own_groups in owners for group in own_groups) == list(range(groups))


async def publish_and_change_back(world: World) -> None:
    """Publish a list of two items for i0, without an answer from the broker, after one of which the state says again what was known."""
    await world.put(0, *(Item(item_id=f"i{n}", categories=("a",)) for n in range(3)), Item(item_id="i3"))
    await world.buy(*pairs("i0", "i1", "i2"), *pairs("i3", "i4"))
    await world.put(1, Item(item_id="i2", categories=("a",), available=False))
    await world.look(SIMILAR, TOGETHER)
    await world.put(2, Item(item_id="i2", categories=("a",)))
    assert await world.look(SIMILAR, TOGETHER) == 0, "its own list tells which others may name it again"
    world.answers = False
    for topic in (SIMILAR, TOGETHER):
        with pytest.raises(Transient):
            await world.look(topic)
    world.answers = True
    await world.put(3, Item(item_id="i2", categories=("a",), available=False))


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_list_that_arrived_without_an_answer_is_replaced_by_the_one_before(monkeypatch: pytest.MonkeyPatch, restarts: bool) -> None:
    world = await World.opened(monkeypatch, store := MemoryStore())
    await publish_and_change_back(world)
    assert {topic: set(world.listed(topic, "i0")) for topic in (SIMILAR, TOGETHER)} == {SIMILAR: {"i1", "i2"}, TOGETHER: {"i1", "i2"}}
    if restarts:
        successor = await World.opened(monkeypatch, store)
        successor.topics = world.topics
        world = successor
    await world.look(SIMILAR, TOGETHER)
    assert {topic: world.listed(topic, "i0") for topic in (SIMILAR, TOGETHER)} == {SIMILAR: ["i1"], TOGETHER: ["i1"]}
    assert await world.look(SIMILAR, TOGETHER) == 0


async def test_a_trending_list_that_arrived_without_an_answer_is_replaced_by_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, Item(item_id="i0", categories=("a",)), Item(item_id="i1", categories=("a",), available=False))
    await world.buy(*((f"u{n}", "i9") for n in range(40)), type="play")
    await world.buy(*((f"u{n}", f"i{n % 2}") for n in range(20)), type="play", hours=100)
    assert await world.look("trending") == 1 and world.listed("trending", "category:a") == ["i0"]
    await world.put(1, Item(item_id="i1", categories=("a",)))
    world.answers = False
    with pytest.raises(Transient):
        await world.look("trending", after_s=61)
    world.answers = True
    assert set(world.listed("trending", "category:a")) == {"i0", "i1"}
    await world.put(2, Item(item_id="i1", categories=("a",), available=False))
    assert await world.look("trending", after_s=61) == 1 and world.listed("trending", "category:a") == ["i0"]


async def test_what_another_worker_published_between_two_looks_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    first = await World.opened(monkeypatch, store := MemoryStore())
    await first.put(0, *(Item(item_id=f"i{n}", categories=("a",)) for n in range(3)), Item(item_id="i3"))
    await first.put(1, Item(item_id="i2", categories=("a",), available=False))
    await first.buy(*pairs("i0", "i1", "i2"), *pairs("i3", "i4"))
    await first.look(SIMILAR, TOGETHER, "trending")
    trending = first.listed("trending", "category:a")
    first.partitions.disown([0, 1])
    other = await World.opened(monkeypatch, store)
    await other.put(2, Item(item_id="i2", categories=("a",)))
    for _ in range(2):
        await other.look(SIMILAR, TOGETHER, "trending", after_s=200.0)
    assert {topic: set(other.listed(topic, "i0")) for topic in (SIMILAR, TOGETHER)} == {SIMILAR: {"i1", "i2"}, TOGETHER: {"i1", "i2"}}
    own(first.partitions, (0, 1))
    await first.put(3, Item(item_id="i2", categories=("a",), available=False))
    await first.look(SIMILAR, TOGETHER, "trending", after_s=1.0)
    assert {topic: other.listed(topic, "i0") for topic in (SIMILAR, TOGETHER)} == {SIMILAR: ["i1"], TOGETHER: ["i1"]}
    assert other.listed("trending", "category:a") == trending, "made at once after the partition came back"


async def test_a_worker_that_lost_its_partitions_while_it_made_a_list_publishes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, *(Item(item_id=f"i{n}", categories=("a",)) for n in range(4)))
    await world.buy(*((f"u{n}", "i9") for n in range(40)), type="play")
    await world.buy(*pairs("i0", "i1"), *pairs("i2", "i3"), hours=100)
    for again in (True, False):
        for topic in (SIMILAR, TOGETHER, "trending"):
            world.partitions.handing_over = LostMeanwhile(world.partitions, again=again)
            assert await world.look(topic, after_s=61) == 0 and not world.topics[topic]
            world.partitions.handing_over = asyncio.Lock()
            own(world.partitions, (0, 1))
    for topic in (SIMILAR, TOGETHER, "trending"):
        assert await world.look(topic, after_s=61) > 0


class LostMeanwhile(asyncio.Lock):
    """A lock that its owner gets once all partitions are lost, and perhaps owned again."""

    def __init__(self, partitions: Partitions, *, again: bool) -> None:
        super().__init__()
        self._partitions, self._again = partitions, again

    async def acquire(self) -> Literal[True]:
        self._partitions.disown([0, 1])
        if self._again:
            own(self._partitions, (0, 1))
        return await super().acquire()


async def test_lists_of_before_the_setting_come_with_the_round_of_all_items(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    before = await World.opened(monkeypatch, store, settings=small_settings())
    await before.put(0, *(Item(item_id=f"i{n}", categories=("a",)) for n in range(3)))
    await before.buy(*pairs("i0", "i1"), type="play")
    world = await World.opened(monkeypatch, store)
    assert await world.look(SIMILAR) == 3
    await world.pipeline.state.store.note_published(0, {})
    assert await world.look(SIMILAR) == 0


async def test_lists_of_a_state_that_was_lost_are_made_again_or_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    world.old = {TOGETHER: {b"i0", b"i2", b"gone"}, "trending": {b"category:a"}}
    await world.put(0, *(Item(item_id=f"i{n}") for n in range(4)))
    await world.buy(*pairs("i0", "i1"))
    assert await world.look(TOGETHER, "trending") == 5
    assert sorted(world.removed) == ["category:a", "gone", "i2"] and set(world.topics[TOGETHER]) == {"i0", "i1"}
    assert await world.look(TOGETHER, "trending", after_s=100) == 0


async def test_what_rises_is_listed_by_category_and_not_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, *(Item(item_id=f"i{n}", categories=("a", "b") if n % 2 else ("a",)) for n in range(6)))
    for day in range(5):
        await world.buy(*((f"u{n}-{day}", "i0") for n in range(20)), type="play", hours=24 * day)
        await world.buy(*((f"v{n}-{day}", "i2") for n in range(5)), type="play", hours=24 * day)
    assert await world.look("trending") == 0, "nobody's share grows"
    await world.buy(*((f"w{n}", "i0") for n in range(20)), *((f"w{n}", "i1") for n in range(10)), type="play", hours=121)
    assert await world.look("trending", after_s=30.0) == 0, "not before it is due"
    assert await world.look("trending", after_s=31.0) == 2
    assert world.listed("trending", "category:a") == ["i1"] == world.listed("trending", "category:b")
    record = world.topics["trending"]["category:a"]
    assert record["scope"] == "category" and record["name"] == "a" and record["items"][0]["count"] > 9 and record["items"][0]["rise"] > 2
    await world.put(1, Item(item_id="i1", categories=("a", "b"), available=False))
    assert await world.look("trending", after_s=0.5) == 2, "at once"
    assert world.topics["trending"] == {}


async def test_trending_lists_are_forgotten_with_their_group_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    world = await World.opened(monkeypatch, store)
    await world.put(0, Item(item_id="i0", categories=("a",)), Item(item_id="i1", categories=("c" * 200,)))
    await world.buy(*((f"u{n}", "i9") for n in range(40)), type="play")
    await world.buy(*((f"u{n}", "i0") for n in range(10)), *((f"u{n}", "i1") for n in range(10)), type="play", hours=100)
    assert await world.look("trending") == 1, "a category that is longer than a key may be has no list"
    again = await World.opened(monkeypatch, store)
    assert await again.look("trending") == 0
    await again.put(1, Item(item_id="i0", available=False))
    third = await World.opened(monkeypatch, store)
    assert await third.look("trending") == 1 and third.topics["trending"] == {}
