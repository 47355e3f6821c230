"""The lists are those that were stored before the lists became one path: items, order, reasons, and what each source added."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.golden.lists import CASES, LARGE, STORED, Case, made, readable

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def stored() -> dict[str, list[list[dict[str, object]]]]:
    return json.loads(STORED.read_text())  # type: ignore[no-any-return]


def test_three_hundred_lists_are_stored(stored: dict[str, list[list[dict[str, object]]]]) -> None:
    assert {name: len(lists) for name, lists in stored.items()} == {case.name: case.n_lists for case in CASES}
    assert sum(map(len, stored.values())) == 300 and all(stored.values())


def total(lists: list[list[dict[str, Any]]]) -> float:
    return sum(place["score"] for places in lists for place in places)


def assert_equally_good(before: list[list[dict[str, Any]]], now: list[list[dict[str, Any]]]) -> None:
    """Compare sums of scores: hundreds of kinds of a newcomer's category are equally near, and the last bit, which libraries and the number
    of threads change, says which of them an index of a large catalogue finds first."""
    for user, (old, new) in enumerate(zip(before, now, strict=True)):
        assert len({place["item"] for place in new}) == len(old), f"list {user}"
        assert total([new]) == pytest.approx(total([old]), rel=0.05), f"list {user}"
    assert total(now) == pytest.approx(total(before), rel=0.01)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_lists_are_those_that_were_stored(case: Case, stored: dict[str, list[list[dict[str, object]]]]) -> None:
    before, now = stored[case.name], list(readable(made(case)))
    if case.preferred and case.n_items == LARGE:
        assert_equally_good(before, now)
        return
    for user, (old, new) in enumerate(zip(before, now, strict=True)):
        assert [place["item"] for place in new] == [place["item"] for place in old], f"list {user}"
        assert [place["because"] for place in new] == [place["because"] for place in old], f"list {user}"
        for name in ("score", "propensity"):
            np.testing.assert_allclose([place[name] for place in new], [place[name] for place in old], atol=TOLERANCE)  # type: ignore[arg-type]
        for old_place, new_place in zip(old, new, strict=True):
            assert new_place["sources"] == pytest.approx(old_place["sources"], abs=TOLERANCE)
