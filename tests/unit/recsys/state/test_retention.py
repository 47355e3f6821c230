"""Rows are kept for as long as anybody may count them, and somewhat longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.batch_delta import WINDOWS_S, RowId
from recsys.state.popularity import LIVE_BUCKETS, Popularity
from recsys.state.retention import Retention

EPOCH_S = 1_000
KEPT = Retention(EPOCH_S, live_epochs=4)


@pytest.mark.parametrize(
    ("row_id", "first_past_s"),
    [
        (("c", 10, 3), 15 * EPOCH_S),
        (("pop", "hour", 100), (100 + 48) * 3_600),
        (("pop", "day", 100), (100 + 60) * 86_400),
    ],
)
def test_a_row_is_past_from_one_second_on(row_id: RowId, first_past_s: int) -> None:
    assert not KEPT.is_past(row_id, first_past_s - 1)
    assert KEPT.is_past(row_id, first_past_s)


def test_what_counts_for_good_is_never_past() -> None:
    assert not KEPT.is_past(("pop", "all", 0), 2**32 - 1)


@given(window=st.sampled_from(sorted(WINDOWS_S)), bucket=st.integers(0, 1_000), newest_s=st.integers(0, 2**32 - 1))
def test_no_bucket_that_counts_is_past(window: str, bucket: int, newest_s: int) -> None:
    popularity = Popularity()
    popularity.advance(newest_s)
    at = newest_s // WINDOWS_S[window] - bucket
    assert not (popularity.holds(window, at) and KEPT.is_past(("pop", window, at), newest_s))
    assert bucket < 2 * LIVE_BUCKETS[window] or KEPT.is_past(("pop", window, at), newest_s)
