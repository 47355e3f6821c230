"""Finds users whose list a new profile can change, so that it is made again without an event (ADR 16).

Shapes: U users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.models.segments.model import SegmentsModel
from recsys.state.profiles import Profile, ProfileColumns
from recsys.state.user_attributes import WantedAttributes
from schemas.profiles import UserProfile
from workers.lists.profile_content import attributes_of, stored_attributes
from workers.state.merged_users import Owner
from workers.stream.serving_state import ServingState


@dataclass(frozen=True, slots=True)
class ProfileChanges:
    """Compares profiles with those that the state holds, by what the serving model of segments and the rules in use read of them."""

    state: ServingState

    async def changing_lists(self, profiles: Mapping[Owner, UserProfile | None]) -> set[Owner]:
        """Return those of these users, given with their new profiles (None: removed), who have a history and whose list the change can
        change; nobody without `lists.renewed_profiles` or where neither a model nor rules read profiles.

        Call this before the profiles are stored. Raises Transient.
        """
        engine = self.state.engine
        serving, rules = engine.models.get(SegmentsModel.kind), engine.rules
        model = None if serving is None or not isinstance(serving.model, SegmentsModel) else serving.model
        wanted = WantedAttributes() if rules is None else rules.of_profiles
        if not profiles or not self.state.settings.lists.renewed_profiles or (model is None and not wanted):
            return set()
        users = list(profiles)
        before = await self._stored(users)
        now = [None if (profile := profiles[user]) is None else attributes_of(profile) for user in users]
        changed = np.array([wanted.of(old) != wanted.of(new) for old, new in zip(before, now, strict=True)], np.bool_)
        if model is not None:
            vectors = model.encode_profiles(ProfileColumns.of([*before, *now]))  # (2 U, D)
            changed |= (vectors[: len(users)] != vectors[len(users) :]).any(axis=1)
        return await self._with_history([users[at] for at in np.flatnonzero(changed).tolist()])

    async def _stored(self, users: Sequence[Owner]) -> list[Profile | None]:
        """Return the stored profiles of users; None of one without any, or that something else wrote."""
        found: dict[Owner, Profile] = {}
        for partition, user_ids in _by_partition(users).items():
            for user_id, stored in zip(user_ids, await self.state.store.read_profiles(partition, user_ids), strict=True):
                profile = stored_attributes(stored, user_id)
                if profile is not None:
                    found[partition, user_id] = profile
        return [found.get(user) for user in users]

    async def _with_history(self, users: Sequence[Owner]) -> set[Owner]:
        by_partition = _by_partition(users)
        rows = await self.state.store.read_users_of(by_partition) if users else {}
        return {(p, u) for p, user_ids in by_partition.items() for u, row in zip(user_ids, rows[p], strict=True) if row is not None}


def _by_partition(users: Sequence[Owner]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for partition, user_id in users:
        found.setdefault(partition, []).append(user_id)
    return found
