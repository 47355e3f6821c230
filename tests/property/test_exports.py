"""What is exported comes back equal by an import: events, items and profiles, from Parquet and as text."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from schemas import Event, Item, UserProfile, limits
from tests.property.test_decoding import events as any_events
from tests.property.test_decoding import ids, labels, names, numbers
from tests.property.test_decoding import items as any_items
from tests.property.test_row_files import plain_ids
from tests.row_publisher import RecordingPublisher
from workers.cli.file_options import FileOptions
from workers.errors import SettingsError
from workers.operations.export import Table, new_table, row_of
from workers.producer.files import open_rows
from workers.producer.guess import guess
from workers.producer.publish import publish_rows

NOW_MS = 1_763_200_000_000
NEVER_MS = limits.CALENDAR_MAX_MS
few = hypothesis_settings(max_examples=15, deadline=None)
times = st.integers(1_000_000_000_000, NOW_MS)
events = any_events.map(lambda event: event.model_copy(update={"event_ts_ms": event.event_ts_ms % NOW_MS // 2 + limits.TIMESTAMP_MIN_MS}))
items = st.tuples(any_items, st.none() | times | st.just(NEVER_MS)).map(lambda pair: pair[0].model_copy(update={"expires_ts_ms": pair[1]}))
profiles = st.builds(
    UserProfile,
    user_id=ids.filter(lambda text: text != "account"),
    numeric_attributes=st.dictionaries(names, numbers, max_size=3),
    categorical_attributes=st.dictionaries(names, labels, max_size=3),
    preferred_categories=st.lists(labels.filter(bool), max_size=3),
    updated_ts_ms=st.none() | st.integers(limits.TIMESTAMP_MIN_MS, limits.TIMESTAMP_MAX_MS),
    merged_into=st.just("account") | st.none(),
)
visible = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"], exclude_characters=">|"), min_size=1, max_size=9)


def imported(path: Path, kind: str | None = None) -> list[Any]:
    """Return what `recsys import` publishes of a file; nothing of it may be bad."""
    made = guess(str(path), kind)  # type: ignore[arg-type]
    options = FileOptions(**made.options)
    mapping = options.mapping(made.kind, made.form != "jsonl")
    with open_rows(str(path), options.reading(), mapping) as rows, RecordingPublisher() as publisher:
        report = publish_rows(rows, mapping, publisher)
    assert (report.bad, report.error) == (0, ""), report.reasons
    return publisher.records


def exported(records: Sequence[Event | Item | UserProfile], what: str, path: Path, **more: Any) -> None:
    with new_table(path, what) as table:
        for record in records:
            table.add(row_of(record) | more)


@few
@given(st.lists(events, min_size=1, max_size=8))
def test_exported_events_come_back_equal(written: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        exported(written, "events", Path(folder, "a.parquet"), partition=3, source_offset=9)
        assert imported(Path(folder, "a.parquet")) == written


@few
@given(st.lists(items, min_size=1, max_size=8, unique_by=lambda item: item.item_id))
def test_exported_items_come_back_equal(written: list[Item]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        exported(written, "items", Path(folder, "a.parquet"))
        assert imported(Path(folder, "a.parquet")) == written


@few
@given(st.lists(profiles, min_size=1, max_size=8, unique_by=lambda profile: profile.user_id))
def test_exported_profiles_come_back_equal(written: list[UserProfile]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        exported(written, "users", Path(folder, "a.parquet"))
        assert imported(Path(folder, "a.parquet")) == written


def as_lines(records: Sequence[Any]) -> str:
    return "".join(record.model_dump_json(exclude_none=True) + "\n" for record in records)


def as_table(records: Sequence[Any], delimiter: str = ",") -> str:
    """A table whose objects and lists are JSON text."""
    rows = [record.model_dump(mode="json") for record in records]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([json.dumps(cell) if isinstance(cell, dict | list | bool) else cell for cell in row.values()])
    return text.getvalue()


def of_a_table(what: st.SearchStrategy[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Lists of records whose ids and texts are read alike in text formats: without spaces around them or words for nothing."""
    changed = st.tuples(what, st.fixed_dictionaries(dict(fields)))
    records = changed.map(lambda pair: pair[0].model_copy(update=pair[1]))
    return st.lists(records, min_size=1, max_size=5, unique_by=lambda record: record.model_dump().get(next(iter(fields))))


