"""The profiles of the log's users, as a training process reads them from a file of the users topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.models.descriptions import UserProfiles
from recsys.state.profiles import MAX_ATTRIBUTES, Attribute, ProfileColumns
from schemas import Poison
from schemas.decoding import decode_profile
from workers.lists.profile_content import attributes_of
from workers.trainer.topic_file import read_entries

MAX_DISTINCT = 200_000
"""Values of attributes that are known apart. Of an attribute with more, such as a name, values that come later are left out: too few users
share one to make a segment."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """Attributes of U users by number, and what the keys stand for."""

    columns: ProfileColumns
    attributes: dict[int, Attribute]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Return which users have an attribute, (U,)."""
        found: NDArray[np.bool_] = self.columns.keys[:, 0] != 0
        return found

    def of_users(self) -> UserProfiles:
        """Return them as models read them."""
        return UserProfiles(self.columns, self.attributes)


def read_profiles(path: Path, user_ids: Sequence[str]) -> Profiles:
    """Return the newest profile of each of these users. Records that cannot be read, and those of other users, are left out."""
    number = {user_id.encode(): place for place, user_id in enumerate(user_ids)}
    shape = len(user_ids), MAX_ATTRIBUTES
    columns = ProfileColumns(np.zeros(shape, np.uint64, "F"), np.zeros(shape, np.float32, "F"))  # by column: those not used cost no memory
    attributes: dict[int, Attribute] = {}
    for key, value in read_entries(path):
        if (user := number.get(key)) is None:
            continue
        try:
            profile = decode_profile(value or None, key)
        except Poison:
            continue
        given = [] if profile is None else attributes_of(profile).attributes()
        kept = [one for one in given if one[0].key in attributes or len(attributes) < MAX_DISTINCT]
        attributes.update((attribute.key, attribute) for attribute, _ in kept)
        columns.put(user, kept)
    width = max(int((columns.keys != 0).any(axis=0).sum()), 1)
    narrow = ProfileColumns(np.ascontiguousarray(columns.keys[:, :width]), np.ascontiguousarray(columns.values[:, :width]))
    return Profiles(narrow, attributes)
