"""Rows are kept for as long as anybody may count them, and somewhat longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.batch_delta import RowId
from recsys.state.half_lives import WINDOWS_S
from recsys.state.popularity import Popularity
from recsys.state.retention import Retention

EPOCH_S = 1_000
KEPT = Retention(EPOCH_S, live_epochs=4)


@pytest.mark.parametrize(
    ("row_id", "first_past_s"),
    [
        (("c", 10, 3), 14 * EPOCH_S),
        (("pop", "10m", 100), (100 + 4) * 3_600),
        (("pop", "1d", 100), (100 + 4) * 6 * 86_400),
    ],
)
def test_a_row_may_be_past_from_one_second_on(row_id: RowId, first_past_s: int) -> None:
    assert not KEPT.may_be_past(row_id, first_past_s - 1)
    assert KEPT.may_be_past(row_id, first_past_s)


def test_what_counts_for_good_is_never_past() -> None:
    assert not KEPT.may_be_past(("pop", "all", 0), 2**32 - 1)


@given(window=st.sampled_from(sorted(WINDOWS_S)), span=st.integers(0, 1_000), newest_s=st.integers(0, 2**32 - 1))
def test_no_span_that_counts_is_past(window: str, span: int, newest_s: int) -> None:
    popularity = Popularity()
    popularity.advance(newest_s)
    at = newest_s // WINDOWS_S[window] - span
    assert not (popularity.holds(window, at) and KEPT.may_be_past(("pop", window, at), newest_s))
    assert span < 4 or KEPT.may_be_past(("pop", window, at), newest_s)


@given(epochs=st.lists(st.integers(0, 50), min_size=1), late=st.integers(0, 50))
def test_a_row_that_does_not_count_never_counts_again(epochs: list[int], late: int) -> None:
    before, after = sorted(set(epochs)), sorted({*epochs, late})
    newest_s = max(after) * EPOCH_S
    for epoch in before:
        assert KEPT.counts(epoch, before) or not KEPT.counts(epoch, after)
        assert KEPT.counts(epoch, after) or KEPT.may_be_past(("c", epoch, 0), newest_s), "only rows that may be past are looked up"
