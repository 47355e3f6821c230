"""Rows of any writer read back unchanged, and the counts of a damaged file add up."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.row_publisher import Outcome, Shell
from workers.producer.values import EDGES, NULL_NAMES

NAMES = ("user_id", "item_id", "type", "event_ts_ms", "value", "position")
Rows = list[dict[str, Any]]
Writer = Callable[[Rows], bytes]
characters = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])


def is_plain_id(text: str) -> bool:
    """Return True if an id reads back unchanged: no spaces at its ends, no word for a missing value, no 17.0."""
    return text == text.strip(EDGES) != "" and len(text.encode()) <= 128 and text.lower() not in NULL_NAMES and not text.endswith(".0")


ids = st.one_of(st.text(characters, min_size=1, max_size=12), st.sampled_from(['"', '"a"', "a,b", "'", "007", "1e3", "é", "𝄞", "{", "\\"]))
plain_ids = ids.filter(is_plain_id)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": plain_ids,
            "item_id": plain_ids,
            "type": st.sampled_from(["play", "view", "purchase"]),
            "event_ts_ms": st.integers(1_000_000_000_000, 1_763_200_000_000),
            "value": st.none() | st.floats(-1e6, 1e6).map(lambda value: round(value, 3) + 0.0),
            "position": st.none() | st.integers(1, 10_000),
        }
    ),
    min_size=1,
    max_size=30,
)


def pandas_frame(given_rows: Rows) -> pd.DataFrame:
    return pd.DataFrame(given_rows, columns=list(NAMES))


def polars_frame(given_rows: Rows) -> pl.DataFrame:
    types = (pl.String, pl.String, pl.String, pl.Int64, pl.Float64, pl.Int64)
    return pl.DataFrame(given_rows, schema=dict(zip(NAMES, types, strict=True)))


def arrow_table(given_rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(given_rows, schema=polars_frame(given_rows).to_arrow().schema)


def python_csv(given_rows: Rows, line_end: str = "\n", **options: Any) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, NAMES, lineterminator=line_end, **options)
    writer.writeheader()
    writer.writerows(given_rows)
    return text.getvalue().encode()


def plain_tsv(given_rows: Rows) -> bytes:
    lines = ["\t".join(NAMES), *("\t".join("" if row[name] is None else str(row[name]) for name in NAMES) for row in given_rows)]
    return "\n".join(lines).encode()


def in_memory(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def json_lines(given_rows: Rows) -> bytes:
    return b"".join(json.dumps({k: v for k, v in row.items() if v is not None}).encode() + b"\n" for row in given_rows)


def times_as(unit: str) -> Writer:
    def write(given_rows: Rows) -> bytes:
        table = arrow_table(given_rows)
        times = table.column("event_ts_ms").cast(pa.timestamp("ms")).cast(pa.timestamp(unit, "UTC"))
        return in_memory(lambda file: pq.write_table(table.set_column(3, "event_ts_ms", times), file))

    return write


def pandas_times(given_rows: Rows) -> bytes:
    frame = pandas_frame(given_rows)
    frame["event_ts_ms"] = pd.to_datetime(frame["event_ts_ms"], unit="ms", utc=True)
    frame["user_id"] = frame["user_id"].astype("category")
    return in_memory(lambda file: frame.to_parquet(file))


WRITERS: dict[str, tuple[str, Writer]] = {
    "csv by python": ("a.csv", python_csv),
    "csv by python, CRLF": ("a.csv", lambda given_rows: python_csv(given_rows, "\r\n")),
    "csv by python, all quoted": ("a.csv", lambda given_rows: python_csv(given_rows, quoting=csv.QUOTE_ALL)),
    "csv by python, UTF-16": ("a.csv", lambda given_rows: python_csv(given_rows).decode().encode("utf-16")),
    "csv by python, gz": ("a.csv.gz", lambda given_rows: gzip.compress(python_csv(given_rows))),
    "csv by pandas": ("a.csv", lambda given_rows: pandas_frame(given_rows).to_csv(index=False).encode()),
    "csv by polars": ("a.csv", lambda given_rows: polars_frame(given_rows).write_csv().encode()),
    "csv by pyarrow": ("a.csv", lambda given_rows: in_memory(lambda file: pa_csv.write_csv(arrow_table(given_rows), file))),
    "tsv": ("a.tsv", plain_tsv),
    "tsv by polars": ("a.tsv", lambda given_rows: polars_frame(given_rows).write_csv(separator="\t", quote_style="never").encode()),
    "tsv, xz": ("a.tsv.xz", lambda given_rows: lzma.compress(plain_tsv(given_rows))),
    "jsonl": ("a.jsonl", json_lines),
    "jsonl by pandas": ("a.jsonl", lambda given_rows: pandas_frame(given_rows).to_json(orient="records", lines=True).encode()),
    "jsonl by polars": ("a.jsonl", lambda given_rows: polars_frame(given_rows).write_ndjson().encode()),
    "jsonl, gz": ("a.jsonl.gz", lambda given_rows: gzip.compress(json_lines(given_rows))),
    "jsonl, bz2": ("a.jsonl.bz2", lambda given_rows: bz2.compress(json_lines(given_rows))),
    "parquet by pandas": ("a.parquet", lambda given_rows: in_memory(lambda file: pandas_frame(given_rows).to_parquet(file))),
    "parquet by pandas, times": ("a.parquet", pandas_times),
    "parquet by polars": ("a.parquet", lambda given_rows: in_memory(lambda file: polars_frame(given_rows).write_parquet(file))),
    "parquet by pyarrow": (
        "a.parquet",
        lambda given_rows: in_memory(lambda file: pq.write_table(arrow_table(given_rows), file, row_group_size=7, compression="zstd")),
    ),
    "parquet by pyarrow, times in ns": ("a.parquet", times_as("ns")),
    "parquet by pyarrow, times in us": ("a.parquet", times_as("us")),
}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


def published(shell: Shell, folder: Path, name: str, content: bytes) -> Outcome:
    (folder / name).write_bytes(content)
    options = ("--encoding", "utf-16") if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ()
    return shell.publish(folder / name, *options)


def as_row(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in NAMES}


N_EXAMPLES = max(hypothesis_settings().max_examples // 10, 1)
"""By writer; there are some twenty of them."""
several = hypothesis_settings(max_examples=N_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.mark.parametrize("writer", WRITERS)
@several
@given(given_rows=rows)
def test_what_any_writer_writes_is_read_back_the_same(shell: Shell, tmp_path: Path, writer: str, given_rows: Rows) -> None:
    name, write = WRITERS[writer]
    found = published(shell, tmp_path, name, write(given_rows))
    assert found.code == 0 and found.report["rows"] == len(given_rows), found.err
    assert [as_row(event) for event in found.records] == given_rows
    assert len({event.event_id for event in found.records}) == len(given_rows)


texts = st.text(st.sampled_from('ab";é\n\r \t'), max_size=20)


@several
@given(titles=st.lists(texts, min_size=1, max_size=10), line_end=st.sampled_from(["\n", "\r\n"]))
def test_quoted_cells_of_any_lines_are_read_back_the_same(shell: Shell, tmp_path: Path, titles: list[str], line_end: str) -> None:
    """C01"""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([("item_id", "title", "categories", "text"), *((f"i{i}", title, "", title) for i, title in enumerate(titles))])
    (tmp_path / "a.csv").write_bytes(text.getvalue().encode())
    found = shell.publish(tmp_path / "a.csv", kind="items")
    assert found.code == 0
    assert [(item.title, item.text) for item in found.records] == [(title if title.strip() else "",) * 2 for title in titles]


words = st.text(st.sampled_from("abé&'(). "), min_size=1, max_size=8).filter(lambda text: text == text.strip())
catalogues = st.lists(
    st.fixed_dictionaries(
        {
            "sku": plain_ids,
            "name": words,
            "brand": st.none() | words,
            "price": st.none() | st.floats(0, 1e6).map(lambda price: round(price, 2)),
            "path": st.lists(words, min_size=1, max_size=4, unique=True),
            "tags": st.lists(words, max_size=4, unique=True),
        }
    ),
    min_size=1,
    max_size=20,
)
CATALOGUE_MAP = "item_id=sku,title=name,categorical_attributes.brand=brand,numeric_attributes.price=price,categories=path,categories=tags"
CATALOGUE_NAMES = ("sku", "name", "brand", "price", "path", "tags")


def as_cells(row: dict[str, Any], price: Callable[[float], str]) -> dict[str, str | None]:
    """Return an item as a shop writes it in a table."""
    text = None if row["price"] is None else price(row["price"])
    return {**row, "price": text, "path": " > ".join(row["path"]), "tags": ", ".join(row["tags"]) or None}


def as_table(cells: list[dict[str, str | None]], delimiter: str) -> bytes:
    text = io.StringIO()
    if delimiter != "\t":
        writer = csv.writer(text, delimiter=delimiter)
        writer.writerows([CATALOGUE_NAMES, *([row[name] for name in CATALOGUE_NAMES] for row in cells)])
        return text.getvalue().encode()
    lines = [CATALOGUE_NAMES, *([row[name] or "" for name in CATALOGUE_NAMES] for row in cells)]
    return "\n".join("\t".join(line) for line in lines).encode()


def plain(price: float) -> str:
    return f"{price:.2f}"


def german(price: float) -> str:
    return f"{price:,.2f} €".translate(str.maketrans(",.", ".,"))


def nested_parquet(given_rows: Rows) -> bytes:
    kinds = (pa.string(), pa.string(), pa.string(), pa.float64(), pa.string(), pa.list_(pa.string()))
    table = pa.Table.from_pylist(
        [{**row, "path": " > ".join(row["path"])} for row in given_rows], schema=pa.schema(list(zip(CATALOGUE_NAMES, kinds, strict=True)))
    )
    return in_memory(lambda file: pq.write_table(table, file))


CATALOGUE_WRITERS: dict[str, tuple[str, Writer, tuple[str, ...]]] = {
    "csv": ("a.csv", lambda given_rows: as_table([as_cells(row, plain) for row in given_rows], ","), ()),
    "csv, gz": ("a.csv.gz", lambda given_rows: gzip.compress(as_table([as_cells(row, plain) for row in given_rows], ",")), ()),
    "csv, decimal commas": (
        "a.csv",
        lambda given_rows: as_table([as_cells(row, german) for row in given_rows], ";"),
        ("--delimiter", ";", "--decimal", "comma"),
    ),
    "tsv": ("a.tsv", lambda given_rows: as_table([as_cells(row, plain) for row in given_rows], "\t"), ()),
    "jsonl": (
        "a.jsonl",
        lambda given_rows: b"".join(json.dumps({**row, "path": [" > ".join(row["path"])]}).encode() + b"\n" for row in given_rows),
        (),
    ),
    "parquet": ("a.parquet", nested_parquet, ()),
}


@pytest.mark.parametrize("writer", CATALOGUE_WRITERS)
@pytest.mark.parametrize("kind", ["items", "users"])
@several
@given(given_rows=catalogues)
def test_attributes_paths_and_tags_are_read_alike_from_every_format(
    shell: Shell, tmp_path: Path, writer: str, kind: str, given_rows: Rows
) -> None:
    name, write, options = CATALOGUE_WRITERS[writer]
    (tmp_path / name).write_bytes(write(given_rows))
    columns = CATALOGUE_MAP
    if kind == "users":
        columns = columns.replace("item_id", "user_id").replace("title=name,", "").replace("categories=", "preferred_categories=")
    options = ("--map", columns, "--split", "tags=,", "--repeats", "replace", "--ignore-unknown", *options)
    found = shell.publish(tmp_path / name, *options, kind=kind)
    dry = shell.publish(tmp_path / name, *options, "--dry-run", kind=kind)
    assert found.code == dry.code == 0 and found.report["published"] == dry.report["would_publish"] == len(given_rows), found.err
    for record, row in zip(found.records, given_rows, strict=True):
        brand = row["brand"] if row["brand"] and row["brand"].lower() not in NULL_NAMES else None
        assert record.categorical_attributes == ({} if brand is None else {"brand": brand})
        assert record.numeric_attributes == ({} if row["price"] is None else {"price": row["price"]})
        categories = record.categories if kind == "items" else record.preferred_categories
        assert categories == tuple(dict.fromkeys([*row["path"], *row["tags"]]))
        assert (record.item_id, record.title) == (row["sku"], row["name"]) if kind == "items" else record.user_id == row["sku"]


zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Havana", "UTC"])
hours = st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2025, 6, 1)).map(lambda moment: moment.replace(second=0, microsecond=0))
near_changes = st.builds(
    lambda change, minutes: change + dt.timedelta(minutes=minutes),
    st.sampled_from([dt.datetime(2024, 3, 31, 2), dt.datetime(2024, 10, 27, 2), dt.datetime(2024, 3, 10, 2), dt.datetime(2024, 11, 3, 1)]),
    st.integers(-90, 90),
)


@several
@given(moments=st.lists(hours | near_changes, min_size=1, max_size=20), zone=zones)
def test_a_local_time_is_the_moment_that_shows_it_there_and_others_are_refused(
    shell: Shell, tmp_path: Path, moments: list[dt.datetime], zone: str
) -> None:
    """The oracle looks for the moments of UTC that a clock of the zone shows so: none, one or two."""
    (tmp_path / "a.csv").write_text("user_id,item_id,type,event_ts_ms\n" + "".join(f"u,i,play,{moment}\n" for moment in moments))
    info = ZoneInfo(zone)
    expected: dict[str, list[int]] = {"first": [], "second": [], "": []}
    for moment in moments:
        guesses = [(moment - dt.timedelta(minutes=15 * quarter)).replace(tzinfo=dt.UTC) for quarter in range(-56, 57)]
        shown = [guess for guess in guesses if guess.astimezone(info).replace(tzinfo=None) == moment]
        times = [int(guess.timestamp() * 1_000) for guess in reversed(shown)]
        if len(times) == 1:
            expected[""] += times
        if times:
            expected["first"].append(times[0])
            expected["second"].append(times[-1])
    for which, times in expected.items():
        found = shell.publish(tmp_path / "a.csv", "--time-zone", zone, *(("--repeated-hour", which) if which else ()))
        assert [event.event_ts_ms for event in found.records] == times
        assert found.report["bad"] == len(moments) - len(times)


SAMPLE: Rows = [
    dict(zip(NAMES, (f"u{i % 17}", f"i{i * 7919 % 1009}", "play", 1_700_000_000_000 + i, i / 8, 1), strict=True)) for i in range(120)
]
FILES = {writer: (name, write(SAMPLE)) for writer, (name, write) in WRITERS.items()}
CHECKED = {
    "parquet with checksums": (
        "a.parquet",
        in_memory(lambda file: pq.write_table(arrow_table(SAMPLE), file, row_group_size=40, compression="none", write_page_checksum=True)),
    )
}


@pytest.mark.parametrize("writer", [*WRITERS, *CHECKED])
@several
@given(damage=st.data())
def test_a_file_damaged_anywhere_ends_in_one_line_with_counts_that_add_up(shell: Shell, tmp_path: Path, writer: str, damage: Any) -> None:
    """C09: `Outcome.check` checks counts, exit code and lines of every run."""
    name, content = {**FILES, **CHECKED}[writer]
    at = damage.draw(st.integers(0, len(content) - 1), "at")
    n = damage.draw(st.integers(1, 40), "n")
    kind = damage.draw(st.sampled_from(["cut", "overwritten", "removed", "inserted"]), "kind")
    garbage = damage.draw(st.binary(min_size=n, max_size=n), "garbage")
    broken = {
        "cut": content[:at],
        "overwritten": content[:at] + garbage + content[at + n :],
        "removed": content[:at] + content[at + n :],
        "inserted": content[:at] + garbage + content[at:],
    }[kind]
    found = published(shell, tmp_path, name, broken)
    sent = [as_row(event) for event in found.records]
    is_packed = name.endswith((".gz", ".bz2", ".xz", ".parquet"))
    if kind == "cut" and is_packed and at > 5:  # less is no longer known as what it was
        assert found.code == 1 and found.report["error"] and sent == SAMPLE[: len(sent)]
    if found.code != 2:
        assert found.err.count("\n") == min(found.report["bad"], 20) + (found.report["bad"] > 20) + len(found.report["warnings"]) + bool(
            found.report["error"]
        ) + bool(found.report["ignored_columns"])


def test_times_of_pandas_without_zone_are_utc(shell: Shell, tmp_path: Path) -> None:
    frame = pandas_frame(SAMPLE[:2])
    frame["event_ts_ms"] = pd.to_datetime(frame["event_ts_ms"], unit="ms") + pd.Timedelta(1, "ns")
    found = published(shell, tmp_path, "a.parquet", in_memory(lambda file: frame.to_parquet(file)))
    assert [event.event_ts_ms for event in found.records] == [1_700_000_000_000, 1_700_000_000_001]
    assert dt.datetime.fromtimestamp(1_700_000_000, dt.UTC).year == 2023 and "UTC" in found.report["warnings"][0]
