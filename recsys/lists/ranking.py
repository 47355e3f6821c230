"""From what users did lately to their lists: source scores, blend, filters, top-k and reasons. Pure functions on arrays.

Shapes: U users, R recent interactions (newest last), N items, K list length. Scores of a source are (U, N) float32, ≥ 0 where it has an
opinion. Whatever has U · N numbers is changed in place: passing over it costs as much as computing it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.cooccurrence import log_likelihood_ratio
from recsys.state import user_table_kernel
from recsys.state.neighbours import Neighbours, weighted_rows
from recsys.state.user_table import WEIGHT_UNITS

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
_GROUP = 16
"""Items of which only the best is looked at first when the top of a row is sought."""
_NUMBER_BITS = 0xFFFF_FFFF
Similarity = Literal["directed", "cosine", "llr"]
MAX_BECAUSE = 2


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
        ages_s, strengths, places = np.empty((3, *items.shape), np.float32)
        user_table_kernel.recent(times_s, weights, lengths, np.float32(WEIGHT_UNITS), ages_s, strengths, places)
        return cls(items.astype(np.int64), ages_s, strengths, places)


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


@dataclass(slots=True)
class Part:
    """What one source adds to the blended score: `raw` (U, N) times `factors` (U,). Both have one row where all users share it."""

    raw: F32
    factors: F32

    @classmethod
    def scaled(cls, raw: F32, weight: float) -> Part:
        """Each row scaled to root mean square `weight`."""
        return cls(raw, unit_rms(raw) * np.float32(weight))

    def at(self, items: I64) -> F32:
        """The addends of these items, (U, K)."""
        rows = np.arange(len(items))[:, None] if len(self.raw) > 1 else 0
        found: F32 = self.raw[rows, items] * self.factors[:, None]
        return found


def blend(parts: Iterable[Part], allowed: NDArray[np.bool_], n_users: int) -> F32:
    """The sum of all parts (U, N), −∞ for items that are not `allowed` (N,)."""
    shared, own = np.where(allowed, np.float32(0), np.float32(-np.inf)), []
    for part in parts:
        if len(part.raw) == 1 and len(part.factors) == 1:
            shared += part.raw[0] * part.factors[0]
        else:
            own.append(part)
    total = torch.from_numpy(np.repeat(shared[None, :], n_users, axis=0))
    for part in own:
        total.addcmul_(torch.from_numpy(part.raw), torch.from_numpy(part.factors).unsqueeze(1))
    return total.numpy()


def candidate_factor(popularity: F32, reading: CooccurrenceReading) -> F32:
    """What a candidate's co-occurrence counts are multiplied with, by its popularity, any shape; 0 where nobody chose it."""
    if reading.similarity == "llr":
        return np.ones_like(popularity)
    power, added = (reading.candidate_power, reading.candidate_offset) if reading.similarity == "directed" else (0.5, 0.0)
    chosen = popularity > 0
    return np.where(chosen, np.where(chosen, popularity + np.float32(added), 1.0) ** np.float32(-power), 0.0).astype(np.float32)


def cooccurrence_scores(
    recent: Recent, neighbours: Neighbours, popularity: F32, reading: CooccurrenceReading, factor: F32 | None = None
) -> tuple[F32, F32, F32]:
    """Scores (U, N), the weight of each recent item (U, R), and the factor of each candidate (N,), unless given: score = Σ_r weight · row ·
    factor.

    With "llr" the factor is 1 and the rows are ratios instead of counts, so the weights explain only up to a monotone function.
    """
    weights = cooccurrence_weights(recent, popularity, reading)
    if factor is None:
        factor = candidate_factor(popularity, reading)
    if reading.similarity == "llr":
        return _llr_scores(recent, weights, neighbours, popularity), weights, factor
    scores = neighbours.weighted_sums(recent.items, weights, len(popularity))
    scores *= factor
    return scores, weights, factor


def cooccurrence_weights(recent: Recent, popularity: F32, reading: CooccurrenceReading) -> F32:
    """What the rows of the recent items are multiplied with, (U, R)."""
    weights, power = reading.recency.weights(recent), reading.source_power if reading.similarity == "directed" else 0.5
    if reading.similarity == "llr" or not power:
        return weights
    source = popularity[recent.items]
    weighted: F32 = (weights * np.where(source > 0, source, 1.0) ** np.float32(-power)).astype(np.float32)
    return weighted


def _llr_scores(recent: Recent, weights: F32, neighbours: Neighbours, popularity: F32) -> F32:
    numbers, place = np.unique(recent.items, return_inverse=True)
    total = float(popularity.sum())
    ratios = log_likelihood_ratio(neighbours.rows(numbers, len(popularity)), popularity[numbers][:, None], popularity[None, :], total)
    return weighted_rows(ratios, place.reshape(recent.items.shape), weights)


def content_scores(recent: Recent, recency: Recency, features: F32) -> tuple[F32, F32]:
    """Σ_r weight · cosine(recent item, candidate): (U, N), and the weights (U, R). `features` is (N, F), see Catalogue."""
    weights = recency.weights(recent)
    scores = torch.mm(torch.from_numpy(content_profiles(recent, weights, features)), torch.from_numpy(features).T)
    return scores.clamp_min_(0.0).numpy(), weights


