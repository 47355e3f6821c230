"""Rows held in arrays are told apart as they would be one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.item_row import HEADER_BYTES
from workers.state.port import RowAddress
from workers.stream.row_positions import MADE_HERE, Held, RowPositions

NUMBERS = st.integers(0, 9)
PUT = st.tuples(st.just("put"), NUMBERS, st.integers(-1, 3), st.integers(8, 40))
DROP = st.tuples(st.just("drop"), NUMBERS)
GROWN = st.tuples(
    st.just("grown"),
    st.lists(
        st.tuples(NUMBERS, st.integers(8, 24), st.integers(8, 64), st.booleans(), st.booleans()), min_size=1, unique_by=lambda r: r[0]
    ),
)


def address(number: int, epoch: int = 3) -> RowAddress:
    return number % 4, ("c", epoch, number)


@given(st.lists(PUT | DROP | GROWN, max_size=20))
def test_rows_grow_as_one_by_one(steps: list[tuple[str, int]]) -> None:
    rows, plain = RowPositions(), dict[int, Held]()
    for what, *given_ in steps:
        if what == "put":
            number, generation, length = given_  # type: ignore[misc]
            rows.put(address(number), Held(generation, length, length // 2))
            plain[number] = Held(generation, length, length // 2)
        elif what == "drop":
            rows.drop(address(given_[0]))
            plain.pop(given_[0], None)
        else:
            grown: list[tuple[int, int, int, bool, bool]] = given_[0]  # type: ignore[assignment]
            numbers, sizes, lengths, may_hold, is_sure = map(np.array, zip(*grown, strict=True))
            found = rows.grown(3, numbers, sizes, lengths, may_hold, is_sure)
            for row, held, follows, base in zip(grown, *(answer.tolist() for answer in found), strict=True):
                assert (held, follows, base) == grown_plainly(plain, *row)
        assert [rows.get(address(number)) for number in range(10)] == [plain.get(number) for number in range(10)]
    assert all(rows.get(address(number, epoch=4)) is None for number in range(10))


def grown_plainly(plain: dict[int, Held], number: int, size: int, length: int, may_hold: bool, is_sure: bool) -> tuple[bool, bool, int]:
    held = plain.get(number, MADE_HERE if may_hold else None)
    if held is None:
        return False, False, HEADER_BYTES
    follows = is_sure and held.length + size == length
    plain[number] = held._replace(length=length) if follows else held
    return True, follows, held.base


def test_other_rows_are_held_by_address() -> None:
    rows, counts = RowPositions(), (1, ("pop", "1d", 7))
    assert counts not in rows
    rows.put(counts, MADE_HERE)
    assert rows.get(counts) == MADE_HERE
    rows.drop(counts)
    rows.drop(address(5))
    assert counts not in rows and address(5) not in rows
