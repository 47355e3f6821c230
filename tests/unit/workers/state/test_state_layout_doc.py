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
from recsys.state.user_row import model_tag, pack_embeddings, unpack_row
from recsys.state.user_rows import pack_rows

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "state-layout.md"
U32 = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def readers() -> dict[str, Any]:
    """The functions of the document."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    names: dict[str, Any] = {}
    for block in blocks:
        if "StateReader" not in block:
            exec(block, names)  # noqa: S102 (our own document)
    return names


def packed(items: list[int], times_s: list[int], weights: list[int], older: list[int], vectors: list[list[float]]) -> bytes:
    """One row as workers write it, history oldest first."""
    n = len(items)
    (row,) = pack_rows(
        np.array([items], np.uint32).reshape(1, n),
        np.array([times_s], np.uint32).reshape(1, n),
        np.array([weights], np.int8).reshape(1, n),
        np.array([n], np.int32),
        np.array([0]),
        [np.array(older, np.uint32)],
        np.array([len(vectors)]),
    )
    return row + b"".join(pack_embeddings(tag, np.array([vector], np.float32))[0] for tag, vector in enumerate(vectors))


@given(
    st.lists(st.tuples(U32, U32, st.integers(-128, 127)), min_size=1, max_size=300),
    st.lists(U32, max_size=20),
    st.lists(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=5), max_size=3),
)
def test_the_documents_reader_reads_user_rows(
    readers: dict[str, Any], history: list[tuple[int, int, int]], older: list[int], vectors: list[list[float]]
) -> None:
    row = packed(*(list(column) for column in zip(*history, strict=True)), older, vectors)
    found, older_found, embeddings = readers["read_user_row"](row)
    assert found == [(item, time_s, units / 32) for item, time_s, units in reversed(history)]
    assert older_found == older[::-1]
    ours = unpack_row(row).embeddings
    assert list(embeddings) == [embedding.tag for embedding in ours]
    for embedding in ours:
        assert np.allclose(embeddings[embedding.tag], embedding.vector(), rtol=1e-6)


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
