"""What is on the topics of lists of items at the end of a round, held against what the final state says."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import orjson

from recsys.related.together import Together
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import RangeReader
from workers.settings import Settings
from workers.state.buyers import Buyers
from workers.state.port import StateStore

LOOK_S = 0.5
Lists = dict[str, list[tuple[str, int]]]
"""Item ▸ the items that are bought together with it, and by how many users."""


async def published_lists(settings: Settings) -> Lists:
    """Return the newest list of each item on the topic of what is bought together."""
    topic = settings.topics.bought_together
    starts = await start_offsets_async(settings, [topic])
    ends = {place: end for place, end in (await end_offsets_async(settings, [topic])).items() if end > starts[place]}
    newest: Lists = {}
    if ends:
        async with RangeReader(settings, {place: starts[place] for place in ends}, max_records=500) as reader:
            async for polled in reader.until(ends):
                for record in (record for records in polled.values() for record in records):
                    assert record.key is not None
                    newest.pop(record.key.decode(), None)
                    if record.value is not None:
                        items = orjson.loads(record.value)["items"]
                        newest[record.key.decode()] = [(item["item_id"], item["support"]) for item in items]
    return newest


async def expected_lists(settings: Settings, store: StateStore) -> Lists:
    """Return the lists that the state says should be there."""
    names = await store.item_names()
    stored = await store.read_items(list(range(len(names))))
    listable = np.array([item is None or orjson.loads(item)["available"] for item in stored], np.bool_)
    buyers = Buyers(store, settings.state.item_groups)
    await buyers.refresh()
    found = await buyers.together_of(range(len(names)), settings.related, listable=listable)

    def items_of(together: Together) -> list[tuple[str, int]]:
        return [(names[number], support) for number, support in zip(together.numbers.tolist(), together.support.tolist(), strict=True)]

    return {names[number]: items_of(together) for number, together in found.items() if len(together.numbers)}


async def item_list_differences(settings: Settings, store: StateStore, patience_s: float) -> list[str]:
    """Wait until what is published is what the state says, and return how it differs if it does not come to that."""
    deadline = time.monotonic() + patience_s
    while True:
        expected, found = await expected_lists(settings, store), await published_lists(settings)
        wrong = sorted(item for item in {**expected, **found} if expected.get(item) != found.get(item))
        if not wrong:
            return []
        if time.monotonic() > deadline:
            item = wrong[0]
            shown = f"{item}: {found.get(item)} instead of {expected.get(item)}"
            return [f"what is bought together differs for {len(wrong)} of {len(expected)} items: {shown}"[:600]]
        await asyncio.sleep(LOOK_S)
