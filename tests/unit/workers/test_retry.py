"""Waits between tries grow from the first to the longest, with jitter."""

from __future__ import annotations

import pytest

from workers.retry import Backoff


@pytest.mark.parametrize(("first_s", "longest_s"), [(0.1, 5.0), (10.0, 900.0), (3.0, 2.0)])
def test_each_wait_is_drawn_from_the_upper_half_of_a_doubling_one(first_s: float, longest_s: float) -> None:
    runs = []
    for _ in range(200):
        backoff = Backoff(first_s, longest_s)
        runs.append([backoff.next_s() for _ in range(12)])
    for failures, waits_s in enumerate(zip(*runs, strict=True)):
        whole_s = min(longest_s, first_s * 2**failures)
        assert whole_s / 2 <= min(waits_s) < 0.6 * whole_s and 0.9 * whole_s < max(waits_s) <= whole_s


def test_the_wait_stays_the_longest_after_any_number_of_failures() -> None:
    backoff = Backoff()
    assert max(backoff.next_s() for _ in range(3_000)) <= 5.0
    assert backoff.next_s() >= 2.5


def test_the_first_wait_comes_again_after_a_success() -> None:
    backoff = Backoff()
    for _ in range(9):
        backoff.next_s()
    backoff.reset()
    assert 0.05 <= backoff.next_s() <= 0.1
