"""An embedding that items have beside their owner's: that of their text, which arrives after they were described.

Shapes: n items, E dimensions, N items of the catalogue, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.content_kinds import ContentKinds, Described
from recsys.catalogue.projection import MAX_COLUMNS, projected

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

SUPPLIED = "\x00text"
"""Name of the embedding; no name of an owner's has a control character."""


def unit_vectors(vectors: F32, share: float) -> F32:
    """Return vectors (n, E) at the length √share, zeros as they are; those of many dimensions in fewer."""
    wide = vectors.shape[1] > MAX_COLUMNS
    dense = np.stack([projected(row) for row in vectors.astype(np.float64)]) if wide and len(vectors) else vectors.astype(np.float64)
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    found: F32 = (dense * (np.sqrt(share) / np.where(lengths > 0, lengths, 1))).astype(np.float32)
    return found


def put_vectors(block: slice, numbers: I64, vectors: F32, features: F32, kinds: ContentKinds | None) -> None:
    """Write the vectors (n, E) of the items `numbers` (n,) into the columns `block` of `features` (N, F), or into `kinds` if there are."""
    if kinds is None:
        features[numbers, block] = vectors
        return
    for number, vector in zip(numbers.tolist(), vectors, strict=True):
        described = kinds.described(number)
        others = tuple(one for one in described.embeddings if one[0] != block)
        own = ((block, vector.copy()),) if vector.any() else ()
        kinds.put(number, Described(described.said, others + own))


def take_away(block: slice, features: F32, kinds: ContentKinds | None, n_items: int) -> None:
    """Take the embedding in the columns `block` from the first `n_items`."""
    if kinds is None:
        features[:n_items, block] = 0
        return
    for number in range(n_items):
        described = kinds.described(number)
        if any(one[0] == block for one in described.embeddings):
            kinds.put(number, Described(described.said, tuple(one for one in described.embeddings if one[0] != block)))
