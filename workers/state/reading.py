"""Read users and similar items from a state store for people and other programs; nothing is written.

Shapes: N item numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import log_likelihood_ratio
from recsys.lists.reading import CooccurrenceReading
from recsys.state import item_row
from workers.state.port import StateStore

Counts = NDArray[np.float32]
Similarity = Literal["directed", "cosine", "llr"]
SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)


async def neighbour_counts(store: StateStore, number: int, n_items: int, *, item_groups: int, live_epochs: int) -> Counts:
    """Return the counts of an item's neighbours, (N,): of the newest `live_epochs` epochs in which it has any, halved for each epoch before
    the newest of them."""
    group, (noted,) = number % item_groups, await store.item_epochs([number])
    epochs = noted[-live_epochs:]
    counts = np.zeros(n_items, np.float32)
    for epoch, row in zip(epochs, await store.read_rows([(group, ("c", epoch, number)) for epoch in epochs]), strict=True):
        if row is not None:
            _add(row, counts, np.float32(0.5 ** (epochs[-1] - epoch)))
    return counts


async def all_time_popularity(store: StateStore, n_items: int, item_groups: int) -> Counts:
    """Return each item's popularity over all events, (N,)."""
    counts = np.zeros(n_items, np.float32)
    for row in await store.read_rows([(group, ("pop", "all", 0)) for group in range(item_groups)]):
        if row is not None:
            _add(row, counts, np.float32(1))
    return counts


def _add(row: bytes, counts: Counts, share: np.float32) -> None:
    """Add a row's values; items that were numbered after the names were read are left out."""
    parsed = item_row.parse_row(row)
    items, values = item_row.neighbour_values(parsed.neighbours, parsed.weights)
    known = items < len(counts)
    counts[items[known]] += values[known] * share


def similarities(counts: Counts, popularity: Counts, number: int, similarity: Similarity) -> Counts:
    """Return the similarity of every item to item `number`, (N,), from co-occurrence counts and popularity.

    "directed" scores as the lists do: items that came after it, over a power of the candidate's popularity. "cosine" divides by the root of
    both popularities, "llr" is the log-likelihood ratio (Dunning 1993).
    """
    counts = counts.copy()
    counts[number] = 0
    if similarity == "llr":
        return log_likelihood_ratio(counts, popularity[number : number + 1], popularity, float(popularity.sum()))
    chosen = np.maximum(popularity, 1e-6)
    reading = CooccurrenceReading()
    if similarity == "directed":
        scale = (chosen + reading.candidate_offset) ** reading.candidate_power
    else:
        scale = np.sqrt(chosen * chosen[number])
    return np.where(counts > 0, counts / scale, 0.0).astype(np.float32)


def best(scores: Counts, size: int) -> list[int]:
    """Return the numbers of the `size` items with the highest scores above 0, highest first."""
    return [number for number in np.argsort(-scores, kind="stable")[:size].tolist() if scores[number] > 0]


class ItemNames:
    """Item ids by number, read as far as a row needs them. A numbering only grows for as long as the state is the same."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._names: list[str] = []
        self._of: tuple[int, str] | None = None

    async def up_to(self, numbers: Sequence[int]) -> list[str]:
        """Return item ids by number, which hold all of these numbers unless the store lost some."""
        state = (self._store.generation, await self._store.state_id())
        if state != self._of:
            self._of, self._names = state, []
        if not self._names or max(numbers, default=0) >= len(self._names):
            self._names += await self._store.item_names(len(self._names))
        return self._names


def model_tags(serving: Mapping[str, str]) -> dict[int, tuple[str, str]]:
    """Return the stamp of embeddings ▸ (kind, version) of serving models, given as kind ▸ version."""
    from recsys.state.user_row import model_tag

    return {model_tag(kind, version): (kind, version) for kind, version in serving.items()}
