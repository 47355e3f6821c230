"""C21: distinct values never count as equal, whatever their number, and nothing depends on the order in which items are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue import content_values
from recsys.catalogue.content_values import IDENTIFIER_ITEMS, MAX_COLUMNS
from recsys.catalogue.items import SHARES, Catalogue, ItemContent
from recsys.engine import Engine, EngineConfig
from tests.builders import batch_of, learn

NOW_S = 1_700_000_000
contents = st.builds(
    ItemContent,
    categories=st.lists(st.sampled_from(["a", "b", "ab", "ba", "12", "21", "listen", "silent", ""]), max_size=3),
    attributes=st.dictionaries(st.sampled_from(["x", "y=", "y"]), st.sampled_from(["1", "=1", "2", "3"]), max_size=2),
    published_s=st.none() | st.integers(-(10**9), 2 * 10**9),
    embeddings=st.dictionaries(st.just("text"), st.lists(st.integers(1, 5), min_size=3, max_size=3), max_size=1),
)
changes = st.lists(st.tuples(st.integers(0, 8), st.none() | contents), min_size=1, max_size=25)


def catalogue_of(is_large: bool) -> Catalogue:
    catalogue = Catalogue(4)
    if is_large:
        catalogue.compact()
    return catalogue


def products(catalogue: Catalogue, n_items: int) -> np.ndarray:
    """Return the inner products of all items' features, (n_items, n_items)."""
    catalogue.grow(n_items)
    if catalogue.kinds is None:
        features = catalogue.features[:n_items]
    else:
        kinds = catalogue.refresh_kinds(lambda: np.zeros(n_items, np.float32), NOW_S)
        features = kinds.features(kinds.of[:n_items].astype(np.int64), catalogue.width)
    found: np.ndarray = features @ features.T
    return found


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("n_columns", [3, MAX_COLUMNS])
@settings(max_examples=25, deadline=None)
@given(described=changes, order=st.permutations(range(9)))
def test_cosines_are_those_of_the_newest_descriptions_in_any_order(
    is_large: bool, n_columns: int, described: list[tuple[int, ItemContent | None]], order: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content_values, "MAX_COLUMNS", n_columns)
        changed, fresh = catalogue_of(is_large), catalogue_of(is_large)
        newest: dict[int, ItemContent | None] = {}
        for number, content in described:
            changed.put(number, content)
            newest[number] = content
        for number in order:
            if number in newest:
                fresh.put(number, newest[number])
        np.testing.assert_allclose(products(changed, 9), products(fresh, 9), atol=1e-5)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("n_columns", [2, MAX_COLUMNS])
