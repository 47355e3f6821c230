"""The bank of half-lives equals plain sums over all choices, whatever came in which order and whoever counted it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.half_lives import GROWTH, HALF_LIVES_S, LIVE_SPANS, NAMED_HALF_LIVES_S, SPAN_HALF_LIVES, WINDOWS_S, span_amount
from recsys.state.leaders import POOL
from recsys.state.popularity import Popularity

N_ITEMS = 6
UNIT = 64
HOUR_S = 3_600
NAMES = list(NAMED_HALF_LIVES_S)


def choose(popularity: Popularity, item: int, at_s: int, units: int = UNIT) -> None:
    """Count one choice as `batch_delta` does."""
    for window in ("all", *WINDOWS_S):
        span, amount = span_amount(units, at_s, window)
        popularity.add(window, span, np.array([item], np.uint32), np.array([amount]))


def top(popularity: Popularity, place: int, size: int) -> np.ndarray:
    """Return the best items at one half-life."""
    found = popularity.tops(size, np.array([place]))[0]
    return found[found >= 0]


def plain_bank(choices: list[tuple[int, int, int]], now_s: int) -> np.ndarray:
    """Return the sums (H, N) of halved units, span by span as the definition says, in plain floats."""
    found = np.zeros((len(HALF_LIVES_S), N_ITEMS))
    for item, at_s, units in choices:
        for place, half_life_s in enumerate(HALF_LIVES_S):
            if math.isinf(half_life_s):
                found[place, item] += units / UNIT
            elif at_s // (SPAN_HALF_LIVES * half_life_s) > now_s // (SPAN_HALF_LIVES * half_life_s) - LIVE_SPANS:
                found[place, item] += units / UNIT * 0.5 ** ((now_s - at_s) / half_life_s)
    return found


TIMES_S = st.integers(0, 40 * HOUR_S) | st.integers(0, 800 * 86_400)
CHOICES = st.lists(st.tuples(st.integers(0, N_ITEMS - 1), TIMES_S, st.sampled_from([32, 64, 96, 128])), max_size=40)


@given(CHOICES, st.integers(0, 10 * HOUR_S))
def test_the_bank_is_the_sum_of_halved_choices(choices: list[tuple[int, int, int]], later_s: int) -> None:
    popularity = Popularity(N_ITEMS)
    for choice in choices:
        choose(popularity, *choice)
    now_s = max((at_s for _, at_s, _ in choices), default=0) + later_s
    popularity.advance(now_s)
    # growth comes in steps of a sixteenth of a half-life: 2^(1/16) at most, and units are rounded
    np.testing.assert_allclose(popularity.bank()[:, :N_ITEMS], plain_bank(choices, now_s), rtol=0.06)


@given(CHOICES, st.data())
def test_any_order_and_any_restart_gives_equal_values(choices: list[tuple[int, int, int]], data: st.DataObject) -> None:
    one, other = Popularity(N_ITEMS), Popularity(2)
    other.grow(N_ITEMS)
    for choice in choices:
        choose(one, *choice)
        top(one, data.draw(st.integers(0, len(HALF_LIVES_S) - 1)), 3)
    for choice in data.draw(st.permutations(choices)):
        choose(other, *choice)
        if data.draw(st.integers(0, 5)) == 0:  # a new process reads the spans that count
            held, other = other, Popularity(N_ITEMS)
            other.advance(held.newest_s)
            for window in ("all", *WINDOWS_S):
                newest = held.newest_s // WINDOWS_S[window] if window in WINDOWS_S else 0
                for span in range(max(newest - LIVE_SPANS + 1, 0), newest + 1):
                    units = held.units(window, span)[:N_ITEMS]
                    items = np.flatnonzero(units).astype(np.uint32)
                    other.put(window, span, items, units[items])
    newest_s = max((at_s for _, at_s, _ in choices), default=0)
    for popularity in (one, other):
        popularity.advance(newest_s)
    np.testing.assert_array_equal(one.bank()[:, :N_ITEMS], other.bank()[:, :N_ITEMS])
    np.testing.assert_array_equal(one.trending()[:N_ITEMS], other.trending()[:N_ITEMS])
    for place in range(len(HALF_LIVES_S)):
        assert top(one, place, 4).tolist() == top(other, place, 4).tolist()


@given(CHOICES)
def test_the_top_is_sorted_by_count_and_then_by_number(choices: list[tuple[int, int, int]]) -> None:
    popularity = Popularity(N_ITEMS)
    for at, choice in enumerate(choices):
        choose(popularity, *choice)
        if at % 3 == 0:
            top(popularity, at % len(HALF_LIVES_S), 2)
    for place, row in enumerate(popularity.bank().tolist()):
        best = sorted((number for number in range(N_ITEMS) if row[number] > 0), key=lambda number: (-row[number], number))
        assert top(popularity, place, 4).tolist() == best[:4]


def test_among_many_equal_items_the_lowest_numbers_lead_also_past_the_pool() -> None:
    popularity, fresh = Popularity(4 * POOL), Popularity(4 * POOL)
    everything = np.arange(4 * POOL, dtype=np.uint32)
    for one in (popularity, fresh):
        one.add("1d", 0, everything, np.full(len(everything), UNIT))
    place = NAMES.index("1d")
    assert top(popularity, place, POOL).tolist() == list(range(POOL))
    late = np.array([4 * POOL - 1, 7], np.uint32)
    for one in (popularity, fresh):
        one.add("1d", 0, late, np.array([UNIT, UNIT]))
    assert top(popularity, place, 5).tolist() == top(fresh, place, 5).tolist() == [7, 4 * POOL - 1, 0, 1, 2]
    with pytest.raises(ValueError, match=f"the best {POOL} are kept"):
        top(popularity, place, POOL + 1)


def test_a_span_counts_until_event_time_is_two_spans_on() -> None:
    popularity = Popularity(N_ITEMS)
    choose(popularity, 3, 100 * HOUR_S)
    popularity.advance(102 * HOUR_S - 1)
    assert popularity.holds("10m", 100) and popularity.bank()[0, 3] == pytest.approx(0.5 ** ((2 * HOUR_S - 1) / 600), rel=1e-3)
    popularity.advance(102 * HOUR_S)
    assert not popularity.holds("10m", 100) and popularity.bank()[0, 3] == 0
    choose(popularity, 3, 100 * HOUR_S)
    assert popularity.bank()[0, 3] == 0, "too late to count"
    assert popularity.bank()[-1, 3] == 2, "but for ever"
    popularity.advance(0)
    assert popularity.newest_s == 102 * HOUR_S, "and never back"


def test_values_halve_with_each_half_life_without_a_choice() -> None:
    popularity = Popularity(N_ITEMS)
    choose(popularity, 1, 90 * 86_400)
    assert popularity.bank()[:, 1] == pytest.approx(1, rel=1e-3)
    popularity.advance(90 * 86_400 + 86_400)
    after = popularity.bank()[:, 1]
    assert after[NAMES.index("1d")] == 0.5 and after[NAMES.index("10m")] == 0 and after[-1] == 1


def test_millions_of_choices_are_counted_one_by_one() -> None:
    popularity, total = Popularity(2), 0
    item, many = np.array([1], np.uint32), np.array([40_000_001])
    for _ in range(50):
        popularity.add("all", 0, item, many)
        popularity.add("all", 0, item, np.array([1]))
        total += 40_000_002
    assert popularity.units("all", 0)[1] == total and popularity.all_time[1] == np.float32(total / UNIT)


def test_some_items_are_read_as_all_are_and_none_counts_nothing() -> None:
    popularity = Popularity(N_ITEMS)
    for number in range(N_ITEMS):
        choose(popularity, number, 1_000 * number, 32 * (number + 1))
    numbers = np.array([[3, -1], [0, 5]])
    found = popularity.bank_of(numbers.ravel())
    assert found.shape == (4, len(HALF_LIVES_S)) and found.dtype == np.float32 and not found[1].any()
    np.testing.assert_array_equal(found[3], popularity.bank()[:, 5])
    np.testing.assert_array_equal(popularity.trending_of(numbers)[1], popularity.trending()[[0, 5]])


def test_what_is_chosen_lately_trends_above_what_was_chosen_more_often_before() -> None:
    popularity = Popularity(4)
    for _ in range(10):
        choose(popularity, 0, 100 * HOUR_S)
    for _ in range(4):
        choose(popularity, 1, 120 * HOUR_S)
    popularity.add("all", 0, np.array([2], np.uint32), np.array([100 * UNIT]))
    trending = popularity.trending()
    assert trending[1] > trending[0] > trending[2] > trending[3] == 0


def test_counts_survive_growth_and_are_gone_after_clearing() -> None:
    popularity = Popularity(4)
    choose(popularity, 3, 5_000)
    popularity.grow(1_000)
    assert popularity.bank().shape[1] == len(popularity.all_time) >= 1_000
    assert (popularity.bank()[:, 3] > 0).all()
    popularity.clear()
    assert not popularity.bank().any() and popularity.newest_s == 0 and not len(top(popularity, 0, 5))


def test_spans_end_where_one_of_the_shortest_does_and_growth_is_exact() -> None:
    lengths = list(WINDOWS_S.values())
    assert all(length % lengths[0] == 0 for length in lengths) and lengths == sorted(lengths)
    for step, growth in enumerate(GROWTH.tolist()):  # the 16th root, rounded down, in whole numbers
        assert growth**16 <= 1 << (step + 16 * 16) < (growth + 1) ** 16


def test_the_best_are_found_while_more_items_than_are_remembered_change() -> None:
    """Items that leave the pool of the best come back when they are chosen again."""
    popularity, random = Popularity(3_000), np.random.default_rng(0)
    last = len(HALF_LIVES_S) - 1
    top(popularity, last, 20)
    for step in range(60):
        for number in random.integers(0, 3_000, 60).tolist():
            choose(popularity, number, 100 + step, int(random.integers(1, 65)))
        for place in (0, last):
            counts = popularity.bank()[place].astype(np.float64)
            expected = np.lexsort((np.arange(3_000), -counts))[:20]
            np.testing.assert_array_equal(top(popularity, place, 20), expected)


def test_an_item_whose_sum_shrinks_gives_its_place_up() -> None:
    popularity = Popularity(4 * POOL)
    for item in range(4 * POOL):
        choose(popularity, item, 100, 4 * POOL - item)
    last = len(HALF_LIVES_S) - 1
    assert top(popularity, last, POOL).tolist() == list(range(POOL))
    popularity.put("all", 0, np.arange(POOL, dtype=np.uint32), np.zeros(POOL, np.int64))
    assert top(popularity, last, POOL).tolist() == list(range(POOL, 2 * POOL))
