"""Content features are blocks of known length, whatever is known of an item; availability follows the newest description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.items import ERA_S, MAX_EMBEDDING_COLUMNS, SHARES, Catalogue, ItemContent

NAMES = st.sampled_from(["drama", "comedy", "noir", "western", "war"])
CONTENTS = st.builds(
    ItemContent,
    categories=st.lists(NAMES, max_size=4),
    attributes=st.dictionaries(st.sampled_from(["colour", "studio"]), st.sampled_from(["a", "b"]), max_size=2),
    published_s=st.none() | st.integers(-(10**9), 2 * 10**9),
    embeddings=st.dictionaries(
        st.sampled_from(["text", "image"]), st.lists(st.integers(-5, 5), min_size=3, max_size=3).filter(any), max_size=2
    ),
)


def squared_length(content: ItemContent, others: list[ItemContent]) -> float:
    """Return the shares of what is described; of attributes, of those whose value another item has too."""
    shared = [text in (other.attributes.get(name) for other in others) for name, text in content.attributes.items()]
    present = [
        SHARES["category"] * bool(content.categories),
        SHARES["attribute"] * sum(shared) / max(len(shared), 1),
        SHARES["era"] * (content.published_s is not None),
        SHARES["embedding"] * len(content.embeddings),
    ]
    return sum(present)


@given(st.lists(st.tuples(st.integers(0, 12), CONTENTS), max_size=30))
def test_each_block_of_features_has_the_length_of_its_share(described: list[tuple[int, ItemContent]]) -> None:
    catalogue = Catalogue(4)
    newest: dict[int, ItemContent] = {}
    for number, content in described:
        catalogue.put(number, content)
        newest[number] = content
    for number, content in newest.items():
        others = [other for at, other in newest.items() if at != number]
        assert float((catalogue.features[number] ** 2).sum()) == pytest.approx(squared_length(content, others), abs=1e-5)
    undescribed = [number for number in range(catalogue.n_items) if number not in newest]
    assert not catalogue.features[undescribed].any()


def test_equal_content_has_the_cosine_of_all_its_shares_and_other_content_none() -> None:
    catalogue = Catalogue()
    for number in (0, 1):
        catalogue.put(number, ItemContent(["drama", "war"], {"colour": "red"}, 0, embeddings={"text": [1.0, 2.0]}))
    catalogue.put(2, ItemContent(["comedy"], {"colour": "blue"}, int(20 * ERA_S), embeddings={"text": [-2.0, 1.0]}))
    features = catalogue.features
    assert float(features[0] @ features[1]) == pytest.approx(sum(SHARES.values()), abs=1e-5)
    assert float(features[0] @ features[2]) == pytest.approx(0, abs=1e-5)


def test_a_rare_category_ties_items_closer_than_a_common_one() -> None:
    catalogue = Catalogue()
    catalogue.put(0, ItemContent(["common", "rare"]))
    catalogue.put(1, ItemContent(["rare", "x"]))
    catalogue.put(2, ItemContent(["common", "y"]))
    for number in range(3, 40):
        catalogue.put(number, ItemContent(["common"]))
    features = catalogue.features
    assert features[0] @ features[1] > features[0] @ features[2] > 0


def test_items_of_neighbouring_eras_are_closer_than_of_distant_ones() -> None:
    catalogue = Catalogue()
    for number, era in enumerate((0, 1, 2, 9)):
        catalogue.put(number, ItemContent(published_s=int(era * ERA_S + 1)))
    features = catalogue.features
    same, near, far = (float(features[0] @ features[other]) for other in (1, 2, 3))
    assert SHARES["era"] > same > near > far == 0


def test_only_available_published_unexpired_items_may_be_listed() -> None:
    catalogue = Catalogue()
    catalogue.put(0, ItemContent())
    catalogue.put(1, ItemContent(available=False))
    catalogue.put(2, ItemContent(published_s=1_001))
    catalogue.put(3, ItemContent(expires_s=1_000))
    catalogue.put(4, ItemContent(published_s=1_000, expires_s=1_001))
    catalogue.put(5, None)
    catalogue.grow(7)  # 6 was never described
    assert catalogue.recommendable(1_000).tolist() == [True, False, False, False, True, False, True]
    catalogue.put(5, ItemContent())
    assert catalogue.recommendable(1_000)[5], "described again after its removal"


def test_freshness_falls_from_one_to_zero_with_age() -> None:
    catalogue = Catalogue()
    for number, published_s in enumerate((1_000, 950, 900, 100, 1_001, None)):
        catalogue.put(number, ItemContent(published_s=published_s))
    assert catalogue.freshness(1_000, 100.0).tolist() == [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    assert catalogue.freshness(1_000, 100.0, 1_001).tolist() == [1.0, 0.5, 0.0, 0.0, 1.0, 0.0], "published since is as new as can be"


def test_someone_s_categories_point_to_the_items_that_have_them() -> None:
    catalogue = Catalogue()
    catalogue.put(0, ItemContent(["drama"]))
    catalogue.put(1, ItemContent(["comedy"]))
    vector = catalogue.category_vector(["drama", "unheard of"])
    assert vector is not None and catalogue.features[0] @ vector > 0 == catalogue.features[1] @ vector
    assert catalogue.category_vector(["unheard of"]) is None


def test_long_embeddings_take_no_more_columns_and_keep_their_cosines() -> None:
    """C19: of 3,072 numbers 1,024 columns are made; the cosine of two items is off by a few hundredths at most."""
    chance = np.random.default_rng(0)
    base = chance.normal(size=3_072)
    catalogue = Catalogue()
    exact = []
    for number, share in enumerate(np.linspace(-1, 1, 21)):
        vector = share * base + (1 - abs(share)) * chance.normal(size=3_072)
        exact.append(float(base @ vector / np.linalg.norm(base) / np.linalg.norm(vector)))
        catalogue.put(number + 1, ItemContent(embeddings={"text": vector.tolist()}))
    catalogue.put(0, ItemContent(embeddings={"text": base.tolist()}))
    features = catalogue.features[:22]
    assert catalogue.width == 1_024
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    assert features[1:] @ features[0] == pytest.approx(np.array(exact), abs=0.12)


@pytest.mark.parametrize("compact", [False, True])
def test_embeddings_of_ever_other_names_and_dimensions_take_a_bounded_number_of_columns(compact: bool) -> None:
    catalogue = Catalogue()
    if compact:
        catalogue.compact()
    for number in range(60):
        catalogue.put(number, ItemContent(["a"], embeddings={f"name {number}": [1.0] * (100 + number), "zero": [0.0] * 3_072}))
    assert catalogue.width <= MAX_EMBEDDING_COLUMNS + 16
    assert catalogue.n_left_out > 0
    assert catalogue.recommendable(0)[:60].all()


def test_an_embedding_of_tiny_or_huge_numbers_has_the_length_of_its_share() -> None:
    catalogue = Catalogue()
    for number, value in enumerate((1e-30, 1e6)):
        catalogue.put(number, ItemContent(embeddings={"text": [value] * 3_072}))
    assert np.linalg.norm(catalogue.features[:2], axis=1) == pytest.approx(1, abs=1e-5)
    assert catalogue.features[0] == pytest.approx(catalogue.features[1], abs=1e-6)
