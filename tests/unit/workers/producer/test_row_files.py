"""Rows of files become records; what cannot is refused by line, counts add up, and a file that is not what it seems sends nothing."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import json
import lzma
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import Poison
from tests.row_publisher import Outcome, RecordingPublisher, Shell
from workers import client
from workers.client import EventPublisher, PublishError
from workers.errors import Transient
from workers.producer import event_ids
from workers.producer.mapping import RowMapping, parse_mapping
from workers.producer.publish import publish_rows
from workers.producer.rows import MAX_LINE_BYTES, BadRow, Row
from workers.producer.times import Clock, zone_of

T = 1_763_200_000_000
HEADER = "user_id,item_id,type,event_ts_ms\n"
JSON_ROW = '{"user_id": "u%d", "item_id": "i", "type": "play", "event_ts_ms": 1763200000000}\n'


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


@pytest.fixture
def publish(shell: Shell, tmp_path: Path) -> Callable[..., Outcome]:
    """Write a file of this name and content and publish it."""

    def write_and_publish(name: str, content: str | bytes | pa.Table, *options: str, kind: str = "events") -> Outcome:
        file = tmp_path / name
        if isinstance(content, pa.Table):
            pq.write_table(content, file)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return shell.publish(file, *options, kind=kind)

    return write_and_publish


Publish = Callable[..., Outcome]


def events(**columns: list[Any] | pa.Array) -> pa.Table:
    """A Parquet table of plays, with these columns in place of the usual ones."""
    n = len(next(iter(columns.values())))
    usual: dict[str, Any] = {"user_id": ["u"] * n, "item_id": [f"i{i}" for i in range(n)], "type": ["play"] * n, "event_ts_ms": [T] * n}
    return pa.table({**usual, **columns})


def test_bad_json_lines_are_reported_by_number_and_the_good_ones_all_go_out(publish: Publish) -> None:
    good = JSON_ROW.strip()
    lines = [good % 1, "{", "[1]", "", good % 2, '{"user_id": "u"}', "x" * (MAX_LINE_BYTES + 5), good % 3, good % 4 + "}"]
    found = publish("events.jsonl", "\n".join(lines))
    assert [user for user, _ in found.ids] == ["u1", "u2", "u3"]
    assert (found.report["published"], found.report["bad"]) == (3, 5)
    assert [bad["line"] for bad in found.report["bad_rows"]] == [2, 3, 6, 7, 9]
    assert "item_id" in found.report["bad_rows"][2]["reason"]


def test_a_misspelt_json_field_is_refused_unless_unknown_ones_are_ignored(publish: Publish) -> None:
    content = (JSON_ROW % 1).replace('"type"', '"postion": 3, "type"')
    assert publish("a.jsonl", content).report["bad"] == 1
    found = publish("a.jsonl", content, "--ignore-unknown")
    assert (found.report["bad"], len(found.records), found.report["ignored_columns"]) == (0, 1, ["postion"])


def test_a_quote_in_tsv_is_data(publish: Publish) -> None:
    """C01"""
    rows = f'user_id\titem_id\ttype\tevent_ts_ms\nu1\t"Heroes\tplay\t{T}\nu2\tLow\tplay\t{T}\nu3\t"Nine"\tplay\t{T}\n'
    assert publish("a.tsv", rows).ids == [("u1", '"Heroes'), ("u2", "Low"), ("u3", '"Nine"')]
    assert publish("a.csv", rows, "--delimiter", "tab").ids == publish("b.csv", rows, "--format", "tsv").ids


@pytest.mark.parametrize("header", [(), ("--header", "user_id,item_id,type")])
def test_the_line_with_which_excel_names_the_separator_is_followed(publish: Publish, header: tuple[str, ...]) -> None:
    rows = ("" if header else "user_id;item_id;type\n") + "u;a;play\nu;b;view\n"
    found = publish("a.csv", "\ufeffsep=;\r\n" + rows, *header)
    assert found.code == 0 and found.ids == [("u", "a"), ("u", "b")]
    assert found.report["rows"] == 2, "the line is no row"


def test_cells_may_be_separated_by_several_characters_and_have_no_quotes_then(publish: Publish) -> None:
    found = publish("a.csv", 'user_id::item_id::type\nu::"a::play\nu::b:c::view\nu::d\n', "--delimiter", "::")
    assert found.ids == [("u", '"a'), ("u", "b:c")] and found.report["bad"] == 1


@pytest.mark.parametrize("at", [0, 40, 98])
@pytest.mark.parametrize("torn", ['u,"Heroes,play,{T}', '"u,Heroes,play,{T}', 'u,"Heroes"x,play,{T}', 'u,"Heroes""",play",{T}'])
def test_an_unclosed_quote_in_csv_costs_one_row_and_no_other(publish: Publish, at: int, torn: str) -> None:
    """C01"""
    lines = [f'u{i},"item, {i}",play,{T}' for i in range(99)]
    lines.insert(at, torn.replace("{T}", str(T)))
    found = publish("a.csv", HEADER + "\n".join(lines) + "\n")
    assert found.report["bad"] == 1 and found.report["bad_rows"][0]["line"] == at + 2
    assert [user for user, _ in found.ids] == [f"u{i}" for i in range(99)]


def test_two_unclosed_quotes_far_apart_do_not_swallow_the_rows_between(publish: Publish) -> None:
    """C01: a quoted cell may span lines, but not where they are rows."""
    for n_columns in (2, 3, 5):
        header = ",".join(("item_id", "title", "x", "y", "z")[:n_columns])
        rest = "," * (n_columns - 2)
        middle = "".join(f"i{i},title {i}{rest}\n" for i in range(20)) + "ragged\n"
        found = publish("a.csv", f'{header}\na,"Heroes{rest}\n{middle}b,Low"{rest}\n', kind="items")
        assert [item.item_id for item in found.records] == [*(f"i{i}" for i in range(20)), "b"]
        assert [bad["line"] for bad in found.report["bad_rows"]] == [2, 23]


