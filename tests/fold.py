"""The oracle: a plain Python fold over the log. It is slow, uses no arrays, and is short enough to read as the definition of the state.

It shares only constants and the hash of an event id with the code under test. Items have their own ids, because numbers depend on the order
of arrival. Offsets are positions in a partition's list; a position that holds None is a record that could not be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from kafka.partitioner.default import murmur2

from recsys.engine import PAIR_WEIGHTS
from recsys.state.duplicates import event_hash
from recsys.state.half_lives import NAMED_HALF_LIVES_S
from recsys.state.item_row import parse_row
from recsys.state.row_names import RowId
from recsys.state.shown import unpack_shown
from recsys.state.user_table import WEIGHT_UNITS, unpack_row
from schemas.events import EVENT_TYPES
from tests.bought_fold import buy, count_windows, read_bought
from workers.settings import Settings
from workers.state.port import RowAddress, StateStore

Owner = tuple[int, str]
"""Partition and user id."""


@dataclass(frozen=True)
class Fact:
    """One readable event of the log."""

    user_id: str
    item_id: str
    event_id: str
    type: str
    value: float | None
    event_ts_ms: int


    @property
    def erases(self) -> bool:
        """Return whether the record erases its user, and is no event."""
        return self.type == "erase"


Log = Mapping[int, Sequence[Fact | None]]


@dataclass
class Entry:
    """What a user did with one item. `visits` are sessions counted in the epoch of the last touch."""

    item_id: str
    last_s: int
    first_s: int
    units: int
    type: str
    touches: int
    visits: int


@dataclass
class ShownEntry:
    """How often an item was shown since it was last chosen, when last, and when it was last chosen; 0: never."""

    item_id: str
    count: int
    shown_s: int
    chosen_s: int

    @property
    def newest_s(self) -> int:
        return max(self.shown_s, self.chosen_s)


@dataclass
class State:
    """The state after a log. Weights of histories are in units of 1/32, all sums in units of 1/64."""

    watermarks: dict[int, int] = field(default_factory=dict)
    histories: dict[Owner, list[Entry]] = field(default_factory=dict)
    """One entry per item, in order of the last touch."""
    spent: dict[Owner, int] = field(default_factory=dict)
    """Events of each user's budget."""
    older: dict[Owner, list[str]] = field(default_factory=dict)
    shown: dict[Owner, list[ShownEntry]] = field(default_factory=dict)
    """What was shown to users, in order of the newest event; empty where impressions are not counted."""
    cooccurrence: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    """By epoch and item."""
    popularity: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)
    """By window and span."""
    duplicates: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    """By partition and chunk, the two newest chunks of each partition."""
    event_times: dict[int, int] = field(default_factory=dict)
    """Time in seconds of each partition's newest counted event; 0 without one."""
    windows: dict[Owner, list[str]] = field(default_factory=dict)
    """The items of each user that count for what is bought together, the newest last."""
    bought: dict[str, dict[str, int]] = field(default_factory=dict)
    """By item: with which others, and how many users."""
    buyers: dict[str, int] = field(default_factory=dict)
    """Users by item, and all of them under ``."""
    left_windows: list[list[str]] = field(default_factory=list, compare=False)
    """Windows of users who were erased: what they counted stays."""


