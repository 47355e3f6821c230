"""Lists of a fresh process that has read nothing but the state: the reference for every worker's lists."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import orjson

from workers.lists.encoding import ListHead
from workers.settings import Settings
from workers.state.port import StateStore
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline

ListedItems = dict[str, float]


async def fresh_lists(settings: Settings, store: StateStore, users: Sequence[tuple[int, str]]) -> dict[str, ListedItems]:
    """Return each user's listed items with their scores, of users given as (partition, user id). `store` is open."""
    pipeline = Pipeline(settings, store)
    await pipeline.open()
    await CatalogueFollower(pipeline.state).follow()
    by_partition: dict[int, list[str]] = {}
    for partition, user_id in users:
        by_partition.setdefault(partition, []).append(user_id)
    rows = await store.read_users_of(by_partition)
    found = {f"{p}:{u}": row for p, ids in by_partition.items() for u, row in zip(ids, rows[p], strict=True)}
    shown = await store.read_shown_of(by_partition)
    pipeline.state.engine.users.load(found, [row for p in by_partition for row in shown[p]])
    heads = [ListHead(user_id, partition, 0, None) for partition, user_id in users]
    slots = np.array([pipeline.state.engine.users.slot(f"{partition}:{user_id}") for partition, user_id in users], np.int64)
    merges = await pipeline.merges.look(heads, everywhere=True)
    slots = await pipeline.merges.joined(merges, slots, heads)
    records = [orjson.loads(record) for record in await pipeline.lists.records(slots, heads, int(time.time() * 1000))]
    return {record["user_id"]: {item["item_id"]: item["score"] for item in record["items"]} for record in records}
