"""Learns a model's map from content, and judges it on items that are treated as if nobody had touched them.

A share of the described items is held out: the map is fitted to the others, and the users who chose a held-out item are read without it.
The strength of regularisation is the one by which held-out items rank best among themselves. A map serves only if it does that better than
chance, which is what popularity knows of items without an event. Its gain is the one by which held-out items take as many of the first
places of lists of all items as they have of the targets, one in five of what users chose of both kinds: they neither flood lists nor
vanish.

Shapes: U users, I items of the model, H held-out items, D dimensions, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.words import Words
from recsys.models.base import F32, Histories, Model
from recsys.models.content_map import ContentMap, Features, Ridge, as_map, chosen
from recsys.models.training_set import TrainingSet
from recsys.models.user_vectors import best_products

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

HELD_OUT = 0.2
MAX_HELD_OUT = 2_000
LEAST_ITEMS = 100
"""Described items with events below which no map is learnt."""
LEAST_USERS = 50
"""Users who chose a held-out item below which no map is judged."""
MAX_USERS = 1_500
REGULARISATIONS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LEAST_GAIN, MAX_GAIN, HALVINGS = 0.02, 50.0, 12
"""Bounds of the gain, and how often the range between them is halved: the gain is exact to 0.2 %."""
PLACES = 10
ERRORS = 2.0
"""A map has to be better than chance by this many standard errors."""
SCORES = 20_000_000
"""Scores that are held at once, 80 MB."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """A map, None if none may serve, and why; its strength of regularisation and the figures it was judged by."""

    content_map: ContentMap | None
    reason: str
    regularisation: float = 0.0
    ndcg: float = 0.0
    chance: float = 0.0


@dataclass(frozen=True, slots=True)
class _Cases:
    """Users who chose held-out items: vectors (U, D) of their histories without these and without every fifth other item, and by user the
    items chosen: held-out ones (places among H), and known ones left out of the history, and those in it (positions among I)."""

    vectors: F32
    held: list[I64]
    left_out: list[I64]
    read: list[I64]


def learn_map(model: Model, entries: TrainingSet, words: Words, seed: int = 0) -> Learnt:
    """Learn and judge the map of a model. `entries` are what it was trained on, `words` what its items say, in their order."""
    position = {item_id: at for at, item_id in enumerate(model.item_ids)}
    to_model = np.array([position.get(item_id, -1) for item_id in entries.item_ids], np.int64)
    counts = np.bincount(to_model[entries.items][to_model[entries.items] >= 0], minlength=len(model.item_ids))
    features = Features.of(words)
    matrix = features.read(words)
    usable = np.flatnonzero(matrix.any(axis=1) & (counts > 0))
    if len(usable) < LEAST_ITEMS:
        return Learnt(None, f"only {len(usable)} items with events say anything, fewer than {LEAST_ITEMS}")
    n_held = min(int(len(usable) * HELD_OUT), MAX_HELD_OUT)
    held = np.sort(np.random.default_rng(seed).permutation(usable)[:n_held])
    others = np.setdiff1d(usable, held)
    cases = _cases(model, entries, to_model, held)
    if len(cases.held) < LEAST_USERS:
        return Learnt(None, f"only {len(cases.held)} users chose an item that was held out, fewer than {LEAST_USERS}")
    ridge = Ridge(matrix[others], model.item_vectors[others], counts[others])
    tried = {strength: as_map(features, ridge.solve(strength)) for strength in REGULARISATIONS}
    mapped = {strength: one.vectors(chosen(words, held))[0] for strength, one in tried.items()}
    ranked = {strength: _gains_of(cases, vectors) for strength, vectors in mapped.items()}
    best = max(REGULARISATIONS, key=lambda strength: float(ranked[strength].mean()))
    by_chance = _by_chance(cases, n_held)
    ndcg, chance, error = float(ranked[best].mean()), float(by_chance.mean()), _error(cases, ranked[best] - by_chance)
    figures = f"NDCG@10 {ndcg:.4f} among {n_held} held-out items, {chance:.4f} by chance"
    if ndcg - ERRORS * error <= chance:
        return Learnt(None, f"{figures}: not better beyond chance", best, ndcg, chance)
    gain = _gain(model, cases, held, mapped[best])
    whole = fit_map(model, counts, words, best, gain)
    return Learnt(whole, f"{figures}; regularisation {best:g}, gain {gain:.3g}", best, ndcg, chance)


def fit_map(model: Model, counts: NDArray[np.integer], words: Words, regularisation: float, gain: float) -> ContentMap:
    """Return the map of a model fitted to all its items that have events and say anything. Shapes: counts (I,), events by item."""
    features = Features.of(words)
    matrix = features.read(words)
    usable = np.flatnonzero(matrix.any(axis=1) & (counts > 0))
    ridge = Ridge(matrix[usable], model.item_vectors[usable], counts[usable])
    return as_map(features, ridge.solve(regularisation), gain)


def _cases(model: Model, entries: TrainingSet, to_model: I64, held: I64) -> _Cases:
    place = np.full(len(model.item_ids), -1, np.int64)
    place[held] = np.arange(len(held))
    liked = (entries.weights > 0) & (to_model[entries.items] >= 0)
    users, items = entries.users[liked], to_model[entries.items[liked]]
    starts = np.searchsorted(users, np.arange(entries.n_users + 1))
    chose = np.unique(users[place[items] >= 0])
    chose = chose[np.unique(np.linspace(0, len(chose) - 1, min(len(chose), MAX_USERS)).astype(np.int64))] if len(chose) else chose
    length = model.history_length
    histories: list[I64] = []
    own: tuple[list[I64], list[I64], list[I64]] = ([], [], [])
    for user in chose.tolist():
        touched = items[starts[user] : starts[user + 1]]
        known = touched[place[touched] < 0]
        left_out = known[4::5]
        read = np.delete(known, np.s_[4::5])
        if len(read):
            histories.append(read[-length:])
            for part, found in zip(own, (place[touched][place[touched] >= 0], left_out, read), strict=True):
                part.append(np.unique(found))
    rows = np.full((len(histories), length), -1, np.int32)
    for row, history in zip(rows, histories, strict=True):
        row[length - len(history) :] = history
    if not len(rows):
        return _Cases(np.zeros((0, model.item_vectors.shape[1]), np.float32), *own)
    weights = (rows >= 0).astype(np.float32)
    vectors = np.concatenate(
        [
            model.encode(Histories(rows[at : at + 256], weights[at : at + 256], np.zeros_like(weights[at : at + 256])))
            for at in range(0, len(rows), 256)
        ]
    )
    return _Cases(vectors, *own)


def _gains_of(cases: _Cases, mapped: F32) -> F64:
    """Return the NDCG@10 of each held-out target among the held-out items that its user did not choose, user after user, (T,)."""
    scores = best_products(cases.vectors, mapped)  # (U, H)
    found: list[F64] = []
    for own, targets in zip(scores, cases.held, strict=True):
        others = np.sort(np.delete(own, targets))
        above = len(others) - np.searchsorted(others, own[targets], "right")
        same = len(others) - np.searchsorted(others, own[targets], "left") - above
        found.append(_ndcg(1.0 + above + same / 2.0))
    return np.concatenate(found)


def _by_chance(cases: _Cases, n_held: int) -> F64:
    """Return the expected NDCG@10 of each target in a random order of the held-out items that its user did not choose, (T,)."""
    ranked = np.repeat([n_held - len(one) + 1 for one in cases.held], [len(one) for one in cases.held])
    first = np.cumsum(1 / np.log2(1 + np.arange(1, PLACES + 1)))
    expected: F64 = first[np.minimum(ranked, PLACES) - 1] / ranked
    return expected


def _error(cases: _Cases, gains: F64) -> float:
    """Return the standard error of the mean of `gains` (T,): by user or by item, whichever is larger. Targets of one user are alike, and
    so are those of one item, of which there may be few."""
    users = np.repeat(np.arange(len(cases.held)), [len(one) for one in cases.held])
    off = gains - gains.mean()
    sums = (np.bincount(users, off), np.bincount(np.concatenate(cases.held), off))
    return float(max(np.sqrt((one**2).sum()) for one in sums) / len(gains))


def _ndcg(ranks: F64) -> F64:
    return np.where(ranks <= PLACES, 1 / np.log2(1 + np.minimum(ranks, PLACES)), 0.0)


def _gain(model: Model, cases: _Cases, held: I64, mapped: F32) -> float:
    """Return the gain by which held-out items take as many of the first ten places of lists of all items as they have of the targets."""
    known = np.setdiff1d(np.arange(len(model.item_ids)), held)
    place = np.full(len(model.item_ids), -1, np.int64)
    place[known] = np.arange(len(known))
    n_users = max(1, min(len(cases.held), SCORES // max(len(known), 1)))
    n_held = n_known = 0
    best: list[tuple[F32, F32]] = []
    for start in range(0, n_users, 64):
        part = slice(start, min(start + 64, n_users))
        own, new = best_products(cases.vectors[part], model.item_vectors[known]), best_products(cases.vectors[part], mapped)
        for user, (of_known, of_held) in enumerate(zip(own, new, strict=True), start):
            asked = _one_in_five(len(cases.held[user]), user)
            of_known[place[cases.read[user]]] = -np.inf
            of_held[cases.held[user][~asked]] = -np.inf
            n_held, n_known = n_held + int(asked.sum()), n_known + len(cases.left_out[user])
        best.append((_first(own), _first(new)))
    of_known, of_held = (np.concatenate(one) for one in zip(*best, strict=True))  # (U, 10) each
    worth = n_held / max(n_held + n_known, 1)
    low, high = LEAST_GAIN, MAX_GAIN
    for _ in range(HALVINGS):
        gain = float(np.sqrt(low * high))
        low, high = (gain, high) if _share(of_known, np.float32(gain) * of_held) <= worth else (low, gain)
    return low


def _one_in_five(n: int, user: int) -> NDArray[np.bool_]:
    """Mark one in five of a user's `n` held-out items, (n,): as many as of the others are left out of the history. The rest counts as
    read, or held-out items would have five times the targets that they are worth."""
    marked: NDArray[np.bool_] = (np.arange(n) + user) % 5 == 0
    return marked


def _first(scores: F32) -> F32:
    """Return the ten largest scores of each row, (U, 10), −∞ where there are fewer."""
    n_missing = PLACES - scores.shape[1]
    if n_missing > 0:
        return np.pad(scores, ((0, 0), (0, n_missing)), constant_values=-np.inf)
    found: F32 = -np.partition(-scores, PLACES - 1, axis=1)[:, :PLACES]
    return found


def _share(known: F32, held: F32) -> float:
    """Return the share of the first ten places that `held` scores (U, 10) take beside those of `known` items (U, 10)."""
    both = np.concatenate((known, held), axis=1)
    first = np.argsort(-both, axis=1, kind="stable")[:, :PLACES]
    return float((first >= PLACES).mean())


def counts_of(model: Model, item_ids: Sequence[str], items: NDArray[np.integer]) -> I64:
    """Return how many of the events on `items` (n,), positions in `item_ids`, each item of the model has, (I,)."""
    position = {item_id: at for at, item_id in enumerate(model.item_ids)}
    to_model = np.array([position.get(item_id, -1) for item_id in item_ids], np.int64)[items]
    counted: I64 = np.bincount(to_model[to_model >= 0], minlength=len(model.item_ids))
    return counted
