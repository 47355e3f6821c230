"""A list is made again when a profile changes in what the serving model reads of it, and only then."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.model import SegmentsModel
from recsys.models.segments.segment import Segment
from recsys.state.profiles import Attribute
from schemas import Item
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, play, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.kafka.records import Record
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake

ITEMS = ["i0", "i1", "i2"]
NORWEGIAN = {"categorical_attributes": {"country": "no"}}


def model() -> SegmentsModel:
    """Return a model that tells users of one country from all others, and likes another item for them."""
    vectors = np.array([[0.0, 0.0], [0.0, 3.0], [0.0, 1.0]], np.float32)
    return SegmentsModel(SegmentsConfig(), [Segment(Attribute("categorical", "country", "no"))], ITEMS, vectors)


async def world(*, renews: bool = True, serves: bool = True) -> tuple[Pipeline, Intake]:
    settings = small_settings(lists={"renewed_profiles": renews})
    pipeline = await opened_pipeline(MemoryStore(), settings)
    await pipeline.assign([0, 1], TOPIC_ID)
    await put_items(pipeline, 0, *(Item(item_id=item_id) for item_id in ITEMS))
    follower = CatalogueFollower(pipeline.state)
    await follower.follow()
    if serves:
        await pipeline.state.serve("segments", "v1", model())
    await pipeline.process({0: records_of([play("known", "i0", 1)])})
    return pipeline, Intake(settings, pipeline.state, pipeline.lists, follower, wall_clock=lambda: NOW_S)


def profile(user_id: str, source_offset: int, **fields: Any) -> Record:
    return Record("users", 0, source_offset, user_id.encode(), orjson.dumps({"user_id": user_id, **fields}), 1)


async def waiting(pipeline: Pipeline) -> list[str]:
    """Return who waits for a list, and make these lists."""
    made = []
    while (deferred := await pipeline.deferred_lists(0, 10)) is not None:
        made += deferred.user_ids
        await pipeline.settle_deferred(0, deferred)
    return made


async def test_a_user_whose_profile_changes_in_what_the_model_reads_gets_another_list() -> None:
    pipeline, intake = await world()
    lists, _ = await intake.users([profile("known", 0, **NORWEGIAN), profile("new", 1, **NORWEGIAN)])
    assert [key for _, key, _ in lists] == [b"new"], "a newcomer gets the first list at once"
    assert await waiting(pipeline) == ["known"]
    await intake.users([profile("known", 0, **NORWEGIAN)])
    assert await waiting(pipeline) == [], "the same profile again changes nothing"
    await intake.users([profile("known", 2, categorical_attributes={"country": "no", "hat": "blue"}, numeric_attributes={"age": 4})])
    assert await waiting(pipeline) == [], "the model reads neither"
    await intake.users([Record("users", 0, 3, b"known", None, 1)])
    assert await waiting(pipeline) == ["known"], "a removed profile is of no segment"


@pytest.mark.parametrize("off", [{"renews": False}, {"serves": False}])
async def test_without_the_setting_or_a_model_that_reads_profiles_nothing_is_asked_for(off: dict[str, bool]) -> None:
    pipeline, intake = await world(**off)
    await intake.users([profile("known", 0, **NORWEGIAN)])
    assert await waiting(pipeline) == []


async def test_profiles_that_a_state_may_have_held_ask_for_no_lists() -> None:
    pipeline, intake = await world()
    await intake.users([profile("known", 0, **NORWEGIAN)], first_lists=False, are_new=False)
    assert await waiting(pipeline) == []
    await intake.users([profile("known", 1)], first_lists=False)
    assert await waiting(pipeline) == ["known"], "but new ones do, whoever reads them first"


async def test_a_deferred_list_reads_the_profile_again() -> None:
    pipeline, intake = await world()
    profiles = pipeline.state.engine.users.profiles
    slot = pipeline.state.engine.users.slot("0:known")
    assert profiles is not None and slot is not None
    profiles.note_read(np.array([slot]), 5.0)
    await intake.users([profile("known", 0, **NORWEGIAN)])
    assert await pipeline.deferred_lists(0, 10) is not None
    assert profiles.read_s[slot] != 5.0
