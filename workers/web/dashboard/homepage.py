"""A user's page as people would see it: rows of cards, and what the user did lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas import Item, Recommendations
from schemas.lists import Row
from workers.client.reasons import reason_sentences
from workers.reason_templates import BUILT_IN
from workers.settings import Settings
from workers.web.dashboard.cards import Card, card_of, read_items
from workers.web.dashboard.history import Touch, recent_touches
from workers.web.live_state import LiveState
from workers.web.problems import Problem
from workers.web.published import PublishedLists

NO_LIST = 404
OWN_TITLES = ("for_you", "because", "popular_now", "new_in", "again", "category")
"""Kinds of rows that the texts of pages have a title for."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """One row of cards. `kind` is the key of its title among the texts, `subject` what the title names; `title` is one of the settings."""

    kind: str
    title: str
    subject: str
    cards: list[Card]


@dataclass(frozen=True, slots=True)
class Homepage:
    """The page of one user."""

    user_id: str
    is_default: bool = False
    list_id: str = ""
    generated_ts_ms: int = 0
    model_version: str = ""
    n_items: int = 0
    shelves: list[Shelf] = field(default_factory=list)
    lately: list[tuple[Touch, Card]] = field(default_factory=list)


class Homepages:
    """Makes pages of what is published and what is in Redis."""

    def __init__(self, settings: Settings, published: PublishedLists, state: LiveState) -> None:
        self._settings, self._published, self._state = settings, published, state

    async def page(self, user_id: str, language: str) -> Homepage:
        """Return the page of a user; one without shelves where there is no list. Raises Problem, Transient."""
        state = await self._state.current()
        touches = await recent_touches(self._settings, state, user_id)
        record, is_default = await self._record(user_id)
        named = [touch.item_id for touch in touches]
        if record is not None:
            named += [item.item_id for row in record.rows for item in row.items] + [row.item_id for row in record.rows if row.item_id]
            named += [one for item in record.items for one in (item.item_id, *item.because)]
        items = await read_items(state, named)
        lately = [(touch, card_of(self._settings.dashboard, touch.item_id, items.get(touch.item_id))) for touch in touches]
        if record is None:
            return Homepage(user_id, lately=lately)
        return Homepage(
            user_id,
            is_default,
            record.list_id,
            record.generated_ts_ms,
            record.model_version,
            len(record.items),
            self._shelves(record, items, language),
            lately,
        )

    async def _record(self, user_id: str) -> tuple[Recommendations | None, bool]:
        try:
            body: dict[str, Any] = orjson.loads((await self._published.page(user_id)).content)
        except Problem as problem:
            if problem.status != NO_LIST:
                raise
            return None, False
        is_default = bool(body.pop("is_default"))
        body.pop("model_version", None)
        return Recommendations.model_validate_json(orjson.dumps(body)), is_default

    def _shelves(self, record: Recommendations, items: Mapping[str, Item], language: str) -> list[Shelf]:
        titles = {item_id: item.title for item_id, item in items.items() if item.title}
        own = self._settings.lists.reason_templates
        sentences = reason_sentences(record, titles, language if language in BUILT_IN or language in own else "en", own)
        why = {item.item_id: sentence for item, sentence in zip(record.items, sentences, strict=True)}
        place = {item.item_id: item.rank for item in record.items}

        def cards(item_ids: list[str]) -> list[Card]:
            return [
                card_of(self._settings.dashboard, one, items.get(one), reason=why.get(one, ""), position=place.get(one)) for one in item_ids
            ]

        if not record.rows:
            return [Shelf("for_you", "", "", cards([item.item_id for item in record.items]))] if record.items else []
        return [Shelf(row.kind, _title(row), _subject(row, titles), cards([item.item_id for item in row.items])) for row in record.rows]


def _title(row: Row) -> str:
    """Return the title that the settings give a row; nothing where pages have one of their own for its kind."""
    return "" if row.title in (row.name, row.kind) and row.kind in OWN_TITLES else row.title


def _subject(row: Row, titles: Mapping[str, str]) -> str:
    """Return what a row's title names: the user's own item, or a category."""
    if row.item_id is not None:
        return titles.get(row.item_id, row.item_id)
    return row.category or ""
