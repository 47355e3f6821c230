"""The oracle of what is bought together: users' windows by a plain fold, and counts by looking at all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from recsys.state.bought import BUYERS_ROW, USERS, bought_row
from recsys.state.item_row import parse_row
from workers.settings import Settings
from workers.state.port import RowAddress, StateStore

if TYPE_CHECKING:
    from tests.fold import Fact, Owner, State


def buy(state: State, owner: Owner, fact: Fact, units: int, settings: Settings) -> None:
    """Take in an event that counts."""
    related = settings.related
    if related.bought_together and units > 0 and fact.type in related.event_types:
        window = state.windows.setdefault(owner, [])
        if fact.item_id in window:
            window.remove(fact.item_id)
        window.append(fact.item_id)
        del window[: -related.items_per_user]


def count_windows(state: State) -> None:
    """Count the users of each pair of items, and of each item."""
    windows = [*state.windows.values(), *state.left_windows]
    state.bought, state.buyers = {}, {"": len(windows)} if windows else {}
    for window in windows:
        for item, other in permutations(window, 2):
            sums = state.bought.setdefault(item, {})
            sums[other] = sums.get(other, 0) + 1
        for item in window:
            state.buyers[item] = state.buyers.get(item, 0) + 1


async def read_bought(store: StateStore, settings: Settings, found: State, names: Sequence[str]) -> None:
    """Read windows and counts from a store. Counts below 0 are counts that no event can make."""
    owners = list(found.histories)
    for partition in range(settings.topics.partitions):
        users = [user_id for of, user_id in owners if of == partition]
        for user_id, packed in zip(users, (await store.read_bought_of({partition: users}))[partition], strict=True):
            if packed is not None:
                found.windows[partition, user_id] = [names[number] for number in np.frombuffer(packed, "<u4").tolist()]
    groups = settings.state.item_groups
    for number, name in enumerate(names):
        if sums := await _counts(store, (number % groups, bought_row(number))):
            found.bought[name] = {names[other]: count for other, count in sums.items()}
    for group in range(groups):
        for number, count in (await _counts(store, (group, BUYERS_ROW))).items():
            assert number == USERS or number % groups == group
            name = "" if number == USERS else names[number]
            found.buyers[name] = found.buyers.get(name, 0) + count


async def _counts(store: StateStore, address: RowAddress) -> dict[int, int]:
    (packed,) = await store.read_rows([address])
    sums: dict[int, int] = {}
    if packed is not None:
        row = parse_row(packed)
        for neighbour, amount in zip(row.neighbours.tolist(), row.weights.tolist(), strict=True):
            sums[neighbour] = sums.get(neighbour, 0) + (amount - 2**32 if amount >= 2**31 else amount)
    return {neighbour: count for neighbour, count in sums.items() if count}
