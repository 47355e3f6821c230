"""Dense and sparse neighbours are the same thing, stored in two ways."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.engine import Engine, EngineConfig
from recsys.state.neighbours import DenseNeighbours, Neighbours, SparseNeighbours
from recsys.state.user_table import UserTable
from tests.builders import batch_of

N_ITEMS = 40


def filled(neighbours: Neighbours, seed: int = 3) -> Neighbours:
    """The same random sequence of changes for either kind; every third item is never loaded."""
    random = np.random.default_rng(seed)
    neighbours.grow(N_ITEMS)
    for number in range(N_ITEMS):
        if number % 3:
            others = np.sort(random.choice(N_ITEMS, int(random.integers(0, 9)), replace=False)).astype(np.uint32)
            neighbours.set_row(number, others, random.random(len(others)).astype(np.float32))
    for step in range(6):
        numbers, pairs = np.unique(random.integers(0, N_ITEMS, 12)), np.unique(random.integers(0, N_ITEMS, 30))
        ends = np.sort(random.integers(0, len(pairs) + 1, len(numbers)))
        records = np.stack((pairs, random.integers(1, 200, len(pairs))), axis=1).astype(np.uint32)
        neighbours.add(numbers, np.concatenate(([0], ends[:-1])), ends, records, np.float32(1 / 128))
        neighbours.add_row(int(numbers[0]), records[:, 0], random.random(len(records)).astype(np.float32))
        if step == 3:
            neighbours.scale(0.5)
    return neighbours


def test_dense_and_sparse_give_the_same_sums_rows_and_pairs() -> None:
    dense, sparse = filled(DenseNeighbours()), filled(SparseNeighbours())
    assert (dense.loaded[:N_ITEMS] == sparse.loaded[:N_ITEMS]).all()
    random = np.random.default_rng(4)
    items, weights = random.integers(0, N_ITEMS, (7, 5)), random.random((7, 5)).astype(np.float32)
    everything = np.arange(N_ITEMS)
    np.testing.assert_allclose(dense.rows(everything, N_ITEMS), sparse.rows(everything, N_ITEMS), atol=1e-5)
    np.testing.assert_allclose(dense.weighted_sums(items, weights, N_ITEMS), sparse.weighted_sums(items, weights, N_ITEMS), atol=1e-5)
    rows, others = items[:, :, None], random.integers(0, N_ITEMS, (7, 1, 11))
    np.testing.assert_allclose(dense.pairs(rows, others), sparse.pairs(rows, others), atol=1e-5)
    assert dense.pairs(rows, others).any()


@pytest.mark.parametrize("kind", [DenseNeighbours, SparseNeighbours])
def test_what_is_not_held_is_passed_over_until_all_is_held(kind: type[Neighbours]) -> None:
    neighbours = kind(4)
    appended = (np.array([1]), np.array([0]), np.array([1]), np.array([[2, 4]], np.uint32), np.float32(0.25))
    neighbours.add(*appended)
    neighbours.add_row(1, np.array([2], np.uint32), np.ones(1, np.float32))
    assert not neighbours.loaded[1]
    neighbours.hold_all()
    neighbours.add(*appended)
    neighbours.add_row(1, np.array([2], np.uint32), np.ones(1, np.float32))
    neighbours.grow(300)
    assert neighbours.rows(np.array([1]), 300)[0, 2] == 2.0
    assert not neighbours.loaded[299]
    neighbours.clear()
    assert not neighbours.loaded.any()


@pytest.mark.parametrize(("number", "neighbour"), [(256, 0), (0, 256)])
def test_what_there_is_no_room_for_is_refused(number: int, neighbour: int) -> None:
    neighbours = DenseNeighbours(256)
    neighbours.hold_all()
    with pytest.raises(IndexError, match="no room"):
        neighbours.add(np.array([number]), np.array([0]), np.array([1]), np.array([[neighbour, 4]], np.uint32), np.float32(1))


def test_an_engine_with_sparse_rows_makes_the_same_lists() -> None:
    random = np.random.default_rng(8)
    engines = [Engine(EngineConfig(list_size=8, dense_items=limit)) for limit in (8_192, 10)]
    for engine in engines:
        engine.ensure_items(N_ITEMS)
        engine.neighbours.hold_all()
        engine.users.load(dict.fromkeys("abcd"))
    for _ in range(40):
        n = int(random.integers(1, 6))
        slot, items = int(random.integers(0, 4)), random.integers(0, N_ITEMS, n).tolist()
        for engine in engines:
            slots = [engine.users.slot("abcd"[slot]) or 0]
            batch = batch_of(slots, [n], items, [1_700_000_000] * n, [32] * n)
            engine.learn_items(engine.derive(batch).delta(engine.config))
            engine.learn_histories(batch)
    assert isinstance(engines[0].neighbours, DenseNeighbours) and isinstance(engines[1].neighbours, SparseNeighbours)
    dense, sparse = (e.recommend(np.array([e.users.slot(u) or 0 for u in "abcd"]), {}, 1_700_000_000) for e in engines)
    np.testing.assert_allclose(dense.scores, sparse.scores, atol=1e-5)
    np.testing.assert_array_equal(dense.items, sparse.items)
    assert isinstance(engines[0].users, UserTable)
