"""Both forms of the ridge system give the same user vectors as the paper's system solved directly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.models.base import F32, Histories
from recsys.models.ials import ridge_kernel
from recsys.models.ials.fold_in import FoldIn

N_ITEMS, FACTORS = 60, 16
VECTORS = np.random.default_rng(0).normal(0, 0.3, (N_ITEMS, FACTORS)).astype(np.float32)
EVENTS = st.lists(st.tuples(st.integers(-1, N_ITEMS - 1), st.sampled_from([-1.0, 1 / 32, 0.0, 0.6, 1.0, 3.96])), max_size=40)


def solver(exponent: float = 1.0, unobserved_weight: float = 0.2) -> FoldIn:
    return FoldIn(VECTORS, unobserved_weight=unobserved_weight, regularisation=0.006, frequency_exponent=exponent)


def histories(rows: list[list[tuple[int, float]]], width: int = 40) -> Histories:
    items, weights = np.full((len(rows), width), -1, np.int32), np.zeros((len(rows), width), np.float32)
    for row, own in enumerate(rows):
        if own:
            items[row, -len(own) :], weights[row, -len(own) :] = zip(*own, strict=True)
    return Histories(items, weights, np.zeros_like(weights))


def entries(own: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return an entry for each item of a history, with the newest sign and the largest magnitude since the sign last changed."""
    found: dict[int, float] = {}
    for item, weight in own:
        if item >= 0 and weight:
            before = found.pop(item, 0.0)
            found[item] = max(weight, before, key=abs) if weight * before > 0 else weight
    return list(found.items())


def solved_plainly(own: list[tuple[int, float]], exponent: float, unobserved_weight: float) -> F32:
    y, read = VECTORS.astype(np.float64), entries(own)
    system = unobserved_weight * y.T @ y + 0.006 * (len(read) + unobserved_weight * N_ITEMS) ** exponent * np.eye(FACTORS)
    right = np.zeros(FACTORS)
    for item, weight in read:
        system += abs(weight) * np.outer(y[item], y[item])
        right += max(weight, 0) * y[item]
    return np.linalg.solve(system, right).astype(np.float32)


@given(st.lists(EVENTS, max_size=6), st.sampled_from([0.0, 0.7, 1.0]), st.sampled_from([0.05, 0.2, 1.0]))
def test_every_length_solves_the_system_of_the_paper(rows: list[list[tuple[int, float]]], exponent: float, unobserved: float) -> None:
    found = solver(exponent, unobserved).solve(histories(rows))
    assert found.shape == (len(rows), FACTORS)
    for own, vector in zip(rows, found, strict=True):
        expected = solved_plainly(own, exponent, unobserved)
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("length", [1, 7, 12, 13, 40])
def test_dual_and_primal_form_agree(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(length)
    rows = [[(int(item), 1.0) for item in random.permutation(N_ITEMS)[:length]] for _ in range(5)]
    found = []
    for share in (0.0, 10.0):
        monkeypatch.setattr("recsys.models.ials.fold_in._DUAL_SHARE", share)
        found.append(solver().solve(histories(rows)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_who_is_solved_with_whom_changes_nothing() -> None:
    random = np.random.default_rng(3)
    rows = [[(int(item), 1.0) for item in random.integers(0, N_ITEMS, n)] for n in random.integers(0, 40, 30)]
    together = solver().solve(histories(rows))
    for row, vector in zip(rows, together, strict=True):
        np.testing.assert_allclose(solver().solve(histories([row]))[0], vector, rtol=1e-4, atol=1e-6)
    assert not together[[not row for row in rows]].any(), "an empty history gives a zero vector"
    assert len(ridge_kernel.ridge.signatures) == 1, "compiled once, before the group is joined"  # type: ignore[attr-defined]
