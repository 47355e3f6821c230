"""Makes lists that belong to no user: of what is popular now and new, and differs; in the whole catalogue, in a category, or for a segment.

They are lists of a user without a history, by the same path, with stages of their own where the settings have none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.labels import CATEGORY
from recsys.lists.context import ListContext
from recsys.lists.policies.options import DiversityOptions, FreshnessOptions, PolicyOptions
from recsys.models.segments.model import SegmentsModel
from recsys.models.segments.segment import Segment
from workers.lists.encoding import ListHead, encode_lists
from workers.lists.policy_options import DAY_S, policy_options
from workers.lists.row_encoding import with_rows
from workers.settings import ListSettings
from workers.stream.list_maker import ListMaker
from workers.stream.serving_state import ServingState

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_NOBODY = "nobody"
"""Key in the table of users of one without a history; keys of users begin with their partition."""


@dataclass(frozen=True, slots=True)
class SharedList:
    """One list that belongs to no user: of everything, of a category, or for a segment of users."""

    key: str
    partition: int
    category: str | None = None
    segment: Segment | None = None


@dataclass(frozen=True, slots=True)
class SharedRecord:
    """A record, None where there is nothing to list, and the numbers of the items that it shows."""

    record: bytes | None
    shown: I64


def shared_policy(lists: ListSettings) -> PolicyOptions:
    """Return the stages of lists that belong to no user: those of the settings, and where these are off `shared_freshness` and
    `shared_diversity`."""
    policy = policy_options(lists)
    fresh, diverse = lists.shared_freshness, lists.shared_diversity
    if policy.freshness is None and fresh:
        policy = replace(policy, freshness=FreshnessOptions(fresh, lists.freshness.half_life_days * DAY_S))
    if policy.diversity is None and diverse:
        policy = replace(policy, diversity=DiversityOptions("dpp", diverse))
    return policy


class SharedRecords:
    """Makes such lists as records. The caller holds a turn of the state."""

    def __init__(self, state: ServingState, lists: ListMaker) -> None:
        self._state, self._lists, self._settings = state, lists, state.settings.lists
        self._policy = shared_policy(state.settings.lists)

    async def make(self, wanted: Sequence[SharedList], offsets: Mapping[int, int], now_ms: int) -> list[SharedRecord]:
        """Return the records of lists up to the last applied `offsets` by partition, in their order. Raises Transient."""
        engine, state = self._state.engine, self._state
        if len(state.numbering.names) < engine.n_items:
            await state.numbering.catch_up()
        context = engine.shared(*self._lists.moment(now_ms))
        context = replace(context, options=replace(context.options, policy=self._policy))
        engine.users.load({_NOBODY: None})
        try:
            slots = np.array([engine.users.slot(_NOBODY)], np.int64)
            vectors, made = await self._lists.encode(slots), list[SharedRecord]()
            for one in wanted:
                made.append(self._made(one, offsets[one.partition], slots, vectors, context, now_ms))
                await asyncio.sleep(0)  # an answer that has come is noticed
        finally:
            engine.users.forget([_NOBODY])
        return made

    def _made(
        self, one: SharedList, offset: int, slots: I64, vectors: dict[str, F32], context: ListContext, now_ms: int
    ) -> SharedRecord:
        engine, state, head = self._state.engine, self._state, ListHead.of_state(one.key, one.partition, offset)
        nothing, inside = SharedRecord(None, np.zeros(0, np.int64)), None
        if one.category is not None:
            inside, context = self._items_of(one.category), replace(context, options=replace(context.options, rows=()))
            if not inside.any():
                return nothing
        if one.segment is not None:
            of_segment = self._vector_of(one.segment)
            if of_segment is None:
                return nothing
            weights = context.options.weights
            weights = {**weights, SegmentsModel.kind: weights.get(SegmentsModel.kind) or 1.0}
            context = replace(context, options=replace(context.options, weights=weights, rows=()))
            vectors = {**vectors, SegmentsModel.kind: of_segment}
        rules = engine.rules
        lists = engine.recommend(
            slots,
            vectors,
            context,
            self._lists.seeds([head]),
            user_ids=[one.key] if rules is not None and rules.reads_user_ids else None,
            within=inside,
        )
        shown = np.unique(lists.shown_items[lists.shown_items >= 0])
        if not len(shown):
            return nothing
        ids, names = state.item_ids.texts(), () if rules is None else rules.names
        variant = self._settings.variant
        records = encode_lists(
            [head], lists, ids, generated_ts_ms=now_ms, model_versions=state.versions, variant=variant, rule_names=names
        )
        if lists.rows is not None:
            records = with_rows(records, lists.rows, ids, engine.category_names)
        return SharedRecord(records[0], shown)

    def _items_of(self, category: str) -> Bools:
        """Return which items are in a category, (N,)."""
        engine = self._state.engine
        labels, inside = engine.catalogue.labels[CATEGORY], np.zeros(engine.n_items, np.bool_)
        number = labels.number_of(category)
        if number >= 0:
            inside[labels.items_with(number, engine.n_items)] = True
        return inside

    def _vector_of(self, segment: Segment) -> F32 | None:
        """Return the vector (1, D) of a user who is in one segment alone; None if the serving model does not know it."""
        serving = self._state.engine.models.get(SegmentsModel.kind)
        if serving is None or not isinstance(serving.model, SegmentsModel) or segment not in serving.model.segments:
            return None
        vector = np.zeros((1, serving.model.item_vectors.shape[1]), np.float32)
        vector[0, [0, 1 + serving.model.segments.index(segment)]] = 1
        return vector
