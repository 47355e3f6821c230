"""What ends under `recsys up` is started again, ever later while it keeps ending."""

from __future__ import annotations

import pytest

from workers import local_stack
from workers.local_stack import LONGEST_BACKOFF_S, Restarts


def test_waits_double_up_to_a_minute_and_start_over_after_a_minute_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(local_stack.time, "monotonic", lambda: now)
    restarts = Restarts()
    waits = []
    for _ in range(9):
        waits.append(restarts.ended())
        now += waits[-1]
        assert restarts.due_s == now
        restarts.started()
        assert restarts.due_s is None
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60] and max(waits) == LONGEST_BACKOFF_S
    now += 61
    assert restarts.ended() == 1
