"""Explains a user's list, and why an item is on it or not, from the state as it is. Reads Redis and the model store; changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys.lists.trace import Trace
from schemas import Recommendations
from schemas.decoding import decode_item
from schemas.errors import Poison
from workers.bootstrap import open_store
from workers.client.reasons import reason_sentences
from workers.lists.encoding import ListHead, encode_lists
from workers.operations.absence import Absence, absence
from workers.operations.live_lists import LoadedUsers, Say, load_users, open_state
from workers.settings import Settings
from workers.state.port import StateStore
from workers.stream.serving_state import ServingState


@dataclass(frozen=True, slots=True)
class ItemStory:
    """One item in a user's list, or what keeps it off.

    `sources` are raw scores with the rank among the candidates, None for no candidate; `features` those that recipes read; `parts` what
    each gave to `score`, from the least of all candidates; `passed` says of each filter whether the item passes it; `places` are those
    after each step. `absence` is None for an item on the list.
    """

    item_id: str
    title: str
    absence: Absence | None
    place: int | None
    score: float | None
    sources: Mapping[str, tuple[float, int | None]]
    features: Mapping[str, float]
    parts: Mapping[str, float]
    passed: Mapping[str, bool]
    places: list[tuple[str, int | None]]
    n_candidates: int

    def figures(self) -> dict[str, Any]:
        """Return the story as JSON has it."""
        return {
            "item_id": self.item_id,
            "title": self.title,
            "listed": self.absence is None,
            "absence": None if self.absence is None else {"kind": self.absence.kind, "text": self.absence.text},
            "place": self.place,
            "candidates": self.n_candidates,
            "score": self.score,
            "sources": {name: {"raw": raw, "rank": rank} for name, (raw, rank) in self.sources.items()},
            "features": dict(self.features),
            "parts": dict(self.parts),
            "filters": dict(self.passed),
            "stages": [{"stage": name, "place": place} for name, place in self.places],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """A list as a worker would publish it now, with a sentence for each place, titles by item id, and the story of one item if that is
    asked for."""

    record: Recommendations
    sentences: list[str]
    titles: Mapping[str, str]
    item: ItemStory | None

    def figures(self) -> dict[str, Any]:
        """Return the explanation as JSON has it."""
        listed = self.record.model_dump(mode="json")
        return {"list": listed, "sentences": self.sentences, "item": None if self.item is None else self.item.figures()}


async def explain(settings: Settings, user_id: str, item_id: str | None, *, language: str = "en", say: Say) -> Explanation:
    """Return why a user's list is as it is, and why one item is on it or not. Raises: Fatal for a user without state, Transient."""
    store = open_store(settings)
    try:
        return await explain_in(settings, store, user_id, item_id, language=language, say=say)
    finally:
        await store.close()


async def explain_in(
    settings: Settings, store: StateStore, user_id: str, item_id: str | None, *, language: str = "en", say: Say, now_s: float | None = None
) -> Explanation:
    """Return `explain` of the state that a store holds, at the reader's time `now_s`."""
    settings = settings.model_copy(update={"lists": settings.lists.model_copy(update={"reasons": True})})
    return await explain_of(await open_state(settings, store, say), user_id, item_id, language=language, now_s=now_s)


async def explain_of(
    state: ServingState, user_id: str, item_id: str | None, *, language: str = "en", now_s: float | None = None
) -> Explanation:
    """Return `explain` of a state that is open. The caller holds a turn of it."""
    users = await load_users(state, 1, user_id, 0)
    try:
        trace = await _trace(state, users, time.time() if now_s is None else now_s)
        record = _record(state, trace, user_id)
        named = [one for place in record.items for one in (place.item_id, *place.because)]
        contents = await _contents(state, [*named, *([] if item_id is None else [item_id])])
        titles = {one: content.title for one, content in contents.items() if content is not None and content.title}
        sentences = reason_sentences(record, titles, language, state.settings.lists.reason_templates)
        item = None if item_id is None else _story(state, trace, item_id, titles.get(item_id, ""), contents.get(item_id))
    finally:
        state.engine.users.forget([f"{partition}:{one}" for partition, one in zip(users.partitions, users.ids, strict=True)])
    return Explanation(record, sentences, titles, item)


async def _trace(state: ServingState, users: LoadedUsers, now_s: float) -> Trace:
    engine = state.engine
    recent, _, units = engine.users.newest(users.slots, engine.config.recent_items)
    await state.item_cache.refresh(np.unique(recent[units > 0]).astype(np.int64))
    event_s = state.item_cache.newest_s or int(now_s)
    shared = engine.shared(event_s, max(event_s, int(now_s)))
    shared = replace(shared, options=replace(shared.options, reasons=True))
    return engine.trace(users.slots, engine.encode(users.slots, shared.now_s), shared, preferred=users.preferred, ids=users.ids)


def _record(state: ServingState, trace: Trace, user_id: str) -> Recommendations:
    """Return the list as its record says it."""
    rules = state.engine.rules
    lists = replace(trace.lists, rows=None)
    [record] = encode_lists(
        [ListHead(user_id, 0, 0, None)],
        lists,
        state.item_ids.texts(),
        generated_ts_ms=max(trace.context.valid_s * 1000, 0),
        model_versions=state.versions,
        variant=state.settings.lists.variant,
        rule_names=() if rules is None else rules.names,
    )
    return Recommendations.model_validate_json(record)


async def _contents(state: ServingState, item_ids: list[str]) -> dict[str, Any]:
    """Return what the store holds of items, by id; None of one that was removed, and nothing of one that has no record."""
    numbers = state.numbering.numbers
    known = [one for one in dict.fromkeys(item_ids) if one in numbers]
    found: dict[str, Any] = {}
    for one, stored in zip(known, await state.store.read_items([numbers[one] for one in known]), strict=True):
        if stored is not None:
            try:
                found[one] = decode_item(stored, one.encode())
            except Poison:
                continue
    return found


def _story(state: ServingState, trace: Trace, item_id: str, title: str, content: Any) -> ItemStory:
    number = state.numbering.numbers.get(item_id)
    n_candidates = int(trace.candidates.valid[0].sum())
    if number is None or number >= state.engine.n_items:
        text = "no event and no record of the items topic has named this id"
        return ItemStory(item_id, title, Absence("unknown_item", text), None, None, {}, {}, {}, {}, [], n_candidates)
    listed = np.flatnonzero(trace.lists.items[0] == number)
    blocked = trace.blocked_by(0, number)
    return ItemStory(
        item_id,
        title,
        None if len(listed) else absence(state.engine, trace, number, blocked, is_described=content is not None),
        int(listed[0]) + 1 if len(listed) else None,
        trace.score(0, number),
        trace.raw(0, number),
        trace.features(0, number),
        trace.parts(0, number),
        {name: name not in blocked for name in trace.filters},
        trace.places(0, number),
        n_candidates,
    )
