"""Weights of sources that fall with the length of a user's history.

The weight of a source is w + Σ_h w_h · h / (h + n) for a history of n items, where the w are trained numbers of a recipe. Each has a column
of its own: `name` for the weight that does not fall, `name@h` for the one that a history of h items halves.

Shapes: U users, E sources without features, K columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

Pair = tuple[float, float]
"""Weights of a candidate's share of the source's best score, and of the logarithm of that share."""


def columns_of(name: str, fades: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Return the columns of a source; `fades` are the lengths of history by which weights fall, by source."""
    return (name, *(f"{name}@{half}" for half in fades.get(name, ())))


def source_of(column: str) -> str:
    """Return the source that a column belongs to."""
    name, _, half = column.rpartition("@")
    return name if name and half.isdecimal() else column


def half_of(column: str) -> int | None:
    """Return the length of history that halves the weight of a column; None of one that does not fall."""
    name, _, half = column.rpartition("@")
    return max(int(half), 1) if name and half.isdecimal() else None


def factor(column: str, lengths: I32) -> F32:
    """Return what is left of the weight of a column for users with histories of these lengths (U,), from 0 to 1."""
    half = half_of(column)
    return np.ones(len(lengths), np.float32) if half is None else (half / (half + lengths)).astype(np.float32)


def untrained(name: str, fades: Mapping[str, Sequence[int]], pair: Pair) -> dict[str, Pair]:
    """Return the weights of a source that no recipe was trained with, by column: all of it falls with the first of its lengths, if it has
    any."""
    first = columns_of(name, fades)[:2][-1]
    return {column: pair if column == first else (0.0, 0.0) for column in columns_of(name, fades)}


def weights_of(by_source: Sequence[Mapping[str, Pair]], lengths: I32) -> F32:
    """Return the weights of each source for each user, (E, U, 2), from those of its columns, by source."""
    found = np.zeros((len(by_source), len(lengths), 2), np.float32)
    for weights, by_column in zip(found, by_source, strict=True):
        for column, pair in by_column.items():
            weights += factor(column, lengths)[:, None] * np.array(pair, np.float32)
    return found