def content_profiles(recent: Recent, weights: F32, features: F32) -> F32:
    """Σ_r weight · features of the recent items, (U, F)."""
    profiles: F32 = np.matmul(weights[:, None, :], features[recent.items])[:, 0]
    return profiles


def model_scores(vectors: F32, item_vectors: F32, link: Literal["identity", "softmax"], known: NDArray[np.bool_]) -> F32:
    """A model's preferences, or with "softmax" its probabilities over the `known` items (N,): (U, N). Shapes: (U, D), (N, D)."""
    users, items = torch.from_numpy(np.ascontiguousarray(vectors)), torch.from_numpy(item_vectors).T
    if link == "identity":
        return torch.mm(users, items).clamp_min_(0.0).numpy()
    if known.all():
        return torch.softmax(torch.mm(users, items), dim=1).numpy()
    return softmax(torch.addmm(torch.from_numpy(np.where(known, np.float32(0), np.float32(-1e9))), users, items).numpy())


def softmax(scores: F32) -> F32:
    """Each row exponentiated and normalised: logits ▸ probabilities, (U, N)."""
    return torch.softmax(torch.from_numpy(scores), dim=1).numpy()


def unit_rms(scores: F32) -> F32:
    """1 / root mean square of each row, (U,); 0 for a row of zeros."""
    lengths = torch.linalg.vector_norm(torch.from_numpy(scores), dim=1).numpy()
    root = np.float32(max(scores.shape[1], 1) ** 0.5)
    found: F32 = np.divide(root, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return found


def top_items(scores: F32, size: int) -> tuple[I64, F32]:
    """The `size` best items of each row, best first, equal ones by number: numbers and scores (U, min(size, N)).

    In a long row only the members of the `size` best groups of _GROUP are looked at; where the best of another group is as good as one of
    theirs, the whole row.
    """
    n_rows, n_items = scores.shape
    k, n_groups = min(size, n_items), n_items // _GROUP
    everything = np.arange(n_items)
    if n_groups <= 4 * k:
        return _first_of(scores, np.broadcast_to(everything, scores.shape), k)
    grouped = torch.from_numpy(scores)[:, : n_groups * _GROUP].view(n_rows, _GROUP, n_groups)  # group g: g, g + n_groups, …
    bests = _sort_keys(grouped.amax(1).numpy(), np.arange(n_groups))
    bests.partition(n_groups - k - 1, axis=1)
    next_best, bests = bests[:, n_groups - k - 1], bests[:, n_groups - k :]
    chosen = -bests & _NUMBER_BITS  # (U, k)
    members = (chosen[:, :, None] + n_groups * np.arange(_GROUP)).reshape(n_rows, -1)
    members = np.concatenate((members, np.broadcast_to(everything[n_groups * _GROUP :], (n_rows, n_items % _GROUP))), axis=1)
    items, values = _first_of(torch.from_numpy(scores).gather(1, torch.from_numpy(members)).numpy(), members, k)
    unsure = _values(next_best) == _values(bests.min(axis=1))
    if unsure.any():
        rows = scores[unsure]
        items[unsure], values[unsure] = _first_of(rows, np.broadcast_to(everything, rows.shape), k)
    return items, values


def _first_of(values: F32, items: I64, k: int) -> tuple[I64, F32]:
    """The k largest of each row, equal ones by item number: item numbers and values (U, k). Shapes: both (U, M)."""
    keys = _sort_keys(values, items)
    first = keys.shape[1] - k
    keys.partition(first, axis=1)
    best = np.sort(keys[:, first:], axis=1)[:, ::-1]
    return -best & _NUMBER_BITS, _values(best)


def _sort_keys(values: F32, numbers: I64) -> I64:
    """Whole numbers in the order of `values`, equal ones in the reverse order of `numbers`: the value's bits · 2³² − number."""
    ordered = _flipped((values + np.float32(0)).view(np.int32))  # + 0: there is no −0.0
    return (ordered.astype(np.int64) << 32) - numbers


def _values(keys: I64) -> F32:
    """The values in sort keys."""
    return _flipped(((keys + (-keys & _NUMBER_BITS)) >> 32).astype(np.int32)).view(np.float32)


def _flipped(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Bits of floats ▸ integers in the order of the floats, and back."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFF_FFFF))


def strongest(added: F32, numbers: I64) -> I64:
    """(U, K, 2): the two of the recent items `numbers` (U, R) that added most to each listed item, −1 for none; `added` (U, K, R) is
    overwritten."""
    found = np.full((*added.shape[:2], min(MAX_BECAUSE, added.shape[2])), -1, np.int64)
    for place in range(found.shape[2]):
        best = added.argmax(axis=2)[:, :, None]
        chosen = np.take_along_axis(numbers[:, None, :], best, axis=2)[:, :, 0]
        is_new = (np.take_along_axis(added, best, axis=2)[:, :, 0] > 0) & (chosen != found[:, :, 0])
        found[:, :, place] = np.where(is_new, chosen, -1)
        np.put_along_axis(added, best, -np.inf, axis=2)
    return found


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
