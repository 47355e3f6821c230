"""Files of `recsys evaluate`: interactions as lines `user item item …` in time order, or as a table with columns.

A file whose suffix is that of a table (.csv, .tsv, .jsonl, .parquet, also compressed), or any for which a delimiter or a header is given,
is read by the readers of `recsys events publish`; any other is lines of ids with white space between them. Several lines of one user follow
one another in time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.catalogue.item_content import ItemContent
from recsys.models.descriptions import ItemDescriptions
from schemas import limits
from workers.errors import SettingsError
from workers.producer.files import Reading, open_rows
from workers.producer.mapping import RowMapping
from workers.producer.rows import BadRow
from workers.producer.sniff import delimiter_of
from workers.producer.source import COMPRESSED, SUFFIXES, open_text

_PAIR = re.compile(r"\(([^\s,()]+),([^\s,()]+)\)")
"""The user of a line of negatives as `hexiangnan/neural_collaborative_filtering` writes it: (user,item)."""
_CHECKED_ROWS = 1_000
_LOOKED_AT, _TABLE_CELLS = 100, (3, 4, 5)
"""Lines at the start of a file that are looked at, and the numbers of cells of rows `user item [rating] time`."""
_EPOCH_STEP_MS = 1_000
"""Time between two interactions of a file without times, in milliseconds."""
_LEAST_SUCCESSORS, _LEAST_COMPARED, _MOST_AGAINST = 8, 1_000, 0.01
"""A sorted file: successors of an item on average, followings of pairs that were seen twice or more, and the share against them."""


@dataclass(frozen=True)
class Tables:
    """Says how tables are read: encoding, delimiter and header, and the mapping of rows to events and to items."""

    reading: Reading = field(default_factory=Reading)
    events: Callable[[], RowMapping] = lambda: RowMapping("events", {}, True, defaults={"type": "view"})
    items: Callable[[], RowMapping] = lambda: RowMapping("items", {}, True)


TABLES = Tables()


class Numbering:
    """Numbers of ids, in the order in which they first come."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def of(self, name: str) -> int:
        """Return the number of an id; a new id gets the next one."""
        return self.numbers.setdefault(name, len(self.numbers))

    @property
    def ids(self) -> list[str]:
        """Return the ids by number."""
        return list(self.numbers)


