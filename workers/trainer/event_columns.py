"""The events of the log as columns: in segments as Arrow tables, for training as arrays.

A segment states its schema version in its Parquet metadata. Version 1 (no statement) holds what counts; version 2 adds what surrounds an
event: the list and the position on it, the visit, and the context as JSON with sorted names.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.state.duplicates import DuplicateWindow
from schemas import EventType, limits
from workers.errors import Fatal

_MIXING = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ by the golden ratio, odd: spreads user codes over 64 bits."""

VERSION = 2
_VERSION_KEY = b"recsys.event_log.schema_version"
CONTEXT_MAX_BYTES = 131_072
"""Twice the longest context as JSON: 32 names of 64 characters and texts of 256, each of up to 6 bytes."""

_ID = pa.dictionary(pa.int32(), pa.string())
_COUNTED = [
    ("source_offset", pa.int64()),
    ("user_id", _ID),
    ("item_id", _ID),
    ("type", pa.int8()),
    ("value", pa.float64()),
    ("event_ts_ms", pa.int64()),
    ("event_hash", pa.uint64()),
]
_SURROUNDING = [("list_id", _ID), ("position", pa.int16()), ("session", _ID), ("context", pa.string())]
COUNTED = tuple(name for name, _ in _COUNTED)
"""The columns of version 1, never null; a training reads no others."""
SURROUNDING = tuple(name for name, _ in _SURROUNDING)
"""The columns that version 2 adds, null where an event has none."""
SCHEMA = pa.schema(_COUNTED + _SURROUNDING, metadata={_VERSION_KEY: str(VERSION)})
_COUNTED_SCHEMA = pa.schema(_COUNTED)


@dataclass(frozen=True, slots=True)
class EventSurroundings:
    """Holds where n events happened. Shapes: all arrays (n,), −1 or 0 where an event has none.

    `list_codes` and `session_codes` index `list_ids` and `sessions`, `positions` count from 1, `contexts` are JSON objects with sorted
    names.
    """

    list_codes: NDArray[np.int32]
    positions: NDArray[np.int16]
    session_codes: NDArray[np.int32]
    contexts: list[str | None]
    list_ids: list[str]
    sessions: list[str]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Holds n events, partition after partition, by offset within one. Shapes: all arrays (n,); codes index `user_ids` and `item_ids`.

    `types` are EventType codes, `values` NaN where an event has none. `surroundings` is None unless they were read.
    """

    partitions: NDArray[np.int32]
    source_offsets: NDArray[np.int64]
    user_codes: NDArray[np.int32]
    item_codes: NDArray[np.int32]
    types: NDArray[np.int8]
    values: NDArray[np.float64]
    event_ts_ms: NDArray[np.int64]
    user_ids: list[str]
    item_ids: list[str]
    surroundings: EventSurroundings | None = None

    def __len__(self) -> int:
        return len(self.user_codes)


def context_json(context: Mapping[str, Any] | None) -> str | None:
    """Return an event's context as JSON with sorted names, None for none."""
    return orjson.dumps(context, option=orjson.OPT_SORT_KEYS).decode() if context else None


