"""Vectors of texts reach the catalogue of a worker like a model: announced, confirmed by the store, swapped, retired."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.catalogue.item_vectors import ItemVectors, text_digests
from schemas import Item, ModelAction
from tests.builders import opened_pipeline, small_settings
from tests.memory_store import MemoryStore
from tests.unit.workers.stream.test_followers import stored
from workers.models.store import ModelStore
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.model_sync import ModelFollower
from workers.stream.stored_models import StoredModels
from workers.trainer.text_round import store_vectors


def vectors(texts: dict[str, str]) -> ItemVectors:
    rows = np.array([[text == "war", text == "love"] for text in texts.values()], np.float16)
    return ItemVectors(list(texts), rows, text_digests(list(texts.values()), "e"), "e")


async def test_announced_vectors_are_in_the_catalogue_until_they_are_retired(tmp_path: Path) -> None:
    settings = small_settings(trainer={"model_url": str(tmp_path / "models")})
    models, memory = ModelStore(settings.trainer.model_url), MemoryStore()
    pipeline = await opened_pipeline(memory, settings)
    state, found = pipeline.state, StoredModels(settings)
    follower = ModelFollower(state, found.load, found.serving, first_wait_s=0.0)
    await stored(memory, *(Item(item_id=item_id) for item_id in "abc"))
    await CatalogueFollower(state).follow()
    assert not state.engine.catalogue.features[:3].any()

    async def announced(order: int) -> None:
        champion = models.champion("text")
        announcement = None if champion is None else models.announcement("text", champion, ModelAction.PROMOTED, champion=None, reason="")
        await memory.set_serving("text", b"" if announcement is None else announcement.model_dump_json().encode(), order)
        for _ in range(50):
            await follower.follow()
            if state.versions.get("text") == champion and not follower._loading:
                break
            for task in [task for _, task in follower._loading.values()]:
                await task

    def alike(one: str, other: str) -> float:
        numbers = state.numbering.numbers
        features = state.engine.catalogue.features
        return float(features[numbers[one]] @ features[numbers[other]])

    store_vectors(vectors({"a": "war", "b": "war", "c": "love", "later": "love"}), 4, models, 0.1, 3)
    await announced(1)
    assert state.versions == {"text": "text-000001"}
    assert (round(alike("a", "b"), 3), round(alike("a", "c"), 3)) == (1.0, 0.0)
    assert round(alike("c", "later"), 3) == 1.0, "an item that the catalogue hears of later"
    store_vectors(vectors({"a": "love", "b": "war", "c": "love"}), 1, models, 0.1, 3)
    await announced(2)
    assert state.versions == {"text": "text-000002"}
    assert (round(alike("a", "b"), 3), round(alike("a", "c"), 3), alike("c", "later")) == (0.0, 1.0, 0.0)
    await state._reset()
    await CatalogueFollower(state).follow()
    assert round(alike("a", "c"), 3) == 1.0, "another state in Redis changes nothing of texts"
    models.retire("text")
    await announced(3)
    assert state.versions == {} and not state.engine.catalogue.features[:3].any()
