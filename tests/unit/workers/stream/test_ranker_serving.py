"""A stored ranker is swapped in between two batches, lists are then those of the core with it, and retiring it leaves the recipe alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.lists.learned.feature_names import WITHOUT_SHOWN
from schemas import ModelAction, encode
from tests.unit.recsys.lists.test_learned_lists import stump
from tests.unit.workers.stream.test_followers import followed
from tests.unit.workers.stream.test_recipe_serving import World, save, shown
from workers.models.manifest import StoreError

TOWARDS = stump("popularity.all", -1.0, 0.0, 9.0)
AGAINST = replace(stump("cooccurrence.rank", 1.5, 0.0, 9.0), feature_version=WITHOUT_SHOWN)
"""As an earlier version of this program has stored it."""


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


async def announce(world: World, version: str) -> list[str]:
    world.order += 1
    announcement = world.store.announcement("ranker", version, ModelAction.PROMOTED, champion=None, reason="")
    await world.follows.state.store.set_serving("ranker", encode(announcement), world.order)
    return await followed(world.follower)


async def test_lists_after_a_swap_are_those_of_the_core_with_that_ranker_until_it_is_retired(world: World) -> None:
    plain, _ = await world.lists()
    assert all("ranker" not in made.model_versions for made in plain.values())
    for ranker in (TOWARDS, AGAINST):
        version = save(world.store, ranker)
        assert await announce(world, version) == [f"ranker/{version}"] and world.follower.missing() == []
        world.by_hand.state.engine.use_ranker(ranker)
        one, other = await world.lists(20)
        assert shown(one) == shown(other) and {made.model_versions["ranker"] for made in one.values()} == {version}
    world.by_hand.state.engine.use_ranker(None)
    one, other = await world.lists(20)
    assert shown(one) != shown(other), "the ranker makes a difference"
    world.store.retire("ranker")
    await world.follows.state.store.set_serving("ranker", b"", world.order + 1)
    await followed(world.follower)
    one, other = await world.lists(20)
    assert shown(one) == shown(other) and world.follows.state.versions == {}


async def test_a_ranker_that_was_changed_in_the_store_or_reads_other_features_is_refused(world: World, tmp_path: Path) -> None:
    await world.lists()
    version = save(world.store, TOWARDS)
    path = tmp_path / "models/ranker" / version / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["feature_version"] = 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="features of version 1"):
        world.store.load_stored("ranker", version)
    assert await announce(world, version) == []
    one, other = await world.lists(20)
    assert shown(one) == shown(other)
    tensors = path.with_name("model.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    with pytest.raises(StoreError, match="SHA-256"):
        world.store.load_stored("ranker", version)
