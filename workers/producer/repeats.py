"""Rows of one item or user that follow each other, as shops export the variants and images of a product."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, get_args

from workers.errors import SettingsError
from workers.producer.mapping import KEYS, RowMapping, merged
from workers.producer.rows import Row
from workers.producer.values import is_missing

Repeats = Literal["merge", "replace"]
REPEATS: tuple[str, ...] = get_args(Repeats)
MAX_IDS_LOOKED_AT = 5_000_000
"""40 MB; repetitions among the rows after it are not counted."""
MAX_JOINED = 10_000
"""Rows of one record that are held at once."""


def merged_rows(rows: Iterator[Row], mapping: RowMapping) -> Iterator[Row]:
    """Yield one row for rows of one id that follow each other: the first value of each column, and all values of lists."""
    column = mapping.column_of(KEYS[mapping.kind][0])
    held: Row | None = None
    for row in rows:
        if held is not None and _is_same(held, row, column):
            assert held.columns is not None and row.columns is not None
            columns = merged(mapping, held.columns, row.columns)
            held = dataclasses.replace(held, columns=columns, joined=held.joined + 1, parts=(*(held.parts or (held,)), row))
            continue
        if held is not None:
            yield held
        held = row
    if held is not None:
        yield held


def _is_same(held: Row, row: Row, column: str) -> bool:
    if held.columns is None or row.columns is None or held.joined >= MAX_JOINED or held.file != row.file:
        return False
    given = held.columns.get(column)
    return not is_missing(given) and given == row.columns.get(column)


def check_repeats(sample: list[dict[str, Any]], mapping: RowMapping) -> None:
    """Raise SettingsError when a row would replace the one before it by less: it has the same id, and lacks what that one has."""
    if mapping.kind == "events":
        return
    column = mapping.column_of(KEYS[mapping.kind][0])
    for before, row in pairwise(sample):
        lost = [name for name in before if mapping.uses(name) and name not in row]
        if lost and not is_missing(row.get(column)) and row.get(column) == before.get(column):
            raise SettingsError(
                f"FILE: some rows have the {column} of the row before them and no {lost[0]}: pass --repeats merge to make one record of "
                "them, or --repeats replace to let the last one count"
            )


class RepeatedKeys:
    """Count rows whose item or user came before in the file: the later record replaces the whole of the earlier one."""

    def __init__(self) -> None:
        self._keys = array("Q")

    def add(self, key: str) -> None:
        """Note the id of one published record."""
        if len(self._keys) < MAX_IDS_LOOKED_AT:
            digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            self._keys.append(int.from_bytes(digest, "big"))

    def count(self) -> int:
        """Return how many records repeat an earlier id."""
        if not self._keys:
            return 0
        import numpy as np

        return len(self._keys) - len(np.unique(np.frombuffer(self._keys, np.uint64)))
