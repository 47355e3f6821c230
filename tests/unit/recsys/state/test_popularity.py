"""Popularity counts what lies within its windows of event time, whatever came in which order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.popularity import LIVE_BUCKETS, Popularity

ITEM = np.array([3], np.uint32)
ONE = np.ones(1, np.float32)


def test_a_bucket_counts_until_it_is_older_than_the_window() -> None:
    popularity = Popularity(8)
    popularity.add("hour", 100, ITEM, ONE)
    popularity.add("hour", 100 + LIVE_BUCKETS["hour"] - 1, ITEM, ONE)
    assert popularity.window("hour")[3] == 2
    popularity.add("hour", 100 + LIVE_BUCKETS["hour"], ITEM, ONE)
    assert popularity.window("hour")[3] == 2
    popularity.add("hour", 100, ITEM, ONE)
    assert popularity.window("hour")[3] == 2, "too late to count"


def test_time_goes_on_without_choices() -> None:
    popularity = Popularity(8)
    popularity.add("hour", 100, ITEM, ONE)
    popularity.advance((100 + LIVE_BUCKETS["hour"] - 1) * 3_600)
    assert popularity.window("hour")[3] == 1
    popularity.advance((100 + LIVE_BUCKETS["hour"]) * 3_600)
    assert popularity.window("hour")[3] == 0 and not popularity.holds("hour", 100)
    popularity.advance(0)
    assert popularity.newest_bucket("hour") == 100 + LIVE_BUCKETS["hour"], "and never back"


def test_the_order_of_arrival_makes_no_difference() -> None:
    random = np.random.default_rng(2)
    buckets = random.integers(0, 60, 200).tolist()
    one, other = Popularity(4), Popularity(4)
    for bucket in buckets:
        one.add("day", bucket, ITEM, ONE)
    for bucket in sorted(buckets):
        other.add("day", bucket, ITEM, ONE)
    assert one.window("day")[3] == other.window("day")[3] == sum(bucket > max(buckets) - LIVE_BUCKETS["day"] for bucket in buckets)


def test_replacing_a_bucket_is_adding_the_difference() -> None:
    popularity = Popularity(4)
    for window, bucket in (("all", 0), ("day", 7)):
        popularity.add(window, bucket, ITEM, ONE * 5)
        popularity.put(window, bucket, ITEM, ONE * 2)
    assert popularity.all_time[3] == popularity.window("day")[3] == 2


def test_what_is_chosen_lately_trends_above_what_was_chosen_more_often_before() -> None:
    popularity = Popularity(4)
    popularity.add("hour", 100, np.array([0], np.uint32), ONE * 10)
    popularity.add("hour", 120, np.array([1], np.uint32), ONE * 4)
    popularity.add("all", 0, np.array([0, 1, 2], np.uint32), np.array([10, 4, 100], np.float32))
    trending = popularity.trending()
    assert trending[1] > trending[0] > trending[2] > trending[3] == 0


def test_counts_survive_growth_and_are_gone_after_clearing() -> None:
    popularity = Popularity(4)
    popularity.add("all", 0, ITEM, ONE)
    popularity.add("hour", 5, ITEM, ONE)
    popularity.grow(1_000)
    assert len(popularity.trending()) == len(popularity.all_time) >= 1_000
    assert popularity.all_time[3] == popularity.window("hour")[3] == 1
    popularity.clear()
    assert not popularity.trending().any() and popularity.newest_bucket("hour") == -1


STEPS = st.lists(
    st.tuples(st.sampled_from(["all", "hour", "day", "time"]), st.integers(0, 40), st.integers(0, 3), st.booleans()), max_size=30
)


@given(STEPS)
def test_what_trends_is_told_from_what_changed_as_from_all_buckets(steps: list[tuple[str, int, int, bool]]) -> None:
    popularity, fresh = Popularity(4), Popularity(4)
    for window, bucket, item, look in steps:
        for counts in (popularity, fresh):
            if window == "time":
                counts.advance(bucket * 3_600)
            else:
                counts.add(window, 0 if window == "all" else bucket, np.array([item], np.uint32), ONE)
        if look:
            popularity.trending()
    np.testing.assert_array_equal(popularity.trending(), fresh.trending())
