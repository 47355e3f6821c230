"""From the record of a profile to what segments and rules read of it."""

from __future__ import annotations

from recsys.state.profiles import Profile
from schemas.decoding import decode_profile
from schemas.errors import Poison
from schemas.profiles import UserProfile


def attributes_of(profile: UserProfile) -> Profile:
    """Return the attributes that an engine holds of a user."""
    return Profile(profile.categorical_attributes, profile.numeric_attributes, profile.preferred_categories)


def stored_attributes(stored: bytes | None, user_id: str) -> Profile | None:
    """Return the attributes in a stored profile; None if there is none, or something else wrote it and it cannot be read."""
    if not stored:
        return None
    try:
        profile = decode_profile(stored, user_id.encode())
    except Poison:
        return None
    return None if profile is None else attributes_of(profile)
