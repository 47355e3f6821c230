"""The readers that docs/state-layout.md prints read the rows that workers pack."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.state import item_row
from recsys.state.shown import ShownEvents, ShownTable
from recsys.state.user_row import model_tag, pack_embeddings, unpack_row
from recsys.state.user_rows import pack_rows
from tests.histories import Entry, histories_of, touched

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "state-layout.md"
U8, U32 = st.integers(0, 255), st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def readers() -> dict[str, Any]:
    """The functions of the document."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    names: dict[str, Any] = {}
    for block in blocks:
        if "StateReader" not in block:
            exec(block, names)  # noqa: S102 (our own document)
    return names


def test_the_reader_of_shown_items_reads_what_workers_pack(readers: dict[str, Any]) -> None:
    table = ShownTable(3, 1)
    items, times_s, shown = np.array([70_000, 2, 2], np.uint32), np.array([5, 6, 9], np.uint32), np.array([True, True, False])
    table.learn(ShownEvents(np.zeros(1, np.int64), np.array([3]), items, times_s, shown))
    assert readers["read_shown_row"](table.pack(np.zeros(1, np.int64))[0]) == [(70_000, 1, 5, 0), (2, 0, 6, 9)]


def packed(own: list[Entry], older: list[int], spent: int, vectors: list[list[float]]) -> bytes:
    """One row as workers write it, history oldest first."""
    (row,) = pack_rows(histories_of([own], [spent]), np.array([0]), [np.array(older, np.uint32)], np.array([len(vectors)]))
    return row + b"".join(pack_embeddings(at // 2, np.array([vector], np.float32))[0] for at, vector in enumerate(vectors))


ONCE = st.builds(touched, U32, U32, st.integers(-128, 127), U8)
REPEATED = st.builds(
    lambda item, at_s, before_s, units, kind, touches, visits: (item, at_s, max(at_s - before_s, 0), units, kind, touches, visits),
    U32, U32, U32, st.integers(-128, 127), U8, U8, U8,
)  # fmt: skip


@given(
    st.lists(st.one_of(ONCE, REPEATED), min_size=1, max_size=300),
    st.lists(U32, max_size=20),
    st.integers(0, 0xFFFF),
    st.lists(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=5), max_size=3),
)
def test_the_documents_reader_reads_user_rows(
    readers: dict[str, Any], own: list[Entry], older: list[int], spent: int, vectors: list[list[float]]
) -> None:
    own = sorted(own, key=lambda entry: entry[1])
    row = packed(own, older, spent, vectors)
    found, older_found, embeddings = readers["read_user_row"](row)
    assert found == [(item, last_s, first_s, units / 32, kind, touches) for item, last_s, first_s, units, kind, touches, _ in own[::-1]]
    assert older_found == older[::-1]
    ours = unpack_row(row).embeddings
    assert [tag for tag, of_tag in embeddings.items() for _ in of_tag] == [embedding.tag for embedding in ours]
    for vector, embedding in zip([vector for of_tag in embeddings.values() for vector in of_tag], ours, strict=True):
        assert np.allclose(vector, embedding.vector(), rtol=1e-6)


@given(st.lists(st.tuples(U32, st.integers(0, 2**32 - 1)), max_size=30))
def test_the_documents_reader_reads_item_rows(readers: dict[str, Any], records: list[tuple[int, int]]) -> None:
    numbers, units = [number for number, _ in records], [weight for _, weight in records]
    row = item_row.pack_header(3, 0) + item_row.pack_records(np.array(numbers, np.uint32), np.array(units, np.uint32))
    expected: dict[int, float] = {}
    for number, weight in records:
        expected[number] = expected.get(number, 0) + weight / 64
    assert readers["read_item_row"](row) == expected


def test_the_documents_tag_is_that_of_embeddings() -> None:
    assert "CRC-32 of `kind/version`" in DOCUMENT.read_text("utf-8").replace("\n", " ")
    assert model_tag("ials", "ials-000012") == zlib.crc32(b"ials/ials-000012")