table_events = of_a_table(
    any_events, event_id=plain_ids, user_id=plain_ids, item_id=plain_ids, list_id=st.none() | plain_ids, session=st.none() | plain_ids,
    event_ts_ms=times,
)  # fmt: skip
table_items = of_a_table(
    items, item_id=plain_ids, title=visible, text=visible, published_ts_ms=st.none() | times,
    categories=st.lists(visible, max_size=3, unique=True).map(tuple),
)  # fmt: skip
table_profiles = of_a_table(
    profiles, user_id=plain_ids.filter(lambda text: text != "account"), updated_ts_ms=st.none() | times,
    preferred_categories=st.lists(visible, max_size=3, unique=True).map(tuple),
)  # fmt: skip


@few
@given(table_events, table_items, table_profiles)
def test_records_as_text_come_back_equal(of_events: list[Any], of_items: list[Any], of_users: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for kind, records in (("events", of_events), ("items", of_items), ("users", of_users)):
            for name, text in ((f"{kind}.jsonl", as_lines(records)), (f"{kind}.csv", as_table(records))):
                Path(folder, name).write_text(text, "utf-8")
                assert imported(Path(folder, name)) == records, name


def test_columns_of_a_context_are_read_by_their_names_or_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user_id,item_id,type,event_ts_ms,context.device,Land\nu,i,view,1763200000000,phone,DE\n")
    options = guess(str(path), None, {"columns": ["context.country=Land"]}).options
    assert [(one.column, one.field) for one in guess(str(path)).columns][4:] == [("context.device", "context.device"), ("Land", "")]
    mapping = FileOptions(**options).mapping("events", True)
    with open_rows(str(path), FileOptions(**options).reading(), mapping) as rows, RecordingPublisher() as publisher:
        publish_rows(rows, mapping, publisher)
    assert [event.context for event in publisher.records] == [{"device": "phone", "country": "DE"}]


def test_an_export_that_holds_no_records_is_refused(tmp_path: Path) -> None:
    exported([], "state", tmp_path / "state.parquet")
    with pytest.raises(SettingsError, match="is an export of state"):
        guess(str(tmp_path / "state.parquet"))
    exported([], "items", tmp_path / "items.parquet")
    with pytest.raises(SettingsError, match="is an export of items"):
        guess(str(tmp_path / "items.parquet"), "events")
    mapping = FileOptions().mapping("users", True)
    with pytest.raises(SettingsError, match="is an export of items, not of users"), open_rows(
        str(tmp_path / "items.parquet"), FileOptions().reading(), mapping
    ):
        pass


def test_other_files_of_the_same_columns_are_read_as_any_file(tmp_path: Path) -> None:
    """Spaces around ids are cut off, unless the file says that it is an export."""
    columns = {"user_id": [" u "], "item_id": ["7.0"], "type": ["view"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert [(event.user_id, event.item_id) for event in imported(tmp_path / "a.parquet")] == [("u", "7")]
    table = Table(str(tmp_path / "b.parquet"), pa.table(columns).schema.with_metadata({b"recsys.export": b"events"}))
    table.add({name: cells[0] for name, cells in columns.items()})
    table.close()
    assert [(event.user_id, event.item_id) for event in imported(tmp_path / "b.parquet")] == [(" u ", "7.0")]


def test_columns_of_a_known_name_and_other_content_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,type,position,event_ts_ms,context\n" + "u,i,mobile,top,1763200000000,home\n" * 3)
    found = imported(tmp_path / "a.csv")
    assert [(event.type.value, event.position, event.context) for event in found] == [("view", None, {})] * 3
