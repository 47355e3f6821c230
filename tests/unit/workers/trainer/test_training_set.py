"""Training sets are made and thinned by counting; these are the plain ways."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.models.training_set import TrainingSet, stable_order

ROW = st.tuples(st.integers(-3, 6), st.integers(0, 7), st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.integers(0, 4))


@given(st.lists(ROW, max_size=60), st.integers(0, 3), st.sampled_from([1, 10**9]))
def test_columns_in_any_order_become_sorted_and_renumbered(rows: list[tuple[int, int, float, int]], least: int, spread: int) -> None:
    users, items, weights, times = (np.array([row[k] for row in rows]) for k in range(4))
    ids = [f"i{k}" for k in range(9)]
    made = TrainingSet.from_columns(
        users.astype(np.int64) * spread,
        items.astype(np.int32),
        ids,
        weights.astype(np.float32),
        times.astype(np.int64),
        min_item_count=least,
    )
    counted = [row for row in rows if row[2] != 0]
    often = [k for k in range(9) if sum(row[1] == k for row in counted) >= max(least, 1)]
    kept = sorted((row for row in counted if row[1] in often), key=lambda row: (row[0], row[3]))
    numbers = {user: number for number, user in enumerate(sorted({row[0] for row in kept}))}
    assert made.item_ids == [ids[k] for k in often] and made.n_users == len(numbers)
    assert made.users.tolist() == [numbers[row[0]] for row in kept]
    assert [made.item_ids[item] for item in made.items] == [ids[row[1]] for row in kept]
    assert made.weights.tolist() == [row[2] for row in kept] and made.ts_ms.tolist() == [row[3] for row in kept]
    assert made.user_starts().tolist() == [sum(user < u for user in made.users) for u in range(made.n_users + 1)]


@given(st.lists(ROW, max_size=60))
def test_the_newest_of_each_pair_stays_where_it_was(rows: list[tuple[int, int, float, int]]) -> None:
    made = TrainingSet.from_columns(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int32),
        [str(k) for k in range(8)],
        np.array([row[2] for row in rows], np.float32),
        np.array([row[3] for row in rows], np.int64),
    )
    newest = {(user, item): place for place, (user, item) in enumerate(zip(made.users.tolist(), made.items.tolist(), strict=True))}
    places = sorted(newest.values())
    thinned = made.last_of_pairs()
    assert thinned.users.tolist() == made.users[places].tolist() and thinned.items.tolist() == made.items[places].tolist()
    assert thinned.weights.tolist() == made.weights[places].tolist() and thinned.ts_ms.tolist() == made.ts_ms[places].tolist()
    assert (thinned.item_ids, thinned.n_users) == (made.item_ids, made.n_users)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 7), st.sampled_from([-1.0, -0.5, 0.25, 0.5, 1.0]), st.integers(0, 9)), max_size=40
    ),
    st.integers(1, 9),
)
def test_entries_are_those_of_a_history_that_takes_events_one_by_one(rows: list[tuple[int, int, float, int]], length: int) -> None:
    made = TrainingSet.from_columns(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int32),
        [str(k) for k in range(8)],
        np.array([row[2] for row in rows], np.float32),
        np.array([row[3] for row in rows], np.int64),
    )
    histories: dict[int, dict[int, tuple[float, int]]] = {}
    for user, item, weight, ts_ms in zip(*(column.tolist() for column in (made.users, made.items, made.weights, made.ts_ms)), strict=True):
        history = histories.setdefault(user, {})
        before = history.pop(item, (0.0, 0))[0]
        history[item] = (max(weight, before, key=abs) if weight * before > 0 else weight, ts_ms)
    expected = [(user, item, *held) for user, history in sorted(histories.items()) for item, held in list(history.items())[-length:]]
    found = made.entries(length)
    assert list(zip(*(c.tolist() for c in (found.users, found.items, found.weights, found.ts_ms)), strict=True)) == expected
    assert (found.item_ids, found.n_users) == (made.item_ids, made.n_users)


@given(st.lists(st.integers(0, 20), max_size=200))
def test_counting_sorts_as_a_stable_sort_does(keys: list[int]) -> None:
    numbers = np.array(keys, np.int32)
    assert stable_order(numbers, 21).tolist() == np.argsort(numbers, kind="stable").tolist()
