"""Read the first rows of a file of which nothing is known yet: format, encoding and separator are found by a look at it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from workers.errors import SettingsError
from workers.producer.files import Part, Reading, parts_of, skip_declaration
from workers.producer.json_rows import json_rows
from workers.producer.parquet_rows import exported_kind, open_parquet, parquet_rows
from workers.producer.rows import Format, Row
from workers.producer.sniff import PARQUET_START, check_is_header, check_json, delimiter_of
from workers.producer.source import Source, open_text
from workers.producer.table_rows import Table, header_cells, is_quoted
from workers.producer.values import is_missing

SAMPLE_ROWS = 1_000
LIKE = 0.9
"""Share of a column's values that must be of a field's kind."""
CUT_LINES = 20
"""Lines that are looked at for what cuts a table."""
_WANTED = re.compile(r"pass --(encoding|format) ([\w.-]+)")


@dataclass
class Sample:
    """The first rows of a file, and how they were read."""

    form: Format
    names: list[str]
    rows: list[dict[str, Any]]
    encoding: str | None = None
    delimiter: str | None = None
    exported: str = ""
    """What it is an export of, where `recsys export` wrote it."""

    def values(self, name: str) -> list[Any]:
        """Return what a column holds where it holds something."""
        return [row[name] for row in self.rows if not is_missing(row.get(name))]


def share(values: Sequence[Any], test: Callable[[Any], object]) -> float:
    """Return the share of the values for which a test holds. Raises ZeroDivisionError without values."""
    return sum(map(bool, map(test, values))) / len(values)


def look(path: str, options: Mapping[str, Any]) -> Sample:
    """Return the first rows. The remedy that a refusal names (encoding, format) is followed once each."""
    form, encoding = options.get("form"), options.get("encoding")
    for _ in range(4):
        try:
            return _look(path, form, encoding, options)
        except SettingsError as error:
            wanted = _WANTED.search(str(error))
            if wanted is None or (wanted[1] == "encoding" and encoding) or (wanted[1] == "format" and form):
                raise
            if wanted[1] == "encoding":
                encoding = wanted[2]
            elif "suffix" in str(error):
                form = _form_by_content(path)
            else:
                form = wanted[2]
    raise SettingsError("FILE: what it holds cannot be guessed: pass --format and --encoding")


def _look(path: str, form: Any, encoding: str | None, options: Mapping[str, Any]) -> Sample:
    part = parts_of(path, Reading(form=form))[0]
    if part.path == "-":
        raise SettingsError("FILE: standard input cannot be read twice: name a file, or use `recsys events publish -`")
    if part.form == "parquet":
        with open_parquet(part.path) as file:
            names = list(file.schema_arrow.names)
            sample = sampled(part, names, parquet_rows(file, names))
            sample.exported = exported_kind(file)
            return sample
    source = open_text(part.path, part.form, encoding)
    try:
        sample = _json(source, part) if part.form == "jsonl" else _table(source, part, options)
    finally:
        source.close()
    sample.encoding = encoding
    return sample


def _form_by_content(path: str) -> Format:
    with open(path, "rb") as file:
        if file.read(4) == PARQUET_START:
            return "parquet"
    source = open_text(path, "csv", "latin-1")  # which reads any bytes; the encoding is found later
    try:
        start = source.start.lstrip()
    finally:
        source.close()
    if start.startswith((b"{", b"[")):
        return "jsonl"
    return "tsv" if _delimiter(start, start.split(b"\n", 1)[0].decode(errors="replace"), "csv", 0) == "\t" else "csv"


def sampled(part: Part, names: list[str], rows: Any) -> Sample:
    found = [row.columns for row in cast("list[Row]", list(islice(rows, SAMPLE_ROWS))) if row.columns is not None]
    constants = dict(part.constants)
    return Sample(part.form, [*names, *(name for name in constants if name not in names)], [constants | row for row in found])


def _json(source: Source, part: Part) -> Sample:
    sample = sampled(part, [], json_rows(source.lines))
    names = {name: None for row in sample.rows for name in row}
    sample.names = list(names)
    if not names:
        check_json(source.start)
        raise SettingsError("FILE: no row at the start is a JSON object: pass --format")
    return sample


def _delimiter(start: bytes, first: str, form: Format, n_named: int) -> str:
    """Return what cuts a table whose first line is `first`: tabs where its name says so, where they alone give as many cells as `n_named`
    columns, or where each of the first lines has as many; else what the line has most of."""
    lines = [line.decode(errors="replace") for line in start.split(b"\n")[:-1] if line.strip()][:CUT_LINES]
    n_tabs = first.count("\t")
    alike = len(lines) > 1 and all(line.count("\t") == n_tabs for line in lines)
    return "\t" if n_tabs and (form == "tsv" or alike or n_tabs + 1 == n_named) else delimiter_of(first)


def _table(source: Source, part: Part, options: Mapping[str, Any]) -> Sample:
    declared = skip_declaration(source.lines)
    first = [*source.start.split(b"\n", 2), b""][declared is not None].decode(errors="replace").strip("\r\n")
    usual = "\t" if part.form == "tsv" else ","
    names = [name.strip() for name in (options.get("header") or "").split(",")]
    delimiter = options.get("delimiter") or declared or _delimiter(source.start, first, part.form, len(names)) or usual
    quoted = is_quoted(delimiter)
    if not options.get("header"):
        line = source.lines.next()
        if line is None or line.content is None:
            raise SettingsError("FILE: is empty")
        try:
            names = header_cells(line.content, delimiter, quoted=quoted)
        except ValueError as error:
            raise SettingsError(f"FILE: the header line cannot be read: {error}") from None
        check_is_header(names)
    sample = sampled(part, names, Table(delimiter, quoted, names, frozenset()).rows(source.lines))
    if delimiter != usual:
        sample.delimiter = "tab" if delimiter == "\t" else delimiter
    return sample
