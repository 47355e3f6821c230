"""Reading topics from their start: it ends, also when nobody has written anything, and leaves no connection open, also when cancelled."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from workers.bootstrap import open_store
from workers.kafka.offsets import start_offsets_async
from workers.kafka.records import RangeReader
from workers.settings import Settings
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake
from workers.stream.reread import reread_compacted


async def test_topics_without_a_record_are_read_at_once(settings: Settings) -> None:
    pipeline = Pipeline(settings, open_store(settings))
    await pipeline.open()
    try:
        counts = await reread_compacted(settings, Intake(settings, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state)))
    finally:
        await pipeline.state.store.close()
    assert counts == {"items": 0, "users": 0, "models": 0}


async def open_and_close(settings: Settings, starts: dict[tuple[str, int], int]) -> None:
    async with RangeReader(settings, starts, max_records=10):
        pass


@pytest.mark.long
async def test_a_reader_cancelled_at_any_step_leaves_no_connection_open(settings: Settings) -> None:
    starts = await start_offsets_async(settings, [settings.topics.events])
    n_steps, whole = 0, False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        while not whole:
            reading = asyncio.create_task(open_and_close(settings, starts))
            for _ in range(n_steps):
                await asyncio.sleep(0)  # one turn of the event loop
            whole = reading.done()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            del reading
            gc.collect()
            n_steps += 1 + n_steps // 10
    assert n_steps > 20
    assert [str(warning.message) for warning in caught] == []
