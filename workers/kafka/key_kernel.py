"""Kafka's murmur2 of many keys, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

_MASK = np.uint64(0xFFFFFFFF)
_M = np.uint64(0x5BD1E995)
_SEED = np.uint64(0x9747B28C)
_POSITIVE = np.uint64(0x7FFFFFFF)


@compiled
def partitions(joined: NDArray[np.uint8], lengths: NDArray[np.int64], n_partitions: int, out: NDArray[np.int32]) -> None:
    """Put the partition of each key into `out`, (K,); the keys lie one after another in `joined`, `lengths` (K,) bytes each.

    Source: as `kafka.partitioner.default.murmur2`, in numbers of 64 bits that are cut to 32.
    """
    start = 0
    for row in range(len(lengths)):
        length = lengths[row]
        h = _SEED ^ np.uint64(length)
        whole = start + (length & ~3)
        for at in range(start, whole, 4):
            k = np.uint64(joined[at]) | np.uint64(joined[at + 1]) << np.uint64(8)
            k |= np.uint64(joined[at + 2]) << np.uint64(16) | np.uint64(joined[at + 3]) << np.uint64(24)
            k = k * _M & _MASK
            k = (k ^ k >> np.uint64(24)) * _M & _MASK
            h = h * _M & _MASK ^ k
        if length & 3:
            for at in range(whole, start + length):
                h ^= np.uint64(joined[at]) << np.uint64(8 * (at - whole))
            h = h * _M & _MASK
        h = (h ^ h >> np.uint64(13)) * _M & _MASK
        h ^= h >> np.uint64(15)
        out[row] = (h & _POSITIVE) % np.uint64(n_partitions)
        start += length
