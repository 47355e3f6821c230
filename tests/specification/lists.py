"""Lists as plain arrays say: every source scores every item for every user, and nothing is compiled, indexed or estimated.

The engine's lists are held equal to these by `tests/unit/recsys/lists/test_one_path.py`; `benchmarks.stream_quality` ranks with them.

Shapes:
U users, R recent interactions (newest last), N items, K list length. Scores of a source are (U, N) float32, ≥ 0 where it has an opinion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.cooccurrence import log_likelihood_ratio
from recsys.engine import Engine, Lists
from recsys.lists.policy import EXPLORED
from recsys.lists.reading import CooccurrenceReading, Recency, Recent
from recsys.state.neighbours import Neighbours, weighted_rows
from recsys.state.user_table import used_columns

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
MAX_BECAUSE = 2


@dataclass(slots=True)
class Part:
    """What one source adds to the blended score: `raw` (U, N) times `factors` (U,). Both have one row where all users share it."""

    raw: F32
    factors: F32

    @classmethod
    def scaled(cls, raw: F32, weight: float) -> Part:
        """Scale each row to root mean square `weight`."""
        return cls(raw, unit_rms(raw) * np.float32(weight))

    def at(self, items: I64) -> F32:
        """Return the addends of these items, (U, K)."""
        rows = np.arange(len(items))[:, None] if len(self.raw) > 1 else 0
        found: F32 = self.raw[rows, items] * self.factors[:, None]
        return found


@dataclass(slots=True)
class SourceScores:
    """Parts of the score by source, and what explains them: the weights of the recent items' rows and contents (U, R), and the factor of
    each candidate's co-occurrence (N,)."""

    recent: Recent
    parts: dict[str, Part]
    factor: F32
    reading: F32 | None = None
    content: F32 | None = None


def recommend(
    engine: Engine,
    slots: I64,
    vectors: Mapping[str, F32],
    now_s: int,
    seeds: I64 | None = None,
    preferred: Mapping[int, Sequence[str]] | None = None,
    valid_s: int | None = None,
) -> Lists:
    """Return what `Engine.recommend` returns in a small catalogue."""
    valid_s, config = now_s if valid_s is None else valid_s, engine.config
    scores = source_scores(engine, slots, vectors, now_s, valid_s)
    for row, categories in (preferred or {}).items():
        _add_preference(engine, scores, row, categories)
    total = blended(engine, slots, scores, engine.catalogue.recommendable(valid_s))
    items, values = top_items(total, config.list_size + (EXPLORED if config.exploration_slots else 0))
    seeds = np.full(len(slots), config.seed) if seeds is None else seeds
    items, values, propensities = explore(items, values, config.list_size, config.exploration_slots, seeds)
    contributions = {name: part.at(items) for name, part in scores.parts.items()}
    return Lists(items, values, propensities, contributions, because(engine, scores, items))


def source_scores(engine: Engine, slots: I64, vectors: Mapping[str, F32], now_s: int, valid_s: int | None = None) -> SourceScores:
    """Return every source's part of the score of every item."""
    config, n_items, weights, valid_s = engine.config, engine.n_items, engine.config.source_weights, now_s if valid_s is None else valid_s
    popularity, catalogue = engine.popularity.all_time[:n_items], engine.catalogue
    recent = Recent.of(*engine.users.newest(slots, config.recent_items), engine.users.lengths[slots])
    parts: dict[str, Part] = {}
    found = SourceScores(recent, parts, config.reading.candidate_factor(popularity))
    if weights.get("cooccurrence"):
        raw, found.reading = cooccurrence_scores(recent, engine.neighbours, popularity, config.reading)
        parts["cooccurrence"] = Part.scaled(raw, weights["cooccurrence"])
    if weights.get("content"):
        raw, found.content = content_scores(recent, config.content_recency, catalogue.features[:n_items])
        parts["content"] = Part.scaled(raw, weights["content"])
    for kind, user_vectors in vectors.items():
        if weights.get(kind):
            serving = engine.models[kind]
            part = Part.scaled(model_scores(user_vectors, serving.vectors, serving.model.link, serving.known), weights[kind])
            part.factors[~user_vectors.any(axis=1)] = 0
            parts[kind] = part
    everybody = {"trending": engine.popularity.trending()[:n_items], "new": catalogue.freshness(now_s, config.new_s, valid_s)}
    parts |= {name: Part.scaled(row[None, :], weights[name]) for name, row in everybody.items() if weights.get(name)}
    return found


def blended(engine: Engine, slots: I64, scores: SourceScores, allowed: Bools) -> F32:
    """Return the sum of all parts (U, N), −∞ for items that are not `allowed` (N,) or that the user has seen."""
    total = blend(scores.parts.values(), allowed, len(slots))
    users = engine.users
    row, column = np.nonzero(used_columns(users.lengths[slots], users.history_length))
    total[row, users.items[slots[row], column]] = -np.inf
    for i, slot in enumerate(slots.tolist()):
        total[i, users.older[slot]] = -np.inf
    return total


