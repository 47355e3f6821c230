"""Reading items, profiles and models from the start of their topics ends, also when nobody has written any."""

from __future__ import annotations

from workers.followers import CatalogueFollower
from workers.intake import Intake
from workers.pipeline import Pipeline
from workers.replay import reread_compacted
from workers.settings import Settings
from workers.store import open_store


async def test_topics_without_a_record_are_read_at_once(settings: Settings) -> None:
    pipeline = Pipeline(settings, open_store(settings))
    await pipeline.open()
    try:
        counts = await reread_compacted(settings, Intake(settings, pipeline, CatalogueFollower(pipeline)))
    finally:
        await pipeline.store.close()
    assert counts == {"items": 0, "users": 0, "models": 0}