def test_quoted_cells_may_span_lines_and_hold_quotes_and_delimiters(publish: Publish) -> None:
    text = "one, two\r\n\r\nthree\n" * 30
    found = publish("a.csv", f'item_id,title,text\na,"say ""hi""","{text}"\nb,B,\n', kind="items")
    assert [(item.item_id, item.title, item.text) for item in found.records] == [("a", 'say "hi"', text), ("b", "B", "")]


def test_ragged_rows_are_bad_rows_and_delimiters_at_the_end_are_not(publish: Publish) -> None:
    found = publish("a.csv", HEADER + f"u1,i,play\nu2,i,play,{T},,\nu3,i,play,{T},x\n\n\r\n  \nu4,i,play,{T}\n")
    assert [user for user, _ in found.ids] == ["u2", "u4"]
    assert [bad["line"] for bad in found.report["bad_rows"]] == [2, 4]


def test_line_ends_bom_and_spaces_in_the_header_do_not_matter(publish: Publish) -> None:
    plain = HEADER + f"u,i,play,{T}\nv,j,play,{T}\n"
    spaced = plain.replace("user_id,item_id", "user_id , item_id", 1)
    variants = [plain.replace("\n", "\r\n"), plain.replace("\n", "\r"), "\ufeff" + plain, "\n\n" + plain, spaced, plain.rstrip()]
    assert [publish("a.csv", content).ids for content in variants] == [[("u", "i"), ("v", "j")]] * len(variants)


def test_a_nul_or_broken_utf8_costs_its_row_alone(publish: Publish) -> None:
    content = (HEADER + f"a\0b,i,play,{T}\nu,i,play,{T}\nX,i,play,{T}\nw,i,play,{T}\n").encode().replace(b"X", b"\x81\x8d")
    found = publish("a.csv", content)
    assert found.ids == [("u", "i"), ("w", "i")] and [bad["line"] for bad in found.report["bad_rows"]] == [2, 4]


def test_a_column_that_is_used_and_named_twice_is_refused(publish: Publish) -> None:
    assert "user_id twice" in publish("a.csv", "user_id,item_id,user_id,type\nu,i,v,play\n").err
    assert publish("a.csv", "user_id,item_id,x,x,type\nu,i,1,2,play\n").code == 0


def test_csv_columns_are_mapped_and_converted_and_other_columns_left_out(publish: Publish) -> None:
    content = "userId,movieId,rating,timestamp,note\n1,17,4.5,964982703,x\n2,18,,964982704,\n3,19,5,soon,\n4,20\n"
    columns = "user_id=userId, item_id=movieId,value=rating,event_ts_ms=timestamp"
    found = publish("a.csv", content, "--map", columns, "--type", "rating")
    assert [(r.user_id, r.item_id, r.value, r.event_ts_ms, r.type) for r in found.records] == [("1", "17", 4.5, 964982703000, "rating")]
    reasons = [(bad["line"], bad["reason"]) for bad in found.report["bad_rows"]]
    assert [line for line, _ in reasons] == [3, 4, 5] and "value" in reasons[0][1] and "event_ts_ms" in reasons[1][1]
    assert found.report["ignored_columns"] == ["note"]


def test_a_file_without_times_has_the_same_ids_whenever_it_is_published(publish: Publish) -> None:
    """C04"""
    content = "user,item_id,type\nu,i,play\nu,i,play\nv,i,play\n"
    first = publish("a.csv", content, "--map", "user_id=user")
    time.sleep(0.002)
    second = publish("b.csv", content, "--map", "user_id=user")
    assert [r.event_id for r in first.records] == [r.event_id for r in second.records]
    assert first.records[0].event_ts_ms < second.records[0].event_ts_ms
    assert sum("moment of publishing" in warning for warning in first.report["warnings"]) == 1


def test_the_same_rows_have_the_same_ids_in_every_format(publish: Publish) -> None:
    """C04, C15"""
    table = publish("a.csv", HEADER + f"17,i,play,{T}\n17.0,j,play,{T}\n")
    lines = publish("a.jsonl", "".join(f'{{"item_id":"{i}","user_id":17.0,"type":"play","event_ts_ms":{T}}}\n' for i in "ij"))
    columns = publish("a.parquet", events(user_id=[17.0, 17.0], item_id=["i", "j"]))
    ids = [r.event_id for r in table.records]
    assert ids == [r.event_id for r in lines.records] == [r.event_id for r in columns.records] and len(set(ids)) == 2


def test_equal_rows_of_a_file_are_events_of_their_own(publish: Publish) -> None:
    """C17: four plays of one item on one day are four events."""
    found = publish("a.csv", "user_id,item_id,type,event_ts_ms\n" + "u,i,play,2025-11-15\n" * 4 + "u,j,play,2025-11-15\n")
    assert len({r.event_id for r in found.records}) == 5
    assert any(warning.startswith("3 rows the same") for warning in found.report["warnings"])


def test_rows_that_share_an_event_id_are_counted_and_row_ids_tell_them_apart(publish: Publish) -> None:
    """C17: lines of one order."""
    lines = [("o1", "a"), ("o1", "b"), ("o1", "c"), ("o2", "a"), ("o2", "a")]
    content = "order," + HEADER + "".join(f"{order},u,{item},purchase,{T}\n" for order, item in lines)
    shared = publish("a.csv", content, "--map", "event_id=order")
    warnings = "\n".join(shared.report["warnings"])
    assert "2 rows with the event_id of an earlier row and other content" in warnings and "--row-ids" in warnings
    assert "1 row with the event_id and the content" in warnings
    apart = publish("a.csv", content, "--map", "event_id=order", "--row-ids")
    assert len({r.event_id for r in apart.records}) == 5


@pytest.mark.parametrize(("max_exact", "max_repeated"), [(1, 10), (10, 1), (1, 1)])
def test_beyond_the_caps_of_memory_ids_are_still_distinct_and_stable(
    monkeypatch: pytest.MonkeyPatch, max_exact: int, max_repeated: int
) -> None:
    monkeypatch.setattr(event_ids, "MAX_EXACT", max_exact)
    monkeypatch.setattr(event_ids, "MAX_REPEATED", max_repeated)
    rows = [{"user_id": user} for user in "ababab"]
    first, second = event_ids.RowIds(), event_ids.RowIds()
    ids = [first.id_of(row, line) for line, row in enumerate(rows)]
    assert len(set(ids)) == 6 and ids == [second.id_of(row, line) for line, row in enumerate(rows)]