def blend(parts: Iterable[Part], allowed: Bools, n_users: int) -> F32:
    """Return the sum of all parts (U, N), −∞ for items that are not `allowed` (N,)."""
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


def cooccurrence_scores(recent: Recent, neighbours: Neighbours, popularity: F32, reading: CooccurrenceReading) -> tuple[F32, F32]:
    """Return scores (U, N), Σ_r weight · row · factor, and the weight of each recent item (U, R). With "llr" the rows are ratios instead of
    counts and the factor is 1."""
    weights = neighbours.relative_weights(recent.items, reading.weights(recent, popularity))
    if reading.similarity != "llr":
        scores = neighbours.weighted_sums(recent.items, weights, len(popularity))
        scores *= reading.candidate_factor(popularity)
        return scores, weights
    numbers, place = np.unique(recent.items, return_inverse=True)
    total = float(popularity.sum())
    ratios = log_likelihood_ratio(neighbours.rows(numbers, len(popularity)), popularity[numbers][:, None], popularity[None, :], total)
    return weighted_rows(ratios, place.reshape(recent.items.shape), weights), weights


def content_scores(recent: Recent, recency: Recency, features: F32) -> tuple[F32, F32]:
    """Return Σ_r weight · cosine(recent item, candidate), at least 0: (U, N), and the weights (U, R). `features` is (N, F)."""
    weights = recency.weights(recent)
    profiles = np.matmul(weights[:, None, :], features[recent.items])[:, 0]
    return torch.mm(torch.from_numpy(profiles), torch.from_numpy(features).T).clamp_min_(0.0).numpy(), weights


def model_scores(vectors: F32, item_vectors: F32, link: Literal["identity", "softmax"], known: Bools) -> F32:
    """Return a model's preferences, or with "softmax" its probabilities over the `known` items (N,): (U, N). Shapes: (U, D), (N, D)."""
    users, items = torch.from_numpy(np.ascontiguousarray(vectors)), torch.from_numpy(item_vectors).T
    if link == "identity":
        return torch.mm(users, items).clamp_min_(0.0).numpy()
    mask = torch.from_numpy(np.where(known, np.float32(0), np.float32(-1e9)))
    return torch.softmax(torch.addmm(mask, users, items), dim=1).numpy()


def unit_rms(scores: F32) -> F32:
    """Return 1 / root mean square of each row, (U,); 0 for a row of zeros."""
    lengths = torch.linalg.vector_norm(torch.from_numpy(scores), dim=1).numpy()
    root = np.float32(max(scores.shape[1], 1) ** 0.5)
    found: F32 = np.divide(root, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return found


def top_items(scores: F32, size: int) -> tuple[I64, F32]:
    """Return the `size` best items of each row, best first, equal ones by number: numbers and scores (U, min(size, N))."""
    order = np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores), axis=1)[:, :size]
    return order, np.take_along_axis(scores, order, 1)


def explore(items: I64, scores: F32, size: int, slots: int, seeds: I64) -> tuple[I64, F32, F32]:
    """Return items, scores and propensities (U, min(size, P)) of the P best, the last `slots` drawn from those behind the first places."""
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


def because(engine: Engine, scores: SourceScores, items: I64) -> I64:
    """Return the recent items that added most to each listed one through co-occurrence and content: (U, K, 2), −1 for none."""
    recent = scores.recent
    added = np.zeros((*items.shape, recent.items.shape[1]), np.float32)  # (U, K, R)
    if scores.reading is not None:
        counts = engine.neighbours.pairs(recent.items[:, None, :], items[:, :, None])
        counts *= (scores.reading * scores.parts["cooccurrence"].factors[:, None])[:, None, :]
        counts *= scores.factor[items][:, :, None]
        added += counts
    if scores.content is not None:
        features = engine.catalogue.features
        weighted = features[recent.items] * (scores.content * scores.parts["content"].factors[:, None])[:, :, None]
        added += np.maximum(features[items] @ weighted.transpose(0, 2, 1), 0)
    return _strongest(added, recent.items)


def _strongest(added: F32, numbers: I64) -> I64:
    found = np.full((*added.shape[:2], min(MAX_BECAUSE, added.shape[2])), -1, np.int64)
    for place in range(found.shape[2]):
        best = added.argmax(axis=2)[:, :, None]
        chosen = np.take_along_axis(numbers[:, None, :], best, axis=2)[:, :, 0]
        is_new = (np.take_along_axis(added, best, axis=2)[:, :, 0] > 0) & (chosen != found[:, :, 0])
        found[:, :, place] = np.where(is_new, chosen, -1)
        np.put_along_axis(added, best, -np.inf, axis=2)
    return found


def _add_preference(engine: Engine, scores: SourceScores, row: int, categories: Sequence[str]) -> None:
    """Let the categories that a user without any history named count as content."""
    vector, content = engine.catalogue.category_vector(categories), scores.parts.get("content")
    if vector is None or content is None or content.factors[row]:
        return
    liked = Part.scaled((engine.catalogue.features[: engine.n_items] @ vector)[None, :], engine.config.source_weights["content"])
    content.raw[row], content.factors[row] = liked.raw[0], liked.factors[0]
