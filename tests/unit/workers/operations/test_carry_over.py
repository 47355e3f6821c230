"""What a rebuild keeps of items that their topic tells nothing of any more (C13)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workers.operations.carry_over
from schemas import Item, encode
from tests.builders import opened_pipeline, small_settings
from tests.memory_store import MemoryStore
from workers.operations.carry_over import carry_over
from workers.operations.catalogue_check import Catalogue, catalogue_differences
from workers.state.item_content import stored_content
from workers.state.layout import layout_of
from workers.state.port import ItemRecord, StoredItem
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline

SETTINGS = small_settings()


def record(item_id: str, source_offset: int, value: bytes | None) -> SimpleNamespace:
    return SimpleNamespace(partition=0, source_offset=source_offset, key=item_id.encode(), value=value)


def told(*records: SimpleNamespace, start: int = 0) -> Catalogue:
    """What is left of an items topic with one partition of ten offsets."""
    catalogue = Catalogue({0: start}, {0: 10}, {0: 10})
    for one in records:
        catalogue.take(one)
    return catalogue


async def carried(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, *, same_topic: bool = True
) -> tuple[dict[str, StoredItem], Pipeline]:
    """What the new generation stores after generation 0 knew a removed item, two described ones, and one that only events name."""

    async def is_same(*_: object) -> bool:
        return same_topic

    monkeypatch.setattr(workers.operations.carry_over, "_is_same_topic", is_same)
    store = MemoryStore()
    await store.open(layout_of(SETTINGS))
    numbers = await store.item_numbers(["played", "removed", "described", "hidden"])
    contents = (None, encode(Item(item_id="described")), encode(Item(item_id="hidden", available=False)))
    await store.upsert_items([ItemRecord(n, 0, 4 + n, content) for n, content in zip(numbers[1:], contents, strict=True)])
    await store.open(layout_of(SETTINGS), 1)
    await store.switch_generation(0, 1)
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.state.numbering.number(["hidden"])  # another numbering than before
    n_carried = await carry_over(SETTINGS, store, 0, pipeline, catalogue)
    assert await carry_over(SETTINGS, store, 0, pipeline, catalogue) == n_carried, "may be repeated"
    found = zip(names := await store.item_names(), await store.read_stored_items(range(len(names))), strict=True)
    kept = {name: stored for name, stored in found if stored is not None}
    assert len(kept) == n_carried
    wrong = dict((await catalogue_differences(store, catalogue, names))[1])
    assert not wrong.keys() & kept.keys(), "verify agrees"
    return kept, pipeline


async def test_removed_items_stay_removed_and_a_later_record_brings_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, pipeline = await carried(told(), monkeypatch, same_topic=False)
    assert kept == {"removed": StoredItem(0, 0, None)}, "of another topic nothing says that the others were removed"
    number = pipeline.state.numbering.numbers["removed"]
    follower = CatalogueFollower(pipeline.state)
    await follower.follow()
    assert not pipeline.state.engine.catalogue.recommendable(0)[number]
    await pipeline.state.store.upsert_items([ItemRecord(number, 0, 0, encode(Item(item_id="removed")))])
    await follower.follow()
    assert pipeline.state.engine.catalogue.recommendable(0)[number], "described again, even as the first record of a new topic"


async def test_a_described_item_whose_record_was_compacted_away_had_a_tombstone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, _ = await carried(told(record("hidden", 8, encode(Item(item_id="hidden")))), monkeypatch)
    assert kept == {name: StoredItem(0, 0, None) for name in ("removed", "described")}


async def test_what_retention_deleted_was_not_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = await carried(told(start=9), monkeypatch)
    assert set(kept) == {"removed"}


async def test_an_item_whose_newest_record_cannot_be_read_keeps_its_description(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = told(*(record(name, 8, b"{") for name in ("removed", "hidden")), record("described", 9, None))
    kept, _ = await carried(catalogue, monkeypatch)
    assert kept == {"removed": StoredItem(0, 0, None), "hidden": StoredItem(0, 0, encode(Item(item_id="hidden", available=False)))}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
@settings(max_examples=200)
def test_what_workers_store_of_a_record_is_what_the_check_expects(vector: list[float]) -> None:
    item = Item(item_id="i", embeddings={"z": tuple(vector)})
    catalogue = told(record("i", 4, encode(item)))
    for content in (stored_content(item), encode(item), stored_content(Item.model_validate_json(stored_content(item)))):
        assert catalogue.difference("i", StoredItem(0, 4, content)) is None
    other = Item(item_id="i", embeddings={"z": (*vector, 1.0)})
    assert catalogue.difference("i", StoredItem(0, 4, stored_content(other))) is not None
