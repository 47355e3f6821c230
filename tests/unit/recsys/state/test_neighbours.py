"""Dense and sparse neighbours are the same thing, stored in two ways."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.engine import Engine, EngineConfig
from recsys.state.neighbours import NO_EPOCH, DenseNeighbours, Neighbours, SparseNeighbours
from recsys.state.user_table import UserTable
from tests.builders import batch_of, learn

N_ITEMS = 40


def filled(neighbours: Neighbours, seed: int = 3) -> Neighbours:
    """The same random sequence of changes for either kind; every third item is never loaded."""
    random = np.random.default_rng(seed)
    neighbours.grow(N_ITEMS)
    for number in range(N_ITEMS):
        if number % 3:
            others = np.sort(random.choice(N_ITEMS, int(random.integers(0, 9)), replace=False)).astype(np.uint32)
            neighbours.set_row(number, others, random.random(len(others)).astype(np.float32), 1 if len(others) else NO_EPOCH)
    for step in range(6):
        numbers, pairs = np.unique(random.integers(0, N_ITEMS, 12)), np.unique(random.integers(0, N_ITEMS, 30))
        ends = np.sort(random.integers(0, len(pairs) + 1, len(numbers)))
        records = np.stack((pairs, random.integers(1, 200, len(pairs))), axis=1).astype(np.uint32)
        neighbours.add(numbers, np.concatenate(([0], ends[:-1])), ends, records, int(random.integers(0, step + 2)))
        neighbours.add_row(int(numbers[0]), records[:, 0], random.random(len(records)).astype(np.float32), step // 2)
    return neighbours


def test_dense_and_sparse_give_the_same_sums_rows_and_pairs() -> None:
    dense, sparse = filled(DenseNeighbours()), filled(SparseNeighbours())
    assert (dense.loaded[:N_ITEMS] == sparse.loaded[:N_ITEMS]).all()
    random = np.random.default_rng(4)
    items, weights = random.integers(0, N_ITEMS, (7, 5)), random.random((7, 5)).astype(np.float32)
    everything = np.arange(N_ITEMS)
    np.testing.assert_allclose(dense.rows(everything, N_ITEMS), sparse.rows(everything, N_ITEMS), atol=1e-5)
    np.testing.assert_allclose(dense.weighted_sums(items, weights, N_ITEMS), sparse.weighted_sums(items, weights, N_ITEMS), atol=1e-5)
    np.testing.assert_array_equal(dense.epochs[:N_ITEMS], sparse.epochs[:N_ITEMS])
    np.testing.assert_array_equal(dense.relative_weights(items, weights), sparse.relative_weights(items, weights))
    rows, others = items[:, :, None], random.integers(0, N_ITEMS, (7, 1, 11))
    np.testing.assert_allclose(dense.pairs(rows, others), sparse.pairs(rows, others), atol=1e-5)
    assert dense.pairs(rows, others).any()


@pytest.mark.parametrize("kind", [DenseNeighbours, SparseNeighbours])
def test_what_is_not_held_is_passed_over_until_all_is_held(kind: type[Neighbours]) -> None:
    neighbours = kind(4)
    appended = (np.array([1]), np.array([0]), np.array([1]), np.array([[2, 64]], np.uint32), 0)
    neighbours.add(*appended)
    neighbours.add_row(1, np.array([2], np.uint32), np.ones(1, np.float32), 0)
    assert not neighbours.loaded[1]
    neighbours.hold_all()
    neighbours.add(*appended)
    neighbours.add_row(1, np.array([2], np.uint32), np.ones(1, np.float32), 0)
    neighbours.grow(300)
    assert neighbours.rows(np.array([1]), 300)[0, 2] == 2.0
    assert not neighbours.loaded[299]
    neighbours.clear()
    assert not neighbours.loaded.any()


def pair(neighbours: Neighbours, number: int, neighbour: int, epoch: int, *, alone: bool = False) -> None:
    """Add one pair of unit weight, as part of a batch or `alone`."""
    if alone:
        neighbours.add_row(number, np.array([neighbour], np.uint32), np.ones(1, np.float32), epoch)
        return
    neighbours.add(np.array([number]), np.array([0]), np.array([1]), np.array([[neighbour, 64]], np.uint32), epoch)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("kind", [DenseNeighbours, SparseNeighbours])
def test_a_row_is_decayed_to_its_own_newest_epoch_and_keeps_its_digits_for_decades(kind: type[Neighbours], alone: bool) -> None:
    neighbours = kind(8)
    neighbours.hold_all()
    for neighbour, epoch in ((2, 0), (3, 2), (2, 1)):
        pair(neighbours, 1, neighbour, epoch, alone=alone)
    assert neighbours.rows(np.array([1]), 8)[0].tolist() == [0, 0, 0.75, 1, 0, 0, 0, 0] and neighbours.epochs[1] == 2
    pair(neighbours, 5, 6, 20_000)
    assert neighbours.rows(np.array([1]), 8)[0, 3] == 1, "what happens to other items takes no digits"
    pair(neighbours, 1, 4, 20_000, alone=alone)
    assert neighbours.rows(np.array([1]), 8)[0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0], "newer pairs outweigh it"


@pytest.mark.parametrize("kind", [DenseNeighbours, SparseNeighbours])
def test_old_rows_weigh_in_full_alone_and_less_beside_newer_ones(kind: type[Neighbours]) -> None:
    neighbours = kind(8)
    neighbours.hold_all()
    for number, epoch in ((0, 1), (1, 3), (2, 20_000)):
        pair(neighbours, number, 7, epoch)
    weights = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]], np.float32)
    items = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 5, 0]])
    assert neighbours.relative_weights(items, weights).tolist() == [[1, 0, 0], [0.25, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(("number", "neighbour"), [(256, 0), (0, 256)])
def test_what_there_is_no_room_for_is_refused(number: int, neighbour: int) -> None:
    neighbours = DenseNeighbours(256)
    neighbours.hold_all()
    with pytest.raises(IndexError, match="no room"):
        neighbours.add(np.array([number]), np.array([0]), np.array([1]), np.array([[neighbour, 4]], np.uint32), 0)


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
            learn(engine, batch)
    assert isinstance(engines[0].neighbours, DenseNeighbours) and isinstance(engines[1].neighbours, SparseNeighbours)
    dense, sparse = (e.recommend(np.array([e.users.slot(u) or 0 for u in "abcd"]), {}, 1_700_000_000) for e in engines)
    np.testing.assert_allclose(dense.scores, sparse.scores, atol=1e-5)
    np.testing.assert_array_equal(dense.items, sparse.items)
    assert isinstance(engines[0].users, UserTable)
