"""The table of users holds just what models and rules read of profiles, for whoever is in a slot."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.profiles import Attribute, Profile, digest_of
from recsys.state.user_attributes import WantedAttributes
from recsys.state.user_table import UserTable

WANTED = WantedAttributes(("country", "plan"), ("age",))
NORWEGIAN = Profile({"country": "no", "hat": "blue"}, {"age": 16.1, "plan": 2.0}, ["toys"])
Held = tuple[str | float | None, ...]


def held_of(users: UserTable, user_id: str) -> Held:
    """Return the attributes that rules read of a user, as `WantedAttributes.of` has them."""
    slot, profiles = users.slot(user_id), users.profiles
    assert slot is not None and profiles is not None and profiles.attributes is not None
    texts = [held.values[held.codes[slot]] if held.codes[slot] >= 0 else None for held in profiles.attributes.texts.values()]
    numbers = [None if np.isnan(values[slot]) else float(values[slot]) for values in profiles.attributes.numbers.values()]
    return (*texts, *numbers)


def table(*user_ids: str, capacity: int = 2) -> UserTable:
    users = UserTable(4, 4, capacity)
    users.load(dict.fromkeys(user_ids))
    return users


def read(users: UserTable, user_id: str, profile: Profile | None) -> None:
    """Hold a profile as a worker does that has read it."""
    slot = users.slot(user_id)
    assert slot is not None and users.profiles is not None
    users.profiles.put(slot, profile, digest_of(None if profile is None else repr(profile).encode()))
    users.profiles.note_read(np.array([slot]), 1.0)


def is_read(users: UserTable, user_id: str) -> bool:
    slot = users.slot(user_id)
    assert slot is not None and users.profiles is not None
    return not users.profiles.stale(np.array([slot]), 1.0)[0]


def test_nothing_is_held_until_something_reads_it_and_nothing_after() -> None:
    users = table("a")
    users.hold_attributes(WantedAttributes())
    assert users.profiles is None
    users.hold_attributes(WANTED)
    read(users, "a", NORWEGIAN)
    profiles = users.profiles
    assert held_of(users, "a") == WANTED.of(NORWEGIAN) == ("no", None, 16.1), "numbers are exact"
    assert profiles is not None and not profiles.columns.keys.any(), "no model reads the columns"
    users.hold_attributes(WantedAttributes())
    assert users.profiles is None


def test_models_and_rules_come_and_go_by_themselves() -> None:
    users, key = table("a"), Attribute("categorical", "country", "no").key
    users.hold_profiles()
    read(users, "a", NORWEGIAN)
    assert users.profiles is not None and users.profiles.attributes is None
    users.hold_attributes(WANTED)
    assert not is_read(users, "a") and held_of(users, "a") == (None, None, None), "the profile is to be read again, for the rules"
    read(users, "a", NORWEGIAN)
    users.hold_attributes(WANTED)
    assert is_read(users, "a"), "the same rules again change nothing"
    assert held_of(users, "a") == ("no", None, 16.1) and key in users.profiles.columns.keys
    users.drop_profiles()
    assert users.profiles is not None and not is_read(users, "a") and held_of(users, "a") == (None, None, None)
    read(users, "a", NORWEGIAN)
    assert held_of(users, "a") == ("no", None, 16.1) and key not in users.profiles.columns.keys
    users.hold_profiles()
    assert not is_read(users, "a"), "the profile is to be read again, for the model"
    users.drop_profiles()
    users.hold_attributes(WantedAttributes())
    assert users.profiles is None


def test_a_slot_that_gets_another_user_forgets_the_one_before() -> None:
    users = table("a", capacity=1)
    users.hold_attributes(WANTED)
    read(users, "a", NORWEGIAN)
    users.forget(["a"])
    users.load({"b": None})
    assert held_of(users, "b") == (None, None, None) and not is_read(users, "b")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 8),
            st.one_of(
                st.none(),
                st.builds(
                    Profile,
                    st.dictionaries(st.sampled_from(["country", "plan"]), st.sampled_from(["", "no", "NO", "\0"])),
                    st.dictionaries(st.sampled_from(["age", "plan"]), st.floats(-9, 9)),
                    st.just(()),
                ),
            ),
        ),
        max_size=30,
    )
)
def test_each_user_has_the_newest_profile_that_was_read_however_the_table_grows(reads: list[tuple[int, Profile | None]]) -> None:
    users, expected = table(capacity=1), dict[str, Held]()
    users.hold_attributes(WANTED)
    for number, profile in reads:
        users.load({f"u{number}": None} if f"u{number}" not in users else {})
        read(users, f"u{number}", profile)
        expected[f"u{number}"] = WANTED.of(profile)
    assert {user_id: held_of(users, user_id) for user_id in expected} == expected
