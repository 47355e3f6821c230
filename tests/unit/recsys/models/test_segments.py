"""Segments are learnt from what people of a profile choose first; noise teaches nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ModelError, ShapeError, TooFewInteractions
from recsys.models.checks import check_model
from recsys.models.registry import load_model
from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.fit import fit
from recsys.models.segments.model import SegmentsModel
from recsys.models.segments.segment import Membership, Segment
from recsys.state.profiles import MAX_ATTRIBUTES, Attribute, Profile, ProfileColumns, ProfileTable, digest_of
from tests.unit.recsys.models.segment_cases import IDS, attributes_of, fitted, likes_of, people, probabilities


@pytest.fixture(scope="module")
def model() -> SegmentsModel:
    profiles = people()
    return fitted(profiles, likes_of(profiles))


def test_people_of_a_segment_are_expected_to_choose_what_their_like_chose(model: SegmentsModel) -> None:
    young, old = (Profile({"country": "no"}, {"age": age, "noise": 0.5}, ()) for age in (25.0, 55.0))
    by_user = probabilities(model, ProfileColumns.of([young, old]))
    at = {item: place for place, item in enumerate(model.item_ids)}
    of = [[at[f"i{number}"] for number in range(start, start + 10)] for start in (0, 10, 20, 30)]
    shares = np.array([[row[places].sum() for places in of] for row in by_user])
    assert (shares[:, 1] > 2 * shares[:, 0]).all(), "of their own country"
    assert shares[0, 2] > 2 * shares[0, 3] and shares[1, 3] > 2 * shares[1, 2], "of their own age"


def test_new_users_choices_are_likelier_by_their_profile_and_not_by_a_strangers(model: SegmentsModel) -> None:
    profiles = people(300, seed=7)
    likes, columns = likes_of(profiles, seed=8), ProfileColumns.of(profiles)
    known = columns.keys[likes.users, 0] != 0
    place = np.array([model.item_ids.index(item) for item in IDS])

    def likelihood(columns: ProfileColumns) -> float:
        return float(np.log(probabilities(model, columns)[likes.users[known], place[likes.items[known]]]).mean())

    strangers = np.random.default_rng(0).permutation(np.flatnonzero(columns.keys[:, 0]))
    rows = np.arange(300)
    rows[columns.keys[:, 0] != 0] = strangers
    own, other = likelihood(columns), likelihood(columns.at(rows))
    alone = float(np.log(np.exp(model.item_vectors[place, 0])[likes.items[known]] / np.exp(model.item_vectors[:, 0]).sum()).mean())
    assert own > alone + 0.1 > other + 0.1


def test_profiles_that_say_nothing_change_next_to_nothing() -> None:
    profiles = people()
    likes = likes_of(profiles)
    shuffled = [profiles[place] for place in np.random.default_rng(0).permutation(len(profiles))]
    by_user = probabilities(fitted(shuffled, likes), ProfileColumns.of(profiles[:50]))
    spread = np.log(by_user.max(axis=0) / by_user.min(axis=0))
    honest = probabilities(fitted(profiles, likes), ProfileColumns.of(profiles[:50]))
    known = np.array([profile is not None for profile in profiles[:50]])
    assert np.median(spread) < 0.3 * np.median(np.log(honest[known].max(axis=0) / honest[known].min(axis=0)))


def test_a_user_of_no_segment_has_a_zero_vector(model: SegmentsModel) -> None:
    unknown = [None, Profile({}, {}, ("toys",)), Profile({"country": "fr"}, {}, ())]
    assert not model.encode_profiles(ProfileColumns.of(unknown)).any()
    assert model.encode_profiles(ProfileColumns.of([Profile({"country": "no"}, {}, ())])).any()


def test_a_segment_has_the_probabilities_of_its_users(model: SegmentsModel) -> None:
    found = model.scores_of("country", "no")
    assert found is not None and found.sum() == pytest.approx(1.0, abs=1e-5)
    alone = probabilities(model, ProfileColumns.of([Profile({"country": "no"}, {}, ())]))[0]
    np.testing.assert_allclose(found, alone, atol=1e-6)
    by_age = model.scores_of("age", 25.0)
    assert by_age is not None and model.scores_of("age", "25") is None
    assert model.scores_of("country", "fr") is None and model.scores_of("nothing", 1.0) is None


def test_segments_are_few_and_of_many_users() -> None:
    profiles = people()
    likes = likes_of(profiles)
    assert len(fitted(profiles, likes, max_segments=3).segments) == 3
    n = {str(segment) for segment in fitted(profiles, likes, min_users=150).segments}
    assert n == {"country=de", "country=no"}
    with pytest.raises(TooFewInteractions, match="no attribute has a value that 400 users"):
        fitted(profiles, likes, min_users=400)
    few = people(60)
    with pytest.raises(TooFewInteractions, match="50 new users or more with a profile"):
        fitted(few, likes_of(few), min_users=5)


def test_the_same_log_gives_the_same_model(model: SegmentsModel) -> None:
    profiles = people()
    again = fitted(profiles, likes_of(profiles))
    assert again.segments == model.segments
    np.testing.assert_array_equal(again.item_vectors, model.item_vectors)


def test_a_stored_model_is_the_same_model(model: SegmentsModel) -> None:
    check_model(model)
    config = json.loads(json.dumps(model.config))
    loaded = load_model("segments", {**config, "of a newer version": 1}, model.item_ids, model.tensors())
    assert isinstance(loaded, SegmentsModel) and loaded.segments == model.segments
    columns = ProfileColumns.of(people(40, seed=3))
    np.testing.assert_array_equal(loaded.encode_profiles(columns), model.encode_profiles(columns))


DAMAGES: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "no list": (lambda segments: "all", "segments: it must be a list"),
    "a text": (lambda segments: ["x", *segments[1:]], "a segment is 'x'"),
    "kind": (lambda segments: [{**segments[0], "kind": "other"}, *segments[1:]], "it needs an object with a kind"),
    "name": (lambda segments: [{**segments[0], "name": 7}, *segments[1:]], "name or value of a segment"),
    "long": (lambda segments: [{**segments[0], "value": "x" * 257}, *segments[1:]], "at most 256 characters"),
    "end": (lambda segments: [{**segments[0], "low": float("nan")}, *segments[1:]], "low of a segment"),
    "range": (lambda segments: [{**segments[0], "low": 2, "high": 1}, *segments[1:]], "holds no number"),
    "twice": (lambda segments: [segments[1], *segments[1:]], "two segments are the same"),
    "one more": (lambda segments: [*segments, {"kind": "preferred", "name": "", "value": "x"}], "expected"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused_with_the_part_that_is(damage: str, model: SegmentsModel) -> None:
    change, message = DAMAGES[damage]
    config = {**model.config, "segments": change(list(model.config["segments"]))}
    with pytest.raises((ModelError, ShapeError), match=message):
        load_model("segments", config, model.item_ids, model.tensors())


def test_an_option_out_of_its_bounds_is_refused() -> None:
    with pytest.raises(ModelError, match="segments option min_users: got 0"):
        SegmentsConfig(min_users=0)


@given(numbers=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30), edge=st.floats(-1e6, 1e6, width=32))
def test_a_number_is_in_the_range_that_holds_it(numbers: list[float], edge: float) -> None:
    attribute = Attribute("numeric", "age", "")
    segments = [Segment(attribute, high=edge), Segment(Attribute("categorical", "age", "")), Segment(attribute, low=edge)]
    out = np.zeros((len(numbers), 3), np.float32)
    Membership(segments).mark(ProfileColumns.of([Profile({}, {"age": number}, ()) for number in numbers]), out)
    below, _, above = segments
    assert out.tolist() == [[float(below.holds("age", number)), 0.0, float(above.holds("age", number))] for number in numbers]


def test_a_slot_that_gets_another_user_forgets_the_first() -> None:
    table, profile = ProfileTable(2), Profile({"a": "b"}, {"n": 1.0}, ("c",))
    table.put(1, profile, digest_of(b"x"))
    table.note_read(np.array([1]), 5.0)
    table.grow(4)
    assert len(table) == 4 and not table.stale(np.array([1]), 5.0).any() and table.stale(np.array([1, 3]), 6.0).all()
    np.testing.assert_array_equal(table.columns.keys[1], ProfileColumns.of([profile]).keys[0])
    table.clear(np.array([1, 2]))
    assert not table.columns.keys.any() and table.stale(np.array([1]), -1e300).all()


def test_attributes_beyond_the_bound_are_left_out_in_a_fixed_order() -> None:
    wide = Profile({f"a{number:02}": "x" for number in range(40)}, {"n": 1.0}, ("c",))
    held = wide.attributes()
    assert len(held) == MAX_ATTRIBUTES and held[0][0].name == "a00" and {one.kind for one, _ in held} == {"categorical"}
    assert replace(wide, categorical={}).attributes()[0][0] == ("numeric", "n", "")
    assert Attribute("categorical", "a", "b").key != Attribute("preferred", "a", "b").key != 0


def test_a_training_may_be_ended_early() -> None:
    profiles = people()
    likes = likes_of(profiles)
    columns, attributes = ProfileColumns.of(profiles), attributes_of(profiles)
    assert fit(likes, columns, attributes, IDS, SegmentsConfig(), lambda done, message: False).segments
