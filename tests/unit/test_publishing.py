"""Rows of files become fields of records; what cannot is told apart by line, and nothing else is lost."""

from __future__ import annotations

import datetime as dt
import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Event, Item, from_fields
from workers.errors import SettingsError
from workers.publishing import (
    EVENT_FIELDS,
    MAX_LINE_BYTES,
    BadRow,
    Row,
    event_mapping,
    format_of,
    item_mapping,
    open_rows,
    parse_mapping,
    publish_rows,
    row_event_id,
    to_ms,
)


def rows_of(path: Path) -> list[Row]:
    with open_rows(str(path), format_of(str(path))) as rows:
        return list(rows)


class Collector:
    """Stands for the broker: validates as the real publisher does and keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def publish(self, fields: dict[str, Any]) -> None:
        self.records.append(from_fields(Event, fields))

    def publish_item(self, fields: dict[str, Any]) -> None:
        self.records.append(from_fields(Item, fields))

    def flush(self) -> None:
        pass


def publish(path: Path, mapping: Any, kind: Any = "events") -> tuple[Any, list[Any]]:
    publisher = Collector()
    with open_rows(str(path), format_of(str(path))) as rows:
        report = publish_rows(rows, mapping, publisher, kind)  # type: ignore[arg-type]
    return report, publisher.records


def test_bad_json_lines_are_reported_by_number_and_the_good_ones_all_go_out(tmp_path: Path) -> None:
    good = '{"user_id": "u", "item_id": "i%d", "type": "view", "event_ts_ms": 1700000000000}'
    lines = [good % 1, "{", "[1]", "", good % 2, '{"user_id": "u"}', "x" * (MAX_LINE_BYTES + 5), good % 3, good % 4 + "}"]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines))
    report, records = publish(file, event_mapping("jsonl", {}))
    assert [record.item_id for record in records] == ["i1", "i2", "i3"]
    assert (report.published, report.bad) == (3, 5)
    assert [line for line, _ in report.bad_rows] == [2, 3, 6, 7, 9]
    assert "item_id" in report.bad_rows[2][1]


def test_a_misspelt_json_field_is_refused_unless_unknown_ones_are_ignored(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"user_id": "u", "item_id": "i", "type": "view", "event_ts_ms": 1700000000000, "postion": 3}\n')
    assert publish(file, event_mapping("jsonl", {}))[0].bad == 1
    report, records = publish(file, event_mapping("jsonl", {}, ignore_unknown=True))
    assert (report.bad, len(records), report.ignored_columns) == (0, 1, ["postion"])


def test_csv_columns_are_mapped_and_converted_and_other_columns_left_out(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("\ufeffuserId,movieId,rating,timestamp,note\n1,17,4.5,964982703,x\n2,18,,964982704,\n3,19,5,soon,\n4,20\n")
    columns = parse_mapping("user_id=userId, item_id=movieId,value=rating,event_ts_ms=timestamp", EVENT_FIELDS)
    report, records = publish(file, event_mapping("csv", columns, event_type="rating", time_unit="s"))
    assert [(r.user_id, r.item_id, r.value, r.event_ts_ms, r.type) for r in records] == [("1", "17", 4.5, 964982703000, "rating")]
    assert [line for line, _ in report.bad_rows] == [3, 4, 5]
    assert "value" in report.bad_rows[0][1] and "event_ts_ms" in report.bad_rows[1][1]
    assert report.ignored_columns == ["note"]


def test_parquet_keeps_numbers_times_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "items.parquet"
    when = dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
    pq.write_table(
        pa.table({"item_id": [7, 8], "title": ["A", None], "categories": [["x", "y"], []], "published_ts_ms": [when, None]}), file
    )
    report, records = publish(file, item_mapping("parquet", {}), "items")
    assert report.bad == 0
    assert records[0] == from_fields(
        Item, {"item_id": "7", "title": "A", "categories": ["x", "y"], "published_ts_ms": int(when.timestamp() * 1000)}
    )


def test_compressed_files_read_like_plain_ones(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_text('{"a": 1}\n{"a": 2}\n')
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert rows_of(plain) == rows_of(packed) == [Row(1, {"a": 1}), Row(2, {"a": 2})]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_only_rows(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("any.jsonl", "any.csv"):
        (folder / name).write_bytes(content)
        try:
            _, records = publish(folder / name, event_mapping(format_of(name), {}))
        except SettingsError:
            continue
        assert records == []


def test_the_same_row_gets_the_same_event_id_and_another_row_another() -> None:
    row = {"user_id": "u", "item_id": "i", "type": "view", "event_ts_ms": 1}
    assert row_event_id(row) == row_event_id(dict(reversed(row.items())))
    assert len({row_event_id({**row, name: "other"}) for name in row} | {row_event_id(row)}) == 5


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_700_000_000, "s", 1_700_000_000_000),
        ("1700000000.25", "s", 1_700_000_000_250),
        ("1700000000000", "ms", 1_700_000_000_000),
        (1_700_000_000_000_999, "us", 1_700_000_000_000),
        ("2023-11-14T22:13:20Z", "iso", 1_700_000_000_000),
        ("2023-11-14T23:13:20+01:00", "iso", 1_700_000_000_000),
        (dt.datetime(2023, 11, 14, 22, 13, 20), "ms", 1_700_000_000_000),
    ],
)
def test_times_of_every_unit_become_milliseconds(value: Any, unit: Any, expected: int) -> None:
    assert to_ms(value, unit) == expected


@pytest.mark.parametrize(("value", "unit"), [("soon", "ms"), ("soon", "iso"), (True, "s"), (None, "s"), ({}, "ms"), (12, "iso")])
def test_what_is_no_time_is_a_bad_row(value: Any, unit: Any) -> None:
    with pytest.raises(BadRow):
        to_ms(value, unit)


@pytest.mark.parametrize("text", ["user_id", "=x", "user_id=", "usr=x", "user_id=a,b"])
def test_a_torn_or_unknown_mapping_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--map"):
        parse_mapping(text, EVENT_FIELDS)


def test_an_unknown_suffix_and_a_missing_file_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--format"):
        format_of("events.xlsx")
    with pytest.raises(SettingsError, match="cannot be opened"):
        rows_of(tmp_path / "none.jsonl")
    with pytest.raises(SettingsError, match="Parquet"):
        rows_of(tmp_path / "none.parquet")


def test_the_producer_helper_starts_without_torch_and_faust() -> None:
    program = "import sys, workers.client\nprint([m for m in ('torch', 'faust', 'aiokafka', 'redis', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"
