"""Rows of CSV (RFC 4180 quotes), and of TSV and tables cut by several characters (`::`), which have no quotes: there a `"` is data.

A quote that is never closed must not swallow the rows after it. A quoted cell may span lines; when the quote does not close within
`MAX_RECORD_LINES`, or the lines that it would swallow look like rows of their own, its first line is one bad row and the lines after it
are read as rows.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from workers.producer.json_rows import TOO_LONG, text_of
from workers.producer.lines import Line, Lines
from workers.producer.rows import MAX_LINE_BYTES, DamagedFile, RawText, Row

MAX_RECORD_LINES = 200
"""Lines that one quoted cell may span."""
ROW_DELIMITERS = 4
ROW_SHARE = 0.8
"""Lines inside a quoted cell are rather rows when this share of them has the header's number of cells, with as many delimiters in all."""
MAX_DELIMITER_CHARS = 4
csv.field_size_limit(MAX_LINE_BYTES)
NOT_UTF8 = "record: not UTF-8; convert the file or pass --encoding"


def is_quoted(delimiter: str) -> bool:
    """Return whether a table that is cut by this has quoted cells."""
    return delimiter != "\t" and len(delimiter) == 1


class _Torn(Exception):
    """Raised when the cells of a line cannot be separated; the message says why."""


@dataclass(frozen=True)
class Table:
    """Cut a table's text into cells. `single_line` names the columns (ids, types, times) in which a line end is a mistake."""

    delimiter: str
    quoted: bool
    header: Sequence[str] = ()
    single_line: frozenset[str] = field(default_factory=frozenset)

    def rows(self, lines: Lines) -> Iterator[Row]:
        """Yield one row a record that is not blank. Raises DamagedFile."""
        while (line := lines.next()) is not None:
            if line.content is None:
                yield Row(line.number, None, TOO_LONG)
                continue
            if not line.content.strip(b" \r\n"):
                continue
            try:
                cells = self.cells(line, lines)
            except _Torn as error:
                yield self._refused(line, f"record: {error}")
                continue
            yield self._row(line, cells)

    def cells(self, line: Line, lines: Lines) -> list[str]:
        """Return the cells of the record that begins in `line`, taking more lines where a quoted cell spans them. Raises _Torn."""
        if not self.quoted:
            return _text(line).split(self.delimiter)
        taken: list[Line] = []
        try:
            cells = next(csv.reader(self._record_lines(line, lines, taken), delimiter=self.delimiter, strict=True))
            if taken:
                self._check_spanning(cells, taken)
        except (csv.Error, _Torn) as error:
            lines.give_back(taken)
            if isinstance(error, _Torn):
                raise
            raise _Torn(_csv_reason(error, bool(taken))) from None
        return cells

    def _record_lines(self, first: Line, lines: Lines, taken: list[Line]) -> Iterator[str]:
        yield _text(first, keep_end=True)
        n_bytes = len(first.content or b"")
        while len(taken) + 1 < MAX_RECORD_LINES and n_bytes < MAX_LINE_BYTES:
            try:
                line = lines.next()
            except DamagedFile:
                return  # said again when the lines taken so far are read as rows
            if line is None:
                return
            taken.append(line)
            n_bytes += len(line.content or b"")
            try:
                yield _text(line, keep_end=True)
            except _Torn:
                return  # this line is a bad row of its own

    def _check_spanning(self, cells: list[str], taken: list[Line]) -> None:
        """Refuse a cell that spans lines where lines are rather rows of their own."""
        spanning = [at for at, cell in enumerate(cells) if "\n" in cell or "\r" in cell]
        if any(at < len(self.header) and self.header[at] in self.single_line for at in spanning):
            raise _Torn("a quote that is not closed on its line")
        inner = [line for line in taken[:-1] if (line.content or b"").strip()]
        n_alike = sum(self._n_cells(line) == len(self.header) for line in inner)
        if len(self.header) > 1 and n_alike >= max(ROW_DELIMITERS / (len(self.header) - 1), ROW_SHARE * len(inner)):
            raise _Torn("a quote that is not closed before the next row")
        if self.header and len(cells) != len(self.header):
            raise _Torn("a quote that is not closed")

    def _n_cells(self, line: Line) -> int:
        try:
            return len(next(csv.reader([_text(line)], delimiter=self.delimiter), []))
        except csv.Error:
            return 0

    def _row(self, line: Line, cells: list[str]) -> Row:
        n = len(self.header)
        if len(cells) > n and not any(cells[n:]):
            cells = cells[:n]  # delimiters at the end of the line
        if len(cells) != n:
            return self._refused(line, f"record: {len(cells)} cells, the header names {n}")
        return Row(line.number, {name: cell for name, cell in zip(self.header, cells, strict=True) if cell})

    def _refused(self, line: Line, reason: str) -> Row:
        return Row(line.number, None, reason, raw=RawText(text_of(line.content or b""), tuple(self.header), self.delimiter))


def _text(line: Line, *, keep_end: bool = False) -> str:
    if line.content is None:
        raise _Torn("a line that is too long")
    try:
        text = line.content.decode()
    except UnicodeDecodeError:
        raise _Torn(NOT_UTF8.removeprefix("record: ")) from None
    return text if keep_end else text.removesuffix("\n").removesuffix("\r")


def _csv_reason(error: csv.Error, spans: bool) -> str:
    if spans or "unexpected end of data" in str(error):
        return "a quote that is not closed"
    if "expected after" in str(error):
        return "a quote inside a quoted cell; double it"
    return f"broken CSV ({error})"


def header_cells(content: bytes, delimiter: str, *, quoted: bool) -> list[str]:
    """Return the cells of a header line, without spaces around names. Raises ValueError when it cannot be cut."""
    table = Table(delimiter, quoted)
    try:
        cells = table.cells(Line(1, content), _NoLines())
    except _Torn as error:
        raise ValueError(str(error)) from None
    return [cell.strip() for cell in cells]


class _NoLines(Lines):
    def __init__(self) -> None:
        pass

    def next(self) -> Line | None:
        return None

    def give_back(self, lines: list[Line]) -> None:
        pass
