"""Which process of a rebuild folds which partitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import Fatal
from workers.operations.rebuild_jobs import _ParentLives, shares


@given(st.dictionaries(st.integers(0, 200), st.integers(0, 10_000)), st.integers(1, 9))
def test_every_partition_has_one_process_and_no_process_is_idle(lengths: dict[int, int], n_jobs: int) -> None:
    dealt = shares(lengths, n_jobs)
    assert sorted(partition for part in dealt for partition in part) == sorted(lengths)
    assert len(dealt) == min(n_jobs, len(lengths)) and all(dealt)
    totals = [sum(max(1, lengths[partition]) for partition in part) for part in dealt]
    largest = max((max(1, length) for length in lengths.values()), default=0)
    assert max(totals, default=0) <= sum(totals) / max(len(totals), 1) + largest, "as even as whole partitions can be"


def test_a_process_that_lost_its_parent_stops() -> None:
    with pytest.raises(Fatal, match="has ended"):
        _ParentLives(-1).check()
