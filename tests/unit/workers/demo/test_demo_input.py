"""The demo's input, moved in time."""

from __future__ import annotations

from workers.demo.input import DemoInput, Rating

NOW_MS = 1_800_000_000_000


def test_ratings_that_end_now_keep_their_distances_and_those_to_the_films() -> None:
    items = {item_id: {"item_id": item_id, "title": item_id, "published_ts_ms": at_ms} for item_id, at_ms in (("m1", 400), ("m2", None))}
    source = DemoInput("films", items, [Rating("u1", "m1", 4.0, 1_000), Rating("u1", "m2", 5.0, 3_000)])
    moved = source.until(NOW_MS)
    assert [rating.at_ms for rating in moved.ratings] == [NOW_MS - 2_000, NOW_MS]
    assert [item["published_ts_ms"] for item in moved.items.values()] == [NOW_MS - 2_600, None]
    assert [rating.value for rating in moved.ratings] == [4.0, 5.0] and source.ratings[0].at_ms == 1_000
