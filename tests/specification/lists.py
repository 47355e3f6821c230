"""Lists as plain arrays say: every source scores every item for every user, and nothing is compiled, indexed or approximated.

The engine's lists are held equal to these by `tests/unit/recsys/lists/test_one_path.py`.

Shapes: U users, R recent interactions (newest last), N items, C candidates, H half-lives, K list length. Scores of a source are (U, N)
float32, ≥ 0 where it has an opinion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.cooccurrence import log_likelihood_ratio
from recsys.engine import Engine, Lists
from recsys.lists.default_recipe import default_recipe
from recsys.lists.feature_names import ITEM_FEATURES, SOURCE_OF
from recsys.lists.policy import EXPLORED
from recsys.lists.reading import CooccurrenceReading, Recency, Recent
from recsys.lists.recipe import CLIP, Recipe
from recsys.state.neighbours import Neighbours, weighted_rows
from recsys.state.user_table import used_columns

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
MAX_BECAUSE = 2
NOMINATED = {"cooccurrence": 80, "content": 32, "again": 32}
"""Candidates that a source names for a user; 40 those that are not here."""
FROM_A_RANKING, RANKING = 12, {"trending": 12 + 80, "new": 12 + 24}
"""Candidates that a user gets from each ranking that all users share, of so many that are looked at."""
LEAST_SHARE, LEAST_COUNT, EXTRA_WEIGHT, PREFERRED_WEIGHT = 0.01, 0.03, 5.0, 40.0
SOURCES = ("cooccurrence", "content", "trending", "new")


@dataclass(slots=True)
class SourceScores:
    """Raw scores of all items by source, (U, N), and the wide reading of co-occurrence; what explains them: the weights of the recent
    items' rows and contents (U, R), and the factor of each candidate's co-occurrence (N,)."""

    recent: Recent
    raw: dict[str, F32]
    wide: F32
    factor: F32
    reading: F32
    content: F32


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
    scores = source_scores(engine, slots, vectors, now_s, valid_s, preferred or {})
    size, n_users = config.list_size + (EXPLORED if config.exploration_slots else 0), len(slots)
    names = [*SOURCES, "context", *(name for name in scores.raw if name not in SOURCES)]
    shown = [name for name in names if name in scores.raw] + ["context"]
    shown.sort(key=lambda name: name == "context")
    items, values = np.full((n_users, size), -1, np.int64), np.full((n_users, size), -np.inf, np.float32)
    parts = {name: np.zeros((n_users, size), np.float32) for name in shown}
    best = {name: np.zeros(n_users, np.float32) for name in scores.raw}
    for user in range(n_users):
        numbers = candidates(engine, slots[user], scores, user, now_s, valid_s, size)
        for name, raw in scores.raw.items():
            best[name][user] = raw[user, numbers].max(initial=0)
        by_source = parts_of(engine, numbers, scores, user, slots[user], now_s, user in (preferred or {}))
        total = np.sum(list(by_source.values()), axis=0)
        order = np.lexsort((numbers, -np.round(total, 9)))[:size]  # sums of the same parts in another order are equal
        items[user, : len(order)] = numbers[order]
        for name in shown:
            part = by_source[name][order]
            parts[name][user, : len(order)] = part - part.min(initial=np.inf)
        values[user, : len(order)] = np.sum([parts[name][user, : len(order)] for name in shown], axis=0)
    seeds = np.full(n_users, config.seed) if seeds is None else seeds
    listed, values, propensities = explore(items, values, config.list_size, config.exploration_slots, seeds)
    places = np.argmax(items[:, None, :] == listed[:, :, None], axis=2)  # numbers differ, but for the −1 at the end
    parts = {name: np.take_along_axis(part, places, 1) for name, part in parts.items()}
    return Lists(listed, values, propensities, parts, because(engine, scores, listed, best))


def source_scores(
    engine: Engine, slots: I64, vectors: Mapping[str, F32], now_s: int, valid_s: int, preferred: Mapping[int, Sequence[str]]
) -> SourceScores:
    """Return every source's raw score of every item."""
    config, n_items, weights = engine.config, engine.n_items, engine.config.source_weights
    settings = (engine.recipe or default_recipe()).settings if engine.recipe else None
    reading = settings.reading(config.reading) if settings else config.reading
    content_recency = settings.content if settings else config.content_recency
    wide_recency = settings.wide if settings else default_recipe().settings.wide
    popularity, catalogue = engine.popularity.all_time[:n_items], engine.catalogue
    recent = Recent.of(*engine.users.newest(slots, config.recent_items), engine.users.lengths[slots])
    raw: dict[str, F32] = {}
    rows, of_rows = cooccurrence_scores(recent, engine.neighbours, popularity, reading)
    from_now = replace(recent, ages_s=recent.ages_s + gaps_s(engine, slots, now_s)[:, None])
    wide, _ = cooccurrence_scores(from_now, engine.neighbours, popularity, replace(reading, recency=wide_recency))
    content, of_content = content_scores(recent, content_recency, catalogue.features[:n_items])
    for row, categories in preferred.items():
        vector = catalogue.category_vector(categories)
        if vector is not None and not content[row].any():
            content[row] = np.maximum(catalogue.features[:n_items] @ vector, 0)
    if weights.get("cooccurrence"):
        raw["cooccurrence"] = rows
    if weights.get("content"):
        raw["content"] = content
    for kind, user_vectors in vectors.items():
        if weights.get(kind):
            serving = engine.models[kind]
            raw[kind] = model_scores(user_vectors, serving.vectors, serving.model.link, serving.known)
            raw[kind][~user_vectors.any(axis=1)] = 0
    everybody = {"trending": engine.popularity.trending()[:n_items], "new": catalogue.freshness(now_s, config.new_s, valid_s)}
    raw |= {name: np.tile(row, (len(slots), 1)) for name, row in everybody.items() if weights.get(name)}
    if weights.get("again"):
        raw["again"] = np.array([again_scores(engine, slot, now_s) for slot in slots.tolist()], np.float32).reshape(len(slots), n_items)
    return SourceScores(recent, raw, wide, reading.candidate_factor(popularity), of_rows, of_content)


