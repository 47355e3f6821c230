"""Bad rows are kept beside their file, each as it was read, and go out once they are corrected: none is lost, nothing is replaced."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import Event, EventType, limits
from tests.row_publisher import COMMAND, RecordingPublisher
from workers.cli import app as application
from workers.operations.export import new_table, row_of
from workers.producer import bad_rows

T = 1_763_200_000
TABLE = f"user,item,time,type\nu1,i1,{T},view\n,i2,{T},view\nu3,i3,{T}\nu4,i4,when,view\n\nu5,i5,{T},gone\nu6,\"i6\nu7,i7,{T},view\n"
PLACES = [(3, "user_id"), (4, "record"), (5, "event_ts_ms"), (7, "type"), (8, "record")]
"""Line and field of the bad rows of `TABLE`."""
OBJECTS = [
    {"user": "u1", "item": "i1", "time": T, "type": "view"},
    {"item": "i2", "time": T, "type": "view"},
    {"user": "u4", "item": "i4", "time": "when", "type": "view"},
    {"user": "u5", "item": "i5", "time": T, "type": "gone"},
]
LINES = "".join(json.dumps(row) + "\n" for row in OBJECTS) + "{torn\n"


@dataclass
class Outcome:
    """The result of one command: exit code, messages, the last document that it printed, sent records."""

    code: int
    err: str
    report: dict[str, Any]
    records: list[Any]


class Import:
    """Runs `recsys import` with a recording publisher in place of the broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd
        monkeypatch.setattr("typer.main.get_command", lambda app: COMMAND)

    def __call__(self, *arguments: object, command: tuple[str, ...] = ("import",)) -> Outcome:
        publisher = RecordingPublisher()
        self._monkeypatch.setattr("workers.client.EventPublisher", lambda *_: publisher)
        self._capfd.readouterr()
        asked = () if "--dry-run" in arguments or command != ("import",) else ("--yes",)
        code = application.run([*command, *map(str, arguments), "--json", *asked])
        out, err = self._capfd.readouterr()
        report = json.loads(out.splitlines()[-1]) if out else {}
        if "rows" in report:
            assert report["rows"] == report["published"] + report.get("would_publish", 0) + report["bad"] + report["merged"]
        assert "Traceback" not in err and "unexpected" not in err, err
        return Outcome(code, err, report, publisher.records)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Import:
    return Import(monkeypatch, capfd)


def kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def correct(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rows = kept(path)
    for row in rows:
        change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def correct_row(row: dict[str, Any]) -> None:
    """Correct what is wrong with the rows of `TABLE` and `LINES`."""
    if "text" in row:
        row["text"] = {"u3": f"u3,i3,{T},view", "u6": f"u6,i6,{T},view"}.get(row["text"][:2], json.dumps(OBJECTS[0]))
        return
    columns = row["row"]
    columns["user"] = columns["user"] or "u2"
    columns["time"] = T if columns["time"] == "when" else columns["time"]
    columns["type"] = "view"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"])
def test_every_bad_row_is_kept_as_it_was_read_and_goes_out_once_it_is_corrected(name: str, publish: Import, tmp_path: Path) -> None:
    is_lines, is_tabs = "jsonl" in name, "tsv" in name
    content = LINES if is_lines else TABLE.replace('"i6', "i6").replace(",", "\t") if is_tabs else TABLE
    source = tmp_path / name
    source.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    found = publish(source)
    side = tmp_path / f"{name}.bad.jsonl"
    places = [(2, "user_id"), (3, "event_ts_ms"), (4, "type"), (5, "record")] if is_lines else PLACES
    assert found.code == 1 and [(row["line"], row["field"]) for row in kept(side)] == places
    assert found.report["bad"] == len(places) and found.report["bad_rows_file"] == str(side)
    assert all(row["reason"].startswith(row["field"]) for row in kept(side))
    assert f"{len(places)} bad rows are in {side}" in found.err and f"recsys import {side}" in found.err
    n_good = len(found.records)
    again = publish(side)
    assert again.records == [] and again.report["bad"] == len(places), "uncorrected, they are as bad as before"
    second = tmp_path / f"{name}.bad.2.jsonl"
    assert [row["reason"] for row in kept(second)] == [row["reason"] for row in kept(side)]
    before = kept(side)
    if is_tabs:
        correct(side, lambda row: row.update(text=f"{row['text'][:2]}\ti\t{T}\tview") if "text" in row else correct_row(row))
    else:
        correct(side, correct_row)
    rest = publish(side)
    assert rest.code == 0 and len(rest.records) == len(places) and rest.report["bad_rows_file"] is None, rest.report
    assert {event.event_ts_ms for event in rest.records} == {T * 1000}, "seconds, as the first import found"
    assert not (tmp_path / f"{name}.bad.3.jsonl").exists(), "no file for no bad rows"
    assert n_good + len(before) == found.report["rows"]


def test_parquet_rows_are_kept_with_their_number_and_read_again_alike(publish: Import, tmp_path: Path) -> None:
    moment = dt.datetime(2025, 1, 1, 12, 30)
    table = pa.table({
        "item_id": ["a", None, None], "released": pa.array([moment] * 3, pa.timestamp("us")),
        "price": pa.array([Decimal("1.50")] * 3, pa.decimal128(9, 2)), "tags": [["x", "y"]] * 3,
        "numeric_attributes": pa.array([[("weight", 2.0)]] * 3, pa.map_(pa.string(), pa.float64())),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "items.parquet")
    mapped = "published_ts_ms=released,numeric_attributes.price=price,categories=tags"
    found = publish(tmp_path / "items.parquet", "--as", "items", "--map", mapped)
    side = tmp_path / "items.parquet.bad.jsonl"
    assert [row["line"] for row in kept(side)] == [2, 3] and found.report["published"] == 1
    whole = found.records[0]
    correct(side, lambda row: row["row"].update(item_id="a"))
    assert publish(side).records == [whole, whole]


def test_all_rows_of_a_merged_record_are_kept(publish: Import, tmp_path: Path) -> None:
    source = tmp_path / "products.csv"
    source.write_text("sku,title,tags,from\na,A,x,2025-01-01\nb,B,x,never\nb,,y,\nc,C,z,2025-01-02\n")
    options = ("--as", "items", "--repeats", "merge", "--map", "item_id=sku,published_ts_ms=from,categories=tags")
    found = publish(source, *options)
    side = tmp_path / "products.csv.bad.jsonl"
    assert (found.report["rows"], found.report["published"], found.report["bad"], found.report["merged"]) == (4, 2, 2, 0)
    assert [row["line"] for row in kept(side)] == [3, 4]
    correct(side, lambda row: row["row"].update({"from": "2025-01-03"} if row["line"] == 3 else {}))
    rest = publish(side)
    assert [(item.item_id, item.title, item.categories) for item in rest.records] == [("b", "B", ("x", "y"))]
    assert (rest.report["published"], rest.report["merged"]) == (1, 1)


def test_nothing_is_kept_on_a_dry_run_unless_asked_for(publish: Import, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text(TABLE)
    assert publish(source, "--dry-run").report["bad_rows_file"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv"]
    (tmp_path / "aside").mkdir()
    found = publish(source, "--dry-run", "--bad-rows", tmp_path / "aside")
    assert found.records == [] and len(kept(tmp_path / "aside" / "a.csv.bad.jsonl")) == found.report["bad"] == len(PLACES)
    given = publish(source, "--dry-run", "--bad-rows", tmp_path / "mine")
    assert len(kept(tmp_path / "mine")) == given.report["bad"]
    refused = publish(source, "--bad-rows", tmp_path / "mine")
    assert (refused.code, refused.records) == (2, []) and "is there already" in refused.err


def test_a_folder_of_rows_is_read_without_its_bad_rows_and_they_keep_what_its_path_says(publish: Import, tmp_path: Path) -> None:
    part = tmp_path / "plays" / "type=play"
    part.mkdir(parents=True)
    (part / "a.csv").write_text(f"user,item,time\nu1,i1,{T}\nu2,i2\n,i3,{T}\n")
    publish(part / "a.csv", "--type", "play")
    assert (part / "a.csv.bad.jsonl").exists()
    found = publish(tmp_path / "plays")
    side = tmp_path / "plays.bad.jsonl"
    assert len(found.records) == 1 and [row["file"] for row in kept(side)] == ["type=play/a.csv"] * 2
    correct(side, lambda row: row.update(text=f"u2,i2,{T}") if "text" in row else row["row"].update(user="u3"))
    assert [(event.user_id, event.type.value) for event in publish(side).records] == [("u2", "play"), ("u3", "play")]


def test_a_place_that_cannot_be_written_is_said_before_anything_goes_out(
    publish: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    nowhere = publish(tmp_path / "a.csv", "--bad-rows", tmp_path / "no" / "bad.jsonl")
    assert (nowhere.code, nowhere.records) == (2, []) and nowhere.err.count("\n") == 1 and "--bad-rows" in nowhere.err

    def refuse(**_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    found = publish(tmp_path / "a.csv")
    assert (found.code, found.records) == (2, []) and "Permission denied" in found.err and "name another" in found.err


def test_a_disk_that_fills_ends_the_run_at_the_row_that_is_not_kept(
    publish: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text(TABLE)

    def full(path: Path) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bad_rows, "_made", full)
    found = publish(tmp_path / "a.csv")
    assert found.code == 1 and len(found.records) == 1 and found.report["rows"] == 2
    assert "line 3 is bad" in found.err and "No space left on device" in found.err and "not read" in found.err


def test_rows_of_other_options_are_not_read_together(publish: Import, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"user,item,time\nu1,,{T}\nu1,i1,{T}\n")
    publish(tmp_path / "a.csv", "--type", "like")
    side = tmp_path / "a.csv.bad.jsonl"
    correct(side, lambda row: row["row"].update(item="i1"))
    other = kept(side)[0]
    other["read_as"]["event_type"] = "hide"
    side.write_text(side.read_text() + json.dumps(other) + "\n")
    found = publish(side)
    assert (found.code, found.records) == (2, []) and "line 2 has another read_as" in found.err
    found = publish(side, command=("events", "publish"))
    assert found.code == 1 and [event.type for event in found.records] == ["like"] and "another read_as" in found.err
    assert publish(side, "--as", "items").code == 2
    other["read_as"]["colour"] = "red"
    side.write_text(json.dumps(other) + "\n")
    assert publish(side).code == 2 and "read_as has colour" in publish(side).err


def test_the_publish_commands_keep_bad_rows_where_they_are_asked_to(publish: Import, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"item_id": "i1", "available": "maybe"}\n{"item_id": "i2"}\n')
    found = publish(tmp_path / "a.jsonl", command=("items", "publish"))
    assert found.code == 1 and [path.name for path in tmp_path.iterdir()] == ["a.jsonl"], "nothing unasked"
    side = tmp_path / "bad.jsonl"
    found = publish(tmp_path / "a.jsonl", "--bad-rows", side, command=("items", "publish"))
    assert found.report["bad"] == len(kept(side)) == 1
    correct(side, lambda row: row["row"].update(available=False))
    assert [item.available for item in publish(side, command=("items", "publish")).records] == [False]
    assert publish(side, command=("users", "publish")).code == 2


def test_lines_of_one_order_are_events_of_their_own_once_they_are_corrected(publish: Import, tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(f"event_id,user_id,item_id,type,event_ts_ms\no1,u,,purchase,{T}\no1,u,,purchase,{T}\n")
    side = tmp_path / "bad.jsonl"
    publish(tmp_path / "orders.csv", "--row-ids", "--bad-rows", side, command=("events", "publish"))
    correct(side, lambda row: row["row"].update(item_id=f"i{row['line']}"))
    found = publish(side)
    assert [event.item_id for event in found.records] == ["i2", "i3"] and len({event.event_id for event in found.records}) == 2


def test_text_that_is_not_utf8_is_refused_until_somebody_writes_what_is_meant(publish: Import, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(f"user,item,time\nJürgen,i1,{T}\n".encode() + b"J\xfcrgen,i2,%d\n" % T)
    found = publish(tmp_path / "a.csv")
    side = tmp_path / "a.csv.bad.jsonl"
    assert [row["text"] for row in kept(side)] == [f"J\ufffdrgen,i2,{T}"] and len(found.records) == 1
    assert "U+FFFD" in publish(side).report["reasons"][0]["reason"]
    correct(side, lambda row: row.update(text=row["text"].replace("\ufffd", "ü")))
    assert [event.user_id for event in publish(side).records] == ["Jürgen"]


def test_bad_rows_of_an_export_come_back_exactly(publish: Import, tmp_path: Path) -> None:
    late_ms = limits.TIMESTAMP_MAX_MS - 1
    event = Event(event_id="NA", user_id=" u ", item_id="7.0", type=EventType.VIEW, event_ts_ms=late_ms, context={"note": ""})
    with new_table(tmp_path / "events.parquet", "events") as table:
        table.add(row_of(event))
    assert "ahead of this machine's clock" in publish(tmp_path / "events.parquet").report["reasons"][0]["reason"]
    side = tmp_path / "events.parquet.bad.jsonl"
    correct(side, lambda row: row["row"].update(event_ts_ms="2025-01-01T00:00:00Z"))
    assert publish(side).records == [event.model_copy(update={"event_ts_ms": 1_735_689_600_000})]


def test_columns_that_are_left_out_do_not_refuse_a_json_line(publish: Import, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"user": "u", "item": "i", "time": T, "colour": "red"}) + "\n")
    found = publish(tmp_path / "a.jsonl")
    assert found.code == 0 and len(found.records) == 1 and found.report["ignored_columns"] == ["colour"]
