"""The solver of all rows agrees with systems formed and solved one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recsys.errors import ShapeError
from recsys.models.ials.ridge import SparseRows, solve_rows


def random_rows(random: np.random.Generator, n_rows: int, n_columns: int, density: float) -> np.ndarray:
    """Return weights (R, C) with dislikes, 0 for no entry, and rows that are full or empty."""
    weights = random.choice([0.5, 1.0, 3.0, -1.0], (n_rows, n_columns)).astype(np.float32)
    return np.where(random.random((n_rows, n_columns)) < density * random.choice([0, 1, 4], (n_rows, 1)), weights, np.float32(0))


def rows_of(weights: np.ndarray) -> SparseRows:
    compressed = sparse.csr_array(weights)
    return SparseRows(compressed.indptr, compressed.indices, compressed.data, weights.shape[1])


def one_by_one(weights: np.ndarray, columns: np.ndarray, ridge: np.ndarray, unobserved_weight: float) -> np.ndarray:
    y = columns.astype(np.float64)
    solved = np.zeros((len(weights), y.shape[1]))
    for row, w in enumerate(weights.astype(np.float64)):
        system = y.T @ ((unobserved_weight + np.abs(w))[:, None] * y) + ridge[row] * np.eye(y.shape[1])
        solved[row] = np.linalg.solve(system, y.T @ np.maximum(w, 0))
    return solved


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 30),
    st.integers(1, 9),
    st.sampled_from([0.01, 0.2, 1.0]),
    st.sampled_from([0.05, 0.4]),
)
def test_rows_solved_together_are_the_rows_solved_one_by_one(
    seed: int, n_rows: int, n_columns: int, factors: int, unobserved_weight: float, density: float
) -> None:
    random = np.random.default_rng(seed)
    weights = random_rows(random, n_rows, n_columns, density)
    columns = random.normal(size=(n_columns, factors)).astype(np.float32)
    start = random.normal(size=(n_rows, factors)).astype(np.float32)
    ridge = random.uniform(0.1, 5, n_rows).astype(np.float32)
    found = solve_rows(
        rows_of(weights),
        torch.from_numpy(columns),
        torch.from_numpy(start),
        torch.from_numpy(ridge),
        unobserved_weight=unobserved_weight,
        tolerance=1e-6,
    ).numpy()
    expected = one_by_one(weights, columns, ridge, unobserved_weight)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * max(np.abs(expected).max(), 0.1))


def test_a_looser_tolerance_is_kept_too() -> None:
    random = np.random.default_rng(0)
    weights = random_rows(random, 200, 80, 0.1)
    columns = random.normal(size=(80, 16)).astype(np.float32)
    ridge = np.ones(200, np.float32)
    expected = one_by_one(weights, columns, ridge, 0.2)
    errors = []
    for tolerance in (0.1, 0.01, 0.001):
        found = solve_rows(
            rows_of(weights),
            torch.from_numpy(columns),
            torch.zeros((200, 16)),
            torch.from_numpy(ridge),
            unobserved_weight=0.2,
            tolerance=tolerance,
        )
        errors.append(np.linalg.norm(found.numpy() - expected) / np.linalg.norm(expected))
        assert errors[-1] < 3 * tolerance
    assert errors[0] > errors[1] > errors[2]


def test_rows_without_entries_are_zero_wherever_they_start() -> None:
    weights = np.zeros((3, 4), np.float32)
    weights[1, 2] = 1
    found = solve_rows(
        rows_of(weights), torch.ones((4, 2)), torch.full((3, 2), 7.0), torch.ones(3), unobserved_weight=0.2, tolerance=1e-6
    ).numpy()
    assert not found[[0, 2]].any() and found[1].all()


def test_the_same_input_gives_the_same_bits() -> None:
    random = np.random.default_rng(1)
    rows = rows_of(random_rows(random, 300, 90, 0.1))
    columns, start = torch.from_numpy(random.normal(size=(90, 16)).astype(np.float32)), torch.zeros((300, 16))
    solved = [solve_rows(rows, columns, start, torch.ones(300), unobserved_weight=0.2, tolerance=1e-3) for _ in range(3)]
    assert torch.equal(solved[0], solved[1]) and torch.equal(solved[0], solved[2])


def test_entries_of_unlike_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match="one length"):
        SparseRows(np.array([0, 2]), np.array([0, 1]), np.ones(3, np.float32), 4)
