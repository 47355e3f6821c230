"""Packed bits are those of one long number, and come back as they were."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.bitpacking import MAX_WIDTH, SLACK_BYTES, bit_lengths, pack, packed_bytes, unpack, windows


@given(st.integers(1, MAX_WIDTH), st.integers(1, 5), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_packed_values_are_one_little_endian_number_a_row(width: int, n_rows: int, n_values: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 2**width, (n_rows, n_values)).astype(np.uint32)
    packed = pack(values, width)
    assert packed.shape == (n_rows, -(-n_values // 8) * width)
    for row, own in zip(packed, values.tolist(), strict=True):
        assert int.from_bytes(row.tobytes(), "little") == sum(value << (width * place) for place, value in enumerate(own))
    behind = np.full((n_rows, SLACK_BYTES), 0xFF, np.uint8)
    assert (unpack(np.concatenate((packed, behind), axis=1), n_values, width) == values).all()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_bit_lengths_are_enough_and_exact_below_2_to_the_24(values: list[int]) -> None:
    for value, length in zip(values, bit_lengths(np.array(values, np.uint32)).tolist(), strict=True):
        assert value.bit_length() <= length <= min(value.bit_length() + (value >= 2**24), MAX_WIDTH)


def test_windows_are_runs_of_the_buffer() -> None:
    buffer = np.arange(20, dtype=np.uint8)
    assert windows(buffer, 3)[[5, 17]].tolist() == [[5, 6, 7], [17, 18, 19]]
    assert packed_bytes(np.array([0, 1, 8, 9]), np.array([5, 1, 3, 7])).tolist() == [0, 1, 3, 8]
