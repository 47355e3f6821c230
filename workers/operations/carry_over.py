"""Copy into a rebuilt state the removed items of the state before it, of which the items topic holds no record any more.

A tombstone is the only record that says that an item was removed, and compaction deletes it in the end. An item that nothing describes
counts as available, since a catalogue is optional; so a state that was rebuilt from the compacted topic would recommend removed items
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from schemas.catalogue import Item
from workers.kafka.topics import topic_ids_async
from workers.operations.catalogue_check import Catalogue
from workers.settings import Settings
from workers.state.port import StateStore, StoredItem
from workers.stream.pipeline import Pipeline


async def carry_over(settings: Settings, control: StateStore, old: int, pipeline: Pipeline, catalogue: Catalogue) -> int:
    """Store in the pipeline's generation what generation `old` knows of items without a readable record; how many items. May be repeated.

    * A removed item stays removed.
    * A described item whose record was compacted away was removed by a tombstone that nobody read in time: it becomes a removed one.
    * A described item whose newer record cannot be read keeps its description.

    All of them get offset 0: a record that comes later wins, also one of a topic that was made again. Raises Transient.
    """
    same_topic = await _is_same_topic(settings, control, old)
    n_carried = 0
    async for page in control.scan_items(old):
        found = {item_id: kept for item_id, stored in page if (kept := _kept(item_id, stored, catalogue, same_topic)) is not None}
        if found:
            await _store(pipeline, found)
            n_carried += len(found)
    return n_carried


def _kept(item_id: str, stored: StoredItem, catalogue: Catalogue, same_topic: bool) -> StoredItem | None:
    """Return the record to store of an item, None if its topic still describes it."""
    if item_id in catalogue.newest:
        return None
    source_offset, stored = stored.source_offset, stored._replace(source_offset=0)
    if stored.content is None:
        return stored
    if item_id in catalogue.unreadable:
        return stored if _is_of(item_id, stored.content) else None
    compacted_away = same_topic and catalogue.starts.get(stored.partition) == 0 and source_offset < catalogue.ends.get(stored.partition, 0)
    return stored._replace(content=None) if compacted_away else None


def _is_of(item_id: str, content: bytes) -> bool:
    try:
        return Item.model_validate_json(content).item_id == item_id
    except ValidationError:
        return False


async def _store(pipeline: Pipeline, found: Mapping[str, StoredItem]) -> None:
    async with pipeline.state.turn():
        await pipeline.state.store_items(list(found.items()))


async def _is_same_topic(settings: Settings, control: StateStore, old: int) -> bool:
    """Return whether a generation's catalogue was read from the items topic that exists now."""
    try:
        read_from = json.loads(await control.catalogue_read_into(old) or "null")
    except ValueError:
        return False
    ids = await topic_ids_async(settings)
    return isinstance(read_from, list) and bool(read_from) and read_from[0] == ids.get(settings.topics.items)
