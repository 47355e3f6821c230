"""Reads of some users what a list is made from: rows, merged histories, what was shown, preferred categories. At once, for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.decoding import decode_profile
from schemas.errors import Poison
from workers.kafka.partitioner import partition_for
from workers.lists.encoding import ListHead
from workers.settings import Settings
from workers.state.merged_users import MergeReader, Owner, joined_rows, joining_table
from workers.stream.serving_state import ServingState, last_applied

NO_USER = "session"
"""User id in records of lists that are made for no user."""


@dataclass(frozen=True, slots=True)
class UserRows:
    """By place of the request: packed row, packed row of shown items, head of the list, preferred categories, and whether anything is known
    of the user."""

    rows: list[bytes | None]
    shown: list[bytes | None]
    heads: list[ListHead]
    preferred: list[Sequence[str]]
    is_known: list[bool]


async def read_user_rows(settings: Settings, state: ServingState, owners: Sequence[Owner | None]) -> UserRows:
    """Return the rows of users; None stands for nobody. Raises Transient."""
    store, users = state.store, list(dict.fromkeys(owner for owner in owners if owner is not None))
    by_partition: dict[int, list[str]] = {}
    for partition, user_id in users:
        by_partition.setdefault(partition, []).append(user_id)
    has_shown = state.engine.users.shown is not None
    merges = MergeReader(store, lambda other: partition_for(other.encode(), settings.topics.partitions))
    places = list(by_partition.items())
    read, profiles, shown, merged = await asyncio.gather(
        asyncio.gather(*(store.read_users_at(partition, ids) for partition, ids in places)),
        asyncio.gather(*(store.read_profiles(partition, ids) for partition, ids in places)),
        asyncio.gather(*(store.read_shown_at(partition, ids) for partition, ids in places if has_shown)),
        merges.read(users),
    )
    rows: dict[Owner, bytes | None] = {}
    of_profile: dict[Owner, bytes | None] = {}
    of_shown: dict[Owner, bytes | None] = {}
    applied = {partition: last_applied(mark) for (partition, _), (mark, _) in zip(places, read, strict=True)}
    for at, (partition, ids) in enumerate(places):
        owned = [(partition, user_id) for user_id in ids]
        rows |= dict(zip(owned, read[at][1], strict=True))
        of_profile |= dict(zip(owned, profiles[at], strict=True))
        if has_shown:
            of_shown |= dict(zip(owned, shown[at][1], strict=True))
    for ended in [user for user, found in merged.items() if found.goes_on_as is not None]:  # whose history counts for another id
        rows[ended] = of_profile[ended] = of_shown[ended] = None
    if merged:
        rows |= await joined_rows(store, [(user, rows[user]) for user in users], merged, joining_table(settings))
    heads = [
        ListHead.of_state(NO_USER, 0, 0) if owner is None else ListHead.of_state(owner[1], owner[0], applied[owner[0]])
        for owner in owners
    ]
    own_rows = [None if owner is None else rows[owner] for owner in owners]
    own_profiles = [None if owner is None else of_profile[owner] for owner in owners]
    return UserRows(
        own_rows,
        [None if owner is None else of_shown.get(owner) for owner in owners],
        heads,
        [
            () if owner is None or profile is None or row is not None else _preferred(profile, owner[1])
            for owner, profile, row in zip(owners, own_profiles, own_rows, strict=True)
        ],
        [row is not None or profile is not None for row, profile in zip(own_rows, own_profiles, strict=True)],
    )


def _preferred(stored: bytes, user_id: str) -> Sequence[str]:
    """Return the categories that a stored profile names."""
    try:
        profile = decode_profile(stored, user_id.encode())
    except Poison:
        return ()
    return () if profile is None else tuple(profile.preferred_categories)