class Folding:
    """The fold, one record at a time, each partition's in order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._epoch_s = int(settings.state.half_life_days * 86_400)
        self._state = State()
        self._chunks: dict[int, dict[int, list[int]]] = {}

    def add(self, partition: int, fact: Fact | None) -> bool:
        """Add the next record of a partition; return True if it counts and has a weight."""
        source_offset = self._state.watermarks.get(partition, -1) + 1
        self._state.watermarks[partition] = source_offset
        self._state.event_times.setdefault(partition, 0)
        if fact is None or not _is_in_its_partition(partition, fact, self._settings):
            return False
        if fact.erases:
            _erase(self._state, (partition, fact.user_id))
            return False
        chunks = self._chunks.setdefault(partition, {})
        chunk, hashed = source_offset // self._settings.state.duplicate_chunk, event_hash(fact.user_id, fact.event_id)
        if hashed in chunks.get(chunk, []) or hashed in chunks.get(chunk - 1, []):
            return False
        if chunk not in chunks:
            chunks[chunk] = []
            for old in [held for held in chunks if held < chunk - 1]:
                del chunks[old]
        chunks[chunk].append(hashed)
        units = weight_units(fact, self._settings)
        if self._settings.state.shown_items and (units or fact.type == "impression"):
            _show(self._state.shown.setdefault((partition, fact.user_id), []), fact, self._settings.state.shown_items)
        if units:
            times = self._state.event_times
            times[partition] = max(times[partition], fact.event_ts_ms // 1000)
            _learn(self._state, (partition, fact.user_id), fact, units, self._settings, self._epoch_s)
            buy(self._state, (partition, fact.user_id), fact, units, self._settings)
        return units != 0

    def state(self) -> State:
        """Return the state after all added records."""
        state, duplicate_chunk = self._state, self._settings.state.duplicate_chunk
        count_windows(state)
        state.duplicates = {
            (partition, chunk): hashes
            for partition, chunks in self._chunks.items()
            for chunk, hashes in chunks.items()
            if chunk >= state.watermarks[partition] // duplicate_chunk - 1
        }
        return state


def _erase(state: State, owner: Owner) -> None:
    """Leave nothing of a user; sums over all users stay."""
    for held in (state.histories, state.spent, state.older, state.shown):
        held.pop(owner, None)
    if window := state.windows.pop(owner, None):
        state.left_windows.append(window)


def _is_in_its_partition(partition: int, fact: Fact, settings: Settings) -> bool:
    topics = settings.topics
    return topics.wrong_partition == "accept" or (murmur2(fact.user_id.encode()) & 0x7FFFFFFF) % topics.partitions == partition


def fold(log: Log, settings: Settings) -> State:
    """Return the state after every event of the log, each counted once."""
    folding = Folding(settings)
    for partition, records in log.items():
        for fact in records:
            folding.add(partition, fact)
    return folding.state()


def weight_units(fact: Fact, settings: Settings) -> int:
    """Return an event's weight in units of 1/32."""
    weights = settings.weights
    if fact.type == "rating":
        assert fact.value is not None
        weight = (fact.value - weights.rating_neutral) / (weights.rating_best - weights.rating_neutral)
        weight = max(-1.0, min(1.0, weight)) or -1 / WEIGHT_UNITS
    else:
        weight = getattr(weights, fact.type)
    units = round(weight * WEIGHT_UNITS)
    if weight > 0:
        units = max(units, 1)
    if weight < 0:
        units = min(units, -1)
    return max(-127, min(127, units))


