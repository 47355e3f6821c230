"""Reads what items say as names and numbers that do not depend on a catalogue: what a map from content to vectors is learnt from.

A catalogue's columns are its own. Here a value is a text with the name of its field, so that what one process learns of it another one
can use.

Shapes: n items, E dimensions of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from recsys.catalogue.items import Catalogue

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Words:
    """Holds what n items say: of each item (value, weight) pairs, and by name and dimension of each embedding the rows (m,) that have one
    and its unit vectors (m, E). The values of one kind have unit length together."""

    values: list[list[tuple[str, float]]]
    embeddings: dict[str, tuple[I64, F32]]

    def __len__(self) -> int:
        return len(self.values)


def words_of(catalogue: Catalogue, numbers: I64) -> Words:
    """Return what the items `numbers` (n,) say."""
    values = [catalogue.values.words(number, catalogue.said_of(number)) for number in numbers.tolist()]
    embeddings: dict[str, tuple[I64, F32]] = {}
    for name, block in catalogue.blocks.items():
        vectors = _embeddings(catalogue, numbers, block)
        lengths = np.linalg.norm(vectors, axis=1)
        rows = np.flatnonzero(lengths > _TINY)
        if len(rows):
            embeddings[name] = rows, vectors[rows] / lengths[rows, None]
    return Words(values, embeddings)


def _embeddings(catalogue: Catalogue, numbers: I64, block: slice) -> F32:
    """Return the embeddings of items in the columns `block`, zeros where there is none, (n, E)."""
    if catalogue.kinds is None:
        found: F32 = catalogue.feature_table[numbers, block]
        return found
    vectors = np.zeros((len(numbers), block.stop - block.start), np.float32)
    for row, number in enumerate(numbers.tolist()):
        for columns, vector in catalogue.kinds.described(number).embeddings:
            if columns == block:
                vectors[row] = vector
    return vectors


def vocabulary(words: Words, most: int) -> list[str]:
    """Return the values that at least two items say, at most `most`: the most frequent, of equal ones the first by name."""
    counts: dict[str, int] = {}
    for said in words.values:
        for value, _ in said:
            counts[value] = counts.get(value, 0) + 1
    frequent = [value for value, count in counts.items() if count > 1]
    return sorted(frequent, key=lambda value: (-counts[value], value))[:most]


def dense(words: Words, columns: dict[str, int], blocks: Sequence[tuple[str, int]]) -> F32:
    """Return what items say as features, (n, F): `columns` of values first, then the embeddings of `blocks` (name, E), one after another.
    Anything else is left out."""
    width = len(columns) + sum(size for _, size in blocks)
    features = np.zeros((len(words), width), np.float32)
    for row, said in enumerate(words.values):
        for value, weight in said:
            column = columns.get(value)
            if column is not None:
                features[row, column] = weight
    start = len(columns)
    for name, size in blocks:
        if name in words.embeddings:
            rows, vectors = words.embeddings[name]
            features[rows, start : start + size] = vectors
        start += size
    return features
