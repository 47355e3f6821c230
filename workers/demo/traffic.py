"""A made-up shop and its visitors: `recsys traffic` publishes what they do, at a rate, until it is stopped.

Nothing is downloaded and nothing belongs to somebody else, so it runs without a network.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

GOODS: Mapping[str, tuple[str, str]] = {
    "coffee": ("Morning Highland Slow Velvet Decaf Harbour", "Espresso · Filter Roast · Grinder · Kettle · Moka Pot"),
    "tea": ("Spring Smoky Rooftop Amber Jade Winter", "Sencha · Assam · Teapot · Infuser · Tea Caddy"),
    "books": ("Quiet Paper Northern Glass Small Salt", "Harbour · Atlas · Kitchen · Orchard · Trains"),
    "garden": ("Wild Balcony Cedar Copper Herb Evening", "Seed Box · Watering Can · Pruner · Bee Hotel · Pots"),
    "kitchen": ("Cast Walnut Linen Steel Olive Stone", "Pan · Board · Towels · Knife · Pepper Mill"),
    "music": ("Blue Distant Velvet Paper Early Low", "Nocturnes · Sessions · Suites · Recordings · Strings"),
    "light": ("Brass Amber Round Folded Small Northern", "Lamp · Lantern · Shade · Candle · Reading Light"),
    "travel": ("Canvas Night Pocket Folded Wool Harbour", "Bag · Blanket · Bottle · Map Case · Umbrella"),
}
"""Category ▸ first words and last words of its goods' titles."""
TYPES = {"view": 55, "click": 25, "like": 8, "purchase": 10, "hide": 2}
"""Event type ▸ how often of a hundred."""
LIKED, FOLLOWING = 0.85, 0.4
"""How often a visitor stays within what they like, and how often they take what goes with what they took before."""
REMEMBERED, TRIES = 40, 8
DAY_MS = 86_400_000
HISTORY_DAYS = 3


class Publisher(Protocol):
    """Takes records, as `EventPublisher` does."""

    def publish(self, event: Mapping[str, Any], /) -> object: ...
    def publish_item(self, item: Mapping[str, Any]) -> object: ...
    def flush(self) -> object: ...


def catalogue(now_ms: int) -> list[dict[str, Any]]:
    """Return the goods; each came out some days before `now_ms`."""
    items = []
    for category, (firsts, lasts) in GOODS.items():
        titles = [f"{first} {last}" for first in firsts.split() for last in lasts.split(" · ")]
        for number, title in enumerate(titles):
            at_ms = now_ms - DAY_MS * (1 + (number * 37) % 90)
            items.append({"item_id": f"{category}-{number}", "title": title, "categories": [category], "published_ts_ms": at_ms})
    return items


@dataclass(slots=True)
class Visitor:
    """A visitor: what they like, and what they took lately, which they take no more for a while."""

    user_id: str
    liked: list[str]
    lately: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


class Shop:
    """Draws what visitors do; the same seed draws the same."""

    def __init__(self, n_visitors: int = 500, seed: int = 0) -> None:
        self._draw, categories = random.Random(seed), list(GOODS)
        self._visitors = [Visitor(f"visitor-{number}", self._draw.sample(categories, 2)) for number in range(1, n_visitors + 1)]
        self._sizes = {name: len(firsts.split()) * len(lasts.split(" · ")) for name, (firsts, lasts) in GOODS.items()}

    def next_event(self, event_id: str, at_ms: int) -> dict[str, Any]:
        """Return the next event of any visitor. Few visitors do much, and few goods are wanted by many."""
        visitor = self._visitors[min(int(self._draw.expovariate(6.0) * len(self._visitors)), len(self._visitors) - 1)]
        item_id = self._chosen(visitor)
        kind = self._draw.choices(list(TYPES), list(TYPES.values()))[0]
        visitor.lately.append(item_id)
        return {"event_id": event_id, "user_id": visitor.user_id, "item_id": item_id, "type": kind, "event_ts_ms": at_ms}

    def _chosen(self, visitor: Visitor) -> str:
        category = self._draw.choice(visitor.liked if self._draw.random() < LIKED else list(GOODS))
        follows = bool(visitor.lately) and self._draw.random() < FOLLOWING
        if follows:
            category = visitor.lately[-1].rpartition("-")[0]
        for _ in range(TRIES):
            number = int(self._draw.paretovariate(1.1)) - 1
            if follows:
                number = int(visitor.lately[-1].rpartition("-")[2]) + self._draw.choice((1, 2, 5))
            item_id = f"{category}-{number % self._sizes[category]}"
            if item_id not in visitor.lately:
                break
            follows = False
        return item_id

    def history(self, n_events: int, now_ms: int) -> Iterator[dict[str, Any]]:
        """Return what visitors did in the days before `now_ms`, in the order of time. Ids repeat with the seed, so it counts once."""
        step_ms = HISTORY_DAYS * DAY_MS / max(n_events, 1)
        for number in range(n_events):
            yield self.next_event(f"traffic-history-{number}", int(now_ms - (n_events - number) * step_ms))


def run_traffic(
    publisher: Publisher,
    shop: Shop,
    *,
    per_second: float,
    history: int,
    count: int | None,
    now_s: Callable[[], float],
    ended: Callable[[float], bool],
    say: Callable[[str], None],
) -> int:
    """Publish the catalogue, what was before, then `per_second` events until `ended` (which waits) or `count` of them; return how many."""
    now_ms = int(now_s() * 1000)
    items = catalogue(now_ms)
    for item in items:
        publisher.publish_item(item)
    for event in shop.history(history, now_ms):
        publisher.publish(event)
    publisher.flush()
    say(f"{len(items)} goods and {history:,} earlier events are published; now {per_second:g} events/s until Ctrl-C")
    begin_s, done = now_s(), 0
    while (count is None or done < count) and not ended(max(begin_s + done / per_second - now_s(), 0.0)):
        at_s = now_s()
        publisher.publish(shop.next_event(f"traffic-{int(begin_s * 1000)}-{done}", int(at_s * 1000)))
        done += 1
        begin_s = max(begin_s, at_s - done / per_second - 1.0)  # what it is late by more than a second is not caught up
    publisher.flush()
    return done
