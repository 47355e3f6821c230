"""The state store in dictionaries, for tests. The contract tests hold it to the semantics of the functions in Redis."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from recsys.state.batch_delta import RowId
from recsys.state.item_row import HEADER_BYTES, pack_header
from tests.memory_related import MemoryRelated
from workers.errors import Fatal, Fenced
from workers.runtime.counts import Traffic
from workers.state.layout import compare_layouts, layout_text, refuse_active, store_chunks, stored_layout, validate_ranges
from workers.state.port import (
    MOST_EPOCHS,
    ApplyStatus,
    CommitResult,
    Compaction,
    GroupDeltas,
    GroupResult,
    ItemRecord,
    Layout,
    Range,
    RowAddress,
    RowTail,
    ServerIdentity,
    StoredItem,
    TailKind,
    UserCommit,
    Watermark,
)
from workers.state.users_topic import MOST_SOURCES, ListWork, MergeNote, ProfileRecord, Standing

_OF_ALL_GENERATIONS = frozenset({"_layout", "_run_id", "_active", "_generation", "_shelved", "_claim", "traffic"})
_Versioned = tuple[int, int, bytes | None]
"""Partition, source offset, content or None."""


def _is_older(stored: _Versioned | None, partition: int, source_offset: int) -> bool:
    return stored is not None and stored[0] == partition and source_offset < stored[1]


def _is_of_another_item(stored: bytes | None, content: bytes | None) -> bool:
    try:
        there, here = json.loads(stored or b""), json.loads(content or b"")
    except ValueError:
        return False
    return isinstance(there, dict) and isinstance(here, dict) and there.get("item_id") != here.get("item_id")


class MemoryStore(MemoryRelated):
    """A `StateStore` of one process; the protocol documents each method."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._run_id = secrets.token_hex(20)
        self._active = self._generation = 0
        self._shelved: dict[int, dict[str, Any]] = {}
        self._claim: tuple[str, float] | None = None
        self.traffic = Traffic()
        self._start_empty()

    def _start_empty(self) -> None:
        """Create the attributes of one generation: all but those in `_OF_ALL_GENERATIONS`."""
        self._stored_layout: bytes | None = None
        self._owed: dict[int, dict[str, None]] = {}
        self._bought: dict[int, dict[str, bytes]] = {}
        self._published: dict[int, dict[bytes, bytes]] = {}
        self._catalogue_read = ""
        self._catalogue_offsets: dict[str, int] = {}
        self._numbers_used = 0
        self._state_id = ""
        self._numbers: dict[str, int] = {}
        self._watermarks: dict[int, Watermark] = {}
        self._event_times: dict[int, int] = {}
        self._group_watermarks: dict[int, dict[int, Watermark]] = {}
        self._users: dict[int, dict[str, bytes]] = {}
        self._shown: dict[int, dict[str, bytes]] = {}
        self._duplicates: dict[tuple[int, int], bytes] = {}
        self._rows: dict[RowAddress, bytes] = {}
        self._epochs: dict[int, list[int]] = {}
        self._items: dict[int, _Versioned] = {}
        self._changes: dict[int, int] = {}
        self._version = 0
        self._profiles: dict[tuple[int, str], _Versioned] = {}
        self._serving: dict[str, tuple[int, bytes]] = {}
        self._control: dict[str, tuple[int, bytes]] = {}
        self._merged: dict[int, dict[str, tuple[str, str]]] = {}
        self._asked: dict[tuple[int, str], int] = {}
        self._sources: dict[int, dict[str, dict[str, int]]] = {}

    @property
    def layout(self) -> Layout:
        if self._layout is None:
            raise Fatal("the state store was used before it was opened: call open(layout) first")
        return self._layout

    async def open(self, layout: Layout, generation: int | None = None) -> None:
        chosen = self._active if generation is None else generation
        if chosen != self._generation:
            self._shelved[self._generation] = {name: held for name, held in vars(self).items() if name not in _OF_ALL_GENERATIONS}
            self._start_empty()
            vars(self).update(self._shelved.pop(chosen, {}))
            self._generation = chosen
        if self._stored_layout is None:
            self._stored_layout = layout_text(layout).encode()
        compare_layouts(self._stored_layout, layout)
        self._layout = layout
        self._state_id = self._state_id or secrets.token_hex(8)

    async def open_read_only(self) -> Layout:
        return stored_layout(self._stored_layout, "memory")

    @property
    def generation(self) -> int:
        return self._generation

    async def active_generation(self) -> int:
        return self._active

    async def generations(self) -> list[int]:
        held = {self._generation: vars(self), **self._shelved}
        return sorted(number for number, attributes in held.items() if attributes.get("_stored_layout") is not None)

    async def wanted_generation(self) -> int:
        return self._active

    async def switch_generation(self, expected: int, to: int) -> bool:
        if self._active != expected:
            return False
        self._active = to
        return True

    async def drop_generation(self, generation: int) -> int:
        refuse_active(generation, self._active)
        if generation != self._generation:
            return _n_entries(self._shelved.pop(generation, {}))
        n_entries = _n_entries({name: held for name, held in vars(self).items() if name not in _OF_ALL_GENERATIONS})
        self._start_empty()
        return n_entries

    async def claim_rebuild(self, owner: str, hold_s: float) -> bool:
        now_s = time.monotonic()
        if self._claim is not None and self._claim[0] != owner and now_s < self._claim[1]:
            return False
        self._claim = (owner, now_s + hold_s) if hold_s else None
        return True

    async def watermarks(self, partitions: Sequence[int]) -> dict[int, Watermark | None]:
        return {partition: self._watermarks.get(partition) for partition in partitions}

    async def event_times(self, partitions: Sequence[int]) -> dict[int, int | None]:
        return {partition: self._event_times.get(partition) for partition in partitions}

    async def group_watermarks(self, group: int) -> dict[int, Watermark]:
        return dict(self._group_watermarks.get(group, {}))

    async def state_id(self) -> str:
        return self._state_id

    async def item_numbers(self, item_ids: Sequence[str], n_known: int = 0, last_known: str = "") -> list[int]:
        if n_known and self._numbers.get(last_known) != n_known - 1:
            raise Fenced("the numbering of items went back")
        return [self._numbers.setdefault(item_id, len(self._numbers)) for item_id in item_ids]

    async def restore_names(self, first: int, names: Sequence[str]) -> bool:
        if len(self._numbers) != first or any(name in self._numbers for name in names):
            return False
        self._numbers.update({name: number for number, name in enumerate(names, first)})
        return True

    async def known_item_numbers(self, item_ids: Sequence[str]) -> list[int | None]:
        return [self._numbers.get(item_id) for item_id in item_ids]

    async def item_names(self, start: int = 0) -> list[str]:
        return list(self._numbers)[start:]

    async def n_items(self) -> int:
        return len(self._numbers)

    async def read_users(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        users = self._users.get(partition, {})
        return [users.get(user_id) for user_id in user_ids]

    async def read_users_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        return {partition: await self.read_users(partition, user_ids) for partition, user_ids in requests.items()}

    async def read_users_at(self, partition: int, user_ids: Sequence[str]) -> tuple[Watermark | None, list[bytes | None]]:
        return self._watermarks.get(partition), await self.read_users(partition, user_ids)

    async def read_shown_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        return {partition: [self._shown.get(partition, {}).get(user_id) for user_id in users] for partition, users in requests.items()}

    async def scan_shown(self, partition: int) -> AsyncIterator[str]:
        for user_id in list(self._shown.get(partition, {})):
            yield user_id

    async def read_shown_at(self, partition: int, user_ids: Sequence[str]) -> tuple[int, list[bytes | None]]:
        watermark = self._watermarks.get(partition)
        rows = (await self.read_shown_of({partition: user_ids}))[partition]
        return -1 if watermark is None else watermark.last_applied_offset, rows

    async def numbers_used(self) -> int:
        return self._numbers_used

    async def apply_items(self, ranges: Sequence[Range], deltas: Sequence[GroupDeltas], n_numbers: int = 0) -> list[GroupResult]:
        validate_ranges(ranges)
        results = [self._apply(ranges, delta) for delta in deltas]
        if any(result.status is ApplyStatus.APPLIED for result in results):
            self._numbers_used = max(self._numbers_used, n_numbers)
        return results

    def _apply(self, ranges: Sequence[Range], delta: GroupDeltas) -> GroupResult:
        held = self._group_watermarks.setdefault(delta.group, {})
        found = {source.partition: held.get(source.partition) for source in ranges}
        status = _status(ranges, found)
        if status is not ApplyStatus.APPLIED:
            return GroupResult(delta.group, status, b"", found)
        lengths, start = b"", 0
        header = pack_header(secrets.randbits(32), 0)
        for i, row_id in enumerate(delta.row_ids):
            stop = int.from_bytes(delta.ends[4 * i : 4 * i + 4], "little")
            if row_id[0] == "c" and (delta.group, row_id) not in self._rows:
                held_epochs = self._epochs.get(row_id[2], [])
                self._epochs[row_id[2]] = sorted({*held_epochs, int(row_id[1])})[-MOST_EPOCHS:]
            row = self._rows.get((delta.group, row_id), header) + delta.payload[start:stop]
            self._rows[delta.group, row_id] = row
            lengths += len(row).to_bytes(4, "little")
            start = stop
        held.update({source.partition: Watermark(source.topic_id, source.last) for source in ranges})
        return GroupResult(delta.group, status, lengths, found)

    async def commit_users(self, commits: Sequence[UserCommit]) -> list[CommitResult]:
        return [self._commit(commit) for commit in commits]

    def _commit(self, commit: UserCommit) -> CommitResult:
        current = self._watermarks.get(commit.partition)
        expected = Watermark(commit.topic_id, commit.expected_last) if commit.expected_last >= 0 else None
        if current != expected:
            return CommitResult(commit.partition, False, current)
        appended, dropped = store_chunks(commit, self.layout.duplicate_chunk)
        self._users.setdefault(commit.partition, {}).update(commit.rows)
        self._bought.setdefault(commit.partition, {}).update(commit.bought)
        self._shown.setdefault(commit.partition, {}).update(commit.shown)
        for chunk, hashes in appended.items():
            self._duplicates[commit.partition, chunk] = self._duplicates.get((commit.partition, chunk), b"") + hashes
        for chunk in dropped:
            self._duplicates.pop((commit.partition, chunk), None)
        for user_id in commit.erased:
            for held in (self._users, self._bought, self._shown, self._owed):
                held.setdefault(commit.partition, {}).pop(user_id, None)
            self._asked.pop((commit.partition, user_id), None)
        self._owed.setdefault(commit.partition, {}).update(dict.fromkeys(commit.owed))
        if commit.new_last >= 0:
            self._watermarks[commit.partition] = Watermark(commit.topic_id, commit.new_last)
            self._event_times[commit.partition] = max(commit.newest_s, self._event_times.get(commit.partition, 0))
        return CommitResult(commit.partition, True, self._watermarks.get(commit.partition))

    async def owed_lists(self, partition: int, at_most: int) -> list[str]:
        return list(self._owed.get(partition, {}))[:at_most]

    async def settle_lists(self, partition: int, made_from: Watermark, user_ids: Sequence[str], asked: Sequence[int] | None = None) -> bool:
        if self._watermarks.get(partition) != (made_from if made_from.last_applied_offset >= 0 else None):
            return False
        for user_id, n_asked in zip(user_ids, asked or [0] * len(user_ids), strict=True):
            if self._asked.get((partition, user_id), 0) == n_asked:
                self._owed.get(partition, {}).pop(user_id, None)
                self._asked.pop((partition, user_id), None)
        return True

    async def read_duplicates(self, partition: int, chunks: Sequence[int]) -> list[bytes]:
        return [self._duplicates.get((partition, chunk), b"") for chunk in chunks]

    async def read_rows(self, rows: Sequence[RowAddress]) -> list[bytes | None]:
        return [self._rows.get(row) for row in rows]

    async def item_epochs(self, numbers: Sequence[int]) -> list[list[int]]:
        return [list(self._epochs.get(number, [])) for number in numbers]

    async def read_rows_at(self, group: int, row_ids: Sequence[RowId]) -> tuple[dict[int, Watermark], list[bytes | None]]:
        return await self.group_watermarks(group), [self._rows.get((group, row_id)) for row_id in row_ids]

    async def read_row_tails(self, rows: Sequence[tuple[RowAddress, int, int]]) -> list[RowTail]:
        if any(known < HEADER_BYTES for _, _, known in rows):
            raise ValueError("a known length counts the 8-byte header; read a row that is not known with read_rows")
        return [self._tail(*row) for row in rows]

    def _tail(self, address: RowAddress, generation: int, known: int) -> RowTail:
        row = self._rows.get(address)
        if row is None:
            return RowTail(TailKind.MISSING, b"")
        if int.from_bytes(row[:4], "little") != generation or len(row) < known:
            return RowTail(TailKind.FULL, row)
        return RowTail(TailKind.TAIL, row[known:])

    async def compact_rows(self, group: int, compactions: Sequence[Compaction]) -> list[int]:
        return [self._compact(group, compaction) for compaction in compactions]

    def _compact(self, group: int, compaction: Compaction) -> int:
        row = self._rows.get((group, compaction.row_id), b"")
        if len(row) < max(HEADER_BYTES, compaction.bytes_read) or int.from_bytes(row[:4], "little") != compaction.generation:
            return 0
        header = pack_header(compaction.generation + 1, len(compaction.new_body))
        row = header + compaction.new_body + row[compaction.bytes_read :]
        self._rows[group, compaction.row_id] = row
        return len(row)

    async def scan_rows(self) -> AsyncIterator[list[RowAddress]]:
        yield [address for address in self._rows if address[1][0] in ("c", "pop")]

    async def drop_rows(self, rows: Sequence[RowAddress]) -> int:
        return sum(self._rows.pop(row, None) is not None for row in rows)

    async def upsert_items(self, records: Sequence[ItemRecord]) -> int:
        current = []
        for record in records:
            stored = self._items.get(record.number)
            older = _is_older(stored, record.partition, record.source_offset)
            if not older or (stored is not None and _is_of_another_item(stored[2], record.content)):
                self._items[record.number] = (record.partition, record.source_offset, record.content or None)
                current.append(record.number)
        if current:
            self._version += 1
            self._changes.update(dict.fromkeys(current, self._version))
        return len(current)

    async def changed_items(self, since_version: int) -> tuple[int, list[int]]:
        since = since_version if self._version >= since_version else -1
        return self._version, [number for number, version in self._changes.items() if version > since]

    async def read_items(self, numbers: Sequence[int]) -> list[bytes | None]:
        return [stored[2] if (stored := self._items.get(number)) else None for number in numbers]

    async def read_stored_items(self, numbers: Sequence[int]) -> list[StoredItem | None]:
        return [StoredItem(*stored) if (stored := self._items.get(number)) else None for number in numbers]

    async def scan_items(self, generation: int) -> AsyncIterator[list[tuple[str, StoredItem]]]:
        held = vars(self) if generation == self._generation else self._shelved.get(generation, {})
        names = list(held.get("_numbers", {}))
        yield [(names[number], StoredItem(*stored)) for number, stored in held.get("_items", {}).items() if number < len(names)]

    async def upsert_profile(self, record: ProfileRecord) -> bool:
        key = record.partition, record.user_id
        if _is_older(self._profiles.get(key), record.partition, record.source_offset):
            return False
        self._profiles[key] = (record.partition, record.source_offset, record.content or None)
        merged = self._merged.setdefault(record.partition, {})
        went_on, _ = merged.get(record.user_id, ("", ""))
        if went_on != record.merged_into:
            merged[record.user_id] = (record.merged_into, went_on)
        if record.needs_list or (went_on and went_on != record.merged_into):
            await self.await_lists({record.partition: [record.user_id]})
        return True

    async def upsert_profiles(self, records: Sequence[ProfileRecord]) -> list[bool]:
        return [await self.upsert_profile(record) for record in records]

    async def read_profiles(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        return [stored[2] if (stored := self._profiles.get((partition, user_id))) else None for user_id in user_ids]

    async def note_merges(self, notes: Sequence[MergeNote]) -> None:
        for note in notes:
            held = self._sources.setdefault(note.partition, {}).setdefault(note.account, {})
            held[note.user_id] = max(note.record_ts_ms, held.get(note.user_id, note.record_ts_ms))
            kept = sorted(held, key=lambda user_id: (-held[user_id], user_id))[:MOST_SOURCES]
            self._sources[note.partition][note.account] = {user_id: held[user_id] for user_id in kept}

    async def read_standings(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[Standing]]:
        return {partition: [self._standing(partition, user_id) for user_id in user_ids] for partition, user_ids in requests.items()}

    def _standing(self, partition: int, user_id: str) -> Standing:
        merged = self._merged.get(partition, {}).get(user_id, ("", ""))
        return Standing(*merged, tuple(self._sources.get(partition, {}).get(user_id, ())))

    async def list_work(self, partitions: Sequence[int]) -> dict[int, ListWork]:
        return {p: ListWork(len(self._owed.get(p, ())), bool(self._merged.get(p) or self._sources.get(p))) for p in partitions}

    async def await_lists(self, user_ids: Mapping[int, Sequence[str]]) -> None:
        for partition, waiting in user_ids.items():
            self._owed.setdefault(partition, {}).update(dict.fromkeys(waiting))
            for user_id in waiting:
                self._asked[partition, user_id] = self._asked.get((partition, user_id), 0) + 1

    async def lists_asked(self, partition: int, user_ids: Sequence[str]) -> list[int]:
        return [self._asked.get((partition, user_id), 0) for user_id in user_ids]

    async def forget_before(self, partition: int, before: Mapping[str, str]) -> None:
        merged = self._merged.get(partition, {})
        for user_id, went_on in before.items():
            merged_into, stored = merged.get(user_id, ("", ""))
            if stored == went_on and merged_into:
                merged[user_id] = (merged_into, "")
            elif stored == went_on:
                merged.pop(user_id, None)

    async def scan_merged(self, partition: int) -> AsyncIterator[list[tuple[str, str]]]:
        yield [(user_id, merged_into) for user_id, (merged_into, _) in self._merged.get(partition, {}).items() if merged_into]

    async def catalogue_read(self) -> str:
        return self._catalogue_read

    async def catalogue_read_into(self, generation: int) -> str:
        held = vars(self) if generation == self._generation else self._shelved.get(generation, {})
        return str(held.get("_catalogue_read", ""))

    async def note_catalogue(self, what: str) -> None:
        self._catalogue_read = what

    async def catalogue_offsets(self) -> dict[str, int]:
        return dict(self._catalogue_offsets)

    async def note_catalogue_offsets(self, next_offsets: Mapping[str, int]) -> None:
        self._catalogue_offsets.update(next_offsets)

    async def set_serving(self, kind: str, announcement: bytes, order: int) -> bool:
        if kind in self._serving and order < self._serving[kind][0]:
            return False
        self._serving[kind] = (order, announcement)
        return True

    async def set_control(self, key: str, record: bytes, order: int) -> bool:
        if key in self._control and order < self._control[key][0]:
            return False
        self._control[key] = (order, record)
        return True

    async def control(self) -> dict[str, bytes]:
        return {key: record for key, (_, record) in self._control.items()}

    async def serving(self) -> dict[str, bytes]:
        return {kind: announcement for kind, (_, announcement) in self._serving.items()}

    async def scan_users(self, partition: int) -> AsyncIterator[str]:
        for user_id in list(self._users.get(partition, {})):
            yield user_id

    async def ping(self) -> None:
        return None

    async def server_identity(self) -> list[ServerIdentity]:
        return [ServerIdentity(self._run_id, self._run_id, "master", "memory", "1", 0, 0, "noeviction", ())]

    async def close(self) -> None:
        self._layout = None


def _n_entries(held: Mapping[str, Any]) -> int:
    return sum(len(part) for part in held.values() if isinstance(part, (dict, bytes)))


def _status(ranges: Sequence[Range], found: Mapping[int, Watermark | None]) -> ApplyStatus:
    """Return a group's answer, given its watermarks of the ranges' partitions."""
    if any((watermark := found[source.partition]) is not None and watermark.topic_id != source.topic_id for source in ranges):
        return ApplyStatus.TOPIC_CHANGED
    lasts = [-1 if (watermark := found[source.partition]) is None else watermark.last_applied_offset for source in ranges]
    pairs = list(zip(ranges, lasts, strict=True))
    if any(last < source.base for source, last in pairs):
        return ApplyStatus.GAP
    if all(last >= source.last for source, last in pairs):
        return ApplyStatus.SKIPPED
    if all(last < source.first for source, last in pairs):
        return ApplyStatus.APPLIED
    return ApplyStatus.STRADDLED
