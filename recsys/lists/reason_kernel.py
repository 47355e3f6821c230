"""Finds what carried each listed item, compiled.

Shapes: G parts of a score, U users, K places, C slots and H columns of histories, R recent ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.lists.reason_kinds import KINDS

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
Bools = NDArray[np.bool_]

OWN, SEQUENCE, PEOPLE, AGAIN, PROFILE, NEW, POPULAR, N_GROUPS = range(8)
"""Groups of parts: those that follow from own items, or from preferred categories where there are none; sequences, which are own items'
where some are named, else people's; and the rest."""
_BECAUSE, _PEOPLE, _BOUGHT, _AGAIN, _PROFILE, _NEW, _POPULAR = range(1, len(KINDS) + 1)
_KINDS = np.array([_BECAUSE, 0, _PEOPLE, _AGAIN, _PROFILE, _NEW, _POPULAR], np.uint8)


class Carried(NamedTuple):
    """Holds, of listed items, `parts` of their scores and `raw` scores, (G, U, K); what each part gave to the average candidate of
    the user, `reference` (G, U); the `groups` (G,) of the parts, −1 for none; and which part is that of `cooccurrence`, −1 for none."""

    parts: F32
    raw: F32
    reference: F32
    groups: I64
    cooccurrence: int


class Own(NamedTuple):
    """Users' own items: `because` (U, K, 2), −1 for none; histories (C, H) with their types, of which the last R columns are read, for the
    `slots` (U,); which types are `bought` (256,); and who `preferred` (U,) categories without having a history."""

    because: I64
    histories: U32
    types: U8
    n_recent: int
    slots: I64
    bought: Bools
    preferred: Bools


@compiled
def choose(carried: Carried, own: Own, items: I64, kinds: U8) -> None:
    """Write the code of what carried each of `items` (U, K), −1 for none, into `kinds` (U, K): of the groups of parts the one by which the
    item stands furthest above the reference. A part whose source has no opinion of the item does not count; 0 where none does."""
    above = np.empty(N_GROUPS, np.float32)
    has = np.empty(N_GROUPS, np.bool_)
    for user in range(len(items)):
        for k in range(items.shape[1]):
            kinds[user, k] = 0
            if items[user, k] < 0:
                continue
            for group in range(N_GROUPS):
                above[group], has[group] = 0, False
            is_named = own.because[user, k, 0] >= 0
            by_cooccurrence, by_others = np.float32(0), np.float32(0)
            for part in range(len(carried.groups)):
                group = carried.groups[part]
                if group < 0 or carried.raw[part, user, k] <= 0:
                    continue
                if group == SEQUENCE:
                    group = OWN if is_named else PEOPLE
                elif group == OWN and not is_named:
                    if not own.preferred[user]:
                        continue
                    group = PROFILE
                added = carried.parts[part, user, k] - carried.reference[part, user]
                above[group] += added
                has[group] = True
                if part == carried.cooccurrence:
                    by_cooccurrence = added
                elif group == OWN:
                    by_others = max(by_others, added)
            best = -1
            for group in range(N_GROUPS):
                if has[group] and (best < 0 or above[group] > above[best]):
                    best = group
            if best < 0:
                continue
            kinds[user, k] = _KINDS[best]
            if best == OWN and by_cooccurrence > by_others and _is_bought(own, user, own.because[user, k, 0]):
                kinds[user, k] = _BOUGHT


@compiled
def _is_bought(own: Own, user: int, item: int) -> bool:
    """Return whether the type of the entry of one of the user's recent items is one of those that are bought."""
    slot, n_columns = own.slots[user], own.histories.shape[1]
    for column in range(n_columns - 1, max(n_columns - own.n_recent, 0) - 1, -1):
        if own.histories[slot, column] == item:
            return bool(own.bought[own.types[slot, column]])
    return False