@pytest.mark.parametrize("name", ["user_id", "item_id", "type", "value", "event_ts_ms", "list_id", "position", "session", "context"])
def test_an_id_depends_on_every_field_and_not_on_their_order(name: str) -> None:
    row = {"user_id": "u", "item_id": "i", "type": "view", "event_ts_ms": 1}
    assert event_ids.content_of(row) == event_ids.content_of(dict(reversed(row.items())))
    assert event_ids.content_of(row) != event_ids.content_of({**row, name: {"a": 1}})


def rows_gz(n: int = 4_000) -> bytes:
    return gzip.compress("".join(JSON_ROW % i for i in range(n)).encode(), mtime=0)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.999])
def test_a_cut_gzip_file_says_the_last_good_row_and_the_counts(publish: Publish, share: float) -> None:
    """C09"""
    packed = rows_gz()
    found = publish("a.jsonl.gz", packed[: int(len(packed) * share)])
    report = found.report
    assert (found.code == 1 and report["bad"] == 0 and 0 < report["published"] < 20_000) or share > 0.99
    assert f"beyond row {report['published']:,}" in report["error"] and "cut" in report["error"] and report["last_line"] == report["rows"]
    assert found.err.count("\n") == 1 and report["error"] in found.err


@pytest.mark.parametrize("n", [10, 4_000])
def test_a_wrong_checksum_is_damage_after_all_rows(publish: Publish, n: int) -> None:
    """C09"""
    packed = bytearray(rows_gz(n))
    packed[-8] ^= 1
    found = publish("a.jsonl.gz", bytes(packed))
    assert found.code == 1 and found.report["published"] == n and "checksum" in found.report["error"]


