"""Exact values of items: every value has a number of its own while an item has it, and is free again afterwards."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.items import Catalogue, ItemContent
from recsys.catalogue.labels import Labels

PUTS = st.lists(st.tuples(st.integers(0, 600), st.lists(st.sampled_from(["a", "b", "A", "a ", "", "1", "01"]), max_size=5)), max_size=40)


@given(PUTS)
def test_an_item_has_the_values_that_it_was_given_last_and_no_two_values_share_a_number(puts: list[tuple[int, list[str]]]) -> None:
    labels, held, most = Labels(4), dict[int, tuple[str, ...]](), 0
    for number, values in puts:
        labels.put(number, values)
        held[number] = tuple(dict.fromkeys(values))
        most = max(most, len({text for texts in held.values() for text in texts} | set(values)))
        assert {at: labels.values(at) for at in held} == held
    numbers = np.array([[*held, -1]], np.int64)
    found = labels.at(numbers)[0]
    number_of: dict[str, int] = {}
    for texts, row in zip([*held.values(), ()], found.tolist(), strict=True):
        own = [value for value in row if value >= 0]
        assert len(own) == len(texts) and row == own + [-1] * (len(row) - len(own))
        for text, value in zip(texts, own, strict=True):
            assert number_of.setdefault(text, value) == value < labels.bound
    assert len(set(number_of.values())) == len(number_of)
    assert labels.bound <= most + 5  # an item's new values are counted before its old ones are free


def test_ten_thousand_brands_that_come_and_go_need_room_for_those_there_are() -> None:
    labels = Labels()
    for round_ in range(100):
        for number in range(100):
            labels.put(number, [f"brand {round_ * 100 + number}"])
    assert labels.bound <= 102 and len(labels.sets) <= 256
    assert [labels.values(number) for number in (0, 99)] == [("brand 9900",), ("brand 9999",)]


def test_a_catalogue_holds_the_fields_that_are_named_and_no_others() -> None:
    catalogue = Catalogue(label_fields={"category", "attribute.brand", "attribute.category"})
    many = {f"a{n}": f"v{n}" for n in range(20)}
    for number in range(700):  # far more values than content features have columns
        catalogue.put(number, ItemContent([f"c{number}", "shared"], many | {"brand": f"b{number}", "category": "odd"}))
    assert sorted(catalogue.labels) == ["attribute.brand", "attribute.category", "category"]
    brands = catalogue.labels["attribute.brand"]
    assert len(np.unique(brands.at(np.arange(700)))) == 700 and brands.values(699) == ("b699",)
    assert catalogue.labels["category"].values(7) == ("c7", "shared") and catalogue.labels["attribute.category"].values(7) == ("odd",)
    catalogue.compact()
    catalogue.put(7, ItemContent(["new"]))
    catalogue.put(8, None)
    assert catalogue.labels["category"].values(7) == ("new",) and brands.values(7) == () == catalogue.labels["category"].values(8)
    assert Catalogue().labels == {}
