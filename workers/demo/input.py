"""Make the input of the demo: a catalogue, and ratings in time order."""

from __future__ import annotations

import calendar
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workers.demo.movielens import fetch_ml100k, load_ml100k


@dataclass(frozen=True, slots=True)
class Rating:
    """One rating on a scale to 5. `at_ms` is Unix time in milliseconds."""

    user_id: str
    item_id: str
    value: float
    at_ms: int

    def event_fields(self, number: int) -> dict[str, Any]:
        """The fields of `schemas.Event`, with an id made of its number in the stream."""
        return {
            "event_id": f"rating-{number}",
            "user_id": self.user_id,
            "item_id": self.item_id,
            "type": "rating",
            "value": self.value,
            "event_ts_ms": self.at_ms,
        }


@dataclass(frozen=True, slots=True)
class DemoInput:
    """A catalogue and ratings. `items` are fields of `schemas.Item` by item id; `ratings` are in time order.

    `first_share` of the ratings are there before the first training.
    """

    name: str
    items: dict[str, dict[str, Any]]
    ratings: list[Rating]
    first_share: float = 0.8

    @property
    def n_first(self) -> int:
        return int(len(self.ratings) * self.first_share)

    def until(self, now_ms: int) -> DemoInput:
        """Return the same input moved in time as a whole, so that the last rating was given at `now_ms`: what somebody does now then
        follows it by minutes, not by decades."""
        late_ms = now_ms - self.ratings[-1].at_ms
        known = {item_id: at_ms for item_id, item in self.items.items() if (at_ms := item["published_ts_ms"]) is not None}
        dated = {item_id: {**self.items[item_id], "published_ts_ms": at_ms + late_ms} for item_id, at_ms in known.items()}
        ratings = [replace(rating, at_ms=rating.at_ms + late_ms) for rating in self.ratings]
        return replace(self, items=self.items | dated, ratings=ratings)

    def title(self, item_id: str) -> str:
        """Return the title of an item; its id when the catalogue does not know it."""
        item = self.items.get(item_id)
        return str(item["title"]) if item is not None else item_id

    def categories(self, item_id: str) -> tuple[str, ...]:
        item = self.items.get(item_id)
        return tuple(item["categories"]) if item is not None else ()


def movielens_input(cache: Path | str, n_events: int | None, say: Callable[[str], None]) -> DemoInput:
    """The first `n_events` ratings of MovieLens 100K (all if None), fetched if need be. Raises Transient or Fatal as `fetch_ml100k`."""
    ratings, movies = load_ml100k(fetch_ml100k(cache, say=say))
    items = {
        f"m{movie.item}": {
            "item_id": f"m{movie.item}",
            "title": movie.title if movie.year is None else f"{movie.title} ({movie.year})",
            "categories": list(movie.genres),
            "published_ts_ms": None if movie.year is None else calendar.timegm((movie.year, 1, 1, 0, 0, 0)) * 1000,
        }
        for movie in movies
    }
    columns = zip(ratings.user.tolist(), ratings.item.tolist(), ratings.rating.tolist(), ratings.ts_s.tolist(), strict=True)
    taken = [Rating(f"u{user}", f"m{item}", value, ts_s * 1000) for user, item, value, ts_s in itertools.islice(columns, n_events)]
    return DemoInput("MovieLens 100K", items, taken)
