"""Content features of candidates as compiled loops compare them: the few columns of what an item says, and its embeddings.

The features are those of `Catalogue`, in small and in large catalogues alike.

Shapes: U users, C candidates, N items, F features, G rows, W most columns of a row, M rows of embeddings, D their dimensions together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.content_kinds import ContentKinds
from recsys.catalogue.items import Catalogue
from recsys.catalogue.sparse_rows import Sparse

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class ContentRows(NamedTuple):
    """Features of candidates: `rows` (U, C) of the sparse `columns` and `values` (G, W), of which the columns are below `width`, and
    `dense_rows` (U, C), −1 for none, of the embeddings `dense` (M, D)."""

    rows: I64
    columns: I32
    values: F32
    width: int
    dense_rows: I64
    dense: F32


def content_rows(catalogue: Catalogue, numbers: I64, kinds: ContentKinds | None) -> ContentRows:
    """Return the content features of the items `numbers` (U, C), −1 for none, whose features then are of any item. `kinds` are those of a
    large catalogue, brought up to date; None in a small one. Embeddings are copied: each of them once."""
    numbers, blocks, width = np.maximum(numbers, 0), catalogue.embedding_blocks, max(catalogue.width, 1)
    of_embeddings = np.concatenate([np.arange(block.start, block.stop) for block in blocks]) if blocks else np.zeros(0, np.int64)
    if kinds is None:
        sparse = catalogue.sparse_features
        rows = numbers
        has_dense = np.ones(numbers.shape, np.bool_) if blocks else np.zeros(numbers.shape, np.bool_)
    else:
        sparse = Sparse(*kinds.sparse)
        rows = kinds.of[numbers].astype(np.int64)
        has_dense = kinds.has_embeddings[rows]
    dense_rows = np.full(numbers.shape, -1, np.int64)
    distinct, places = np.unique(rows[has_dense], return_inverse=True)
    dense_rows[has_dense] = places.ravel()
    if kinds is None:
        dense = catalogue.feature_table[distinct[:, None], of_embeddings] if len(distinct) else np.zeros((0, 0), np.float32)
    else:
        dense = kinds.embeddings(distinct, of_embeddings)
    return ContentRows(rows, sparse.columns, sparse.values, width, dense_rows, np.ascontiguousarray(dense))