@dataclass
class Interactions:
    """The interactions of one file, in its order: numbers of users and items, and event times in milliseconds (n,)."""

    users: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    ts_ms: list[int] = field(default_factory=list)
    has_times: bool = False

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return users, items and times as arrays, (n,) each."""
        return np.array(self.users, np.int64), np.array(self.items, np.int64), np.array(self.ts_ms, np.int64)


def without_order(found: Interactions, n_items: int) -> bool:
    """Return True where nearly all users have their items in one and the same order: the file is sorted by something, and says nothing of
    time.

    Two items that follow one another in several histories do so in both orders where people chose. That is asked of files whose items have
    many successors: the parts of a series, or the lessons of a course, have few, and their one order is that of time.
    """
    if found.has_times:
        return False
    users, items, _ = found.columns()
    by_user = np.argsort(users, kind="stable")
    own, of_user = items[by_user], users[by_user]
    next_of = np.flatnonzero((of_user[1:] == of_user[:-1]) & (own[1:] != own[:-1]))
    follows = sparse.csr_array((np.ones(len(next_of)), (own[next_of], own[next_of + 1])), shape=(n_items, n_items))
    both = (follows + follows.T).tocsr()
    n_compared = float(both.data[both.data >= 2].sum()) / 2
    n_against = float(follows.minimum(follows.T).sum()) / 2
    return follows.nnz >= _LEAST_SUCCESSORS * n_items and n_compared >= _LEAST_COMPARED and n_against < _MOST_AGAINST * n_compared


def in_random_order(found: Interactions) -> Interactions:
    """Return the interactions in a random order, always the same one, with the times of their new places."""
    order = np.random.default_rng(0).permutation(len(found.users)).tolist()
    return Interactions([found.users[at] for at in order], [found.items[at] for at in order], found.ts_ms)


def read_interactions(option: str, path: str, users: Numbering, items: Numbering, tables: Tables = TABLES) -> Interactions:
    """Read the interactions of one file; `tables` says how, if it is a table, and in which encoding.

    Raises SettingsError that names `option`, the line and the remedy for a file that cannot be read, a bad line, or a file without any.
    """
    found = Interactions()
    try:
        for user, own, ts_ms in _table(path, tables, found) if is_table(path, tables.reading) else _lines(path, tables.reading.encoding):
            number = users.of(user)
            for item in own:
                found.users.append(number)
                found.items.append(items.of(item))
                found.ts_ms.append(len(found.ts_ms) * _EPOCH_STEP_MS if ts_ms is None else ts_ms)
    except SettingsError as error:
        raise SettingsError(f"{option}: {str(error).removeprefix('FILE: ')}") from None
    if not found.users:
        raise SettingsError(f"{option}: the file holds no interactions; each line is a user and that user's items, oldest first")
    return found


def read_negatives(option: str, path: str, users: Numbering, items: Numbering, encoding: str | None = None) -> dict[int, NDArray[np.int64]]:
    """Return user ▸ the numbers of the items that are ranked beside the test items. A line is `user item item …`, or `(user,item) item …`
    where the item is the user's test item.

    Raises SettingsError as `read_interactions` does.
    """
    found: dict[int, list[int]] = {}
    try:
        for user, own, _ in _lines(path, encoding):
            pair = _PAIR.fullmatch(user)
            found.setdefault(users.of(user if pair is None else pair[1]), []).extend(items.of(item) for item in own)
    except SettingsError as error:
        raise SettingsError(f"{option}: {str(error).removeprefix('FILE: ')}") from None
    return {user: np.unique(np.array(own, np.int64)) for user, own in found.items()}


def is_table(path: str, reading: Reading) -> bool:
    """Return whether a file is read as a table: its suffix says so, or that it has a delimiter or a header."""
    return _has_suffix(path) or reading.delimiter is not None or bool(reading.header)


def _has_suffix(path: str) -> bool:
    name = Path(path).name.lower()
    for packed in COMPRESSED:
        name = name.removesuffix(packed)
    return Path(name).suffix in SUFFIXES


def _refuse_tables(start: bytes) -> None:
    """Refuse lines that are rather the rows of a table, by the start of the file: read as items, ratings and times would be judged. Raises
    SettingsError with the options that read it."""
    lines = [line for line in start.decode(errors="replace").splitlines()[:_LOOKED_AT] if line.strip()]
    rows = [line.split() for line in lines]
    if rows and all(len(row) == 1 for row in rows) and (delimiter := delimiter_of(lines[0])):
        raise SettingsError(f"its lines are cut by {delimiter}: pass --delimiter '{delimiter}' --header user_id,item_id,… with all columns")
    n_cells = len(rows[0]) if rows else 0
    if n_cells in _TABLE_CELLS and all(len(row) == n_cells and _is_time(row[-1]) and not _is_time(row[1]) for row in rows):
        delimiter = "tab" if "\t" in lines[0] else "' '"
        names = ",".join(["user_id", "item_id", *("value", "more")[: n_cells - 3], "event_ts_ms"])
        raise SettingsError(f"its lines look like a table whose last column is a time: pass --delimiter {delimiter} --header {names}")


def _is_time(word: str) -> bool:
    """Return whether a word looks like seconds or milliseconds since 1970, of the years 1995 to 2033."""
    return word.isascii() and word.isdigit() and len(word) in (9, 10, 12, 13) and 8e8 <= int(word) / (1 if len(word) < 12 else 1_000) <= 2e9


def _lines(path: str, encoding: str | None) -> Iterator[tuple[str, list[str], None]]:
    source = open_text(path, "tsv", encoding)
    try:
        _refuse_tables(source.start)
        while (line := source.lines.next()) is not None:
            if line.content is None:
                raise SettingsError(f"line {line.number} is longer than a mebibyte; write the user's items on several lines")
            try:
                words = line.content.decode().split()
            except UnicodeError:
                raise SettingsError(f"line {line.number} is not valid UTF-8") from None
            for word in words:
                _check_id(word, line.number)
            if len(words) > 1:  # a user without items says nothing
                yield words[0], words[1:], None
    finally:
        source.close()


def _check_id(word: str, line: int) -> None:
    n_bytes = len(word) if word.isascii() else len(word.encode())
    if n_bytes > limits.ID_MAX_BYTES or not word.isprintable():
        raise SettingsError(f"line {line} holds an id that no record may have: 1 to {limits.ID_MAX_BYTES} bytes, no control characters")


def check_table(path: str, tables: Tables) -> None:
    """Look at the start of a table as `read_interactions` will. Raises SettingsError where it cannot be read so."""
    with closing(_table(path, tables, Interactions())) as rows:
        for _ in islice(rows, _CHECKED_ROWS):
            pass


def _reading_of(path: str, tables: Tables) -> Reading:
    return tables.reading if _has_suffix(path) else replace(tables.reading, form="csv")


def _table(path: str, tables: Tables, found: Interactions) -> Generator[tuple[str, list[str], int | None]]:
    mapping = tables.events()
    with open_rows(path, _reading_of(path, tables), mapping) as rows:
        for row in rows:
            where = f"line {row.line}" if not row.file else f"{row.file}, line {row.line}"
            if row.columns is None:
                raise SettingsError(f"{where}: {row.reason}")
            try:
                record = mapping.record(row.columns)
            except BadRow as error:
                raise SettingsError(f"{where}: {error}") from None
            ids = str(record["user_id"]), str(record["item_id"])
            for each in ids:
                _check_id(each, row.line)
            ts_ms = record.get("event_ts_ms")
            found.has_times = found.has_times or ts_ms is not None
            yield ids[0], [ids[1]], ts_ms


def read_categories(option: str, path: str, item_ids: Sequence[str], tables: Tables = TABLES) -> NDArray[np.float32]:
    """Return which items have which categories, (I, K) of 0 and 1, from a table with `item_id` and `categories`.

    Raises SettingsError as `read_interactions` does, and where no item of the log has a category.
    """
    names, pairs = Numbering(), list[tuple[int, int]]()
    for at, record in _items(option, path, item_ids, tables):
        pairs += [(at, names.of(str(name))) for name in record.get("categories", ())]
    if not pairs:
        raise SettingsError(f"{option}: no item of the log has a category in this file; it needs the columns item_id and categories")
    content = np.zeros((len(item_ids), len(names.numbers)), np.float32)
    content[tuple(np.array(pairs).T)] = 1.0
    return content


def read_descriptions(option: str, path: str, item_ids: Sequence[str], tables: Tables = TABLES) -> ItemDescriptions:
    """Return what a table with `item_id`, `categories` and attributes says of the items of the log, for kinds that learn from it.

    Raises SettingsError as `read_interactions` does.
    """
    contents: dict[int, ItemContent] = {}
    for at, record in _items(option, path, item_ids, tables):
        attributes = {str(name): str(value) for name, value in record.get("categorical_attributes", {}).items()}
        contents[at] = ItemContent([str(name) for name in record.get("categories", ())], attributes)
    return ItemDescriptions.of(contents, item_ids)


def _items(option: str, path: str, item_ids: Sequence[str], tables: Tables) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number and the record of each row of a table that is about an item of the log."""
    mapping, numbers = tables.items(), {item_id: at for at, item_id in enumerate(item_ids)}
    try:
        with open_rows(path, tables.reading, mapping) as rows:
            for row in rows:
                if row.columns is None:
                    raise SettingsError(f"line {row.line}: {row.reason}")
                try:
                    record = mapping.record(row.columns)
                except BadRow as error:
                    raise SettingsError(f"line {row.line}: {error}") from None
                at = numbers.get(str(record["item_id"]))
                if at is not None:
                    yield at, record
    except SettingsError as error:
        raise SettingsError(f"{option}: {str(error).removeprefix('FILE: ')}") from None
