"""Whole numbers in as few bits as they need: rows of a grid side by side, one width for all of them.

Bits go from the least significant up, value after value: value i of a row is in bits i × width and those after it. Eight values fill
`width` bytes, so every eighth value starts at a byte, and each of the eight places in between is one strided operation over all rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

MAX_WIDTH = 32
SLACK_BYTES = 8
"""`unpack` reads this much behind the values, whatever is there."""


def bit_lengths(values: U32) -> I64:
    """How many bits each value needs, 0 for 0; above 2²⁴ it may be one more. Any shape."""
    lengths: I64 = (values.astype(np.float32).view(np.int32) >> 23).astype(np.int64) - 126  # the exponent, which rounding may raise
    return np.clip(lengths, 0, MAX_WIDTH, out=lengths)


def packed_bytes(counts: I64, widths: I64) -> I64:
    """Bytes that so many values of so many bits take."""
    return (counts * widths + 7) // 8


def pack(values: U32, width: int) -> U8:
    """The rows of `values` (R, N), all below 2^width, as bytes (R, N rounded up to eights × width / 8), 0 behind the last value."""
    n_rows, n_values = values.shape
    blocks = -(-n_values // 8)
    words = np.zeros((n_rows, blocks, -(-width // 8)), np.dtype("<u8"))
    for place in range(min(8, n_values)):
        word, shift = divmod(place * width, 64)
        column = values[:, place::8]
        shifted = np.zeros((n_rows, blocks), np.uint64)
        shifted[:, : column.shape[1]] = column
        if shift + width > 64:
            words[:, :, word + 1] = shifted >> np.uint64(64 - shift)
        words[:, :, word] |= np.left_shift(shifted, np.uint64(shift), out=shifted)
    return np.ascontiguousarray(words.view(np.uint8)[:, :, :width]).reshape(n_rows, blocks * width)


def unpack(packed: U8, n_values: int, width: int) -> U32:
    """The first `n_values` of each row of bytes (R, at least `n_values` rounded up to eights × width / 8 + SLACK_BYTES): (R, n_values)."""
    n_rows, stride = packed.shape
    blocks = -(-n_values // 8)
    values = np.empty((n_rows, blocks, 8), np.uint32)
    mask = np.uint64((1 << width) - 1)
    for place in range(8):
        at, shift = divmod(place * width, 8)
        words: NDArray[np.uint64] = np.ndarray((n_rows, blocks), np.dtype("<u8"), packed.data, at, (stride, width))
        values[:, :, place] = (words >> np.uint64(shift)) & mask
    return values.reshape(n_rows, blocks * 8)[:, :n_values]


def windows(buffer: U8, size: int) -> U8:
    """Every run of `size` bytes of the buffer, as overlapping rows: `windows(b, 3)[[5, 9]]` copies b[5:8] and b[9:12]."""
    return np.ndarray((len(buffer) - size + 1, size), np.uint8, buffer.data, 0, (1, 1))
