"""Users' histories folded from the log in plain Python, and how they differ from stored rows. Shares no arrays with the engine.

What it does share: the decoding of records, the hash of an event id, and the layout of a packed row.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from recsys.errors import LayoutError
from recsys.state.duplicates import event_hash
from recsys.state.half_lives import PERIODS_S
from recsys.state.user_table import WEIGHT_UNITS, unpack_row
from schemas.decoding import decode_events
from schemas.events import EVENT_TYPES, EventType
from workers.kafka.placement import refuse_by_key
from workers.kafka.records import Record
from workers.operations.shown_fold import UserShown
from workers.operations.user_history import HistoryRules, UserHistory
from workers.settings import Settings

WITHOUT_ROW_AT_MOST = 10_000
ENTRY_PARTS = ("item", "time", "first time", "weight", "event type", "number of touches", "number of visits")


class EventSink(Protocol):
    """Takes every event of a partition that counts, and every erasure of a user, in order of arrival."""

    def learn(self, user_id: str, item_id: str, at_s: int, units: int, kind: int, source_offset: int) -> None: ...

    def erase(self, user_id: str) -> None: ...


class HistoryFold:
    """Folds one partition of the log, each event counted once: the histories of chosen users up to offset `last` (None: all of it).

    `stored` (ascending hashes of user ids, `user_hash`) are the users that have a row; others with an event that counts go to
    `without_row`, 10,000 of them at most. `sink` takes the events of all users, also those after `last`. What was shown to the chosen users
    is folded up to offset `shown_last`, where impressions are counted.
    """

    def __init__(
        self,
        settings: Settings,
        user_ids: Collection[str],
        partition: int,
        *,
        last: int | None = None,
        stored: NDArray[np.uint64] | None = None,
        sink: EventSink | None = None,
        shown_last: int | None = None,
    ) -> None:
        self._settings, self._partition, self._sink, self._stored = settings, partition, sink, stored
        self._last = float("inf") if last is None else last
        self._keys = {user_id.encode() for user_id in user_ids}
        self._seen: dict[int, set[int]] = {}
        self._units: dict[int, int] = {}
        self._rules = HistoryRules.of(settings, PERIODS_S)
        self.histories: dict[str, UserHistory[str]] = {user_id: UserHistory() for user_id in user_ids}
        self.without_row: dict[str, None] = {}
        self._shown_last = self._last if shown_last is None else shown_last
        self._n_shown = settings.state.shown_items
        self.shown: dict[str, UserShown] = {user_id: UserShown() for user_id in user_ids} if self._n_shown else {}
        self.newest_s = 0
        """Event time of the newest event that counts up to `last`, of the users that were folded."""

    def take(self, records: Sequence[Record]) -> None:
        """Fold the next records of the partition, in order; those of other users are passed over unless somebody wants them."""
        without_row = self._keys_without_row(records)
        if self._sink is None:
            records = [record for record in records if record.key in self._keys or record.key in without_row]
        self._fold(records, without_row)

    def _keys_without_row(self, records: Sequence[Record]) -> set[bytes]:
        """The keys of users that have no row."""
        keys = list({record.key for record in records if record.key and record.source_offset <= self._last})
        if self._stored is None or not keys:
            return set()
        hashes = np.array([user_hash(key) for key in keys], np.uint64)
        places = np.minimum(np.searchsorted(self._stored, hashes), max(len(self._stored) - 1, 0))
        has_row = self._stored[places] == hashes if len(self._stored) else np.zeros(len(keys), np.bool_)
        return {keys[at] for at in np.flatnonzero(~has_row).tolist()}

    def _fold(self, chosen: Sequence[Record], without_row: set[bytes]) -> None:
        stream = self._settings.stream
        decoded = decode_events(
            [(record.key, record.value) for record in chosen],
            record_ts_ms=[record.source_timestamp_ms for record in chosen],
            future_skew_ms=stream.future_skew_s * 1000,
            max_bytes=stream.max_record_bytes,
        )
        refuse_by_key(decoded, [record.key for record in chosen], self._partition, self._settings)
        erasures = decoded.erasures[::-1]
        for i, at in enumerate(decoded.index):
            while erasures and erasures[-1][0] < at:
                self._erase(*erasures.pop(), chosen)
            user_id, record = decoded.user_ids[i], chosen[at]
            if not self._is_new(record.source_offset, event_hash(user_id, decoded.event_ids[i])):
                continue
            units = self._weight_units(decoded.types[i], decoded.values[i])
            item_id, at_s = decoded.item_ids[i], decoded.event_ts_ms[i] // 1000
            is_impression = decoded.types[i] == EventType.IMPRESSION.code
            if user_id in self.shown and record.source_offset <= self._shown_last and (units or is_impression):
                self.shown[user_id].add(item_id, at_s, is_impression=is_impression, most=self._n_shown)
            if not units:
                continue
            if self._sink is not None:
                self._sink.learn(user_id, item_id, at_s, units, decoded.types[i], record.source_offset)
            if record.source_offset > self._last:
                continue
            self.newest_s = max(self.newest_s, at_s)
            if user_id in self.histories:
                self.histories[user_id].touch(item_id, at_s, units, decoded.types[i], self._rules)
            elif record.key in without_row and len(self.without_row) < WITHOUT_ROW_AT_MOST:
                self.without_row[user_id] = None

        while erasures:
            self._erase(*erasures.pop(), chosen)

    def _erase(self, at: int, user_id: str, chosen: Sequence[Record]) -> None:
        """Start a user's history again."""
        source_offset = chosen[at].source_offset
        if self._sink is not None:
            self._sink.erase(user_id)
        if user_id in self.shown and source_offset <= self._shown_last:
            self.shown[user_id] = UserShown()
        if source_offset <= self._last:
            self.without_row.pop(user_id, None)
            if user_id in self.histories:
                self.histories[user_id] = UserHistory()

    def _weight_units(self, code: int, value: float) -> int:
        kind = EVENT_TYPES[code]
        if kind is EventType.RATING:
            return weight_units(kind, value, self._settings)
        if code not in self._units:
            self._units[code] = weight_units(kind, value, self._settings)
        return self._units[code]

    def _is_new(self, source_offset: int, hashed: int) -> bool:
        chunk = source_offset // self._settings.state.duplicate_chunk
        if hashed in self._seen.get(chunk, ()) or hashed in self._seen.get(chunk - 1, ()):
            return False
        if chunk not in self._seen:
            self._seen = {held: hashes for held, hashes in self._seen.items() if held == chunk - 1} | {chunk: set()}
        self._seen[chunk].add(hashed)
        return True


