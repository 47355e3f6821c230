"""Metrics of each case from the places of its targets, and of all lists together.

Shapes: C cases, T targets, I items, K categories, P places of a list.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.metrics import F64, I64

CUTOFFS: Final = (1, 5, 10, 20, 50)
PLACES: Final = 10
"""Places of the lists whose coverage, novelty and content are measured."""
_SMOOTHING = 0.01
"""Share of the history's distribution mixed into the list's, so that the divergence is finite (Steck 2018)."""


def places_of_ties(above: I64, tied: I64, case_of: I64) -> F64:
    """Return the expected place of each target when ties are in random order, (T,).

    `above` counts the other items with a higher score, `tied` those with the same one, among them other targets of the case; −1 in `above`
    is an item that is not ranked: its place is infinite. Of m equal items the g that are targets get the expected places of the order
    statistics, a + j (m + 1) / (g + 1), so that one target gets the mean rank and m targets get the m places.
    Shapes: (T,) each, `case_of` ascending.
    """
    found = np.flatnonzero(above >= 0)
    places = np.full(len(above), np.inf)
    if not len(found):
        return places
    order = found[np.lexsort((above[found], case_of[found]))]
    begins = np.ones(len(order), bool)
    begins[1:] = (case_of[order][1:] != case_of[order][:-1]) | (above[order][1:] != above[order][:-1])
    group = np.cumsum(begins) - 1
    size = np.bincount(group)
    within = np.arange(len(order)) - np.flatnonzero(begins)[group] + 1
    places[order] = above[order] + within * (tied[order] + 2) / (size[group] + 1)
    return places


def case_metrics(places: F64, case_of: I64, n_cases: int) -> dict[str, F64]:
    """Return each case's metrics by name, (C,) each.

    hr@k: 1 if a target is among the first k. recall@k: share of the targets that are. ndcg@k: Σ 1/log₂(1 + place) over the best possible
    sum. map@k: mean of the precision at each target's place over the best possible number of targets. mrr: 1 / place of the first target.
    Source: Järvelin & Kekäläinen 2002 (NDCG); Manning, Raghavan & Schütze 2008, ch. 8.
    """
    order = np.lexsort((places, case_of))
    places, case_of = places[order], case_of[order]
    n_targets = np.bincount(case_of, minlength=n_cases)
    starts = np.concatenate(([0], np.cumsum(n_targets)))[:-1]
    nth = np.arange(len(places)) - starts[case_of] + 1
    metrics: dict[str, F64] = {}

    def summed(values: NDArray[np.floating]) -> F64:
        return np.bincount(case_of, weights=values, minlength=n_cases).astype(np.float64)

    for k in CUTOFFS:
        hit = places <= k
        hits = summed(hit.astype(np.float64))
        best = np.minimum(n_targets, k)
        ideal = np.concatenate(([0.0], np.cumsum(1.0 / np.log2(1.0 + np.arange(1, k + 1)))))
        metrics[f"hr@{k}"] = (hits > 0).astype(np.float64)
        metrics[f"recall@{k}"] = hits / np.maximum(n_targets, 1)
        metrics[f"ndcg@{k}"] = np.minimum(summed(np.where(hit, 1.0 / np.log2(1.0 + places), 0.0)) / np.maximum(ideal[best], 1e-12), 1.0)
        metrics[f"map@{k}"] = summed(np.where(hit, nth / places, 0.0)) / np.maximum(best, 1)
    mrr = np.zeros(n_cases)
    mrr[n_targets > 0] = 1.0 / places[starts[n_targets > 0]]
    metrics["mrr"] = mrr
    return metrics


def coverage(lists: I64, n_items: int) -> float:
    """Return the share of I items that are on at least one list. Shape: lists (C, P), −1 for an empty place."""
    return len(np.unique(lists[lists >= 0])) / n_items if n_items else 0.0


def gini(lists: I64, n_items: int) -> float:
    """Return the Gini coefficient of how often each of I items is listed: 0 if all are listed alike, near 1 if a few have all places."""
    counts = np.sort(np.bincount(lists[lists >= 0], minlength=n_items))
    total = counts.sum()
    if not total:
        return 0.0
    return float(((2 * np.arange(1, n_items + 1) - n_items - 1) * counts).sum() / (n_items * total))


def novelty(lists: I64, users_of_item: I64, n_users: int) -> F64:
    """Return the mean of −log₂(share of users who chose the item) of each list, (C,); an item nobody chose counts as chosen by one.

    Source: Zhou et al. 2010. Shapes: lists (C, P), users_of_item (I,).
    """
    bits = -np.log2(np.maximum(users_of_item, 1) / max(n_users, 1))
    return _list_means(bits[np.maximum(lists, 0)], lists >= 0)


def diversity(lists: I64, content: NDArray[np.floating]) -> F64:
    """Return 1 − the mean cosine of each list's pairs of items, (C,); 0 for lists of fewer than two items with content.

    Source: Ziegler et al. 2005. Shapes: lists (C, P); content (I, K), zero rows for items without content, which are left out.
    """
    norms = np.linalg.norm(content, axis=1, keepdims=True)
    unit = content / np.where(norms > 0, norms, 1.0)
    used = (lists >= 0) & (norms[np.maximum(lists, 0), 0] > 0)
    vectors = np.where(used[:, :, None], unit[np.maximum(lists, 0)], 0.0)
    n = used.sum(axis=1)
    total = (vectors.sum(axis=1) ** 2).sum(axis=1) - n  # the sum over ordered pairs of two different places
    return np.where(n > 1, 1.0 - total / np.maximum(n * (n - 1), 1), 0.0)


def miscalibration(lists: I64, tastes: NDArray[np.floating], content: NDArray[np.floating]) -> F64:
    """Return the divergence KL(p ‖ q̃) in nats of each list's categories q from its user's p, (C,); 0 where either is unknown.

    q̃ = 0.99 q + 0.01 p. An item's weight is shared by its categories. Source: Steck 2018.
    Shapes: lists (C, P); tastes (C, K), sums of category shares over the history; content (I, K) ≥ 0.
    """
    sums = content.sum(axis=1, keepdims=True)
    shares = content / np.where(sums > 0, sums, 1.0)
    listed = np.where((lists >= 0)[:, :, None], shares[np.maximum(lists, 0)], 0.0).sum(axis=1)
    total_p, total_q = tastes.sum(axis=1, keepdims=True), listed.sum(axis=1, keepdims=True)
    p, q = tastes / np.where(total_p > 0, total_p, 1.0), listed / np.where(total_q > 0, total_q, 1.0)
    mixed = (1 - _SMOOTHING) * q + _SMOOTHING * p
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.where(mixed > 0, mixed, 1.0)), 0.0)
    return np.asarray(np.where((total_p[:, 0] > 0) & (total_q[:, 0] > 0), terms.sum(axis=1), 0.0), np.float64)


def thirds(lengths: I64) -> dict[str, NDArray[np.bool_]]:
    """Mark the cases with short, middle and long histories, by terciles, (C,) each; cases of one length stay together."""
    if not len(lengths):
        return {}
    low, high = (float(bound) for bound in np.quantile(lengths, (1 / 3, 2 / 3)))
    return {"short": lengths <= low, "middle": (lengths > low) & (lengths <= high), "long": lengths > high}


def _list_means(values: F64, used: NDArray[np.bool_]) -> F64:
    means: F64 = np.where(used, values, 0.0).sum(axis=1) / np.maximum(used.sum(axis=1), 1)
    return means