def _learn(state: State, owner: Owner, fact: Fact, units: int, settings: Settings, epoch_s: int) -> None:
    rules, history, at_s = settings.state, state.histories.setdefault(owner, []), fact.event_ts_ms // 1000
    newest_s = history[-1].last_s if history else at_s
    days = max(at_s, newest_s) // 86_400 - newest_s // 86_400
    state.spent[owner] = max(0, state.spent.get(owner, 0) - days * max(1, rules.user_budget // 10))
    state.older.setdefault(owner, [])
    entry = next((entry for entry in history if entry.item_id == fact.item_id), None)
    before = [other for other in history if other.last_s <= at_s]
    behind = [other for other in history if other.last_s > at_s]
    if entry is None and not before and len(history) == rules.history_length:
        if is_kept(fact.type, settings):
            _remember(state.older[owner], fact.item_id, rules.seen_length)  # older than all that the history can hold
        return
    goes_on = entry is not None and entry.units > 0 and abs(at_s - entry.last_s) <= rules.session_s
    visits = 0
    if entry is not None:
        visits = entry.visits if at_s // epoch_s <= entry.last_s // epoch_s else int(goes_on)
    if units > 0 and state.spent[owner] < rules.user_budget:
        most = max(rules.pairings_per_epoch, rules.touches_per_epoch)
        grown = max(units - entry.units, 0) if entry is not None and entry.units > 0 and visits <= most else 0
        adds = _count(state, entry, fact, units, grown, again=visits < rules.touches_per_epoch, goes_on=goes_on)
        if not goes_on and visits < rules.pairings_per_epoch:
            followers = [other for other in behind if other.last_s <= at_s + rules.session_s]
            adds += _pairs(state, at_s // epoch_s, fact.item_id, units, before[::-1], followers, settings)
        elif entry is not None and grown:
            at = history.index(entry)
            adds += _pairs(state, at_s // epoch_s, fact.item_id, grown, history[:at][::-1], history[at:], settings)
        if not goes_on and entry is not None and entry.units < 0:
            visits = min(visits + 1, most + 1)  # it came back from a dislike
        elif not goes_on:
            visits = max(visits, min(visits + 1, most))
        state.spent[owner] += adds > 0
    is_late = entry is not None and at_s < entry.last_s
    if entry is None:
        entry = Entry(fact.item_id, at_s, at_s, units, fact.type, 0, 0)
    elif not is_late:
        history.remove(entry)
    if not is_late:
        history.insert(sum(other.last_s <= at_s for other in history), entry)
    if (units > 0) == (entry.units > 0):
        is_taken = abs(units) > abs(entry.units) or (abs(units) == abs(entry.units) and not is_late)
    else:
        is_taken = not is_late  # the newest sign counts
    if is_taken:
        entry.units, entry.type = units, fact.type
    entry.last_s, entry.first_s = max(entry.last_s, at_s), min(entry.first_s, at_s)
    entry.touches, entry.visits = min(entry.touches + 1, 255), visits
    if len(history) > rules.history_length:
        left = history.pop(0)
        if is_kept(left.type, settings):
            _remember(state.older[owner], left.item_id, rules.seen_length)


def _show(entries: list[ShownEntry], fact: Fact, most: int) -> None:
    """Count an impression of an item, or start its count again after any other event."""
    at_s = fact.event_ts_ms // 1000
    entry = next((entry for entry in entries if entry.item_id == fact.item_id), None)
    if entry is not None and at_s <= entry.chosen_s:
        return
    if entry is None and len(entries) == most:
        if at_s < entries[0].newest_s:
            return
        del entries[0]
    if entry is None:
        entry = ShownEntry(fact.item_id, 0, 0, 0)
    else:
        entries.remove(entry)
    if fact.type == "impression":
        entry.count, entry.shown_s = min(entry.count + 1, 255), max(entry.shown_s, at_s)
    else:
        entry.count, entry.chosen_s = min(entry.count, int(entry.shown_s > at_s)), at_s
    newest_s = entry.newest_s
    entries.insert(sum(other.newest_s <= newest_s for other in entries), entry)


def is_kept(type_name: str, settings: Settings) -> bool:
    """Return whether an item of this event type is remembered when it leaves a history: its type, or the dislike that it may be, takes
    items off lists."""
    touch = settings.touch
    names = [type_name]
    if type_name == "rating" or getattr(settings.weights, type_name) < 0:
        names.append("dislike")
    changed = [{str(name): off for name, off in times.items()} for times in touch.by_category.values()]
    return any(getattr(touch, name) != "no" or any(times.get(name, "no") != "no" for times in changed) for name in names)


def _remember(older: list[str], item_id: str, seen_length: int) -> None:
    if item_id in older:
        older.remove(item_id)
    older.append(item_id)
    del older[: max(0, len(older) - seen_length)]


def _count(state: State, entry: Entry | None, fact: Fact, units: int, grown: int, *, again: bool, goes_on: bool) -> int:
    """Add to popularity; return how much in all. `again`: this item has not been counted too often in this epoch; `grown`: how much
    stronger than the entry the event is."""
    at_s, added = fact.event_ts_ms // 1000, 0
    for window, half_life_s in {"all": 0, **NAMED_HALF_LIVES_S}.items():
        period_s = max(half_life_s, 86_400)  # a user counts once for an item in so many seconds
        bucket = at_s // period_s if half_life_s else 0
        its_bucket = -1 if entry is None else entry.last_s // period_s if half_life_s else 0
        amount = 0
        repeats = entry is not None and again and not goes_on and (not half_life_s or bucket < its_bucket or entry.units < 0)
        if bucket > its_bucket or repeats:
            amount = units
        elif bucket == its_bucket:
            amount = grown
        if amount:
            span, sized = 0, 2 * amount
            if half_life_s:
                span, age_s = divmod(at_s, 6 * half_life_s)
                growth = int(2 ** (16 + (16 * age_s // half_life_s) / 16))  # 2^(age / half-life) in steps of a sixteenth, in units of 2⁻¹⁶
                sized = (2 * amount * growth + 2**15) // 2**16
            sums = state.popularity.setdefault((window, span), {})
            sums[fact.item_id] = sums.get(fact.item_id, 0) + sized
        added += amount
    return added


def _pairs(state: State, epoch: int, item_id: str, units: int, before: list[Entry], followers: list[Entry], settings: Settings) -> int:
    """Add pairs with the nearest positive entries of other items on both sides; return how much in all."""
    added, most = 0, settings.state.partner_touches
    for others, comes_then in ((before, True), (followers, False)):
        partners = [other for other in others if other.units > 0 and other.item_id != item_id and other.touches <= most]
        for distance, other in enumerate(partners[: PAIR_WEIGHTS.window]):
            first, then = (other.item_id, item_id) if comes_then else (item_id, other.item_id)
            added += _pair(state, epoch, first, then, other.units * units * PAIR_WEIGHTS.forward[distance])
            added += _pair(state, epoch, then, first, other.units * units * PAIR_WEIGHTS.backward[distance])
    return added


def _pair(state: State, epoch: int, row: str, neighbour: str, product: int) -> int:
    amount = (product + WEIGHT_UNITS**2 // 2) // WEIGHT_UNITS**2
    if amount:
        sums = state.cooccurrence.setdefault((epoch, row), {})
        sums[neighbour] = sums.get(neighbour, 0) + amount
    return amount


def counted(state: State, settings: Settings, log: Log) -> State:
    """Return the state without expired item rows, which workers delete at some time."""
    newest_s = max((fact.event_ts_ms // 1000 for facts in log.values() for fact in facts if fact is not None), default=0)
    oldest = {window: newest_s // (6 * half_life_s) - 1 for window, half_life_s in NAMED_HALF_LIVES_S.items()} | {"all": 0}
    epochs: dict[str, list[int]] = {}
    for epoch, item in sorted(fold(log, settings).cooccurrence):
        epochs.setdefault(item, []).append(epoch)
    return replace(
        state,
        cooccurrence={at: sums for at, sums in state.cooccurrence.items() if at[0] in epochs[at[1]][-settings.state.live_epochs :]},
        popularity={(window, span): sums for (window, span), sums in state.popularity.items() if span >= oldest[window]},
    )


async def read_state(store: StateStore, settings: Settings, expected: State) -> State:
    """Read the state from a store. Rows are read by name: those of `expected`, and of every item in the epochs and buckets around them.

    Every item group's watermarks must equal the users'. The result holds those that differ as negative partitions.
    """
    found, rules = State(), settings.state
    partitions = range(settings.topics.partitions)
    names = await store.item_names()
    for partition, watermark in (await store.watermarks(partitions)).items():
        if watermark is not None:
            found.watermarks[partition] = watermark.last_applied_offset
            found.event_times[partition] = (await store.event_times([partition]))[partition] or 0
            await _read_partition(store, settings, found, partition, names)
    for group in range(rules.item_groups):
        theirs = {partition: watermark.last_applied_offset for partition, watermark in (await store.group_watermarks(group)).items()}
        if theirs != found.watermarks:
            found.watermarks |= {-1 - partition: at for partition, at in theirs.items()}
    await read_bought(store, settings, found, names)
    for (group, (kind, where, number)), sums in (await _rows(store, _addresses(settings, expected, len(names)))).items():
        for item, amount in sums.items():
            assert kind == "c" or item % rules.item_groups == group, "a popularity row holds only items of its group"
            if kind == "c":
                found.cooccurrence.setdefault((int(where), names[number]), {})[names[item]] = amount
            else:
                found.popularity.setdefault((str(where), number), {})[names[item]] = amount
    return found


async def _read_partition(store: StateStore, settings: Settings, found: State, partition: int, names: Sequence[str]) -> None:
    users = sorted({user_id async for user_id in store.scan_users(partition)})
    for user_id, packed in zip(users, await store.read_users(partition, users), strict=True):
        assert packed is not None
        row = unpack_row(packed)
        entries = zip(*(column.tolist() for column in row.columns), strict=True)
        found.histories[partition, user_id] = [
            Entry(names[number], last_s, first_s, units, EVENT_TYPES[code].value, touches, visits)
            for number, last_s, first_s, units, code, touches, visits in entries
        ]
        found.spent[partition, user_id] = row.spent
        found.older[partition, user_id] = [names[number] for number in row.older.tolist()]
    await _read_shown(store, found, partition, names)
    chunks = list(range(found.watermarks[partition] // settings.state.duplicate_chunk + 2))
    for chunk, packed in zip(chunks, await store.read_duplicates(partition, chunks), strict=True):
        if packed:
            found.duplicates[partition, chunk] = np.frombuffer(packed, "<u8").tolist()


async def _read_shown(store: StateStore, found: State, partition: int, names: Sequence[str]) -> None:
    users = sorted({user_id async for user_id in store.scan_shown(partition)})
    entries, lengths = unpack_shown((await store.read_shown_of({partition: users}))[partition])
    rows = iter(entries.tolist())
    for user_id, length in zip(users, lengths.tolist(), strict=True):
        found.shown[partition, user_id] = [
            ShownEntry(names[number], count, shown_s, chosen_s) for number, count, shown_s, chosen_s in islice(rows, length)
        ]


def _addresses(settings: Settings, expected: State, n_items: int) -> list[RowAddress]:
    groups = settings.state.item_groups
    epochs = _with_neighbours(epoch for epoch, _ in expected.cooccurrence)
    addresses: list[RowAddress] = [(number % groups, ("c", epoch, number)) for epoch in epochs for number in range(n_items)]
    row_ids: list[RowId] = [("pop", "all", 0)]
    for window in NAMED_HALF_LIVES_S:
        row_ids += [("pop", window, bucket) for bucket in _with_neighbours(b for w, b in expected.popularity if w == window)]
    return addresses + [(group, row_id) for row_id in row_ids for group in range(groups)]


def _with_neighbours(numbers: Iterable[int]) -> list[int]:
    return sorted({near for number in numbers for near in (number - 1, number, number + 1)})


async def _rows(store: StateStore, addresses: Sequence[RowAddress]) -> dict[RowAddress, dict[int, int]]:
    found: dict[RowAddress, dict[int, int]] = {}
    for address, packed in zip(addresses, await store.read_rows(addresses), strict=True):
        if packed:
            row = parse_row(packed)
            sums = found.setdefault(address, {})
            for neighbour, amount in zip(row.neighbours.tolist(), row.weights.tolist(), strict=True):
                sums[neighbour] = sums.get(neighbour, 0) + amount
    return found
