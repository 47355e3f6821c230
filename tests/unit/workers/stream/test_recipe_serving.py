"""A stored recipe is swapped in between two batches, lists are then those of the core with it, and one that does not fit serves nobody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from schemas import ModelAction, Recommendations, encode
from tests.builders import opened_pipeline, random_log, recipe_of, records_of, small_settings
from tests.memory_store import MemoryStore
from tests.unit.workers.stream.test_followers import followed
from tests.unit.workers.stream.test_pipeline import lists_of
from workers.models.manifest import StoreError, TrainedOn
from workers.models.store import ModelStore
from workers.stream.model_sync import ModelFollower
from workers.stream.stored_models import StoredModels

TRAINED_ON = TrainedOn(n_events=9, first_event_ts_ms=1_700_000_000_000, last_event_ts_ms=1_700_000_000_001, next_offsets={0: 9})
FASHION, HABIT = recipe_of(**{"popularity.10m": 1.0}), recipe_of(**{"cooccurrence.relative": 2.0, "popularity.all": -0.5})


def save(store: ModelStore, made: Recipe | LearnedRanker) -> str:
    """Store and promote a recipe or a ranker; return its version."""
    manifest = store.save(
        made,
        parent=None,
        metrics={"challenger": {"ndcg@10": 0.1}},
        decision="better",
        trained_on=TRAINED_ON,
        trained_ts_ms=1_700_000_000_002,
        train_s=0.1,
        refit=None,
        code_version="1",
    )
    store.promote(made.kind, manifest.version)
    return manifest.version


class World:
    """Two workers with the same events: one follows the model store, and the core of the other one gets its recipe by hand."""

    def __init__(self, folder: Path) -> None:
        self.settings = small_settings(trainer={"model_url": str(folder / "models")})
        self.store = ModelStore(self.settings.trainer.model_url)
        self.log, self.applied = random_log(5, 240, n_users=12, n_items=30), dict.fromkeys((0, 1), 0)
        self.order = 0

    async def open(self) -> World:
        self.follows, self.by_hand = [await opened_pipeline(MemoryStore(), self.settings) for _ in range(2)]
        for pipeline in (self.follows, self.by_hand):
            await pipeline.assign([0, 1], "t" * 22)
        stored = StoredModels(self.settings)
        self.follower = ModelFollower(self.follows.state, stored.load, stored.serving, first_wait_s=0.0)
        return self

    async def announce(self, version: str) -> list[str]:
        """Announce a version, and return what was swapped in."""
        self.order += 1
        announcement = self.store.announcement("recipe", version, ModelAction.PROMOTED, champion=None, reason="")
        await self.follows.state.store.set_serving("recipe", encode(announcement), self.order)
        return await followed(self.follower)

    async def lists(self, n_events: int = 60) -> tuple[dict[str, Recommendations], dict[str, Recommendations]]:
        """Apply the next events in both workers, and return the lists of both by user."""
        batch = {p: records_of(facts[self.applied[p] : self.applied[p] + n_events], self.applied[p]) for p, facts in self.log.items()}
        made = [lists_of(await pipeline.process(batch)) for pipeline in (self.follows, self.by_hand)]
        self.applied = {p: self.applied[p] + len(batch[p]) for p in batch}
        assert made[0] and made[0].keys() == made[1].keys()
        return made[0], made[1]


def shown(lists: dict[str, Recommendations]) -> dict[str, list[tuple[str, float, dict[str, float]]]]:
    return {user: [(item.item_id, item.score, dict(item.sources)) for item in made.items] for user, made in lists.items()}


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


async def test_lists_after_a_swap_are_those_of_the_core_with_that_recipe(world: World) -> None:
    by_default, same = await world.lists()
    assert shown(by_default) == shown(same) and all("recipe" not in made.model_versions for made in by_default.values())
    for recipe in (FASHION, HABIT):
        version = save(world.store, recipe)
        assert await world.announce(version) == [f"recipe/{version}"] and world.follower.missing() == []
        world.by_hand.state.engine.use_recipe(recipe)
        followed_lists, core_lists = await world.lists(20)
        assert shown(followed_lists) == shown(core_lists)
        assert {made.model_versions["recipe"] for made in followed_lists.values()} == {version}
    world.by_hand.state.engine.use_recipe(None)
    followed_lists, core_lists = await world.lists(20)
    assert shown(followed_lists) != shown(core_lists), "the recipe makes a difference"


async def test_a_rollback_brings_the_recipe_before_back_and_retiring_the_default(world: World) -> None:
    await world.lists()
    first, second = save(world.store, FASHION), save(world.store, HABIT)
    await world.announce(second)
    assert world.store.rollback("recipe") == first
    assert await world.announce(first) == [f"recipe/{first}"]
    world.by_hand.state.engine.use_recipe(FASHION)
    one, other = await world.lists(20)
    assert shown(one) == shown(other)
    world.store.retire("recipe")
    await world.follows.state.store.set_serving("recipe", b"", world.order + 1)
    await followed(world.follower)
    world.by_hand.state.engine.use_recipe(None)
    one, other = await world.lists(20)
    assert shown(one) == shown(other) and world.follows.state.versions == {}


def damage(store: ModelStore, version: str, folder: Path) -> None:
    """Store a recipe of other features, as another version of the program would have."""
    path = folder / "models/recipe" / version / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["feature_version"] = 999
    path.write_text(json.dumps(manifest))


async def test_a_recipe_of_other_features_is_refused_with_one_line_and_the_default_serves(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = save(world.store, FASHION)
    damage(world.store, version, tmp_path)
    with pytest.raises(StoreError, match="features of version"):
        world.store.load_stored("recipe", version)
    assert await world.announce(version) == []
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1 and "features of version 999" in lines[0] and "train it again" in lines[0] and "\n" not in lines[0]
    one, other = await world.lists()
    assert shown(one) == shown(other) and world.follower.missing() == [], "lists wait for no recipe that is refused"


async def test_a_worker_whose_state_was_lost_keeps_its_recipe(world: World) -> None:
    await world.lists()
    await world.announce(save(world.store, FASHION))
    await world.follows.state._reset()
    assert world.follows.state.engine.recipe is world.follows.state._recipe[1]  # type: ignore[index]
    assert "recipe" in world.follows.state.versions


def test_a_stored_recipe_loads_identically_and_numbers_that_no_recipe_has_are_refused(tmp_path: Path) -> None:
    store = ModelStore(str(tmp_path / "models"))
    loaded = store.load_stored("recipe", save(store, HABIT))
    assert loaded.manifest.n_items == 0
    for name, tensor in HABIT.tensors().items():
        assert np.array_equal(loaded.recipe.tensors()[name], tensor)
    with pytest.raises(StoreError, match="no model"):
        _ = loaded.model
    broken = replace(HABIT)
    object.__setattr__(broken, "linear", HABIT.linear * np.float32(np.nan))
    with pytest.raises(StoreError, match="not finite"):
        store.load_stored("recipe", save(store, broken))
