"""The made-up shop: what it publishes is valid, in order, repeatable, and has something to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from schemas import Event, Item, from_fields
from workers.demo.traffic import GOODS, Shop, catalogue, run_traffic

NOW_MS = 1_800_000_000_000


class Published:
    """What a publisher was given, and a clock that waiting moves."""

    def __init__(self) -> None:
        self.items: list[Mapping[str, Any]] = []
        self.events: list[Mapping[str, Any]] = []
        self.now_s, self.waits = NOW_MS / 1000, list[float]()

    def publish(self, event: Mapping[str, Any], /) -> None:
        self.events.append(event)

    def publish_item(self, item: Mapping[str, Any]) -> None:
        self.items.append(item)

    def flush(self) -> None:
        pass

    def ended(self, wait_s: float) -> bool:
        self.waits.append(wait_s)
        self.now_s += wait_s
        return False


def run(**options: Any) -> tuple[Published, int]:
    published = Published()
    chosen: dict[str, Any] = {"per_second": 4.0, "history": 300, "count": 40, **options}
    done = run_traffic(published, Shop(50), now_s=lambda: published.now_s, ended=published.ended, say=lambda line: None, **chosen)
    return published, done


def test_everything_is_valid_and_in_the_order_of_time_and_ids_are_told_apart() -> None:
    published, done = run()
    items = {from_fields(Item, item).item_id for item in published.items}
    events = [from_fields(Event, event) for event in published.events]
    assert done == 40 and len(events) == 340 and len(items) == len(published.items) == 240
    assert {event.item_id for event in events} <= items
    times = [event.event_ts_ms for event in events]
    assert times == sorted(times) and times[299] < NOW_MS <= times[300] and times[-1] == NOW_MS + 39 * 250
    assert len({event.event_id for event in events}) == 340


def test_the_same_seed_repeats_and_another_one_does_not() -> None:
    assert list(Shop(50).history(100, NOW_MS)) == list(Shop(50).history(100, NOW_MS)) != list(Shop(50, seed=1).history(100, NOW_MS))


def test_a_slow_machine_is_not_chased() -> None:
    published = Published()

    def late(wait_s: float) -> bool:
        published.waits.append(wait_s)
        published.now_s += 3.0
        return len(published.waits) > 20

    done = run_traffic(
        published, Shop(5), per_second=10.0, history=0, count=None, now_s=lambda: published.now_s, ended=late, say=lambda line: None
    )
    assert done == 20 and published.waits[-1] == 0.0


def test_visitors_stay_with_what_they_like_and_some_goods_are_wanted_by_many() -> None:
    events = list(Shop(50).history(3_000, NOW_MS))
    by_visitor: dict[str, Counter[str]] = {}
    for event in events:
        by_visitor.setdefault(event["user_id"], Counter())[event["item_id"].rpartition("-")[0]] += 1
    active = [counts for counts in by_visitor.values() if counts.total() >= 50]
    assert len(active) >= 10
    assert all(sum(n for _, n in counts.most_common(2)) > 0.5 * counts.total() for counts in active)
    items = Counter(event["item_id"] for event in events)
    assert items.most_common(1)[0][1] > 5 * 3_000 / 240 and len(items) > 200
    assert {name for event in events if (name := event["item_id"].rpartition("-")[0])} == set(GOODS)
    assert len(catalogue(NOW_MS)) == 240
