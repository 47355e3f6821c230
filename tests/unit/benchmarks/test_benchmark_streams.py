"""The generated data of the state and scale benchmarks is as their help describes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.scale import BATCH, POOL, PRELOADED, comparisons
from benchmarks.state import HISTORY, WEIGHTS, rows_of, users_of
from recsys.state.user_table import unpack_row


def test_users_come_one_after_another_each_as_often_as_the_others() -> None:
    for comparison in comparisons(["users", "items", "spread"]):
        whole = comparison.population
        population = replace(whole, n_users=min(whole.n_users, 10_000))
        stream = population.stream(2 * population.n_users, seed=3)
        for first in (0, population.n_users - BATCH, population.n_users):
            assert len(set(stream.users[first : first + BATCH])) == BATCH, "a batch has no user twice"
        assert len(set(stream.users)) == population.n_users
        drawn = {int(item[1:]) for item in stream.items}
        assert min(drawn) >= population.pool.start and max(drawn) < population.pool.stop <= population.n_items
        assert len(population.pool) >= POOL > 2 * PRELOADED


def test_the_same_user_is_the_same_and_full_each_time() -> None:
    users = users_of(4_000, 50)
    packed = rows_of(users)
    assert packed == rows_of(users_of(4_000, 50)) and packed != rows_of(users_of(8_000, 50))
    row = unpack_row(packed["u4003"])
    assert row.items.tolist() == users.items[3].tolist() and row.times_s.tolist() == users.times_s[3].tolist()
    assert len(row.items) == HISTORY and set(row.weights.tolist()) <= set(WEIGHTS.tolist()) and len(row.embeddings) == 1


def test_sittings_have_pauses_and_even_streams_have_none() -> None:
    gaps_s = np.diff(users_of(0, 200).times_s.astype(np.int64), axis=1)
    assert 0.1 < (gaps_s > 3_600).mean() < 0.2
    even_s = np.diff(users_of(0, 200, steady=True).times_s.astype(np.int64), axis=1)
    assert (even_s > 3_600).mean() > 0.9
