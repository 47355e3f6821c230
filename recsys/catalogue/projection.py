"""Projects long vectors to fewer dimensions, so that memory and time of content features stay bounded whatever encoder made them.

Each dimension is added, with a sign, to one of K columns; signs and columns are drawn once. Cosines of vectors that spread over their
dimensions, as those of encoders do, are kept to within about 1/√K: 0.03 for K = 1,024.

Source: Weinberger et al. 2009, Feature hashing for large scale multitask learning (after Charikar et al. 2002).
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MAX_COLUMNS = 1_024
"""Vectors of up to this many dimensions are left as they are."""
MAX_DIMENSIONS = 3_072


def projected(vector: F64) -> F64:
    """Return a vector (D,) as it is up to `MAX_COLUMNS` dimensions, longer ones as (`MAX_COLUMNS`,). D is at most `MAX_DIMENSIONS`."""
    if len(vector) <= MAX_COLUMNS:
        return vector
    order, signs = _drawn()
    whole = np.zeros(MAX_DIMENSIONS)
    whole[: len(vector)] = vector
    found: F64 = (whole * signs)[order].reshape(-1, MAX_COLUMNS).sum(axis=0)
    return found


@cache
def _drawn() -> tuple[I64, F64]:
    """Return which dimensions go together, and their signs: the same in every process and with every version of every library, as workers
    must list alike."""
    drawn = np.frombuffer(hashlib.shake_256(b"recsys embeddings").digest(8 * MAX_DIMENSIONS), "<u8")
    return np.argsort(drawn, kind="stable"), np.where(drawn & 1, 1.0, -1.0)
