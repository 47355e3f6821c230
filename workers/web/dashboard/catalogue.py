"""Search in the catalogue, and one item with its neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas import Item
from workers.settings import Settings
from workers.stream.serving_state import ServingState
from workers.web.dashboard.cards import Card, card_of, read_items
from workers.web.dashboard.user_events import UserEvents
from workers.web.live_state import LiveState
from workers.web.problems import Problem
from workers.web.related_items import RelatedItems

READ_AT_ONCE = 2_000
MOST_ITEMS = 200_000
"""Items that a search looks through; a page says if there are more."""
SHOWN = 60
LEAST_AGE_S = 3.0
AGE_FACTOR = 20.0
"""What was read for searches is read again when it is this many times as old as the reading took, and LEAST_AGE_S at least."""
SWITCH_S = 5.0
"""Seconds that a switch waits until the state has the item's new record."""

Entry = tuple[str, str, str]
"""Id, title, and all that is searched, folded."""


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search: the first cards, how many there are, and whether the catalogue is larger than what was looked through."""

    cards: list[Card]
    n_found: int
    n_items: int
    is_partial: bool


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One item. `together` is None where what is bought together is not counted."""

    card: Card
    item: Item | None
    similar: list[tuple[Card, float]] = field(default_factory=list)
    together: list[tuple[Card, float]] | None = None


class CataloguePages:
    """Reads the catalogue from Redis."""

    def __init__(
        self,
        settings: Settings,
        state: LiveState,
        related: RelatedItems,
        events: UserEvents,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._state, self._related, self._events, self._clock = settings, state, related, events, clock
        self._entries: list[Entry] = []
        self._read_s, self._stale_s = float("-inf"), 0.0
        self._reading = asyncio.Lock()

    async def search(self, words: str) -> Found:
        """Return the items whose id, title or categories hold all of these words; the first of the catalogue without any. Raises
        Transient."""
        state = await self._state.current()
        entries = await self._searched(state)
        wanted = words.casefold().split()
        whole = words.strip().casefold()
        hits = [entry for entry in entries if all(word in entry[2] for word in wanted)]
        hits.sort(key=lambda entry: (entry[0].casefold() != whole, not entry[1].casefold().startswith(whole)))
        shown = [item_id for item_id, _, _ in hits[:SHOWN]]
        items = await read_items(state, shown)
        cards = [card_of(self._settings.dashboard, one, items.get(one)) for one in shown]
        n_items = len(state.numbering.names)
        return Found(cards, len(hits), n_items, n_items > MOST_ITEMS)

    async def page(self, item_id: str) -> ItemPage:
        """Return one item with its neighbours. Raises Problem for one that nobody has named, Transient."""
        state = await self._state.current()
        similar = orjson.loads((await self._related.similar(item_id)).content)["items"]
        together = None
        if self._settings.related.bought_together:
            together = orjson.loads((await self._related.bought_together(item_id)).content)["items"]
        items = await read_items(state, [item_id, *(place["item_id"] for place in [*similar, *(together or [])])])

        def cards(places: Sequence[Mapping[str, Any]]) -> list[tuple[Card, float]]:
            return [(card_of(self._settings.dashboard, place["item_id"], items.get(place["item_id"])), place["score"]) for place in places]

        item = items.get(item_id)
        return ItemPage(
            card_of(self._settings.dashboard, item_id, item), item, cards(similar), None if together is None else cards(together)
        )

    async def switch(self, item_id: str, is_available: bool) -> bool:
        """Publish an item's record with another availability; return whether the state has it already. Raises Problem, Transient."""
        item = (await read_items(await self._state.current(), [item_id])).get(item_id)
        if item is None:
            raise Problem(409, "item: there is no record of this item, so nothing can be switched: publish one", field="item")
        await self._events.publish_item(item.model_copy(update={"available": is_available}))
        deadline_s = self._clock() + SWITCH_S
        while self._clock() < deadline_s:
            now = (await read_items(await self._state.current(), [item_id])).get(item_id)
            if now is not None and now.available == is_available:
                return True
            await asyncio.sleep(0.05)
        return False

    async def _searched(self, state: ServingState) -> list[Entry]:
        async with self._reading:
            began_s = self._clock()
            if began_s - self._read_s > self._stale_s or len(self._entries) < min(len(state.numbering.names), MOST_ITEMS):
                entries: list[Entry] = []
                names = list(state.numbering.names[:MOST_ITEMS])
                for first in range(0, len(names), READ_AT_ONCE):
                    some = names[first : first + READ_AT_ONCE]
                    stored = await state.store.read_items(range(first, first + len(some)))
                    entries += [_entry(item_id, record) for item_id, record in zip(some, stored, strict=True)]
                    await asyncio.sleep(0)
                self._entries, self._read_s = entries, self._clock()
                self._stale_s = max(LEAST_AGE_S, AGE_FACTOR * (self._read_s - began_s))
            return self._entries


def _entry(item_id: str, record: bytes | None) -> Entry:
    title, categories = "", []  # type: str, list[str]
    if record is not None:
        try:
            fields = orjson.loads(record)
            title, categories = str(fields.get("title", "")), [str(one) for one in fields.get("categories", ())]
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            pass
    return item_id, title, "\n".join([item_id, title, *categories]).casefold()
