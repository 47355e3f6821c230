"""Rows of Parquet files, read in batches; cells that Python has no value for refuse their row alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from workers.errors import SettingsError
from workers.producer.rows import DamagedFile, Row, Unreadable
from workers.producer.values import is_missing

BATCH_ROWS = 8_192
EXPORT_MARK = b"recsys.export"
"""Key in the metadata of the schema of a file that `recsys export` wrote; its value says of what."""


def open_parquet(path: str) -> Any:
    """Open a Parquet file; pages are compared with their checksums where it has them.

    Raises SettingsError when it is another format or cannot be opened, DamagedFile when it begins as Parquet and its index cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, page_checksum_verification=True, coerce_int96_timestamp_unit="us")
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None)
        if reason is None and _begins_as_parquet(path):
            raise DamagedFile("the Parquet file is cut or damaged, its index cannot be read") from None
        raise SettingsError(f"FILE: is no readable Parquet file ({reason or 'another format'})") from None


def _begins_as_parquet(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def exported_kind(file: Any) -> str:
    """Return what a file is an export of, as `recsys export` notes it; empty for any other file."""
    return str(((file.schema_arrow.metadata or {}).get(EXPORT_MARK) or b"").decode(errors="replace"))


def parquet_rows(file: Any, names: Sequence[str], is_absent: Callable[[Any], bool] = is_missing) -> Iterator[Row]:
    """Yield the rows of the columns named. Raises DamagedFile."""
    import pyarrow as pa

    wanted = [name for name in file.schema_arrow.names if name in set(names)]
    number = 0
    try:
        for batch in _batches(file, wanted):
            cells = [_values(batch.column(name)) for name in batch.schema.names]
            for row in zip(*cells, strict=True):
                number += 1
                yield Row(number, {name: cell for name, cell in zip(batch.schema.names, row, strict=True) if not is_absent(cell)})
    except (OSError, ValueError, MemoryError, RuntimeError, pa.ArrowException) as error:
        raise DamagedFile(f"the Parquet data is damaged ({type(error).__name__})") from None


def _batches(file: Any, wanted: Sequence[str]) -> Iterator[Any]:
    """Yield batches of one row group after the other, so that a damaged group does not take rows of the one before it along."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False)


def _values(column: Any) -> list[Any]:
    """Return a column as Python values. Times are cut to milliseconds, since Python's have no nanoseconds."""
    import pyarrow as pa

    kind = column.type
    try:
        if pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
            kind = column.type
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("ms", "UTC" if kind.tz else None), safe=False)
        elif pa.types.is_date64(kind):
            column = column.cast(pa.date32(), safe=False)
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError, ArithmeticError, pa.ArrowException):
        return [_value(cell) for cell in column]


def _value(cell: Any) -> Any:
    import pyarrow as pa

    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return Unreadable("text that is not UTF-8")
    except (ValueError, OverflowError, ArithmeticError, pa.ArrowException):
        return Unreadable("a value out of range")