def weight_units(kind: EventType, value: float, settings: Settings) -> int:
    """An event's weight in units of 1/32; NaN stands for no value."""
    weights = settings.weights
    if kind is EventType.RATING:
        if math.isnan(value):
            return 0
        scaled = (value - weights.rating_neutral) / (weights.rating_best - weights.rating_neutral)
        weight = max(-1.0, min(1.0, scaled)) or -1 / WEIGHT_UNITS
    else:
        weight = float(getattr(weights, kind.value))
    units = round(float(np.float32(weight)) * WEIGHT_UNITS)  # weights are float32 in the engine, which decides ties of rounding
    if weight > 0:
        units = max(units, 1)
    if weight < 0:
        units = min(units, -1)
    return max(-127, min(127, units))


def difference(expected: UserHistory[str], packed: bytes | None, names: Sequence[str], *, from_start: bool = True) -> str | None:
    """Describe how a stored row differs from the log, None if it does not.

    Without the log's start (`from_start` off) an entry may have been touched before; it is compared with what is left of the log.
    """
    if packed is None:
        return "the row is missing" if expected.items else None
    try:
        row = unpack_row(packed)
    except LayoutError as error:
        return str(error)
    numbers = row.items.tolist() + row.older.tolist()
    if numbers and max(numbers) >= len(names):
        return f"the row names item number {max(numbers)}, and {len(names)} items have a number"
    items, found = [names[number] for number in row.items.tolist()], [column.tolist() for column in row.columns[1:]]
    if not from_start:
        return _lacks(expected, dict(zip(items, zip(*found, strict=True), strict=True)))
    if len(items) != len(expected.items):
        return f"the history has {len(items)} entries, the log says {len(expected.items)}"
    for place in range(len(items)):
        theirs, ours = expected.entry(place), (items[place], *(column[place] for column in found))
        parts = [name for name, a, b in zip(ENTRY_PARTS, theirs, ours, strict=True) if a != b]
        if parts:
            return f"entry {place + 1} of {len(items)} has another {' and '.join(parts)} than the log"
    if row.spent != expected.spent:
        return f"{row.spent} events of the user's budget are spent, the log says {expected.spent}"
    older = [names[number] for number in row.older.tolist()]
    return None if older == expected.older else f"the {len(older)} older items are not the {len(expected.older)} that the log says"


def _lacks(expected: UserHistory[str], found: Mapping[str, tuple[int, ...]]) -> str | None:
    """Describe what a row lacks of a log that has lost its start: an entry that is newer than the row's oldest, or touches of one."""
    oldest_s = min((last_s for last_s, *_ in found.values()), default=0)
    for place in range(len(expected.items)):
        item, last_s, first_s, units, _, touches, _ = expected.entry(place)
        if item not in found:
            if last_s > oldest_s:
                return f"the history lacks item '{item}', which the log says was touched at second {last_s}"
            continue
        their_last_s, their_first_s, their_units, _, their_touches, _ = found[item]
        if their_last_s < last_s or their_first_s > first_s or their_touches < touches:
            return f"the entry of item '{item}' lacks touches that the log has"
        if their_last_s == last_s and ((their_units > 0) != (units > 0) or abs(their_units) < abs(units)):
            return f"the entry of item '{item}' has another weight than the log"
    return None


def user_hash(key: bytes) -> int:
    """64 bits that stand for a user id in a sorted array."""
    return xxhash.xxh3_64_intdigest(key)


def user_digest(user_id: str) -> str:
    """12 hex digits of SHA-256 that stand for a user in output, which may be kept where personal data must not be."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:12]