@pytest.mark.parametrize(("suffix", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress), ("gz", gzip.compress)])
def test_compression_is_known_by_content_and_damage_ends_with_counts(publish: Publish, suffix: str, pack: Any) -> None:
    """C09"""
    n = 3_000
    content = (HEADER + "".join(f"u{i},i{zlib.crc32(b'%d' % i)},play,{T}\n" for i in range(n))).encode()
    whole = publish("a.csv", pack(content) + pack(f"last,i,play,{T}\n".encode()))
    assert whole.report["published"] == n + 1 and whole.code == 0
    packed = bytearray(pack(content))
    packed[len(packed) * 3 // 4] ^= 0xFF
    found = publish(f"a.csv.{suffix}", bytes(packed))
    assert found.code == 1 and found.report["error"]


def test_parquet_damaged_in_the_middle_ends_with_counts(publish: Publish, tmp_path: Path) -> None:
    """C09"""
    n = 16_000
    table = events(user_id=[f"u{zlib.crc32(b'%d' % i)}" for i in range(n)])
    pq.write_table(table, tmp_path / "good.parquet", row_group_size=4_000, compression="zstd", write_page_checksum=True)
    content = bytearray((tmp_path / "good.parquet").read_bytes())
    middle = len(content) * 6 // 10
    content[middle : middle + 500] = os.urandom(500)
    found = publish("a.parquet", bytes(content))
    assert found.code == 1 and 4_000 <= found.report["published"] < n and "Parquet data is damaged" in found.report["error"]
    assert found.err.count("\n") == 1


def test_json_cut_in_its_last_line_is_one_bad_row(publish: Publish) -> None:
    """C09"""
    found = publish("a.jsonl", "".join(JSON_ROW % i for i in range(3))[:-20])
    assert found.code == 1 and found.report["published"] == 2 and found.report["bad_rows"][0]["line"] == 3


def test_what_the_broker_did_not_take_is_not_counted_as_published(shell: Shell) -> None:
    """C09: the counts hold also when the broker is the one that fails."""

    class Failing(RecordingPublisher):
        def flush(self) -> None:
            raise PublishError("2 records were not delivered (X): publish them again", self.records[-2:])

    rows = [Row(i, {"user_id": "u", "item_id": f"i{i}", "type": "play", "event_ts_ms": T}) for i in range(5)]
    report = publish_rows(rows, RowMapping("events", {}, True), Failing())
    assert (report.rows, report.published, report.undelivered) == (5, 3, 2) and "not delivered" in report.error


def test_what_closing_gives_up_is_counted(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    """C09: the publisher's last flush is that of its end."""

    def close(self: RecordingPublisher, *_: Any) -> None:
        undelivered = [self.records.pop()]
        raise PublishError("1 records were not delivered (X): publish them again", undelivered)

    monkeypatch.setattr(RecordingPublisher, "__exit__", close)
    found = publish("a.csv", HEADER + f"u,i,play,{T}\nu,j,play,{T}\n")
    assert found.code == 1 and (found.report["published"], found.report["undelivered"]) == (1, 1)


def test_ctrl_c_and_a_broker_that_is_away_leave_counts() -> None:
    """C09"""
    rows = [Row(i, {"user_id": "u", "item_id": f"i{i}", "type": "play", "event_ts_ms": T}) for i in range(5)]
    for error in (KeyboardInterrupt(), Transient("Kafka is away")):

        class Failing(RecordingPublisher):
            failure = error

            def publish(self, event: Any, /) -> None:
                if len(self.records) == 3:
                    raise self.failure
                super().publish(event)

        report = publish_rows(rows, RowMapping("events", {}, True), Failing())
        assert (report.rows, report.published, report.bad) == (3, 3, 0) and report.error


def test_parquet_times_of_every_kind_become_milliseconds(publish: Publish) -> None:
    """C10"""
    ns = T * 1_000_000 + 123_456
    day = dt.date(2025, 11, 15)
    midnight = 1_763_164_800_000
    columns = {
        "ns": (pa.array([ns], pa.timestamp("ns", "UTC")), T),
        "ns naive": (pa.array([ns], pa.timestamp("ns")), T),
        "us": (pa.array([ns // 1_000], pa.timestamp("us", "Asia/Shanghai")), T),
        "s": (pa.array([T // 1_000], pa.timestamp("s")), T // 1_000 * 1_000),
        "date32": (pa.array([day], pa.date32()), midnight),
        "date64": (pa.array([day], pa.date64()), midnight),
        "text": (pa.array(["2025-11-15"]), midnight),
        "categorical": (pa.array(["2025-11-15"]).dictionary_encode(), midnight),
        "integer": (pa.array([T]), T),
        "float": (pa.array([float(T)]), T),
        "decimal": (pa.array([Decimal(T)], pa.decimal128(20, 2)), T),
    }
    for kind, (column, expected) in columns.items():
        found = publish("a.parquet", events(event_ts_ms=column))
        assert [r.event_ts_ms for r in found.records] == [expected], kind


def test_one_parquet_time_out_of_range_costs_its_row_alone(publish: Publish) -> None:
    """C10"""
    found = publish("a.parquet", events(event_ts_ms=pa.array([T, 10**17, T], pa.timestamp("ms"))))
    assert found.report["published"] == 2 and found.report["bad_rows"][0]["line"] == 2


def test_parquet_ids_of_every_kind_are_read_alike(publish: Publish) -> None:
    """C10, C15"""
    columns = {
        "int64": pa.array([17, None]),
        "float with NaN": pa.array([17.0, float("nan")]),
        "float with null": pa.array([17.0, None]),
        "decimal": pa.array([Decimal(17), None], pa.decimal128(38, 0)),
        "text": pa.array(["17", None]),
        "binary": pa.array([b"17", None]),
        "large binary": pa.array([b"17", None], pa.large_binary()),
        "binary, not UTF-8": pa.array([b"17", b"\xff\xfe"]),
        "categorical": pa.array(["17", None]).dictionary_encode(),
        "uuid": pa.array([UUID(int=17).bytes, None], pa.uuid()),
        "large text": pa.array(["17", " "], pa.large_string()),
    }
    for kind, column in columns.items():
        found = publish("a.parquet", events(user_id=column))
        expected = str(UUID(int=17)) if kind == "uuid" else "17"
        assert found.ids == [(expected, "i0")] and found.report["bad"] == 1, kind
        assert found.report["bad_rows"][0]["reason"].startswith("user_id:"), kind


def test_parquet_nested_columns_become_lists_and_objects(publish: Publish) -> None:
    """C10"""
    table = pa.table(
        {
            "item_id": [7, 8],
            "title": pa.array([1984, None]),
            "categories": [["x", None, "y"], []],
            "numeric_attributes": [{"year": 1984, "price": None}, None],
            "categorical_attributes": pa.array([[("country", "uk")], []], pa.map_(pa.string(), pa.string())),
            "embeddings": [{"text": [1.0, 2.0]}, None],
            "available": [1, 0],
            "published_ts_ms": [dt.datetime(2020, 1, 2, tzinfo=dt.UTC), None],
        }
    )
    found = publish("a.parquet", table, kind="items")
    assert found.report["bad_rows"] == []
    first, second = found.records
    assert (first.item_id, first.title, first.categories, first.available) == ("7", "1984", ("x", "y"), True)
    assert first.numeric_attributes == {"year": 1984} and first.categorical_attributes == {"country": "uk"}
    assert first.embeddings == {"text": (1.0, 2.0)} and first.published_ts_ms == 1_577_923_200_000
    assert (second.item_id, second.title, second.available) == ("8", "", False)


def test_a_spark_folder_is_read_part_by_part_with_its_partition_columns(shell: Shell, tmp_path: Path) -> None:
    """C10"""
    folder = tmp_path / "out"
    for kind in ("play", "view"):
        (folder / f"type={kind}").mkdir(parents=True)
        table = events(item_id=["a", "b"]).drop_columns(["type"])
        pq.write_table(table, folder / f"type={kind}" / "part-00000-x.snappy.parquet")
        (folder / f"type={kind}" / ".part-00000-x.snappy.parquet.crc").write_bytes(b"crc")
    (folder / "_SUCCESS").touch()
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "part-1.parquet").write_bytes(b"torn")
    found = shell.publish(folder)
    assert [(r.item_id, r.type) for r in found.records] == [("a", "play"), ("b", "play"), ("a", "view"), ("b", "view")]


def test_a_folder_of_tables_names_the_part_of_a_bad_row_and_checks_all_before_sending(shell: Shell, tmp_path: Path) -> None:
    """C10"""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.csv").write_text(HEADER + f"u,i,play,{T}\n")
    (folder / "b.csv").write_text(HEADER + f"u,i,play,{T}\nu,,play,{T}\n")
    (folder / "c.csv").touch()
    found = shell.publish(folder)
    assert found.report["published"] == 2 and len({r.event_id for r in found.records}) == 2
    assert found.report["bad_rows"] == [{"line": 3, "reason": "item_id: missing or blank", "file": "b.csv"}]
    (folder / "d.csv").write_text("u1,i1,play,1\n")
    assert "d.csv" in shell.publish(folder).err
    (folder / "d.csv").rename(folder / "d.jsonl")
    assert "several formats" in shell.publish(folder).err
    (tmp_path / "empty").mkdir()
    assert "no files" in shell.publish(tmp_path / "empty").err


@pytest.mark.parametrize("blank", ["", " ", "NULL", "NaN", "\\N", "NaT"])
def test_a_blank_time_is_a_bad_row_and_never_now(publish: Publish, blank: str) -> None:
    """C11"""
    found = publish("a.csv", HEADER + f"u,i,play,{T}\nu,j,play,{blank}\n")
    assert found.ids == [("u", "i")] and "event_ts_ms" in found.report["bad_rows"][0]["reason"]


def test_a_null_time_is_a_bad_row_in_json_and_parquet(publish: Publish) -> None:
    """C11"""
    found = publish("a.parquet", events(event_ts_ms=pa.array([None, T])))
    assert found.ids == [("u", "i1")] and found.report["bad"] == 1
    for other in ('"event_ts_ms": null', '"value": 1'):
        found = publish("a.jsonl", JSON_ROW % 1 + (JSON_ROW % 2).replace('"event_ts_ms": 1763200000000', other))
        assert found.ids == [("u1", "i")] and found.report["bad"] == 1
    found = publish("a.jsonl", '{"user_id": "u", "item_id": "i", "type": "play", "event_ts_ms": null}\n')
    assert found.ids == [] and found.report["bad"] == 1


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_a_mapped_column_that_the_file_lacks_is_refused_with_the_nearest_name(publish: Publish, name: str) -> None:
    """C11"""
    contents: dict[str, Any] = {
        "a.csv": f"user_id,item_id,type,timestamp\nu,i,play,{T}\n",
        "a.tsv": f"user_id\titem_id\ttype\ttimestamp\nu\ti\tplay\t{T}\n",
        "a.jsonl": f'{{"user_id": "u", "item_id": "i", "type": "play", "timestamp": {T}}}\n',
        "a.parquet": events(timestamp=[T]),
    }
    found = publish(name, contents[name], "--map", "event_ts_ms=timestmp")
    assert found.code == 2 and "did you mean timestamp?" in found.err
    assert publish(name, contents[name], "--map", "event_ts_ms=timestamp").code == 0


@pytest.mark.parametrize("name", ["timestamp", "event_time", "ts", "created_at", "Date"])
def test_a_column_of_times_that_no_option_names_is_pointed_out(publish: Publish, name: str) -> None:
    """C11"""
    found = publish("a.csv", f"user_id,item_id,type,{name}\nu,i,play,{T}\n")
    assert any(f"--map event_ts_ms={name}" in warning for warning in found.report["warnings"])
    assert publish("a.csv", f"user_id,item_id,type,{name}\nu,i,play,{T}\n", "--map", f"event_ts_ms={name}").report["warnings"] == []


def test_a_mapped_json_field_that_no_row_has_is_said(publish: Publish) -> None:
    """C11: an optional one may be rare, so that the start of the file does not tell."""
    found = publish("a.jsonl", JSON_ROW % 1, "--map", "value=amount")
    assert found.code == 0 and "no row has a value in the column amount" in found.report["warnings"][0]


def test_the_unit_of_numbers_is_detected_and_a_wrong_option_is_noticed_before_anything_is_sent(publish: Publish) -> None:
    """C11"""
    names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    for unit, value in (("s", T // 1_000), ("us", T * 1_000), ("ns", T * 1_000_000), ("ms", T)):
        wrong = "ms" if unit != "ms" else "s"
        for file, content in (("a.csv", HEADER + f"u,i,play,{value}\n"), ("a.parquet", events(event_ts_ms=[value]))):
            assert f"--time-unit {unit}" in publish(file, content, "--time-unit", wrong).err
            for options in ((), ("--time-unit", unit)):
                found = publish(file, content, *options)
                assert [r.event_ts_ms for r in found.records] == [T]
                assert found.report["time_formats"] == {"event_ts_ms": f"{names[unit]} since 1970"}


@pytest.mark.parametrize("fmt", ["csv", "parquet", "jsonl"])
def test_local_times_in_the_future_are_refused_and_ask_for_the_zone(publish: Publish, fmt: str) -> None:
    """C16: the last 24 hours in local time of UTC+8."""
    local = dt.datetime.now(dt.UTC).replace(tzinfo=None, microsecond=0) + dt.timedelta(hours=8)
    moments = [local - dt.timedelta(hours=hours, minutes=1) for hours in range(24)]
    lines = {
        "csv": HEADER + "".join(f"u,i,play,{moment.isoformat(' ')}\n" for moment in moments),
        "jsonl": "".join(json.dumps({"user_id": "u", "item_id": "i", "type": "play", "event_ts_ms": str(m)}) + "\n" for m in moments),
        "parquet": events(event_ts_ms=moments),
    }
    if fmt != "parquet":  # a column of times may be UTC by its type; text may not
        assert "--time-zone" in publish(f"a.{fmt}", lines[fmt]).err
    found = publish(f"a.{fmt}", lines[fmt], *(() if fmt == "parquet" else ("--time-zone", "UTC")))
    assert found.code == 1 and found.report["bad"] == 8 and found.report["published"] == 16
    assert "--time-zone" in found.report["bad_rows"][0]["reason"]
    assert fmt != "parquet" or any("UTC" in warning for warning in found.report["warnings"])
    for zone in ("Asia/Shanghai", "+08:00"):
        right = publish(f"a.{fmt}", lines[fmt], "--time-zone", zone)
        newest_ms = (moments[0] - dt.timedelta(hours=8)).replace(tzinfo=dt.UTC).timestamp() * 1_000
        assert right.code == 0 and right.records[0].event_ts_ms == newest_ms and right.report["warnings"] == []


def test_a_publisher_refuses_a_time_in_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    """C16"""
    monkeypatch.setattr(EventPublisher, "_connect", lambda self: None)
    sent: list[Any] = []
    monkeypatch.setattr(EventPublisher, "_send", lambda self, topic, record: sent.append(record))
    publisher = EventPublisher()
    now = time.time_ns() // 1_000_000
    with pytest.raises(Poison, match=r"event_ts_ms.*ahead"):
        publisher.publish(user_id="u", item_id="i", type="play", event_ts_ms=now + 8 * 3_600_000)
    publisher.publish(user_id="u", item_id="i", type="play", event_ts_ms=now + 60_000)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_700_000_000, "s", 1_700_000_000_000),
        ("1700000000.25", "s", 1_700_000_000_250),
        ("1700000000.123", "s", 1_700_000_000_123),
        (1700000000.123, "s", 1_700_000_000_123),
        ("1.7e12", "ms", 1_700_000_000_000),
        (" 1700000000000 ", "ms", 1_700_000_000_000),
        (1_700_000_000_000_999, "us", 1_700_000_000_000),
        (1_700_000_000_000_999_999, "ns", 1_700_000_000_000),
        ("2023-11-14T22:13:20Z", "iso", 1_700_000_000_000),
        ("2023-11-14 22:13:20 UTC", "ms", 1_700_000_000_000),
        ("2023-11-14T22:13:20.123456789Z", "ms", 1_700_000_000_123),
        ("2023-11-14T23:13:20+01:00", "iso", 1_700_000_000_000),
        (dt.datetime(2023, 11, 14, 22, 13, 20), "ms", 1_700_000_000_000),
        (dt.date(2023, 11, 14), "ms", 1_699_920_000_000),
        (-0.5, "s", -500),
    ],
)
def test_times_of_every_unit_become_milliseconds(value: Any, unit: Any, expected: int) -> None:
    assert Clock(unit).to_ms(value) == expected


NOT_TIMES = [
    ("soon", "ms"), ("soon", "iso"), (True, "s"), (None, "s"), ({}, "ms"), (12, "iso"), ("1e999", "s"), (float("inf"), "s"), ("", "ms"),
    (float("nan"), "s"), ("٣", "ms"), ("1_0", "ms"), ("9" * 5_000, "ms"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "unit"), NOT_TIMES)
def test_what_is_no_time_is_a_bad_row(value: Any, unit: Any) -> None:
    with pytest.raises(BadRow):
        Clock(unit).to_ms(value)


@pytest.mark.parametrize("name", ["NULL", "NaN", "None", "\\N", "undefined", "null", "nan", "nil", "N/A", "#N/A", "<NA>"])
def test_ids_that_mean_no_value_are_counted_and_warned_of(publish: Publish, name: str) -> None:
    """C14"""
    found = publish("a.csv", HEADER + f"{name},i,play,{T}\nv,{name},play,{T}\n{name},j,play,{T}\n")
    assert found.code == 0 and len(found.records) == 3
    assert any(w.startswith(f"2 rows: user_id is {name}") for w in found.report["warnings"])
    assert any(w.startswith(f"1 row: item_id is {name}") for w in found.report["warnings"])


def test_a_blank_id_is_refused_and_spaces_around_ids_are_cut_off(publish: Publish) -> None:
    """C14"""
    found = publish("a.csv", HEADER + f" ,i,play,{T}\n\u00a0,i,play,{T}\nu ,i,play,{T}\n\u200bu,i,play,{T}\nu,i, play ,{T}\n")
    assert found.ids == [("u", "i")] * 3 and found.report["bad"] == 2
    assert any(w.startswith("2 rows: user_id had spaces") for w in found.report["warnings"])


def test_an_event_id_that_means_no_value_is_made_from_the_row(publish: Publish) -> None:
    """C14: as ids, a thousand times NULL would count once."""
    found = publish("a.csv", "event_id," + HEADER + "".join(f"NULL,u,i{i},play,{T}\n" for i in range(3)))
    assert len({r.event_id for r in found.records}) == 3 and any("3 rows: event_id NULL" in w for w in found.report["warnings"])


def test_nan_in_json_lines_is_a_missing_value(publish: Publish) -> None:
    """C10, C14: Python's json writes it."""
    with_value = (JSON_ROW % 1).replace('"type"', '"value": NaN, "type"')
    found = publish("a.jsonl", with_value + (JSON_ROW % 2).replace('"u2"', "NaN") + '{"user_id": NaN')
    assert [(r.user_id, r.value) for r in found.records] == [("u1", None)] and found.report["bad"] == 2


def test_missing_values_of_other_fields_are_not_given(publish: Publish) -> None:
    """C14"""
    rows = "".join(f"u,i,play,{T},{null},{null}\n" for null in ("", "NULL", "nan", "\\N"))
    found = publish("a.csv", HEADER.strip() + ",value,position\n" + rows)
    assert [(r.value, r.position) for r in found.records] == [(None, None)] * 4


TEXT_IDS = [
    ("123", "123"), ("123.0", "123"), ("123.00", "123"), ("007", "007"), ("1e3", "1e3"), ("1.5", "1.5"), ("-0.0", "0"), ("0.0", "0"),
    ("+7.0", "+7"), ("v1.0", "v1.0"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "read"), TEXT_IDS)
def test_text_ids_of_whole_numbers_lose_point_zero_and_nothing_else(publish: Publish, given: str, read: str) -> None:
    """C15"""
    for name, content in (("a.csv", HEADER + f"{given},i,play,{T}\n"), ("a.parquet", events(user_id=[given]))):
        assert [user for user, _ in publish(name, content).ids] == [read]


def test_large_whole_numbers_are_exact_or_refused(publish: Publish) -> None:
    """C15"""
    a, b = "123456789012345678901234567890123456789", "123456789012345678901234567890123456788"
    numbers = (a, b, 2**64, "1e30", "9" * 5_000, "0.5")
    lines = "".join(f'{{"user_id": {n}, "item_id": "i", "type": "play", "event_ts_ms": {T}}}\n' for n in numbers)
    found = publish("a.jsonl", lines)
    assert [user for user, _ in found.ids] == [a, b, str(2**64)] and found.report["bad"] == 3
    assert publish("a.csv", HEADER + f"{a},i,play,{T}\n{b},i,play,{T}\n").ids == [(a, "i"), (b, "i")]
    table = events(user_id=pa.array([Decimal(a[:38]), Decimal(b[:38])], pa.decimal128(38, 0)))
    assert [user for user, _ in publish("a.parquet", table).ids] == [a[:38], b[:38]]
    assert publish("b.parquet", events(user_id=[2.0**60])).report["bad"] == 1


@pytest.mark.parametrize("value", ["true", "[1]", '{"a": 1}'])
def test_booleans_lists_and_objects_are_no_ids(publish: Publish, value: str) -> None:
    """C15"""
    assert publish("a.jsonl", (JSON_ROW % 1).replace('"u1"', value)).report["bad"] == 1


def in_csv(text: str) -> str:
    return f"user_id,item_id,type,event_ts_ms\n{text},i,play,{T}\n"


STARTS: list[tuple[str, Any, str, tuple[str, ...]]] = [
    ("a.csv", f"u1,i1,play,{T}\nu2,i2,play,{T}\n", "no header line", ("--header", "user_id,item_id,type,event_ts_ms")),
    ("a.csv", "u1,i1,play\nu2,i2,play\n", "--header", ("--header", "user_id,item_id,type")),
    ("a.csv", in_csv("é").replace(",", ";"), "--delimiter ';'", ("--delimiter", ";")),
    ("a.csv", in_csv("é").replace(",", "|"), "--delimiter '|'", ("--delimiter", "|")),
    ("a.csv", in_csv("é").replace(",", "\t"), "--format tsv", ("--format", "tsv")),
    ("a.tsv", in_csv("é"), "--format csv", ("--format", "csv")),
    ("a.csv", in_csv("é").encode("cp1252"), "--encoding cp1252", ("--encoding", "cp1252")),
    ("a.csv", in_csv("é").encode("utf-16"), "--encoding utf-16", ("--encoding", "utf-16")),
    ("a.csv", in_csv("é").encode("utf-16-le"), "--encoding utf-16-le", ("--encoding", "utf-16-le")),
    ("a.csv", in_csv("é").encode("utf-32"), "--encoding utf-32", ("--encoding", "utf-32")),
    ("a.jsonl", (JSON_ROW % 1).replace("u1", "é").encode("latin-1"), "--encoding", ("--encoding", "latin-1")),
    ("a.jsonl", (JSON_ROW % 1).encode("utf-16"), "--encoding utf-16", ("--encoding", "utf-16")),
    ("a.csv", JSON_ROW % 1, "--format jsonl", ("--format", "jsonl")),
    ("a.jsonl", in_csv("u"), "--format csv", ("--format", "csv")),
    ("a.txt", JSON_ROW % 1, "--format", ("--format", "jsonl")),
]


@pytest.mark.parametrize(("name", "content", "says", "remedy"), STARTS)
def test_a_file_that_is_not_what_it_seems_sends_nothing_and_the_remedy_works(
    publish: Publish, name: str, content: Any, says: str, remedy: tuple[str, ...]
) -> None:
    """C18"""
    refused = publish(name, content)
    assert refused.code == 2 and says in refused.err
    assert publish(name, content, *remedy).code == 0


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp1251", "iso8859-7", "shift_jis", "gb18030", "euc_kr"])
@pytest.mark.parametrize("fmt", ["csv", "jsonl"])
def test_texts_in_other_encodings_are_refused_whole(publish: Publish, encoding: str, fmt: str) -> None:
    """C18: also where one row in ten has a letter beyond ASCII, and where digits follow it."""
    words = {"cp1252": "don’t café", "latin-1": "josé1", "cp1251": "Привет", "iso8859-7": "Αθήνα", "shift_jis": "東京", "euc_kr": "서울"}
    word = words.get(encoding, "北京市")
    names = [word if i % 10 == 3 else f"plain{i}" for i in range(60)]
    rows = {
        "csv": HEADER + "".join(f"u{i},{name},play,{T}\n" for i, name in enumerate(names)),
        "jsonl": "".join((JSON_ROW % i).replace('"i"', f'"{name}"') for i, name in enumerate(names)),
    }
    refused = publish(f"a.{fmt}", rows[fmt].encode(encoding))
    assert refused.code == 2 and "--encoding" in refused.err
    assert [item for _, item in publish(f"a.{fmt}", rows[fmt].encode(encoding), "--encoding", encoding).ids] == names


REFUSED: list[tuple[str, Any, str]] = [
    ("a.json", "[" + ",\n".join(JSON_ROW.strip() % i for i in range(20_000)) + "]", "array"),
    ("a.jsonl", "\n  [\n" + JSON_ROW % 1 + "]", "array"),
    ("a.jsonl", json.dumps(json.loads(JSON_ROW % 1), indent=2), "span lines"),
    ("a.csv", b"PK\x03\x04" + b"x" * 50, "Excel"),
    ("a.csv", b"\x9c\xee" + bytes(500), "not text"),
    ("a.parquet", HEADER, "Parquet"),
    ("a.parquet", b"", "empty"),
    ("a.csv", "", "empty"),
    ("a.csv", "\n\n", "empty"),
    ("a.csv.gz", gzip.compress(b"", mtime=0), "empty"),
    ("a.csv", "user_id,item_id\nu,i\n", "type"),
    ("a.csv", "sep=\nuser_id;item_id;type\nu;i;play\n", "Excel"),
    ("a.csv", "user_id::item_id::type\nu::i::play\n", "--delimiter ::"),
    ("a.csv", "User_ID,Item_ID,Type\nu,i,play\n", "did you mean User_ID?"),
]


@pytest.mark.parametrize(("name", "content", "says"), REFUSED)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(publish: Publish, name: str, content: Any, says: str) -> None:
    """C18, C09, C10"""
    assert says in publish(name, content).err


DAMAGED_STARTS = [b"\x1f\x8b\x08 and no more", rows_gz(9)[:20], b"PAR1 and no more", b"\xfd7zXZ\x00", bz2.compress(b"x")[:20]]


@pytest.mark.parametrize("content", DAMAGED_STARTS)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_that_is_damaged_from_its_start_has_counts_of_zero(publish: Publish, content: bytes, form: str) -> None:
    """C09"""
    found = publish("a", content, "--format", "parquet" if content.startswith(b"PAR1") else form)
    assert found.code == 1 and found.report["rows"] == 0 and "no row can be read" in found.report["error"]
    assert found.err.count("\n") == 1


def test_an_empty_json_file_is_no_rows_and_says_so(publish: Publish) -> None:
    found = publish("a.jsonl", "")
    assert found.code == 0 and found.report["warnings"] == ["the file holds no rows"]


def test_a_parquet_file_under_another_name_says_its_format(publish: Publish, tmp_path: Path) -> None:
    """C18"""
    pq.write_table(events(user_id=["u"]), tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    assert "--format parquet" in publish("a.csv", content).err
    assert publish("a.csv", content, "--format", "parquet").code == 0


def test_what_is_no_readable_file_is_refused_in_one_line(shell: Shell, tmp_path: Path) -> None:
    """C18"""
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    for path in (tmp_path / "none.csv", tmp_path / "none.parquet", loop, "a\0b.csv", "/dev/zero.csv"):
        assert "cannot be opened" in shell.publish(path).err
    assert "not text" in shell.publish("/dev/zero", "--format", "jsonl").err


def test_hostile_names_and_columns_leave_valid_json(shell: Shell, tmp_path: Path) -> None:
    """C18: JSON is printed after sending, so it must not fail."""
    folder = tmp_path / "odd"
    folder.mkdir()
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff\x1b[31m.csv"))
    odd.write_text("user_id,item_id,type,\x1b[2J\u202e\nu,i,play,1\nu,,play,1\n")
    found = shell.publish(folder)
    found.out.encode("ascii")
    assert "\x1b" not in found.out + found.err and found.report["published"] == 1 and "\\udcff" in found.report["bad_rows"][0]["file"]


def test_standard_input_and_pipes_are_read_as_files_are(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress((JSON_ROW % 1).encode()))))
    assert shell.publish("-").ids == [("u1", "i")]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((HEADER + f"u,i,play,{T}\n").encode())))
    assert shell.publish("-", "--format", "csv").ids == [("u", "i")]
    assert "standard input" in shell.publish("-", "--format", "parquet").err
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(HEADER + f"u,i,play,{T}\n"))
    writer.start()
    assert shell.publish(pipe).ids == [("u", "i")]
    writer.join()


@pytest.mark.parametrize("text", ["user_id", "=x", "user_id=", "usr=x", "user_id=a,b", "user_id=a,user_id=b"])
def test_a_torn_or_unknown_mapping_is_refused(shell: Shell, publish: Publish, text: str) -> None:
    assert "--map" in publish("a.csv", HEADER, "--map", text).err
    assert parse_mapping([" user_id = a b "], "events") == {"user_id": ("a b",)}


WRONG_OPTIONS = [
    ("--format", "xlsx"), ("--time-unit", "h"), ("--time-zone", "Mars/X"), ("--time-zone", ".."), ("--encoding", "x"),
    ("--encoding", "base64"), ("--delimiter", "ab"), ("--delimiter", "a"), ("--delimiter", ":::::"),
    ("--header", "a,,b"), ("--type", "watch"),
]  # fmt: skip


@pytest.mark.parametrize("options", WRONG_OPTIONS)
def test_a_wrong_option_is_refused_by_name(publish: Publish, options: tuple[str, str]) -> None:
    found = publish("a.csv", HEADER, *options)
    assert found.code == 2 and options[0] in found.err


def test_zones_are_names_or_offsets() -> None:
    summer = dt.datetime(2025, 7, 1, 12)
    for name, hours in (("+08:00", 8), ("-0330", -3.5), ("UTC+2", 2), ("UTC", 0), ("Europe/Berlin", 2)):
        zone = zone_of(name)
        assert summer.replace(tzinfo=zone).utcoffset() == dt.timedelta(hours=hours)


def test_memory_stays_bounded_by_the_line_cap_and_not_by_the_file(publish: Publish) -> None:
    """A gzip file of 60 KB that expands to 60 MB in one line."""
    import tracemalloc

    bomb = gzip.compress((JSON_ROW % 1).encode() + b"x" * 60_000_000 + b"\n" + (JSON_ROW % 2).encode(), 9)
    tracemalloc.start()
    found = publish("a.jsonl.gz", bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.ids == [("u1", "i"), ("u2", "i")] and found.report["bad"] == 1 and peak < 20_000_000


def test_without_json_counts_and_bad_rows_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from workers.cli.app import run

    file = tmp_path / "a.csv"
    file.write_text(HEADER + f"u,i,play,{T}\n" + f"u,,play,{T}\n" * 30)
    monkeypatch.setattr(client, "EventPublisher", RecordingPublisher)
    assert run(["events", "publish", str(file)]) == 1
    captured = capfd.readouterr()
    assert captured.out.startswith("published 1 events") and "30 bad rows" in captured.out
    assert captured.err.count("item_id: missing") == 20 and "and 10 more bad rows" in captured.err


def test_a_fault_in_an_optional_field_costs_that_field_and_is_noted_but_not_the_row(publish: Publish) -> None:
    """C05 and C06 in files."""
    odd = {"position": 0, "list_id": "", "value": "4", "context": {"a": {}, "b": 1}}
    row = {"user_id": "u", "item_id": "i", "type": "play", "event_ts_ms": T}
    found = publish("a.jsonl", "".join(json.dumps(given) + "\n" for given in (row | odd, row, row | {"value": None, "context": None})))
    assert (found.code, found.report["published"], found.report["bad"]) == (0, 3, 0)
    assert [dict(r.context) for r in found.records] == [{"b": 1}, {}, {}]
    lost = "was wrong, too long or had too many entries; what is valid of it was published"
    assert {f"1 row: {name} {lost}" for name in ("position", "context")} <= set(found.report["warnings"])
    items = publish("b.jsonl", '{"item_id": "o", "title": {"a": 1}, "available": false}\n', kind="items")
    assert [(r.item_id, r.title, r.available) for r in items.records] == [("o", "", False)]
    seconds = publish("c.jsonl", '{"item_id": "s", "expires_ts_ms": 1763200000}\n', kind="items")
    assert [r.expires_ts_ms for r in seconds.records] == [T] and seconds.report["time_formats"] == {"expires_ts_ms": "seconds since 1970"}
    mixed = publish("d.jsonl", "".join(f'{{"item_id": "s{ms}", "expires_ts_ms": {ms}}}\n' for ms in (T, T + 1, T // 1_000)), kind="items")
    assert mixed.report["bad"] == 1 and "seconds" in mixed.report["bad_rows"][0]["reason"]


def test_fields_that_were_cut_are_counted(publish: Publish) -> None:
    """C19"""
    found = publish("a.csv", f"item_id,title\na,{'x' * 600}\nb,{'y' * 600}\n", kind="items")
    assert found.code == 0
    assert found.report["warnings"] == ["2 rows: title was wrong, too long or had too many entries; what is valid of it was published"]


def test_an_unknown_option_is_one_line(publish: Publish) -> None:
    """C28"""
    found = publish("a.csv", HEADER, "--wrong")
    assert found.code == 2 and "No such option" in found.err
