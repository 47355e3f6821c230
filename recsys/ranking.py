"""From what users did lately to their lists: source scores, blend, filters, top-k and reasons. Pure functions on arrays.

Shapes: U users, R recent interactions (newest last), N items, K list length. Scores of a source are (U, N) float32, ≥ 0 where it has an
opinion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.cooccurrence import log_likelihood_ratio
from recsys.neighbours import Neighbours, weighted_rows
from recsys.userstate import WEIGHT_UNITS, used_columns

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Similarity = Literal["directed", "cosine", "llr"]


@dataclass(frozen=True, slots=True)
class Recency:
    """Weight of the j-th newest interaction of age a: `step`^j · (1 + a/`age_s`)^−`power` + `long_share` · `long_step`^j."""

    step: float
    age_s: float
    power: float = 1.0
    long_share: float = 0.0
    long_step: float = 1.0

    def weights(self, recent: Recent) -> F32:
        """(U, R) float32; 0 for dislikes and unused columns."""
        fresh = (1.0 + recent.ages_s / np.float32(self.age_s)) ** np.float32(-self.power)
        place = recent.places
        decayed = np.float32(self.step) ** place * fresh + np.float32(self.long_share) * np.float32(self.long_step) ** place
        weighted: F32 = (decayed * recent.strengths).astype(np.float32)
        return weighted


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest interactions of U users, all (U, R): item numbers, ages before the user's newest in seconds, strengths (weight where
    positive, else 0) and `places`, the rank among the user's positive ones (0 = newest)."""

    items: I64
    ages_s: F32
    strengths: F32
    places: F32

    @classmethod
    def of(cls, items: NDArray[np.uint32], times_s: NDArray[np.uint32], weights: NDArray[np.int8], lengths: NDArray[np.int32]) -> Recent:
        """From right-aligned rows of the user table; `lengths` (U,) says how many columns are used."""
        used = used_columns(lengths, items.shape[1])
        strengths = np.where(used & (weights > 0), weights, 0).astype(np.float32) / np.float32(WEIGHT_UNITS)
        positive = strengths > 0
        at_s = np.where(positive, times_s, 0).astype(np.int64)
        ages = np.where(positive, at_s.max(axis=1, keepdims=True, initial=0) - at_s, 0).astype(np.float32)
        counted = positive.astype(np.int64)
        newer_or_same: I64 = np.cumsum(counted[:, ::-1], axis=1)[:, ::-1]
        return cls(items.astype(np.int64), ages, strengths, (newer_or_same - counted).astype(np.float32))


@dataclass(frozen=True, slots=True)
class CooccurrenceReading:
    """How rows of counts become scores: a recent item's row is divided by its popularity^`source_power`, a candidate's column by
    (popularity + `candidate_offset`)^`candidate_power` ("directed"); by the square roots of both ("cosine"); or replaced by
    log-likelihood ratios ("llr")."""

    recency: Recency = Recency(step=0.88, age_s=120.0, long_share=0.3, long_step=0.88)
    similarity: Similarity = "directed"
    source_power: float = 0.6
    candidate_power: float = 0.33
    candidate_offset: float = 20.0


def cooccurrence_scores(recent: Recent, neighbours: Neighbours, popularity: F32, reading: CooccurrenceReading) -> tuple[F32, F32, F32]:
    """Scores (U, N), the weight of each recent item (U, R), and the factor of each candidate (N,): score = Σ_r weight · row · factor.

    With "llr" the factor is 1 and the rows are ratios instead of counts, so the weights explain only up to a monotone function.
    """
    n_items = len(popularity)
    weights = reading.recency.weights(recent)
    source = popularity[recent.items]
    if reading.similarity == "llr":
        return _llr_scores(recent, weights, neighbours, popularity), weights, np.ones(n_items, np.float32)
    source_power, candidate_power, added = (
        (reading.source_power, reading.candidate_power, reading.candidate_offset) if reading.similarity == "directed" else (0.5, 0.5, 0.0)
    )
    if source_power:
        weights = (weights * np.where(source > 0, source, 1.0) ** np.float32(-source_power)).astype(np.float32)
    chosen = popularity > 0
    factor = np.where(chosen, np.where(chosen, popularity + np.float32(added), 1.0) ** np.float32(-candidate_power), 0.0).astype(np.float32)
    scores = neighbours.weighted_sums(recent.items, weights, n_items)
    return scores * factor, weights, factor


def _llr_scores(recent: Recent, weights: F32, neighbours: Neighbours, popularity: F32) -> F32:
    numbers, place = np.unique(recent.items, return_inverse=True)
    total = float(popularity.sum())
    ratios = log_likelihood_ratio(neighbours.rows(numbers, len(popularity)), popularity[numbers][:, None], popularity[None, :], total)
    return weighted_rows(ratios, place.reshape(recent.items.shape), weights)


def content_scores(recent: Recent, recency: Recency, features: F32) -> tuple[F32, F32]:
    """Σ_r weight · cosine(recent item, candidate): (U, N), and the weights (U, R). `features` is (N, F), see Catalogue."""
    weights = recency.weights(recent)
    profile = np.einsum("ur,urf->uf", weights, features[recent.items], optimize=True)  # (U, F)
    return np.maximum(profile @ features.T, 0.0), weights


def softmax(scores: F32) -> F32:
    """Each row exponentiated and normalised: logits ▸ probabilities, (U, N)."""
    return torch.softmax(torch.from_numpy(scores), dim=1).numpy()


def unit_rms(scores: F32) -> F32:
    """1 / root mean square of each row, (U,); 0 for a row of zeros."""
    squares = np.einsum("un,un->u", scores, scores) / np.float32(max(scores.shape[1], 1))
    return np.where(squares > 0, 1.0 / np.sqrt(np.where(squares > 0, squares, 1.0)), 0.0).astype(np.float32)


def top_items(scores: F32, size: int) -> tuple[I64, F32]:
    """The `size` best items of each row, best first, equal ones by number: numbers and scores (U, min(size, N))."""
    k = min(size, scores.shape[1])
    values, items = (part.numpy() for part in torch.topk(torch.from_numpy(scores), k, dim=1))
    order = np.lexsort((items, -values), axis=1)
    return np.take_along_axis(items, order, 1), np.take_along_axis(values, order, 1)


def explore(items: I64, scores: F32, size: int, slots: int, seeds: I64) -> tuple[I64, F32, F32]:
    """Fill the last `slots` of `size` places at random from the candidates behind the first `size - slots`, uniformly without replacement.

    `items` and `scores` (U, P) are the P best, best first, −∞ where there is nothing to list, which is never drawn; `seeds` (U,) makes
    each user's draw repeatable. Returns items, scores and propensities (U, min(size, P)): 1 for a fixed place, slots / pool size for a
    drawn one.
    """
    k = min(size, items.shape[1])
    propensity = np.ones((len(items), k), np.float32)
    if not 0 < slots < k:
        return items[:, :k], scores[:, :k], propensity
    fixed = k - slots
    order = np.tile(np.arange(k), (len(items), 1))
    for user, (pool, seed) in enumerate(zip((np.isfinite(scores).sum(axis=1) - fixed).tolist(), seeds.tolist(), strict=True)):
        if pool > slots:
            order[user, fixed:] = np.sort(np.random.default_rng(seed).choice(pool, slots, replace=False)) + fixed
            propensity[user, fixed:] = slots / pool
    return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1), propensity
