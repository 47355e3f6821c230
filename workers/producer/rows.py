"""One row of a file, and the two ways in which reading fails: one bad row, or a file that cannot be read on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from workers.errors import WorkerError

Format = Literal["jsonl", "csv", "tsv", "parquet"]
FORMATS: tuple[str, ...] = get_args(Format)
MAX_LINE_BYTES = 1_048_576
"""A longer line is one bad row; it is skipped without being held."""


class BadRow(Exception):
    """A row that no mapping can turn into a record; the message says why."""


class DamagedFile(WorkerError):
    """The file cannot be read on from here; rows before it are good."""


@dataclass(frozen=True, slots=True)
class RawText:
    """The text of a row that could not be cut into columns. `names` and `delimiter`: how a table cuts it; without names it is JSON.

    `beside`: columns that the path of a folder gives the row.
    """

    text: str
    names: tuple[str, ...] = ()
    delimiter: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its line (Parquet: row) from 1, its columns without blanks and nulls, or why it could not be read.

    `file` is the part of a folder that holds it, empty for a single file; `joined` counts the rows after it that are part of it, and
    `parts` holds all of them as they were read. `raw` is the text of a row without columns.
    """

    line: int
    columns: dict[str, Any] | None
    reason: str = ""
    file: str = ""
    joined: int = 0
    parts: tuple[Row, ...] = ()
    raw: RawText | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for one cell that Python cannot represent; `reason` says why."""

    reason: str
