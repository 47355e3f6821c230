"""Items that go with an item: what users chose with it, blended with what is like it.

Shapes: R items asked for, N items, K places, F content features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import Catalogue
from recsys.cooccurrence import log_likelihood_ratio
from recsys.engine import Engine
from recsys.state.neighbours import SparseNeighbours

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

CONTENT_CANDIDATES = 4
"""Items that are looked at for their content, as a multiple of the places of a list: some are not listable, others chosen together too."""


@dataclass(frozen=True, slots=True)
class Similar:
    """Items (K,), best first: their `score` between 0 and 1, and `support`, how much users chose them with the one item: the weights of
    pairs, halved with each epoch, 0 where content alone says so."""

    numbers: I64
    score: F32
    support: F32


def similar_items(engine: Engine, numbers: Sequence[int], listable: Bools, *, size: int, even_events: float, valid_s: int) -> list[Similar]:
    """Return the items most similar to each of the items `numbers` (R,), whose rows of neighbours are held, of those `listable` (N,).

    The score is w · association + (1 − w) · content, with w = n / (n + `even_events`) for an item that was chosen n times. Association is
    the log-likelihood ratio of the two (Dunning 1993) as a share of the largest in the row, content the cosine of the features. `valid_s`
    is the time at which an index of a large catalogue may be renewed.
    """
    chosen = engine.popularity.all_time[: engine.n_items]
    total, content = float(chosen.sum()), _Content(engine, CONTENT_CANDIDATES * size, valid_s)
    found = []
    for number, near in zip(numbers, content.nearest(numbers, listable), strict=True):
        others, counts = _row(engine, number)
        kept = listable[others] & (others != number)
        others, counts = others[kept], counts[kept]
        ratio = log_likelihood_ratio(counts, chosen[number : number + 1], chosen[others], total)
        association = ratio / max(float(ratio.max(initial=0)), 1e-9)
        weight = float(chosen[number]) / (float(chosen[number]) + even_events)
        candidates = np.union1d(others[association > 0], near)
        at = np.searchsorted(others, candidates)
        at[at == len(others)] = 0
        is_chosen = (others[at] == candidates) if len(others) else np.zeros(len(candidates), np.bool_)
        of_users, support = np.zeros((2, len(candidates)), np.float32)
        of_users[is_chosen], support[is_chosen] = association[at[is_chosen]], counts[at[is_chosen]]
        score = (weight * of_users + (1 - weight) * content.likeness(number, candidates)).astype(np.float32)
        order = np.lexsort((candidates, -score))[:size]
        order = order[score[order] > 0]
        found.append(Similar(candidates[order], score[order], support[order]))
    return found


def _row(engine: Engine, number: int) -> tuple[I64, F32]:
    """Return the neighbours of an item, ascending, and how much each was chosen with it."""
    neighbours = engine.neighbours
    if isinstance(neighbours, SparseNeighbours):
        rows = neighbours.gathered(np.array([number]))
        return rows.neighbours, rows.values
    row = neighbours.rows(np.array([number]), engine.n_items)[0]
    held = np.flatnonzero(row)
    return held, row[held]


class _Content:
    """Likeness of content, in small and in large catalogues."""

    def __init__(self, engine: Engine, size: int, valid_s: int) -> None:
        self._size, self._catalogue = size, engine.catalogue
        popularity, n_items = engine.popularity, engine.n_items
        if engine.is_large:
            engine.catalogue.refresh_kinds(lambda: popularity.trending()[:n_items], valid_s)

    def nearest(self, numbers: Sequence[int], listable: Bools) -> list[I64]:
        """Return for each of the items `numbers` (R,) the listable items with the most similar content."""
        catalogue, asked = self._catalogue, np.array(numbers, np.int64)
        if catalogue.kinds is not None:
            kinds = catalogue.kinds
            profiles = kinds.features(kinds.of[asked].astype(np.int64), catalogue.width)
            found = kinds.candidates(profiles, self._size)
            return [row[(row >= 0) & (row != own) & listable[row]] for row, own in zip(found, numbers, strict=True)]
        features = catalogue.features[: catalogue.n_items]
        alike = features[asked] @ features.T
        alike[:, ~listable] = 0
        alike[np.arange(len(asked)), asked] = 0
        size = min(self._size, alike.shape[1])
        return [np.sort(best[row[best] > 0]) for row, best in zip(alike, np.argpartition(-alike, size - 1, axis=1)[:, :size], strict=True)]

    def likeness(self, number: int, others: I64) -> F32:
        """Return the cosines of the content of an item and of `others` (N,), at least 0."""
        features = _features(self._catalogue, np.concatenate(([number], others)))
        lengths = np.maximum(np.linalg.norm(features, axis=1), 1e-9)
        found: F32 = np.clip(features[1:] @ features[0] / (lengths[1:] * lengths[0]), 0, 1).astype(np.float32)
        return found


def _features(catalogue: Catalogue, numbers: I64) -> F32:
    if catalogue.kinds is not None:
        return catalogue.kinds.features(catalogue.kinds.of[numbers].astype(np.int64), catalogue.width)
    return catalogue.features[numbers]
