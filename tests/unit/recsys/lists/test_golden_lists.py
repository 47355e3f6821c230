"""The lists are those that were stored before the lists became one path: items, order, reasons, and what each source added."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.golden.lists import CASES, LARGE, LISTED, N_GROUPS, STORED, Case, made, readable

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def stored() -> dict[str, list[list[dict[str, object]]]]:
    return json.loads(STORED.read_text())  # type: ignore[no-any-return]


def test_three_hundred_lists_are_stored(stored: dict[str, list[list[dict[str, object]]]]) -> None:
    assert {name: len(lists) for name, lists in stored.items()} == {case.name: case.n_lists for case in CASES}
    assert sum(map(len, stored.values())) == 300 and all(stored.values())


def is_preferred(item: int, user: int) -> bool:
    """Return whether an item is in the categories that a newcomer named."""
    return item % N_GROUPS == user % N_GROUPS or item % 7 == 3


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_lists_are_those_that_were_stored(case: Case, stored: dict[str, list[list[dict[str, object]]]]) -> None:
    before, now = stored[case.name], list(readable(made(case)))
    for user, (old, new) in enumerate(zip(before, now, strict=True)):
        if case.preferred and case.n_items == LARGE and user % 2 == 0:
            # hundreds of kinds are equally near what was named: the last bit says which of them the index finds
            assert len({place["item"] for place in new}) == LISTED and all(is_preferred(place["item"], user) for place in [*old, *new])
            continue
        assert [place["item"] for place in new] == [place["item"] for place in old], f"list {user}"
        assert [place["because"] for place in new] == [place["because"] for place in old], f"list {user}"
        for name in ("score", "propensity"):
            np.testing.assert_allclose([place[name] for place in new], [place[name] for place in old], atol=TOLERANCE)  # type: ignore[arg-type]
        for old_place, new_place in zip(old, new, strict=True):
            assert new_place["sources"] == pytest.approx(old_place["sources"], abs=TOLERANCE)