def again_scores(engine: Engine, slot: int, now_s: int) -> F64:
    """Return how much each item of a user's history is worth repeating, (N,)."""
    users, found, place = engine.users, np.zeros(engine.n_items), 0
    for column in range(users.history_length - 1, users.history_length - 1 - int(users.lengths[slot]), -1):
        if users.weights[slot, column] > 0:
            near = 0.0
            for times_s, hours in ((users.times_s, 4), (users.first_s, 3)):
                apart_s = (now_s - int(times_s[slot, column])) % 86_400
                near += float(np.exp(-0.5 * (min(apart_s, 86_400 - apart_s) / (hours * 3_600)) ** 2))
            found[users.items[slot, column]] = max(int(users.counts[slot, column]), 1) * (1 + place) ** -0.7 * np.exp(near)
            place += 1
    return found


def gaps_s(engine: Engine, slots: I64, now_s: int) -> F32:
    """Return the seconds from each user's newest interaction until now, (U,)."""
    table = engine.users
    gaps = np.maximum(now_s - table.times_s[slots, -1].astype(np.int64), 0)
    return np.where(table.lengths[slots] > 0, gaps, 0).astype(np.float32)


def candidates(engine: Engine, slot: int, scores: SourceScores, user: int, now_s: int, valid_s: int, wanted: int) -> I64:
    """Return the items that may be listed and that a source names, and others by number until there are `wanted`, ascending."""
    listable, named = listable_items(engine, slot, now_s, valid_s), set[int]()
    for name, raw in scores.raw.items():
        if name not in RANKING:
            order = [
                item for item in np.lexsort((np.arange(engine.n_items), -raw[user])).tolist() if listable[item] and raw[user, item] > 0
            ]
            named.update(order[: NOMINATED.get(name, 40)])
    for name, ranking in rankings(engine, now_s, valid_s):
        if name in scores.raw:
            named.update([item for item in ranking[: RANKING[name]].tolist() if listable[item]][:FROM_A_RANKING])
    others = [item for item in np.flatnonzero(listable).tolist() if item not in named]
    named.update(others[: max(wanted - len(named), 0)])
    return np.array(sorted(named), np.int64)


def listable_items(engine: Engine, slot: int, now_s: int, valid_s: int) -> Bools:
    """Return which items the user may be shown, (N,)."""
    users = engine.users
    listable = engine.catalogue.recommendable(valid_s).copy()
    table, groups = engine.config.touch_policy.table, engine.catalogue.touch_groups
    for column in np.flatnonzero(used_columns(users.lengths[[slot]], users.history_length)[0]).tolist():
        item, is_disliked = int(users.items[slot, column]), int(users.weights[slot, column] < 0)
        off_s = int(table[groups[item], is_disliked, users.types[slot, column]])
        if off_s > 0 and int(users.times_s[slot, column]) + off_s > now_s:
            listable[item] = False
    listable[users.older[slot]] = False
    return listable


def rankings(engine: Engine, now_s: int, valid_s: int) -> list[tuple[str, I64]]:
    """Return the rankings that all users share: items by their counts at each half-life, and the newest ones."""
    n_items = engine.n_items
    found = []
    for counts in engine.popularity.bank()[:, :n_items]:
        order = np.lexsort((np.arange(n_items), -counts))
        found.append(("trending", order[counts[order] > 0]))
    published_s = engine.catalogue.published_s[:n_items]
    new = np.flatnonzero((published_s > now_s - engine.config.new_s) & (published_s <= valid_s))
    found.append(("new", new[np.lexsort((new, published_s[new]))][::-1]))
    return found