@settings(max_examples=25, deadline=None)
@given(described=changes)
def test_items_without_a_common_value_have_the_cosine_zero(
    is_large: bool, n_columns: int, described: list[tuple[int, ItemContent | None]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content_values, "MAX_COLUMNS", n_columns)
        catalogue = catalogue_of(is_large)
        newest: dict[int, ItemContent] = {}
        for number, content in described:
            plain = ItemContent() if content is None else ItemContent(content.categories, content.attributes)
            catalogue.put(number, plain)
            newest[number] = plain
        found = products(catalogue, 9)
    for one, of_one in newest.items():
        for other, of_other in newest.items():
            shared = set(of_one.categories) & set(of_other.categories) or set(of_one.attributes.items()) & set(of_other.attributes.items())
            if one != other and not shared:
                assert found[one, other] == 0
            if one != other and n_columns == MAX_COLUMNS and shared:
                assert found[one, other] > 0


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("identifiers_first", [False, True])
def test_names_alike_are_distinct_beside_many_identifiers(is_large: bool, identifiers_first: bool) -> None:
    catalogue = catalogue_of(is_large)
    books = [(number, ItemContent(attributes={"isbn": f"978{number:09d}"})) for number in range(600)]
    names = [(600 + at, ItemContent([name])) for at, name in enumerate(("12", "21", "listen", "silent", "12"))]
    for number, content in [*books, *names] if identifiers_first else [*names, *books]:
        catalogue.put(number, content)
    found = products(catalogue, 605)
    assert not found[:600, :600][~np.eye(600, dtype=bool)].any()
    of_names = found[600:, 600:]
    assert of_names[0, 4] == pytest.approx(SHARES["category"], abs=1e-5)
    assert of_names[np.triu(np.ones((4, 4), bool), 1).nonzero()].max() == 0
    assert catalogue.left_out.identifiers == ("isbn",)
    assert catalogue.left_out.without_column == {}


def test_a_cook_s_list_holds_no_cars() -> None:
    """C21 as it was reported: 600 items with an ISBN each, then the categories 12 (cooking) and 21 (cars)."""
    engine = Engine(EngineConfig(list_size=20))
    for number in range(600):
        engine.describe_item(number, ItemContent(attributes={"isbn": f"978{number:09d}"}))
    cooking, cars = range(600, 640), range(640, 680)
    for number in cooking:
        engine.describe_item(number, ItemContent(["12"]))
    for number in cars:
        engine.describe_item(number, ItemContent(["21"]))
    engine.neighbours.hold_all()
    engine.users.load({"cook": None})
    slot = engine.users.slot("cook") or 0
    batch = batch_of([slot], [3], [600, 601, 602], [NOW_S] * 3, [32] * 3)
    learn(engine, batch)
    listed = engine.recommend(np.array([slot]), {}, NOW_S).items[0].tolist()
    assert len(listed) == 20 and set(listed) <= set(cooking)


def test_an_identifier_takes_no_part_and_an_attribute_that_becomes_none_does() -> None:
    catalogue = Catalogue()
    for number in range(IDENTIFIER_ITEMS):
        catalogue.put(number, ItemContent(attributes={"isbn": str(number), "brand": f"brand {number % 10}"}))
    found = products(catalogue, IDENTIFIER_ITEMS)
    assert found[0, 10] == pytest.approx(SHARES["attribute"], abs=1e-5), "of two attributes one says something"
    for number in range(IDENTIFIER_ITEMS):
        catalogue.put(number, ItemContent(attributes={"isbn": str(number // 2), "brand": f"brand {number % 10}"}))
    found = products(catalogue, IDENTIFIER_ITEMS)
    assert catalogue.left_out.identifiers == ()
    assert found[0, 10] == pytest.approx(SHARES["attribute"] / 2, abs=1e-5)
    assert found[0, 1] == pytest.approx(SHARES["attribute"] / 2, abs=1e-5)


def test_directors_of_few_films_each_are_no_identifier() -> None:
    catalogue = Catalogue()
    for number in range(300):
        catalogue.put(number, ItemContent(attributes={"director": f"d{number if number < 150 else number // 3}"}))
    assert products(catalogue, 300)[299, 298] == pytest.approx(SHARES["attribute"], abs=1e-5)
    assert catalogue.left_out.identifiers == ()


@pytest.mark.parametrize("is_large", [False, True])
def test_the_most_frequent_values_have_the_columns_and_the_others_are_named(is_large: bool) -> None:
    catalogue = catalogue_of(is_large)
    number = 0
    for name, copies in (("rare", 2), ("frequent", 3)):
        for value in range(MAX_COLUMNS):
            for _ in range(copies):
                catalogue.put(number, ItemContent(attributes={name: f"{name} {value}"}))
                number += 1
    found = products(catalogue, number)
    assert found[0, 1] == 0, "two of the rare value have no column"
    assert found[number - 1, number - 2] == pytest.approx(SHARES["attribute"], abs=1e-5)
    assert catalogue.left_out.without_column == {"rare": MAX_COLUMNS}
    assert catalogue.width == MAX_COLUMNS


@pytest.mark.parametrize("is_large", [False, True])
def test_columns_are_free_again_when_values_vanish(is_large: bool) -> None:
    catalogue = catalogue_of(is_large)
    for turn in range(4):
        for number in range(MAX_COLUMNS):
            catalogue.put(number, ItemContent([f"turn {turn} category {number}"]))
        catalogue.put(MAX_COLUMNS, ItemContent([f"turn {turn} category 7"]))
        found = products(catalogue, MAX_COLUMNS + 1)
        assert found[7, MAX_COLUMNS] == pytest.approx(SHARES["category"], abs=1e-5)
        assert np.count_nonzero(found) == MAX_COLUMNS + 1 + 2, "every item is like itself alone, but for one pair"
    assert catalogue.width == MAX_COLUMNS
    assert len(catalogue.values._values) <= MAX_COLUMNS + 1
    for number in range(MAX_COLUMNS + 1):
        catalogue.put(number, None)
    assert not products(catalogue, MAX_COLUMNS + 1).any()
    assert catalogue.values._numbers == {} == catalogue.values._alone


def test_values_beyond_the_bound_are_counted_no_more_and_equal_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_values, "MAX_VALUES", 5)
    catalogue = Catalogue()
    for number in range(20):
        catalogue.put(number, ItemContent([f"c{number % 10}"], {"code": f"v{number % 10}"}))
    found = products(catalogue, 20)
    for number in range(10):
        shares = SHARES["category"] + SHARES["attribute"] if number < 5 else 0
        assert found[number, number + 10] == pytest.approx(shares, abs=1e-5)
    for number in range(20):
        catalogue.put(number, None)
    assert catalogue.values._numbers == {}


def test_a_description_that_says_the_same_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue()
    content = ItemContent(["a"], {"x": "1"}, 0, embeddings={"text": [1.0]})
    catalogue.put(0, content)
    described: list[int] = []
    monkeypatch.setattr(catalogue, "_describe", lambda number, content: described.append(number))
    catalogue.put(0, ItemContent(["a"], {"x": "1"}, 0, available=False, expires_s=9, embeddings={"text": [1.0]}))
    assert described == [] and not catalogue.available[0]
    catalogue.put(0, ItemContent(["a"], {"x": "1"}, 1, embeddings={"text": [1.0]}))
    assert described == [0]


def test_a_catalogue_that_grows_large_keeps_its_cosines() -> None:
    catalogue = Catalogue()
    put: Callable[[int], None] = lambda n: catalogue.put(  # noqa: E731
        n, ItemContent([f"c{n % 7}"], {"brand": f"b{n % 3}", "isbn": str(n)}, n * 10**8, embeddings={"text": [1.0, float(n % 4)]})
    )
    for number in range(150):
        put(number)
    before = products(catalogue, 150)
    catalogue.compact()
    np.testing.assert_allclose(products(catalogue, 150), before, atol=1e-5)