def events_table(
    source_offsets: list[int],
    user_ids: list[str],
    item_ids: list[str],
    types: list[int],
    values: list[float],
    event_ts_ms: list[int],
    event_hashes: list[int],
    *,
    list_ids: Sequence[str | None] | None = None,
    positions: Sequence[int | None] | None = None,
    sessions: Sequence[str | None] | None = None,
    contexts: Sequence[str | None] | None = None,
) -> pa.Table:
    """Return columns of decoded events as a table with SCHEMA; `contexts` are those of `context_json`, a column left out holds nothing."""
    nothing = [None] * len(source_offsets)
    columns: list[pa.Array] = [
        pa.array(source_offsets, pa.int64()),
        pa.array(user_ids, pa.string()).dictionary_encode(),
        pa.array(item_ids, pa.string()).dictionary_encode(),
        pa.array(types, pa.int8()),
        pa.array(values, pa.float64()),
        pa.array(event_ts_ms, pa.int64()),
        pa.array(event_hashes, pa.uint64()),
        pa.array(nothing if list_ids is None else list_ids, pa.string()).dictionary_encode(),
        pa.array(nothing if positions is None else positions, pa.int16()),
        pa.array(nothing if sessions is None else sessions, pa.string()).dictionary_encode(),
        pa.array(nothing if contexts is None else contexts, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def segment_bytes(events: pa.Table) -> bytes:
    """Return a table with SCHEMA as a Parquet file."""
    sink = io.BytesIO()
    texts = ["user_id", "item_id", *(name for name, kind in _SURROUNDING if kind != pa.int16())]
    pq.write_table(events.combine_chunks(), sink, compression="zstd", use_dictionary=texts, write_page_checksum=True)
    return sink.getvalue()


def read_segment(content: bytes, most_rows: int, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Return columns of a segment of any version; what its version does not hold is null.

    Raises what pyarrow raises for a file that is no segment, KeyError for a missing column, Fatal for a version of a newer program.
    """
    source = io.BytesIO(content)
    described = pq.read_metadata(source)
    held = SCHEMA.names if _version_of(described.metadata) >= 2 else COUNTED
    if described.num_rows > most_rows:
        raise pa.ArrowInvalid(f"{described.num_rows} rows are more than the name covers")
    source.seek(0)
    wanted = [name for name in columns if name in held]
    table = pq.read_table(source, columns=wanted, page_checksum_verification=True).select(wanted)
    table.validate(full=True)
    table = table.cast(pa.schema([SCHEMA.field(name) for name in wanted]))
    _check_columns(table)
    return _with_all(table, columns)


def n_rows_of(content: bytes) -> int:
    """Return the number of events in a segment, from its footer."""
    n_rows: int = pq.read_metadata(io.BytesIO(content)).num_rows
    return n_rows


def _version_of(metadata: Mapping[bytes, bytes] | None) -> int:
    stated = (metadata or {}).get(_VERSION_KEY, b"1")
    if not (stated.isdigit() and len(stated) < 10 and int(stated)):
        raise pa.ArrowInvalid("its schema version is no number")
    if int(stated) > VERSION:
        raise Fatal(
            f"schema version {int(stated)}, this version reads 1 to {VERSION}; run the version that wrote it, or move trainer.log_url away"
        )
    return int(stated)


def _with_all(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the table with these columns of SCHEMA in their order, null where it has none."""
    schema = pa.schema([SCHEMA.field(name) for name in columns], metadata=SCHEMA.metadata)
    held = set(table.column_names)
    arrays = [table.column(field.name) if field.name in held else pa.nulls(len(table), field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _check_columns(table: pa.Table) -> None:
    """Raise ArrowInvalid for values that the decoder admits in no event."""
    held = set(table.column_names)
    for name in held.intersection(COUNTED):
        if table.column(name).null_count:
            raise pa.ArrowInvalid(f"column {name} has nulls")
    longest = limits.ID_MAX_BYTES
    for name, lowest, highest in (
        ("type", 0, max(event_type.code for event_type in EventType)),
        ("event_ts_ms", limits.TIMESTAMP_MIN_MS, limits.TIMESTAMP_MAX_MS),
        ("position", 1, limits.MAX_POSITION),
        ("list_id", 1, longest),
        ("session", 1, longest),
        ("context", 2, CONTEXT_MAX_BYTES),
    ):
        if name not in held:
            continue
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        found = pc.min_max(pc.binary_length(column) if pa.types.is_string(column.type) else column).as_py()
        if found["min"] is not None and not lowest <= found["min"] <= found["max"] <= highest:
            raise pa.ArrowInvalid(f"column {name} has values that no event may have")


def within(table: pa.Table, first: int, last: int) -> pa.Table:
    """Return the rows whose offsets lie between `first` and `last`, both included."""
    offsets = table.column("source_offset")
    ends = pc.min_max(offsets).as_py()
    if not len(table) or (first <= ends["min"] and ends["max"] <= last):
        return table
    return table.filter(pc.and_(pc.greater_equal(offsets, first), pc.less_equal(offsets, last)))


def without_users(table: pa.Table, erased: Mapping[str, int]) -> pa.Table:
    """Return the table without the events of erased users below the offset of their erasure, and without a trace of them in dictionaries;
    the table itself if it has none."""
    is_theirs = pc.is_in(table.column("user_id").cast(pa.string()), pa.array(list(erased), pa.string()))
    rows = np.flatnonzero(is_theirs.to_numpy())
    named = table.column("user_id").take(pa.array(rows)).to_pylist(), table.column("source_offset").to_numpy()[rows].tolist()
    gone = [row for row, user_id, at in zip(rows.tolist(), *named, strict=True) if at < erased[user_id]]
    if not gone:
        return table
    kept = np.ones(len(table), np.bool_)
    kept[gone] = False
    table = table.filter(pa.array(kept)).combine_chunks()
    for at, described in enumerate(table.schema):
        if pa.types.is_dictionary(described.type):
            table = table.set_column(at, described, table.column(at).cast(pa.string()).combine_chunks().dictionary_encode())
    return table


def columns_of(partitions: list[int], tables: list[pa.Table], duplicate_chunk: int) -> EventColumns:
    """Return the events of segments that count: `tables` in the order of their offsets, each of the partition beside it.

    All tables have the columns COUNTED, or all of SCHEMA.
    """
    by_event = np.repeat(np.array(partitions, np.int32), [len(table) for table in tables])
    table = pa.concat_tables(tables) if tables else _COUNTED_SCHEMA.empty_table()
    table = table.unify_dictionaries().combine_chunks()
    user_codes, user_ids = _codes(table, "user_id")
    item_codes, item_ids = _codes(table, "item_id")
    source_offsets = table.column("source_offset").to_numpy()
    mixed = table.column("event_hash").to_numpy() + user_codes.astype(np.uint64) * _MIXING
    counting = _counting(by_event, source_offsets, mixed, duplicate_chunk)
    kept: slice | NDArray[np.bool_] = slice(None) if counting.all() else counting
    return EventColumns(
        by_event[kept],
        source_offsets[kept],
        user_codes[kept],
        item_codes[kept],
        table.column("type").to_numpy()[kept],
        table.column("value").to_numpy()[kept],
        table.column("event_ts_ms").to_numpy()[kept],
        user_ids,
        item_ids,
        _surroundings(table, counting),
    )


def _surroundings(table: pa.Table, counting: NDArray[np.bool_]) -> EventSurroundings | None:
    if "context" not in table.column_names:
        return None
    table = table if counting.all() else table.filter(pa.array(counting))
    list_codes, list_ids = _codes(table, "list_id")
    session_codes, sessions = _codes(table, "session")
    positions = pc.fill_null(table.column("position"), 0).to_numpy()
    return EventSurroundings(list_codes, positions, session_codes, table.column("context").to_pylist(), list_ids, sessions)


def _counting(
    partitions: NDArray[np.int32], source_offsets: NDArray[np.int64], mixed: NDArray[np.uint64], duplicate_chunk: int
) -> NDArray[np.bool_]:
    """Return which events count, (n,): not those that repeat an event of their partition within its window.

    `mixed` (n,) stands for user and event id. It is compared within a window only, as the state compares its own hashes.
    """
    counting = np.ones(len(mixed), bool)
    ordered = np.sort(mixed)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return counting
    repeated = np.flatnonzero(twice[np.searchsorted(twice, mixed).clip(max=len(twice) - 1)] == mixed)  # the others count in any window
    for partition in np.unique(partitions[repeated]).tolist():
        places = repeated[partitions[repeated] == partition]
        window = DuplicateWindow(duplicate_chunk)
        counting[places] = window.admit_all(source_offsets[places].tolist(), mixed[places].tolist())
    return counting


def _codes(table: pa.Table, name: str) -> tuple[NDArray[np.int32], list[str]]:
    """Return each row's place in the column's values, −1 for null, and those values."""
    if not len(table):
        return np.zeros(0, np.int32), []
    column = table.column(name).combine_chunks()
    encoded = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int32), encoded.dictionary.to_pylist()
