"""The story of a user's list, and of one item on it or off it, as pages show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from workers.settings import Settings
from workers.web.dashboard.cards import Card, card_of, read_items
from workers.web.explainer import Explainer
from workers.web.live_state import LiveState

SHOWN_PLACES = 40


@dataclass(frozen=True, slots=True)
class Part:
    """A number with a name; `share` is how long its bar is, from 0 to 1."""

    name: str
    value: float
    share: float


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a list."""

    rank: int
    card: Card
    score: float
    parts: list[Part]
    sentence: str
    because: list[Card]
    rules: list[str]


@dataclass(frozen=True, slots=True)
class Story:
    """Why a list is as it is. `item` is the story of one item as `recsys explain --json` has it, `item_card` its card."""

    user_id: str
    model_version: str
    places: list[Place]
    item: Mapping[str, Any] | None = None
    item_card: Card | None = None

    def bars(self, name: str) -> list[Part]:
        """Return the numbers of one part of the item's story, the largest first."""
        return bars({} if self.item is None else self.item[name])


class Stories:
    """Tells stories from the state that this process holds."""

    def __init__(self, settings: Settings, explainer: Explainer, state: LiveState) -> None:
        self._settings, self._explainer, self._state = settings, explainer, state

    async def tell(self, user_id: str, item_id: str | None, language: str) -> Story:
        """Return why a user's list is as it is, and an item on it or not. Raises Problem, Transient."""
        told = orjson.loads((await self._explainer.explain(user_id, item_id, language)).content)
        listed = told["list"]["items"][:SHOWN_PLACES]
        named = [one for place in listed for one in (place["item_id"], *place["because"])]
        items = await read_items(await self._state.current(), [*named, *([item_id] if item_id else [])])

        def card(one: str) -> Card:
            return card_of(self._settings.dashboard, one, items.get(one))

        places = [
            Place(
                place["rank"],
                card(place["item_id"]),
                place["score"],
                bars(place["sources"]),
                sentence,
                [card(one) for one in place["because"]],
                place.get("rules", []),
            )
            for place, sentence in zip(listed, told["sentences"], strict=False)
        ]
        return Story(user_id, told["list"]["model_version"], places, told["item"], card(item_id) if item_id else None)


def bars(numbers: Mapping[str, float]) -> list[Part]:
    """Return numbers with the length of their bars, the largest first."""
    most = max((abs(value) for value in numbers.values()), default=0.0) or 1.0
    ordered = sorted(numbers.items(), key=lambda named: -abs(named[1]))
    return [Part(name, value, abs(value) / most) for name, value in ordered]
