"""Joins the histories of several ids of one person into one, by the rules of touches (ADR 10).

The entries of an item become one entry, as if each were an event at its last touch, the oldest first: the newest sign counts, and within
one sign the strongest weight, of two equal ones the newer. Touches are added up, the first touch is the earliest. Of all entries those that
were touched last stay, as many as a history holds; the others are remembered as older items, like those of the parts.

Shapes: U users, R rows of other ids, n entries, H columns of a user table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.state.touch_kernel import MOST_TOUCHES
from recsys.state.user_columns import Columns
from recsys.state.user_rows import Unpacked
from recsys.state.user_table import UserTable, remember, used_columns

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]


def hold_joined(table: UserTable, keys: Sequence[str], own: I64, parts: Unpacked, owners: I64) -> None:
    """Hold under `keys` (U,) the histories of users in the slots `own` (U,), each joined with the rows `parts` (R,) of `owners` (R,): the
    number of the user that each row belongs to, ascending; of one user the row that counts first comes first.

    Where touches are of the same second, rows count in their order, and the user's own history last. What was shown counts for the user's
    own id only.
    """
    entries, of = _entries(table, own, parts, owners)
    joined, of = join(entries, of)
    excess = np.maximum(np.bincount(of, minlength=len(keys)) - table.history_length, 0)
    places = np.arange(len(of)) - np.searchsorted(of, of)
    stays = places >= excess[of]
    table.load(dict.fromkeys(keys), None if table.shown is None else table.shown.pack(own))
    slots = np.array([table.slot(key) for key in keys], np.int64)
    lengths = np.bincount(of[stays], minlength=len(keys))
    columns = table.history_length - lengths[of] + places - excess[of]
    for held, column in zip(table.histories.columns.arrays, joined.arrays, strict=True):
        held[slots[of[stays]], columns[stays]] = column[stays]
    table.lengths[slots], table.spent[slots] = lengths, table.spent[own]
    _remember_older(table, slots, own, parts, owners, (joined.items[~stays], joined.types[~stays], of[~stays]))


def join(entries: Columns, owners: I64) -> tuple[Columns, I64]:
    """Return one entry for each item of each owner, owner after owner and oldest touch first, and the owners of these.

    `entries` (n,) and `owners` (n,) are in any order; what comes later counts later where touches are of the same second.
    """
    order = np.lexsort((entries.times_s, entries.items, owners))  # stable
    items, times_s, first_s, weights, types, counts, visits = (column[order] for column in entries)
    of = owners[order]
    if not len(order):
        return entries, owners
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (items[1:] != items[:-1]) | (of[1:] != of[:-1])
    starts = np.flatnonzero(is_first)
    lasts = np.append(starts[1:], len(order)) - 1
    turns = is_first.copy()
    turns[1:] |= (weights[1:] > 0) != (weights[:-1] > 0)
    run = np.cumsum(turns)
    counts_now = run == np.repeat(run[lasts], np.diff(np.append(starts, len(order))))  # of the newest sign
    strength = np.where(counts_now, np.abs(weights.astype(np.int64)) + 1, 0) * len(order) + np.arange(len(order))
    strongest = np.maximum.reduceat(strength, starts) % len(order)
    touches = np.minimum(np.add.reduceat(counts.astype(np.int64), starts), MOST_TOUCHES).astype(np.uint8)
    joined = Columns(
        items[lasts],
        times_s[lasts],
        np.minimum.reduceat(first_s, starts),
        weights[strongest],
        types[strongest],
        touches,
        visits[lasts],
    )
    by_time = np.lexsort((order[lasts], joined.times_s, of[lasts]))
    return Columns(*(column[by_time] for column in joined.arrays)), of[lasts][by_time]


def _entries(table: UserTable, own: I64, parts: Unpacked, owners: I64) -> tuple[Columns, I64]:
    """Return all entries of the parts, row after row, and then those of the users themselves; and whose they are, (n,)."""
    of_parts = used_columns(parts.lengths.astype(np.int32), parts.columns.items.shape[1])
    of_users = used_columns(table.lengths[own], table.history_length)
    columns = zip(parts.columns.arrays, table.histories.columns.arrays, strict=True)
    entries = Columns(*(np.concatenate((part[of_parts], held[own][of_users])) for part, held in columns))
    return entries, np.concatenate((np.repeat(owners, parts.lengths), np.repeat(np.arange(len(own)), table.lengths[own])))


def _remember_older(table: UserTable, slots: I64, own: I64, parts: Unpacked, owners: I64, left: tuple[U32, NDArray[np.uint8], I64]) -> None:
    """Remember the older items of the parts, then of the users, then what left the joined histories: items, types and owners."""
    items, types, of = left
    is_kept = (table.kept_types >> types.astype(np.int64)) & 1 == 1
    items, of = items[is_kept], of[is_kept]
    older: dict[int, list[U32]] = {}
    for row, found in parts.older.items():
        older.setdefault(int(owners[row]), []).append(found)
    for user in {*older, *of.tolist(), *np.flatnonzero([len(table.older[slot]) for slot in own.tolist()]).tolist()}:
        held = [*older.get(user, []), table.older[own[user]]]
        table.older[slots[user]] = remember(np.concatenate(held), items[of == user], table.seen_length)
