"""Show the state to a person: one user, or the neighbours of one item. Reads Redis; changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.state.user_table import WEIGHT_UNITS, unpack_row
from schemas.catalogue import Item
from schemas.events import event_type_name
from workers.bootstrap import open_store
from workers.errors import Fatal
from workers.kafka.partitioner import partition_for
from workers.settings import Settings
from workers.state.buyers import Buyers
from workers.state.layout import layout_of
from workers.state.merged_users import NOT_MERGED, MergeReader, joined_rows, joining_table
from workers.state.port import StateStore
from workers.state.reading import SIMILARITIES, all_time_popularity, best, neighbour_counts, similarities


async def show_user(settings: Settings, user_id: str) -> dict[str, Any]:
    """Return a user's history (newest first, with those of ids that were merged into this one), older seen items, embeddings and profile.

    Raises Fatal when there is nothing.
    """
    store = open_store(settings)
    try:
        await store.open(layout_of(settings))
        partition = partition_for(user_id.encode(), settings.topics.partitions)
        own = (await store.read_users(partition, [user_id]))[0]
        profile = (await store.read_profiles(partition, [user_id]))[0]
        user = partition, user_id
        merges = await MergeReader(store, lambda other: partition_for(other.encode(), settings.topics.partitions)).read([user])
        packed = (await joined_rows(store, [(user, own)], merges, joining_table(settings))).get(user, own)
        if packed is None and profile is None:
            raise Fatal(f"no state of this user in partition {partition}: has an event with this user_id as its Kafka key been published?")
        found: dict[str, Any] = {"user_id": user_id, "partition": partition, "profile": None if profile is None else profile.decode()}
        merged = merges.get(user, NOT_MERGED)
        found["merged_into"] = None if merged.goes_on_as is None else merged.goes_on_as[1]
        found["merged_from"] = [part[1] for part in merged.parts]
        (standing,) = (await store.read_standings({partition: [user_id]}))[partition]
        found["merge_ignored"] = bool(standing.merged_into) and merged.goes_on_as is None
        if packed is not None:
            found |= await _history(store, packed, own)
        return found
    finally:
        await store.close()


async def _history(store: StateStore, packed: bytes, own: bytes | None) -> dict[str, Any]:
    """Return the history of a row, joined with others or not, and the embeddings of the user's own row."""
    row, embeddings = unpack_row(packed), () if own is None else unpack_row(own).embeddings
    names = await store.item_names()
    titles = await _titles(store, row.items.tolist())
    return {
        "history": [
            {
                "item_id": names[number],
                "title": titles.get(number, ""),
                "event_ts_s": last_s,
                "first_event_ts_s": first_s,
                "type": event_type_name(code),
                "weight": units / WEIGHT_UNITS,
                "touches": touches,
            }
            for number, last_s, first_s, units, code, touches, _ in zip(*(c[::-1].tolist() for c in row.columns.arrays), strict=True)
        ],
        "older_items": [names[number] for number in row.older[::-1].tolist()],
        "embeddings": [
            {
                "model_tag": f"{embedding.tag:08x}",
                "dimensions": len(embedding.values),
                "norm": round(float(np.linalg.norm(embedding.vector())), 4),
            }
            for embedding in embeddings
        ],
        "bytes": 0 if own is None else len(own),
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
    """Return the `k` items that co-occur most with an item, with co-occurrence and score. Raises Fatal for an unknown item.

    "directed" scores as the lists do: items that came after this one, over a power of the candidate's popularity.
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
        layout = layout_of(settings)
        counts = await neighbour_counts(
            store,
            number,
            len(names),
            item_groups=layout.item_groups,
            live_epochs=settings.state.live_epochs,
        )
        scores = similarities(counts, await all_time_popularity(store, len(names), layout.item_groups), number, similarity)
        nearest = best(scores, k)
        titles = await _titles(store, nearest)
        return [
            {
                "item_id": names[n],
                "title": titles.get(n, ""),
                "score": round(float(scores[n]), 6),
                "cooccurrence": round(float(counts[n]), 4),
            }
            for n in nearest
        ]
    finally:
        await store.close()


async def bought_together_items(settings: Settings, item_id: str, k: int = 20) -> list[dict[str, Any]]:
    """Return the `k` items that most go with an item by what the same users chose, with support, confidence and lift. Raises Fatal for an
    unknown item, and where nothing is counted."""
    if not settings.related.bought_together:
        raise Fatal("nothing is counted: set related.bought_together for the stream workers, and run `recsys state rebuild`")
    store = open_store(settings)
    try:
        await store.open(layout_of(settings))
        number = (await store.known_item_numbers([item_id]))[0]
        if number is None:
            raise Fatal("this item has no number yet: publish it to the items topic, or an event with it")
        buyers = Buyers(store, settings.state.item_groups)
        await buyers.refresh()
        found = (await buyers.together_of([number], settings.related, size=k))[number]
        names, titles = await store.item_names(), await _titles(store, found.numbers.tolist())
        columns = (found.numbers, found.support, found.confidence, found.lift, found.score)
        return [
            {
                "item_id": names[other],
                "title": titles.get(other, ""),
                "support": support,
                "confidence": round(confidence, 6),
                "lift": round(lift, 4),
                "score": round(score, 4),
            }
            for other, support, confidence, lift, score in zip(*(column.tolist() for column in columns), strict=True)
        ]
    finally:
        await store.close()


async def _titles(store: StateStore, numbers: list[int]) -> dict[int, str]:
    wanted = list(dict.fromkeys(numbers))
    found = await store.read_items(wanted) if wanted else []
    return {number: Item.model_validate_json(stored).title for number, stored in zip(wanted, found, strict=True) if stored is not None}
