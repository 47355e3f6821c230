"""A look at the start of a text file, before anything is sent: is it what it is taken for? One line with the remedy where it is not."""

from __future__ import annotations

import codecs
import re

import orjson

from workers.errors import SettingsError
from workers.producer.rows import Format

REFUSED_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x04\x22\x4d\x18", "is compressed with lz4: unpack it with `lz4 -d`"),
    (b"\x1f\x9d", "is compressed with compress: unpack it with `uncompress`"),
    (b"PK\x03\x04", "is a zip archive or an Excel workbook: unpack it, or save the sheet as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook: save the sheet as CSV"),
    (b"Obj\x01", "is an Avro file: convert it to JSON lines or Parquet"),
    (b"ORC", "is an ORC file: convert it to JSON lines or Parquet"),
    (b"ARROW1", "is an Arrow file: convert it to Parquet"),
    (b"SQLite format 3\x00", "is a SQLite database: export the table as CSV"),
    (b"%PDF", "is a PDF"),
)
PARQUET_START = b"PAR1"
BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_COLONS = "::"
DELIMITERS = (",", ";", "\t", "|", _COLONS)
_SHOWN = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "vertical bars", "::": "double colons"}
_SHOWN_CELLS, _SHOWN_CHARS = 10, 30
_WRONG = re.compile("[\udc80-\udcff]+")
_PROPER = re.compile("[\x80-\ud7ff\ue000-\U0010ffff]+")
_BESIDE_DIGITS = re.compile("[0-9][\udc80-\udcff]|[\udc80-\udcff][0-9]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_NOT_IN_TEXT = frozenset(chr(0xDC00 + byte) for byte in {*range(0x80, 0xA0)} - {*b"\x80\x85\x91\x92\x93\x94\x96\x97"})
"""Bytes that are seldom in texts of Windows and Latin encodings: 0x80 to 0x9f without the euro, quotes and dashes."""
_DATA_CELL = re.compile(
    r"[+-]?\d+([.,]\d+)?|\d{4}-\d\d-\d\d([T ].*)?|(true|false|null)|https?://.*|\[\]|[\[{]+\".*", re.ASCII | re.IGNORECASE
)


def check_binary(start: bytes, form: Format) -> None:
    """Refuse formats that are no text, by their first bytes. Raises SettingsError."""
    for magic, what in REFUSED_STARTS:
        if start.startswith(magic):
            raise SettingsError(f"FILE: {what}")
    if start.startswith(PARQUET_START) and form != "parquet":
        raise SettingsError("FILE: is a Parquet file: pass --format parquet")


def encoding_problem(start: bytes) -> str:
    """Return why the start is not UTF-8 text, with the remedy; empty when it is."""
    for bom, name in BOMS:
        if start.startswith(bom):
            return f"is {name.upper()}, not UTF-8: pass --encoding {name}"
    zeros_even, zeros_odd = start[::2].count(0), start[1::2].count(0)
    half = max(len(start) // 2, 1)
    if max(zeros_even, zeros_odd) > 0.3 * half and min(zeros_even, zeros_odd) < 0.05 * half:
        return f"is UTF-16, not UTF-8: pass --encoding {'utf-16-le' if zeros_odd > zeros_even else 'utf-16-be'}"
    if start.count(0) > len(start) // 10:
        return "is not text: pass JSON lines, CSV, TSV or Parquet"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError as error:
        line = start.count(b"\n", 0, error.start) + 1
        if _broken_utf8(start):
            return ""  # single rows are damaged: they are refused one by one
        return f"is not UTF-8 (line {line}): pass --encoding cp1252 (Windows, Latin-1) or the encoding that it has"
    return ""


def _broken_utf8(start: bytes) -> bool:
    """Return whether bytes that are not UTF-8 are rather damage in UTF-8 text than letters of another encoding.

    Letters stand in words: not beside digits, not among control characters, and where runs of them are long (Greek, Cyrillic) they are in
    many lines.
    """
    text = start.decode("utf-8", "surrogateescape")
    wrong = _WRONG.findall(text)
    n_wrong = sum(map(len, wrong))
    if sum(map(len, _PROPER.findall(text))) >= n_wrong:
        return True
    lines = [line for line in text.split("\n") if _WRONG.search(line)]
    if any(_CONTROL.search(line) for line in lines):
        return True
    if len(lines) > 2:
        return False
    n_odd = sum(char in _NOT_IN_TEXT for run in wrong for char in run)
    return len(_BESIDE_DIGITS.findall(text)) + n_odd > len(wrong) / 4 or (max(map(len, wrong)) > 3 and text.count("\n") > 3)


def check_json(start: bytes) -> None:
    """Refuse what cannot be JSON lines: an array, objects that span lines, a table. Raises SettingsError."""
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if not text:
        return
    first = text.split(b"\n", 1)[0].strip()
    if text.startswith(b"["):
        raise SettingsError("FILE: is one JSON array; write one object a line: jq -c '.[]' FILE")
    if first.startswith((b"{'", b"{u'")):
        raise SettingsError(
            "FILE: its rows are dictionaries of Python, not JSON; write JSON: "
            "python -c 'import ast, json, sys; [print(json.dumps(ast.literal_eval(row))) for row in sys.stdin]' < FILE"
        )
    if first == b"{" or (text.startswith(b"{") and b"\n" in text and not _is_json(first) and _spans_lines(text)):
        raise SettingsError("FILE: its JSON objects span lines; write one object a line: jq -c . FILE")
    lines = [line.strip() for line in text.split(b"\n")[:20]]
    if not any(line.startswith(b"{") for line in lines):
        delimiter = delimiter_of(first.decode(errors="replace"))
        if delimiter:
            raise SettingsError(f"FILE: is not JSON lines, it looks like a table: pass --format {'tsv' if delimiter == chr(9) else 'csv'}")
        raise SettingsError("FILE: is not JSON lines: no line begins with {; pass --format csv, tsv or parquet if it is one of these")


def _spans_lines(text: bytes) -> bool:
    """Return whether none of the first lines begins an object and the first object ends on a later line."""
    lines = [line.strip() for line in text.split(b"\n")[1:20] if line.strip()]
    return bool(lines) and not any(line.startswith(b"{") for line in lines)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def delimiter_of(line: str) -> str:
    """Return the delimiter that a header line has most of; empty when it has none."""
    counts = {delimiter: line.count(delimiter) for delimiter in DELIMITERS}
    if counts[_COLONS] > 1:
        return _COLONS  # which stands in few texts, while bars and commas stand in cells of such a table
    best = max(counts, key=lambda delimiter: counts[delimiter])
    return best if counts[best] else ""


def declared_delimiter(line: bytes) -> str | None:
    """Return what Excel's line `sep=;` before a table says that its cells are separated by; None where the line is another one.

    Raises SettingsError where it names no character.
    """
    text = line.removeprefix(codecs.BOM_UTF8).decode(errors="replace").strip("\r\n")
    if not text.lower().startswith("sep="):
        return None
    if len(text) != len("sep=") + 1:
        raise SettingsError("FILE: begins with Excel's line sep=… without one character: remove that line and pass --delimiter")
    return text[-1]


def check_delimiter(header: str, delimiter: str, n_cells: int) -> None:
    """Refuse a header line that another delimiter cuts and this one does not. Raises SettingsError."""
    other = delimiter_of(header)
    if n_cells > 1 or not other or other == delimiter:
        return
    remedy = {"\t": "--format tsv", ",": "--format csv", ";": "--delimiter ';'", "|": "--delimiter '|'", "::": "--delimiter ::"}[other]
    raise SettingsError(f"FILE: its columns are separated by {_SHOWN[other]}: pass {remedy}")


def check_is_header(cells: list[str]) -> None:
    """Refuse a first line whose cells look like data: a number, a time, an address, a list. Raises SettingsError."""
    if any(_DATA_CELL.fullmatch(cell) for cell in cells):
        shown = ", ".join(cell[:_SHOWN_CHARS] for cell in cells[:_SHOWN_CELLS]) + (", …" if len(cells) > _SHOWN_CELLS else "")
        named = "a name for its column" if len(cells) == 1 else f"names for its {len(cells)} columns"
        remedy = f"pass --header user_id,item_id,… with {named}"
        raise SettingsError(f"FILE: has no header line, its first line looks like data ({shown}): {remedy}")
