"""Where segments serve, lists follow the profile: the first one, the next ones, and after the profile changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest

from schemas import ModelAction, Recommendations, encode
from schemas.decoding import decode_profile
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.memory_store import MemoryStore
from tests.unit.recsys.lists.test_segments_source import IDS, N_GROUPS, group_model
from tests.unit.workers.stream.test_followers import followed
from tests.unit.workers.stream.test_pipeline import lists_of
from tests.unit.workers.stream.test_recipe_serving import TRAINED_ON
from workers.kafka.records import Record
from workers.models.store import ModelStore
from workers.state.users_topic import ProfileRecord
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.model_sync import ModelFollower
from workers.stream.profile_cache import ProfileCache
from workers.stream.reference_topics import Intake
from workers.stream.stored_models import StoredModels


class CountedStore(MemoryStore):
    """A store that counts the profiles read from it."""

    n_read = 0

    async def read_profiles(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        self.n_read += len(user_ids)
        return await super().read_profiles(partition, user_ids)


def profile(user_id: str, source_offset: int, group: int | None) -> Record:
    attributes = {} if group is None else {"group": str(group)}
    return Record("users", 0, source_offset, user_id.encode(), orjson.dumps({"user_id": user_id, "categorical_attributes": attributes}))


def share_of(listed: Recommendations, group: int) -> float:
    """Return the share of the first ten items that are of a group."""
    return float(np.mean([int(item.item_id[1:]) % N_GROUPS == group for item in listed.items[:10]]))


class World:
    """A worker that knows the items of the model of groups, and follows the model store."""

    def __init__(self, folder: Path) -> None:
        self.settings = small_settings(trainer={"model_url": str(folder / "models")})
        self.models, self.store, self.now_s = ModelStore(self.settings.trainer.model_url), CountedStore(), 0.0

    async def open(self) -> World:
        self.pipeline = await opened_pipeline(self.store, self.settings)
        await self.pipeline.assign([0, 1], TOPIC_ID)
        state = self.pipeline.state
        self.pipeline.lists.profiles = ProfileCache(state, 30.0, clock=lambda: self.now_s)
        self.intake = Intake(self.settings, state, self.pipeline.lists, CatalogueFollower(state), wall_clock=lambda: NOW_S)
        await self.intake.items([Record("items", 0, at, item.encode(), orjson.dumps({"item_id": item})) for at, item in enumerate(IDS)])
        stored = StoredModels(self.settings)
        self.follower = ModelFollower(state, stored.load, stored.serving, first_wait_s=0.0)
        return self

    async def serve(self) -> None:
        """Store the model, promote it and announce it."""
        manifest = self.models.save(
            group_model(), parent=None, metrics={"challenger": {"ndcg@10": 0.1}}, decision="better", trained_on=TRAINED_ON,
            trained_ts_ms=1_700_000_000_002, train_s=0.1, refit=None, code_version="1",
        )  # fmt: skip
        self.models.promote("segments", manifest.version)
        announcement = self.models.announcement("segments", manifest.version, ModelAction.PROMOTED, champion=None, reason="")
        await self.pipeline.state.store.set_serving("segments", encode(announcement), 1)
        assert await followed(self.follower) == ["segments/segments-000001"]

    async def first_list(self, user_id: str, source_offset: int, group: int | None) -> Recommendations:
        """Publish a profile, and return the list that follows."""
        lists, dead = await self.intake.users([profile(user_id, source_offset, group)])
        assert not dead and len(lists) == 1
        return Recommendations.model_validate_json(lists[0][2])

    async def next_list(self, user_id: str, source_offset: int) -> Recommendations:
        """Apply an event of the user, and return the list that follows."""
        event = play(user_id, f"i{source_offset}", source_offset)
        return lists_of(await self.pipeline.process({0: records_of([event], source_offset)}))[user_id]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


async def test_a_first_list_is_of_the_users_segment(world: World) -> None:
    await world.serve()
    for group in range(N_GROUPS):
        listed = await world.first_list(f"u{group}", group, group)
        assert share_of(listed, group) == 1.0 and listed.items[0].sources["segments"] > 0
        assert listed.model_versions == {"segments": "segments-000001"}
    stranger = await world.first_list("u9", 9, None)
    assert not any(item.sources.get("segments") for item in stranger.items)


async def test_a_profile_that_changes_changes_the_next_list(world: World) -> None:
    await world.serve()
    await world.first_list("u0", 0, 0)
    assert share_of(await world.next_list("u0", 0), 0) > 0.5
    await world.intake.users([profile("u0", 1, 1)])
    assert share_of(await world.next_list("u0", 1), 1) > 0.5, "read by this worker: at once"
    await world.store.upsert_profiles([stored("u0", 2)])
    assert share_of(await world.next_list("u0", 2), 1) > 0.5, "read by another worker: not yet"
    world.now_s += 31
    assert share_of(await world.next_list("u0", 3), 2) > 0.5


def stored(user_id: str, group: int) -> ProfileRecord:
    """Return the record of a profile as another worker would store it."""
    record = profile(user_id, 7, group)
    given = decode_profile(record.value, record.key)
    assert given is not None
    return ProfileRecord(0, user_id, 7, encode(given))


async def test_no_profile_is_read_without_segments_and_each_once_in_a_while_with_them(world: World) -> None:
    await world.intake.users([profile("u0", 0, 0)])
    await world.next_list("u0", 0)
    assert world.store.n_read == 0 and world.pipeline.state.engine.users.profiles is None
    await world.serve()
    for source_offset in (1, 2, 3):
        await world.next_list("u0", source_offset)
    assert world.store.n_read == 1


async def test_a_profile_that_cannot_be_read_counts_as_none(world: World) -> None:
    await world.serve()
    await world.store.upsert_profiles([ProfileRecord(0, "u0", 0, b"{")])
    assert not any(item.sources.get("segments") for item in (await world.next_list("u0", 0)).items)


async def test_segments_that_are_retired_leave_the_lists(world: World) -> None:
    await world.serve()
    assert share_of(await world.first_list("u0", 0, 0), 0) == 1.0
    assert world.pipeline.state.retire("segments")
    listed = await world.first_list("u1", 1, 0)
    assert "segments" not in listed.items[0].sources and listed.model_versions == {}
