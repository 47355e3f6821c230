"""Pairs are what two nested loops over a user's history give, and the measures of association what the papers say."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import PairWeights, derive_pairs, log_likelihood_ratio
from recsys.state.item_row import sum_pairs
from recsys.state.user_table import UserTable
from tests.builders import batch_of

WEIGHTS = PairWeights.decaying(window=5, step=0.8, backward=0.5)
Event = tuple[int, int, int]
"""Item, weight, seconds."""
EVENT = st.tuples(st.integers(0, 6), st.integers(-40, 127).filter(bool), st.integers(0, 9))
USERS = st.lists(st.tuples(st.lists(EVENT, max_size=12), st.lists(EVENT, min_size=1, max_size=9)), min_size=1, max_size=4)


def naive(history: list[Event], new: list[Event]) -> Counter[tuple[int, int]]:
    """Additions to (row, neighbour) in 64ths."""
    sums: Counter[tuple[int, int]] = Counter()
    events = history + new
    for at in range(len(history), len(events)):
        for distance in range(1, min(WEIGHTS.window, at) + 1):
            (item, weight, at_s), (other, its_weight, its_s) = events[at], events[at - distance]
            if weight > 0 and its_weight > 0 and item != other:
                first, then = (item, other) if its_s > at_s else (other, item)
                for row, neighbour, table in ((first, then, WEIGHTS.forward), (then, first, WEIGHTS.backward)):
                    sums[row, neighbour] += math.floor(weight * its_weight * table[distance - 1] / 1024 + 0.5)
    return +sums


@given(USERS)
def test_pairs_equal_a_double_loop_over_each_user_s_history(users: list[tuple[list[Event], list[Event]]]) -> None:
    table = UserTable(history_length=8, seen_length=0)
    table.load({str(i): None for i in range(len(users))})
    expected: Counter[tuple[int, int]] = Counter()
    slots = [table.slot(str(i)) or 0 for i in range(len(users))]
    for slot, (history, new) in zip(slots, users, strict=True):
        if history:
            items, weights, times_s = zip(*history, strict=True)
            past = batch_of([slot], [len(history)], items, times_s, weights)
            table.append(past.slots, past.counts, past.items, past.times_s, past.weights)
        expected += naive(history[-8:], new)
    items, weights, times_s = zip(*(event for _, new in users for event in new), strict=True)
    batch = batch_of(slots, [len(new) for _, new in users], items, times_s, weights)
    pairs = derive_pairs(batch, table, WEIGHTS)
    rows, neighbours, sums = sum_pairs(pairs.rows, pairs.neighbours, pairs.weights)
    assert dict(zip(zip(rows.tolist(), neighbours.tolist(), strict=True), sums.tolist(), strict=True)) == dict(expected)
    assert (batch.items[pairs.sources] != np.where(pairs.rows == batch.items[pairs.sources], pairs.neighbours, pairs.rows)).all()


@pytest.mark.parametrize("late_in_batch", [True, False])
def test_a_late_event_is_paired_in_the_direction_of_event_time_at_the_distance_of_arrival(late_in_batch: bool) -> None:
    a, b, c, same = 1, 2, 3, 4
    table = UserTable(20, 0)
    table.load({"u": None})
    items, times_s = [a, c, b, same], [10, 30, 20, 20]  # b happened between a and c, and `same` in the second of b
    if not late_in_batch:
        past = batch_of([0], [2], items[:2], times_s[:2], [32, 32])
        table.append(past.slots, past.counts, past.items, past.times_s, past.weights)
        items, times_s = items[2:], times_s[2:]
    pairs = derive_pairs(batch_of([0], [len(items)], items, times_s, [32] * len(items)), table, WEIGHTS)
    found = dict(zip(zip(pairs.rows.tolist(), pairs.neighbours.tolist(), strict=True), pairs.weights.tolist(), strict=True))
    near, middle = (WEIGHTS.forward[0], WEIGHTS.backward[0]), (WEIGHTS.forward[1], WEIGHTS.backward[1])
    assert (found[b, c], found[c, b]) == near
    assert (found[a, b], found[b, a]) == middle
    assert (found[b, same], found[same, b]) == near
    assert (found[same, c], found[c, same]) == middle


def test_a_pair_at_the_window_s_edge_counts_and_one_beyond_does_not() -> None:
    table = UserTable(20, 0)
    table.load({"u": None})
    items = list(range(WEIGHTS.window + 2))
    pairs = derive_pairs(batch_of([0], [len(items)], items, items, [32] * len(items)), table, WEIGHTS)
    together = set(zip(pairs.rows.tolist(), pairs.neighbours.tolist(), strict=True))
    assert (1, WEIGHTS.window + 1) in together and (0, WEIGHTS.window + 1) not in together


def test_the_newest_pair_counts_most_and_the_way_back_less() -> None:
    assert WEIGHTS.forward == (64, 51, 41, 33, 26)
    assert WEIGHTS.backward == (32, 26, 20, 16, 13)
    assert min(PairWeights.decaying(window=40, step=0.5, backward=0.1).backward) == 1


def test_no_interactions_make_no_pairs() -> None:
    pairs = derive_pairs(batch_of([], [], [], [], []), UserTable(20, 0), WEIGHTS)
    assert len(pairs.rows) == len(pairs.sources) == 0


def test_the_log_likelihood_ratio_is_the_one_worked_out_by_hand() -> None:
    # k11 10, k12 5, k21 2, k22 83: the G² of a 2 × 2 table is 2 Σ k ln(k · n / (row · column))
    cells = {(0, 0): 10.0, (0, 1): 5.0, (1, 0): 2.0, (1, 1): 83.0}
    total, row, column = 100.0, (15.0, 85.0), (12.0, 88.0)
    by_hand = 2 * sum(k * math.log(k * total / (row[i] * column[j])) for (i, j), k in cells.items())
    found = log_likelihood_ratio(np.array([10.0], np.float32), np.array([15.0], np.float32), np.array([12.0], np.float32), total)
    assert by_hand == pytest.approx(35.339, abs=1e-3)
    assert found[0] == pytest.approx(by_hand, rel=1e-6)


def test_the_log_likelihood_ratio_of_chance_and_of_avoidance_is_zero() -> None:
    one, other = np.array([50, 50], np.float32), np.array([40, 40], np.float32)
    assert log_likelihood_ratio(np.array([20, 3], np.float32), one, other, 100.0).tolist() == [0.0, 0.0]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 500))
def test_the_log_likelihood_ratio_is_symmetric_finite_and_never_negative(k11: int, k12: int, k21: int, k22: int) -> None:
    def ratio(a: int, b: int) -> float:
        table = (np.array([k11], np.float32), np.array([k11 + a], np.float32), np.array([k11 + b], np.float32))
        return float(log_likelihood_ratio(*table, float(k11 + k12 + k21 + k22))[0])

    assert 0 <= ratio(k12, k21) < math.inf
    assert ratio(k12, k21) == pytest.approx(ratio(k21, k12), rel=1e-5, abs=1e-6)
