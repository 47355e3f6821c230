"""What merges mean, in plain Python: the specification of joined histories and of who goes on as whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from recsys.state.user_table import unpack_row
from tests.fold import Entry, Owner, State, is_kept
from workers.kafka.partitioner import partition_for
from workers.settings import Settings
from workers.state.merged_users import NOT_MERGED, MergeReader, joined_rows, joining_table
from workers.state.port import StateStore

Merges = Mapping[str, tuple[str, int]]
"""Id that has ended ▸ the id that its newest record names, and the time of that record."""


def end_of(user_id: str, merges: Merges, most: int = 32) -> str:
    """Return the id that goes on for another one: itself where its chain has no end."""
    chain = [user_id]
    while chain[-1] in merges:
        target = merges[chain[-1]][0]
        if target in chain or len(chain) > most:
            return user_id
        chain.append(target)
    return chain[-1]


def parts_of(user_id: str, merges: Merges) -> list[str]:
    """Return the ids whose histories count for one that has not ended, nearest first; of those equally near, newest records first."""
    if user_id in merges:
        return []
    found, level = list[str](), [user_id]
    while level:
        level = [
            source
            for last in level
            for source in sorted((s for s, (target, _) in merges.items() if target == last), key=lambda s: (-merges[s][1], s))
        ]
        found += [source for source in level if end_of(source, merges) == user_id]
    return found


def joined(parts: Sequence[tuple[Sequence[Entry], Sequence[str]]], settings: Settings) -> tuple[list[Entry], list[str]]:
    """Return the entries, oldest touch first, and the older items of histories (entries and older items of each), the one that counts least
    first."""
    history: list[Entry] = []
    for touch in sorted((touch for entries, _ in parts for touch in entries), key=lambda touch: touch.last_s):
        held = next((entry for entry in history if entry.item_id == touch.item_id), None)
        new = replace(touch)
        if held is not None:
            history.remove(held)
            new.touches, new.first_s = min(held.touches + touch.touches, 255), min(held.first_s, touch.first_s)
            if (held.units > 0) == (touch.units > 0) and abs(held.units) > abs(touch.units):
                new.units, new.type = held.units, held.type
        history.append(new)
    older: list[str] = []
    for _, own in parts:
        older += own
    excess = max(0, len(history) - settings.state.history_length)
    older += [entry.item_id for entry in history[:excess] if is_kept(entry.type, settings)]
    remembered: list[str] = []
    for item_id in reversed(older):
        if item_id not in remembered:
            remembered.append(item_id)
    return history[excess:], remembered[: settings.state.seen_length][::-1]


def effective(state: State, merges: Merges, user_id: str, settings: Settings) -> tuple[list[Entry], list[str]]:
    """Return the history that a user's list is made of, and the older items."""

    def owner(some_id: str) -> Owner:
        return partition_for(some_id.encode(), settings.topics.partitions), some_id

    owners = [owner(part) for part in [*parts_of(user_id, merges)[:64][::-1], user_id]]
    return joined([(state.histories.get(at, []), state.older.get(at, [])) for at in owners], settings)


async def merge_differences(store: StateStore, settings: Settings, expected: State, merges: Merges, user_ids: Sequence[str]) -> list[str]:
    """Return how a store differs from plain Python: who goes on as whom, and the joined histories."""

    def owner(some_id: str) -> Owner:
        return partition_for(some_id.encode(), settings.topics.partitions), some_id

    users = [owner(user_id) for user_id in user_ids]
    found = await MergeReader(store, lambda some_id: owner(some_id)[0]).read(users)
    names, differences = await store.item_names(), list[str]()
    rows = [(user, (await store.read_users(user[0], [user[1]]))[0]) for user in users]
    joined = await joined_rows(store, rows, found, joining_table(settings))
    for user, own in rows:
        user_id, merged = user[1], found.get(user, NOT_MERGED)
        end, parts = end_of(user_id, merges), parts_of(user_id, merges)
        if merged.goes_on_as != (None if end == user_id else owner(end)) or [part for _, part in merged.parts] != parts:
            differences.append(f"{user_id} is merged as {merged} instead of into {end}, with {parts}")
        history, older = effective(expected, merges, user_id, settings)
        packed = joined.get(user, own)
        has: tuple[list[tuple[object, ...]], list[str]] = ([], [])
        if packed is not None:
            row = unpack_row(packed)
            facts = (row.columns.items, row.columns.times_s, row.columns.first_s, row.columns.weights, row.columns.counts)
            entries = [(names[number], *rest) for number, *rest in zip(*(fact.tolist() for fact in facts), strict=True)]
            has = (entries, [names[number] for number in row.older.tolist()])
        should = ([(e.item_id, e.last_s, e.first_s, e.units, e.touches) for e in history], older)
        if has != should:
            differences.append(f"{user_id}, with {parts}, has the history {has} instead of {should}"[:600])
    return differences
