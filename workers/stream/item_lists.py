"""Makes the lists of items as records: similar items, and what is bought together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.related.similar import similar_items
from recsys.state.related import SIMILAR, TOGETHER
from schemas.decoding import encode
from schemas.related import BoughtTogether, BoughtTogetherItem, SimilarItem, SimilarItems
from workers.settings import Settings
from workers.state.buyers import Buyers
from workers.stream.listed_numbers import listed_numbers, packed_list
from workers.stream.serving_state import ServingState

Bools = NDArray[np.bool_]
SCORE_STEPS = 16
"""A list of similar items is published again once an item is elsewhere, or a score is another 1/16."""


@dataclass(frozen=True, slots=True)
class MadeList:
    """The list of one item: its Kafka key, its record, None where nothing is on it, and what is remembered of it."""

    key: bytes
    record: bytes | None
    packed: bytes

    @property
    def listed(self) -> list[int]:
        """Return the numbers of the items on it."""
        return [int(number) for number in listed_numbers(self.packed)]


class ItemLists:
    """Makes lists from the state as it is. The caller holds a turn of `state`."""

    def __init__(self, settings: Settings, state: ServingState) -> None:
        self._settings, self._state = settings.related, state
        self._buyers = Buyers(state.store, settings.state.item_groups)

    async def make(self, topic: str, numbers: Sequence[int], listable: Bools, now_ms: int) -> dict[int, MadeList]:
        """Return the lists of items that have a number here, of `listable` items. Raises Transient, Fatal."""
        if max(numbers, default=-1) >= len(self._state.numbering.names):
            await self._state.learn_new_items()
        known = [number for number in numbers if number < len(self._state.numbering.names)]
        if topic == TOGETHER:
            return await self._together(known, listable, now_ms)
        assert topic == SIMILAR
        return await self._similar(known, listable, now_ms)

    async def _similar(self, numbers: Sequence[int], listable: Bools, now_ms: int) -> dict[int, MadeList]:
        state, asked = self._state, np.array(numbers, np.int64)
        state.item_cache.expire(asked)  # what other workers appended counts too, and their queue says so once
        await state.item_cache.refresh(asked)
        listable = np.pad(listable, (0, max(state.engine.n_items - len(listable), 0)))
        made: dict[int, MadeList] = {}
        found = similar_items(
            state.engine,
            numbers,
            listable[: state.engine.n_items],
            size=self._settings.size,
            even_events=self._settings.similar_events,
            valid_s=now_ms // 1000,
        )
        for number, similar in zip(numbers, found, strict=True):
            names = state.numbering.names
            places = [
                SimilarItem(rank=rank, item_id=names[other], score=round(score, 6), support=round(support, 4))
                for rank, (other, score, support) in enumerate(
                    zip(similar.numbers.tolist(), similar.score.tolist(), similar.support.tolist(), strict=True), 1
                )
            ]
            record = SimilarItems(item_id=names[number], generated_ts_ms=now_ms, items=tuple(places))
            figures = np.rint(similar.score * SCORE_STEPS).astype(np.int64)
            made[number] = _made(record, record.item_id, similar.numbers, figures)
        return self._without_removed(made)

    async def _together(self, numbers: Sequence[int], listable: Bools, now_ms: int) -> dict[int, MadeList]:
        await self._buyers.refresh()
        names = self._state.numbering.names
        made: dict[int, MadeList] = {}
        for number, found in (await self._buyers.together_of(numbers, self._settings, listable=listable)).items():
            columns = zip(
                *(found.numbers.tolist(), found.score.tolist(), found.support.tolist()),
                *(found.confidence.tolist(), found.lift.tolist()),
                strict=True,
            )
            places = [
                BoughtTogetherItem(
                    rank=rank,
                    item_id=names[other],
                    score=round(score, 4),
                    support=support,
                    confidence=round(confidence, 6),
                    lift=round(lift, 4),
                )
                for rank, (other, score, support, confidence, lift) in enumerate(columns, 1)
            ]
            record = BoughtTogether(
                item_id=names[number], generated_ts_ms=now_ms, users=self._buyers.users_of(number), items=tuple(places)
            )
            made[number] = _made(record, record.item_id, found.numbers, found.support)
        return self._without_removed(made)

    def _without_removed(self, made: Mapping[int, MadeList]) -> dict[int, MadeList]:
        """Return the lists, with none for items that were removed from the catalogue. An item that is sold out keeps its list."""
        catalogue = self._state.engine.catalogue
        return {
            number: MadeList(one.key, None, b"") if catalogue.was_removed(number) else one for number, one in made.items()
        }


def _made(record: SimilarItems | BoughtTogether, item_id: str, numbers: NDArray[np.int64], figures: NDArray[np.int64]) -> MadeList:
    key = item_id.encode()
    return MadeList(key, encode(record), packed_list(numbers, figures)) if len(numbers) else MadeList(key, None, b"")
