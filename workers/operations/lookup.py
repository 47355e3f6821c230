"""What a person may want to see of the state: one user, one item's neighbours. Reads Redis; changes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import log_likelihood_ratio
from recsys.lists.ranking import CooccurrenceReading
from recsys.state import item_row
from recsys.state.user_table import WEIGHT_UNITS, unpack_row
from schemas.catalogue import Item
from workers.bootstrap import open_store
from workers.errors import Fatal
from workers.kafka.partitioner import partition_for
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import StateStore

Counts = NDArray[np.float32]
SIMILARITIES = ("directed", "cosine", "llr")


async def show_user(settings: Settings, user_id: str) -> dict[str, Any]:
    """A user's history (newest first), older seen items, embeddings and profile. Raises Fatal when there is nothing."""
    store = open_store(settings)
    try:
        await store.open(layout_of(settings))
        partition = partition_for(user_id.encode(), settings.topics.partitions)
        packed = (await store.read_users(partition, [user_id]))[0]
        profile = (await store.read_profiles(partition, [user_id]))[0]
        if packed is None and profile is None:
            raise Fatal(f"no state of this user in partition {partition}: has an event with this user_id as its Kafka key been published?")
        found: dict[str, Any] = {"user_id": user_id, "partition": partition, "profile": None if profile is None else profile.decode()}
        if packed is not None:
            found |= await _history(store, packed)
        return found
    finally:
        await store.close()


async def _history(store: StateStore, packed: bytes) -> dict[str, Any]:
    row = unpack_row(packed)
    names = await store.item_names()
    titles = await _titles(store, row.items.tolist())
    return {
        "history": [
            {"item_id": names[number], "title": titles.get(number, ""), "event_ts_s": at_s, "weight": weight / WEIGHT_UNITS}
            for number, at_s, weight in zip(row.items[::-1].tolist(), row.times_s[::-1].tolist(), row.weights[::-1].tolist(), strict=True)
        ],
        "older_items": [names[number] for number in row.older[::-1].tolist()],
        "embeddings": [
            {
                "model_tag": f"{embedding.tag:08x}",
                "dimensions": len(embedding.values),
                "norm": round(float(np.linalg.norm(embedding.vector())), 4),
            }
            for embedding in row.embeddings
        ],
        "bytes": len(packed),
    }


async def titles_of(settings: Settings, item_ids: Sequence[str]) -> dict[str, str]:
    """Return the titles of the items that have one stored."""
    store = open_store(settings)
    try:
        await store.open(layout_of(settings))
        numbers = {
            number: item for item, number in zip(item_ids, await store.known_item_numbers(item_ids), strict=True) if number is not None
        }
        titles = await _titles(store, list(numbers))
        return {numbers[number]: title for number, title in titles.items()}
    finally:
        await store.close()


async def similar_items(settings: Settings, item_id: str, k: int = 10, similarity: str = "cosine") -> list[dict[str, Any]]:
    """The `k` items that co-occur most with an item: co-occurrence and score. Raises Fatal for an unknown item.

    "directed" scores as the lists do: what came after the item, over a power of the candidate's popularity.
    """
    if similarity not in SIMILARITIES:
        raise Fatal(f"similarity must be one of {', '.join(SIMILARITIES)}")
    store = open_store(settings)
    try:
        await store.open(layout_of(settings))
        number = (await store.known_item_numbers([item_id]))[0]
        if number is None:
            raise Fatal("this item has no number yet: publish it to the items topic, or an event with it")
        names = await store.item_names()
        counts = await _row(store, settings, number, len(names))
        popularity = await _popularity(store, settings, len(names))
        scores = _scores(counts, popularity, number, similarity)
        best = [n for n in np.argsort(-scores, kind="stable")[:k].tolist() if scores[n] > 0]
        titles = await _titles(store, best)
        return [
            {
                "item_id": names[n],
                "title": titles.get(n, ""),
                "score": round(float(scores[n]), 6),
                "cooccurrence": round(float(counts[n]), 4),
            }
            for n in best
        ]
    finally:
        await store.close()


def _scores(counts: Counts, popularity: Counts, number: int, similarity: str) -> Counts:
    counts[number] = 0
    if similarity == "llr":
        return log_likelihood_ratio(counts, popularity[number : number + 1], popularity, float(popularity.sum()))
    chosen = np.maximum(popularity, 1e-6)
    reading = CooccurrenceReading()
    if similarity == "directed":
        scale = (chosen + reading.candidate_offset) ** reading.candidate_power
    else:
        scale = np.sqrt(chosen * chosen[number])
    return np.where(counts > 0, counts / scale, 0.0).astype(np.float32)


async def _row(store: StateStore, settings: Settings, number: int, n_items: int) -> Counts:
    """Counts of an item's neighbours over its live epochs, halved for each epoch before the item's newest one."""
    group, today = number % settings.state.item_groups, int(time.time()) // layout_of(settings).epoch_s
    epochs = range(today + 2)  # an event may lie a little in the future
    found = await store.read_rows([(group, ("c", epoch, number)) for epoch in epochs])
    held = {epoch: row for epoch, row in zip(epochs, found, strict=True) if row is not None}
    counts = np.zeros(n_items, np.float32)
    for epoch, row in held.items():
        age = max(held) - epoch
        if age < settings.state.live_epochs:
            parsed = item_row.parse_row(row)
            neighbours, values = item_row.neighbour_values(parsed.neighbours, parsed.weights)
            counts[neighbours] += values * np.float32(0.5**age)
    return counts


async def _popularity(store: StateStore, settings: Settings, n_items: int) -> Counts:
    counts = np.zeros(n_items, np.float32)
    for row in await store.read_rows([(group, ("pop", "all", 0)) for group in range(settings.state.item_groups)]):
        if row is not None:
            parsed = item_row.parse_row(row)
            items, values = item_row.neighbour_values(parsed.neighbours, parsed.weights)
            counts[items] = values
    return counts


async def _titles(store: StateStore, numbers: list[int]) -> dict[int, str]:
    wanted = list(dict.fromkeys(numbers))
    found = await store.read_items(wanted) if wanted else []
    return {number: Item.model_validate_json(stored).title for number, stored in zip(wanted, found, strict=True) if stored is not None}
