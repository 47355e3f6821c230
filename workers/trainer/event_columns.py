"""The events of the log as columns: in segments as Arrow tables, for training as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.state.duplicates import DuplicateWindow
from schemas import EventType, limits

_MIXING = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ by the golden ratio, odd: spreads user codes over 64 bits."""

SCHEMA = pa.schema(
    [
        ("source_offset", pa.int64()),
        ("user_id", pa.dictionary(pa.int32(), pa.string())),
        ("item_id", pa.dictionary(pa.int32(), pa.string())),
        ("type", pa.int8()),
        ("value", pa.float64()),
        ("event_ts_ms", pa.int64()),
        ("event_hash", pa.uint64()),
    ]
)


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Holds n events, partition after partition, by offset within one. Shapes: all arrays (n,); codes index `user_ids` and `item_ids`.

    `types` are EventType codes, `values` NaN where an event has none.
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

    def __len__(self) -> int:
        return len(self.user_codes)


def events_table(
    source_offsets: list[int],
    user_ids: list[str],
    item_ids: list[str],
    types: list[int],
    values: list[float],
    event_ts_ms: list[int],
    event_hashes: list[int],
) -> pa.Table:
    """Return columns of decoded events as a table with SCHEMA."""
    plain: list[pa.Array] = [
        pa.array(source_offsets, pa.int64()),
        pa.array(user_ids, pa.string()).dictionary_encode(),
        pa.array(item_ids, pa.string()).dictionary_encode(),
        pa.array(types, pa.int8()),
        pa.array(values, pa.float64()),
        pa.array(event_ts_ms, pa.int64()),
        pa.array(event_hashes, pa.uint64()),
    ]
    return pa.Table.from_arrays(plain, schema=SCHEMA)


def check_columns(table: pa.Table) -> None:
    """Raise ArrowInvalid for values that the decoder admits in no event."""
    for name in SCHEMA.names:
        if table.column(name).null_count:
            raise pa.ArrowInvalid(f"column {name} has nulls")
    for name, lowest, highest in (
        ("type", 0, max(event_type.code for event_type in EventType)),
        ("event_ts_ms", limits.TIMESTAMP_MIN_MS, limits.TIMESTAMP_MAX_MS),
    ):
        found = pc.min_max(table.column(name)).as_py()
        if len(table) and not lowest <= found["min"] <= found["max"] <= highest:
            raise pa.ArrowInvalid(f"column {name} has values that no event may have")


def within(table: pa.Table, first: int, last: int) -> pa.Table:
    """Return the rows whose offsets lie between `first` and `last`, both included."""
    offsets = table.column("source_offset")
    ends = pc.min_max(offsets).as_py()
    if not len(table) or (first <= ends["min"] and ends["max"] <= last):
        return table
    return table.filter(pc.and_(pc.greater_equal(offsets, first), pc.less_equal(offsets, last)))


def columns_of(partitions: list[int], tables: list[pa.Table], duplicate_chunk: int) -> EventColumns:
    """Return the events of segments that count: `tables` in the order of their offsets, each of the partition beside it."""
    by_event = np.repeat(np.array(partitions, np.int32), [len(table) for table in tables])
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
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
    )


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
    if not len(table):
        return np.zeros(0, np.int32), []
    column = table.column(name).combine_chunks()
    encoded = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32), encoded.dictionary.to_pylist()
