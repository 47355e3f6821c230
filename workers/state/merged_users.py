"""Says whose history counts for whom, from what records of the users topic say (ADR 22).

An id that has ended goes on as the one at the end of its chain of records. A chain that is a circle, ends in one, or is longer than
MOST_HOPS counts for nothing: its ids keep their own lists. Histories are joined when they are read and never moved, so that each row is
what the events of its own id make of it, whatever was merged, when, and in what order records were read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.state.joined_histories import hold_joined
from recsys.state.user_rows import unpack_rows
from recsys.state.user_table import UserTable
from workers.settings import Settings
from workers.state.port import StateStore
from workers.state.touch_policy import kept_types, touch_policy
from workers.state.users_topic import MOST_SOURCES, NO_STANDING, Standing

MOST_HOPS = 32
"""Records in a chain from an id to the one that it goes on as."""
MOST_PARTS = MOST_SOURCES
"""Ids whose histories count for one account: those next to it first, and of these those of the newest records."""

Owner = tuple[int, str]
"""Events partition and user id."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Says what merges mean for one user: the user who goes on in their place, None if nobody does; whom they went on as before; and the
    users whose histories count for them, the ones that count most first."""

    goes_on_as: Owner | None = None
    before: Owner | None = None
    parts: tuple[Owner, ...] = ()


NOT_MERGED = Merged()


class MergeReader:
    """Reads what merges mean for users. `partition_of` says in which events partition an id lies."""

    def __init__(self, store: StateStore, partition_of: Callable[[str], int]) -> None:
        self._store, self._partition_of = store, partition_of

    async def read(self, users: Sequence[Owner]) -> dict[Owner, Merged]:
        """Return those of these users for whom merges mean anything, in two round trips unless ids were merged in chains. Raises
        Transient."""
        known: dict[Owner, Standing] = {}
        await self._learn(known, users)
        concerned = [user for user in users if known[user] is not NO_STANDING]
        if not concerned:
            return {}
        await self._follow_chains(known, concerned)
        going_on = [user for user in concerned if not known[user].merged_into]
        parts = await self._parts(known, going_on)
        found = {}
        for user in concerned:
            before = known[user].before
            merged = Merged(self._end(known, user), self._owner(before) if before else None, parts.get(user, ()))
            if merged != NOT_MERGED:
                found[user] = merged
        return found

    def _owner(self, user_id: str) -> Owner:
        return self._partition_of(user_id), user_id

    async def _learn(self, known: dict[Owner, Standing], users: Iterable[Owner]) -> None:
        """Read the standings of users that are not known yet."""
        missing: dict[int, list[str]] = {}
        for user in users:
            if user not in known:
                known[user] = NO_STANDING
                missing.setdefault(user[0], []).append(user[1])
        if missing:
            for partition, standings in (await self._store.read_standings(missing)).items():
                known.update(((partition, u), s) for u, s in zip(missing[partition], standings, strict=True) if s is not NO_STANDING)

    async def _follow_chains(self, known: dict[Owner, Standing], users: Sequence[Owner]) -> None:
        """Learn the standings of all ids that these users go on as."""
        for _ in range(MOST_HOPS):
            users = [self._owner(target) for user in dict.fromkeys(users) if (target := known[user].merged_into)]
            if not users:
                return
            await self._learn(known, users)

    def _end(self, known: dict[Owner, Standing], user: Owner) -> Owner | None:
        """Return the last id of a user's chain; None for one that nobody goes on for, or whose chain has no end."""
        at, seen = user, {user}
        for _ in range(MOST_HOPS):
            if not known[at].merged_into:
                return None if at == user else at
            at = self._owner(known[at].merged_into)
            if at in seen:
                return None
            seen.add(at)
        return None if known[at].merged_into else at

    async def _parts(self, known: dict[Owner, Standing], users: Sequence[Owner]) -> dict[Owner, tuple[Owner, ...]]:
        """Return the users whose chains end at each of these, nearest first."""
        parts: dict[Owner, list[Owner]] = {user: [] for user in users if known[user].sources}
        level = {user: [user] for user in parts}
        for _ in range(MOST_HOPS):
            named = {user: [(self._owner(id_), last) for last in lasts for id_ in known[last].sources] for user, lasts in level.items()}
            named = {user: found for user, found in named.items() if found}
            if not named:
                break
            await self._learn(known, (source for found in named.values() for source, _ in found))
            level = {}
            for user, found in named.items():
                joined = [source for source, last in found if known[source].merged_into == last[1]]
                room = MOST_PARTS - len(parts[user])
                parts[user] += joined[:room]
                level[user] = joined[:room]
        return {user: tuple(found) for user, found in parts.items() if found}


def joining_table(settings: Settings) -> UserTable:
    """Return an empty table to join a few histories in, by these settings."""
    state = settings.state
    return UserTable(state.history_length, state.seen_length, 4, kept_types=kept_types(touch_policy(settings), settings.weights))


async def joined_rows(
    store: StateStore, users: Sequence[tuple[Owner, bytes | None]], merged: dict[Owner, Merged], table: UserTable
) -> dict[Owner, bytes]:
    """Return the rows, as the state would hold them, of the joined histories of these users, given with their own rows; none of those whose
    history is not joined with any. `table` is used to join them."""
    found = {}
    for user, own in users:
        parts = merged.get(user, NOT_MERGED).parts
        stored = [(await store.read_users(partition, [user_id]))[0] for partition, user_id in reversed(parts)]
        rows = [row for row in stored if row is not None]
        if not rows:
            continue
        table.load({"own": own})
        slot = table.slot("own")
        hold_joined(table, ["joined"], np.array([slot], np.int64), unpack_rows(rows, table.history_length), np.zeros(len(rows), np.int64))
        joined = table.slot("joined")
        assert joined is not None
        found[user] = table.pack([joined])[0]
    return found
