"""Ranking metrics: the rank of one held-out item for each case, recall@k and NDCG@k."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.base import F32

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
CUTOFFS = (1, 5, 10, 20)


def mean_ranks(scores: F32, targets: I64, mask: NDArray[np.bool_] | None = None) -> F64:
    """Return the rank (1 = first) of one target for each user; ties share their mean rank, (U,).

    rank = 1 + (items with a higher score) + (other items with the same score) / 2. A score that is not a number counts as −∞.
    Shapes: scores (U, I); targets (U,), −1 for an item that is not ranked: its rank is infinite; mask (U, I), True for items to leave out
    of the ranking (the target itself always takes part).
    Raises: ShapeError if targets or mask do not fit the scores.
    """
    n_users, n_items = scores.shape
    if targets.shape != (n_users,) or (mask is not None and mask.shape != scores.shape):
        raise ShapeError(f"targets {targets.shape} and mask must fit the scores {scores.shape}")
    if not n_items:
        return np.full(n_users, np.inf)
    scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    known = targets >= 0
    place = np.where(known, targets, 0)
    wanted = scores[np.arange(n_users), place][:, None]
    ranked = np.ones(scores.shape, bool) if mask is None else ~mask
    ranked[np.arange(n_users), place] = False
    above = np.count_nonzero((scores > wanted) & ranked, axis=1)
    same = np.count_nonzero((scores == wanted) & ranked, axis=1)
    return np.where(known, 1.0 + above + same / 2.0, np.inf)


def recall_at_k(ranks: F64, k: int) -> float:
    """Return the share of targets with a rank of k or better; 0 without targets. With one target for each list this is the hit rate."""
    return float(np.mean(ranks <= k)) if len(ranks) else 0.0


def ndcg_at_k(ranks: F64, k: int) -> float:
    """Return the mean of 1 / log₂(1 + rank) over targets, where a rank beyond k adds 0; 0 without targets.

    Source: Järvelin & Kekäläinen 2002, for one relevant item.
    """
    return float(np.mean(np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0))) if len(ranks) else 0.0


def ranking_metrics(ranks: F64) -> dict[str, float]:
    """Return recall at every cutoff and NDCG at every cutoff above 1, by names such as `ndcg@10`. Shape: ranks (T,)."""
    recalls = {f"recall@{k}": recall_at_k(ranks, k) for k in CUTOFFS}
    return recalls | {f"ndcg@{k}": ndcg_at_k(ranks, k) for k in CUTOFFS if k > 1}
