"""Export lists, models, state, events, items and profiles to Parquet for `recsys export`, in bounded memory; only the new file is written.

`recsys import` takes every value of exported events, items and profiles as it is: the marked files come back equal.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import Event, Item, UserProfile
from schemas.decoding import decode_event, decode_item, decode_profile, decode_recommendations
from schemas.errors import Poison
from workers.errors import Fatal, SettingsError, WorkerError
from workers.kafka.offsets import end_offsets, start_offsets
from workers.kafka.records import BlockingRangeReader, Place, Record
from workers.kafka.rights import on_topics
from workers.producer.parquet_rows import EXPORT_MARK
from workers.settings import Settings

ROWS_PER_GROUP = 20_000
"""Rows of one part of the file: as many are held at once, some 10 MB."""
USERS_AT_ONCE = 500
Step = Callable[[int], None]
"""Called with how many of the total are done since the last call."""
Total = Callable[[int], None]
Decode = Callable[[bytes | None, bytes | None], Item | UserProfile | None]
_TIME = pa.timestamp("ms", tz="UTC")
SCHEMAS: dict[str, pa.Schema] = {
    "events": pa.schema([
        ("event_id", pa.string()), ("user_id", pa.string()), ("item_id", pa.string()), ("type", pa.string()), ("value", pa.float64()),
        ("event_ts_ms", _TIME), ("list_id", pa.string()), ("position", pa.int32()), ("session", pa.string()), ("context", pa.string()),
        ("partition", pa.int32()), ("source_offset", pa.int64()),
    ]),
    "items": pa.schema([
        ("item_id", pa.string()), ("title", pa.string()), ("categories", pa.list_(pa.string())), ("text", pa.string()),
        ("numeric_attributes", pa.string()), ("categorical_attributes", pa.string()), ("embeddings", pa.string()),
        ("available", pa.bool_()), ("published_ts_ms", _TIME), ("expires_ts_ms", _TIME),
    ]),
    "users": pa.schema([
        ("user_id", pa.string()), ("numeric_attributes", pa.string()), ("categorical_attributes", pa.string()),
        ("preferred_categories", pa.list_(pa.string())), ("updated_ts_ms", _TIME), ("merged_into", pa.string()),
    ]),
    "lists": pa.schema([
        ("user_id", pa.string()), ("list_id", pa.string()), ("generated_ts_ms", _TIME), ("variant", pa.string()), ("models", pa.string()),
        ("rank", pa.int32()), ("item_id", pa.string()), ("score", pa.float64()), ("sources", pa.string()),
        ("because", pa.list_(pa.string())),
        ("reason", pa.string()), ("propensity", pa.float64()),
    ]),
    "models": pa.schema([
        ("kind", pa.string()), ("version", pa.string()), ("serving", pa.bool_()), ("parent", pa.string()), ("trained_ts_ms", _TIME),
        ("train_s", pa.float64()), ("n_events", pa.int64()), ("n_items", pa.int64()), ("decision", pa.string()), ("metrics", pa.string()),
        ("config", pa.string()), ("code_version", pa.string()), ("problem", pa.string()),
    ]),
    "state": pa.schema([
        ("user_id", pa.string()), ("partition", pa.int32()), ("item_id", pa.string()), ("first_event_ts", _TIME), ("last_event_ts", _TIME),
        ("type", pa.string()), ("weight", pa.float64()), ("touches", pa.int32()),
    ]),
}  # fmt: skip
"""What is exported ▸ the columns of its rows."""


class Table:
    """Writes rows to a Parquet file, a part at a time."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self.n_rows = 0

    def add(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self._rows.append(row)
        self.n_rows += 1
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


@contextmanager
def new_table(path: Path, what: str) -> Iterator[Table]:
    """Open a table whose file appears when all of it is written. Raises SettingsError for a file that is there, or cannot be made."""
    if path.exists():
        raise SettingsError(f"--out: {path} is there already: name another file, or remove it")
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise SettingsError(f"--out: {path.parent} cannot be written ({error.strerror}): name another folder") from None
    os.close(handle)
    try:
        table = Table(temporary, SCHEMAS[what].with_metadata({EXPORT_MARK: what.encode()}))
        try:
            yield table
        finally:
            table.close()
        try:
            os.link(temporary, path)  # fails where another process made the file since
        except FileExistsError:
            raise SettingsError(f"--out: {path} is there already: name another file, or remove it") from None
    except OSError as error:
        raise Fatal(f"--out: {path} cannot be written ({error.strerror or type(error).__name__}): free the disk, or name another") from None
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def export_events(settings: Settings, table: Table, total: Total, step: Step) -> int:
    """Export the events of the topic, partition after partition; return how many records were no events."""
    topic = settings.topics.events
    places = _places(settings, topic, total)
    skew_ms = settings.stream.future_skew_s * 1000
    n_bad = 0
    with BlockingRangeReader(settings, needs=on_topics("Read", topic)) as reader:
        for place, (start, end) in places.items():
            for record in _stepping(reader, place, start, end, step):
                try:
                    event = decode_event(record.value, record.key, record_ts_ms=record.source_timestamp_ms, future_skew_ms=skew_ms)
                except Poison:
                    n_bad += 1
                    continue
                table.add(row_of(event) | {"partition": record.partition, "source_offset": record.source_offset})
    return n_bad


def row_of(record: Event | Item | UserProfile) -> dict[str, Any]:
    """Return a record as a row: objects are JSON text, since their names are the users' own."""
    row = record.model_dump(mode="json", exclude={"schema_version"})
    for name, value in row.items():
        if isinstance(value, dict):
            row[name] = json.dumps(value, ensure_ascii=False) if value else None
    return row


def export_items(settings: Settings, table: Table, total: Total, step: Step) -> int:
    """Export the newest record of every item that was not removed; return how many records could not be read. Memory as `export_lists`."""
    return _export_compacted(settings, settings.topics.items, decode_item, table, total, step)


def export_users(settings: Settings, table: Table, total: Total, step: Step) -> int:
    """Export the newest profile of every user that was not removed; return how many records could not be read. Memory as `export_lists`."""
    return _export_compacted(settings, settings.topics.users, decode_profile, table, total, step)


def _export_compacted(settings: Settings, topic: str, decode: Decode, table: Table, total: Total, step: Step) -> int:
    n_bad = 0
    for record in _newest(settings, topic, total, step):
        try:
            found = decode(record.value, record.key)
        except Poison:
            n_bad += 1
            continue
        assert found is not None, "it has a value"
        table.add(row_of(found))
    return n_bad


def _newest(settings: Settings, topic: str, total: Total, step: Step) -> Iterator[Record]:
    """Yield the newest record of each key that is no tombstone, partition after partition; each partition is read twice."""
    places = _places(settings, topic, lambda n: total(2 * n))
    with BlockingRangeReader(settings, needs=on_topics("Read", topic)) as reader:
        for place, (start, end) in places.items():
            newest = {record.key: record.source_offset for record in _stepping(reader, place, start, end, step)}
            for record in _stepping(reader, place, start, end, step):
                if newest.get(record.key) == record.source_offset and record.value is not None:
                    yield record


def export_lists(settings: Settings, table: Table, total: Total, step: Step) -> int:
    """Export each user's newest list, a row for each place; return how many records were no lists.

    Each partition is read twice: first for the offset of each user's newest record, then for the lists. Memory: a key and a number a user
    of one partition.
    """
    n_bad = 0
    for record in _newest(settings, settings.topics.recommendations, total, step):
        try:
            made = decode_recommendations(record.value, record.key)
        except Poison:
            n_bad += 1
            continue
        assert made is not None, "it has a value"
        head = {"user_id": made.user_id, "list_id": made.list_id, "generated_ts_ms": made.generated_ts_ms, "variant": made.variant}
        for item in made.items:
            row = {"rank": item.rank, "item_id": item.item_id, "score": item.score, "because": list(item.because)}
            row |= {"sources": json.dumps(item.sources), "reason": item.reason, "propensity": item.propensity}
            table.add(head | {"models": made.model_version} | row)
    return n_bad


def _places(settings: Settings, topic: str, total: Total) -> dict[Place, tuple[int, int]]:
    starts, ends = start_offsets(settings, [topic]), end_offsets(settings, [topic])
    total(sum(end - starts[place] for place, end in ends.items()))
    return {place: (starts[place], end) for place, end in sorted(ends.items())}


def _stepping(reader: BlockingRangeReader, place: Place, start: int, end: int, step: Step) -> Iterator[Record]:
    """Yield the records of a range; offsets that compaction emptied count as done, too."""
    at = start
    for record in reader.between(place, start, end):
        yield record
        if record.source_offset + 1 - at >= 1_000:
            step(record.source_offset + 1 - at)
            at = record.source_offset + 1
    step(end - at)


def export_models(settings: Settings, table: Table, total: Total, step: Step) -> int:
    """Export the manifests of the model store; return how many cannot be read."""
    from workers.models.store import open_model_store

    store = open_model_store(settings)
    kinds = store.kinds()
    versions = [(kind, version) for kind in kinds for version in store.versions(kind)]
    total(len(versions))
    n_bad = 0
    serving = {}
    for kind in kinds:
        with suppress(WorkerError):
            serving[kind] = store.champion(kind)
    for kind, version in versions:
        row: dict[str, Any] = {"kind": kind, "version": version, "serving": serving.get(kind) == version}
        try:
            manifest, _ = store.manifest(kind, version)
        except WorkerError as error:
            n_bad += 1
            table.add(row | {"problem": str(error)})
        else:
            row |= {"parent": manifest.parent, "trained_ts_ms": manifest.trained_ts_ms, "train_s": manifest.train_s}
            row |= {"n_events": manifest.trained_on.n_events, "n_items": manifest.n_items, "decision": manifest.decision}
            row |= {"metrics": json.dumps(manifest.metrics), "config": json.dumps(manifest.config), "code_version": manifest.code_version}
            table.add(row)
        step(1)
    return n_bad


async def export_state(settings: Settings, table: Table, total: Total, step: Step) -> int:
    """Export the histories of all users, a row for each item of each; return how many rows cannot be read. Total: partitions.

    Memory: the ids of all items, and 500 users.
    """
    from recsys.state.user_table import WEIGHT_UNITS, unpack_row
    from schemas.events import event_type_name
    from workers.bootstrap import open_store

    store = open_store(settings)
    n_bad = 0
    try:
        layout = await store.open_read_only()
        names = await store.item_names()
        total(layout.partitions)
        for partition in range(layout.partitions):
            async for users in _in_parts(store.scan_users(partition)):
                for user_id, packed in zip(users, await store.read_users(partition, users), strict=True):
                    if packed is None:
                        continue
                    try:
                        columns = unpack_row(packed).columns.arrays
                    except Exception:  # a row that something else wrote
                        n_bad += 1
                        continue
                    for number, last_s, first_s, units, code, touches, _ in zip(*(column.tolist() for column in columns), strict=True):
                        if number >= len(names):  # numbered since the names were read
                            names = await store.item_names()
                        row = {"user_id": user_id, "partition": partition, "item_id": names[number], "first_event_ts": first_s * 1000}
                        row |= {"last_event_ts": last_s * 1000, "type": event_type_name(code), "weight": units / WEIGHT_UNITS}
                        table.add(row | {"touches": touches})
            step(1)
    finally:
        await store.close()
    return n_bad


async def _in_parts(users: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    """Yield users in lists; a scan may name one twice, which is left out within a list."""
    part: dict[str, None] = {}
    async for user_id in users:
        part[user_id] = None
        if len(part) >= USERS_AT_ONCE:
            yield list(part)
            part = {}
    if part:
        yield list(part)