def features(engine: Engine, numbers: I64, scores: SourceScores, user: int, slot: int, now_s: int) -> F64:
    """Return the features of a user's candidates, (C, F)."""
    none = np.zeros(len(numbers))
    raw = {name: of_all[user, numbers].astype(np.float64) for name, of_all in scores.raw.items()}
    rows, content = raw.get("cooccurrence", none), raw.get("content", none)
    wide = scores.wide[user, numbers] if "cooccurrence" in raw else none
    bank = engine.popularity.bank().astype(np.float64)
    counts = bank[:, numbers] if "trending" in raw else 0 * bank[:, numbers]
    columns = [
        shares(rows),
        log_shares(rows),
        np.log2(rows + LEAST_SHARE),
        shares(wide),
        log_shares(wide),
        shares(content),
        log_shares(content),
    ]
    columns += [raw.get("new", none), *np.log2(counts + LEAST_COUNT)]
    read = scores.recent.items[user][scores.recent.strengths[user] > 0]
    of_history = np.log2(bank[:, read] + LEAST_COUNT).mean(axis=1) if len(read) else np.full(len(bank), np.log2(LEAST_COUNT))
    gap_s = float(gaps_s(engine, np.array([slot]), now_s)[0])
    own = [np.log2(1 + engine.users.lengths[slot]), np.log2(1 + gap_s / 60), *of_history]
    return np.stack([*columns, *(np.full(len(numbers), value) for value in own)], axis=1)


def shares(raw: F64) -> F64:
    """Return scores as shares of the best one."""
    return raw / raw.max() if raw.max(initial=0) > 0 else 0 * raw


def log_shares(raw: F64) -> F64:
    """Return the logarithms of shares of the best one."""
    return np.log2(shares(raw) + LEAST_SHARE)


def parts_of(engine: Engine, numbers: I64, scores: SourceScores, user: int, slot: int, now_s: int, prefers: bool = False) -> dict[str, F64]:
    """Return what each source adds to the scores of a user's candidates, (C,) each; "context" is what no source adds."""
    recipe = engine.recipe or default_recipe()
    x = np.clip((features(engine, numbers, scores, user, slot, now_s) - recipe.mean) / recipe.scale, -CLIP, CLIP)
    n_items = len(ITEM_FEATURES)
    active = x @ recipe.hidden + recipe.bias > 0  # (C, H)
    slopes = recipe.linear[:n_items] + (active * recipe.output) @ recipe.hidden[:n_items].T  # (C, A)
    parts = {name: np.zeros(len(numbers)) for name in SOURCES}
    for feature, name in enumerate(ITEM_FEATURES):
        parts[SOURCE_OF[name]] += slopes[:, feature] * x[:, feature]
    parts["context"] = ((x[:, n_items:] @ recipe.hidden[n_items:] + recipe.bias) * active) @ recipe.output
    for name in SOURCES:
        if name not in scores.raw:
            parts["context"] += parts.pop(name)
    extra = {name: (raw, EXTRA_WEIGHT * engine.config.source_weights[name]) for name, raw in scores.raw.items() if name not in SOURCES}
    if prefers and "content" in scores.raw and not (scores.recent.strengths[user] > 0).any():
        extra["content"] = (scores.raw["content"], PREFERRED_WEIGHT)
    for name, (raw, weight) in extra.items():
        own = raw[user, numbers].astype(np.float64)
        in_logs = (log_shares(own) - np.log2(LEAST_SHARE)) / (np.log2(1 + LEAST_SHARE) - np.log2(LEAST_SHARE))
        parts[name] = parts.get(name, 0) + weight * (shares(own) + in_logs) / 2
    return parts


def plain_scores(recipe: Recipe, x: F64) -> F64:
    """Return the scores of standardised features (…, F)."""
    return x @ recipe.linear + np.maximum(x @ recipe.hidden + recipe.bias, 0) @ recipe.output


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


def because(engine: Engine, scores: SourceScores, items: I64, best: Mapping[str, F32]) -> I64:
    """Return the recent items that added most to each listed one through co-occurrence and content: (U, K, 2), −1 for none."""
    recent, weights = scores.recent, engine.config.source_weights
    added = np.zeros((*items.shape, recent.items.shape[1]), np.float32)  # (U, K, R)
    scale = {name: np.divide(weights[name], top, out=np.zeros_like(top), where=top > 0) for name, top in best.items()}
    if "cooccurrence" in scale:
        counts = engine.neighbours.pairs(recent.items[:, None, :], np.maximum(items, 0)[:, :, None])
        counts *= (scores.reading * scale["cooccurrence"][:, None])[:, None, :]
        counts *= scores.factor[items][:, :, None]
        added += counts
    if "content" in scale:
        features = engine.catalogue.features
        weighted = features[recent.items] * (scores.content * scale["content"][:, None])[:, :, None]
        added += np.maximum(features[items] @ weighted.transpose(0, 2, 1), 0)
    if "again" in scale:
        raw = np.take_along_axis(scores.raw["again"], np.maximum(items, 0), 1) * scale["again"][:, None]
        added += np.where(items[:, :, None] == recent.items[:, None, :], raw[:, :, None], np.float32(0))
    added[items < 0] = 0
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
