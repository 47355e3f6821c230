"""Logs of events for `benchmarks.streams`: files of the user's own, and the named data sets of `RECSYS_DATA`."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import DatasetMissing, data_folder, movielens_1m
from recsys.catalogue.items import ItemContent
from recsys.state.event_weights import event_weights
from schemas.events import EVENT_TYPES, EventType
from workers.settings import load_settings
from workers.state.event_weights import weight_table

I64 = NDArray[np.int64]

COLUMNS = ("user_id", "item_id", "type", "timestamp")
ALIASES = {
    "view": ("pv", "pageview", "page_view", "detail", "item_view"),
    "click": ("clicks",),
    "play": ("checkin", "check_in", "listen", "watch", "read"),
    "like": ("fav", "favorite", "favourite", "bookmark", "follow", "love"),
    "share": ("comment", "comment_created"),
    "add_to_cart": ("cart", "carts", "addtocart", "add-to-cart"),
    "purchase": ("buy", "order", "orders", "transaction"),
}
"""Types of the product ▸ other names that logs have for them. A type that is in neither counts as `play`, and a note says so."""
_TYPE_OF = {kind.value: kind for kind in EVENT_TYPES} | {alias: EventType(kind) for kind, names in ALIASES.items() for alias in names}
MAX_S = 2**32 - 1
"""Latest time of the state, in seconds."""
LEAST_MS = 100_000_000_000
"""A time from here on is in milliseconds: in 1973, or as seconds in the year 5138."""
_EARLY_S, _SHIFT_S = 100_000_000, 1_600 * 7 * 86_400
"""A log that begins before 1973 counts from a start of its own; it is moved by whole weeks."""


class BadFile(Exception):
    """A file cannot be used. The message is one line that names the file, the column and the row."""


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Events in order of time, those of one time as they were given.

    Shapes: `users`, `items`, `times_s`, `weights` and `types` are (n,): numbers by first appearance among the touches (items that nobody
    touches come last), seconds, weights by the settings, of which those above 0 are touches, and codes of event types. `item_ids` by
    number; `content` by item id. `notes` are lines for people.
    """

    name: str
    users: I64
    items: I64
    times_s: I64
    weights: NDArray[np.float32]
    types: NDArray[np.int8]
    item_ids: list[str]
    content: Mapping[str, ItemContent] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_users(self) -> int:
        return int(self.users.max(initial=-1)) + 1

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def is_touch(self) -> NDArray[np.bool_]:
        """Return which events are touches: of a positive weight, (n,)."""
        touched: NDArray[np.bool_] = self.weights > 0
        return touched

    def first(self, n_events: int) -> Log:
        """Return the first `n_events` events; 0 for all."""
        if not n_events or n_events >= len(self):
            return self
        ids = np.array(self.item_ids, object)[self.items[:n_events]].tolist()
        part = slice(0, n_events)
        users, times_s, weights, types = self.users[part].tolist(), self.times_s[part], self.weights[part], self.types[part]
        return made_log(self.name, users, ids, times_s, weights, types, content=self.content, notes=self.notes)


def made_log(
    name: str,
    users: Sequence[object],
    items: Sequence[str],
    times_s: I64,
    weights: NDArray[np.float32],
    types: NDArray[np.int8] | None = None,
    *,
    content: Mapping[str, ItemContent] | None = None,
    notes: Sequence[str] = (),
) -> Log:
    """Return events, (n,) each in order of time, as a log; of type `play` unless `types` are given."""
    touched = (weights > 0).tolist()
    numbers: dict[str, int] = {}
    for item in (*compress(items, touched), *items):
        numbers.setdefault(item, len(numbers))
    user_numbers = {user: number for number, user in enumerate(dict.fromkeys(users))}
    return Log(
        name,
        np.fromiter(map(user_numbers.__getitem__, users), np.int64, len(users)),
        np.fromiter(map(numbers.__getitem__, items), np.int64, len(items)),
        np.asarray(times_s, np.int64),
        np.asarray(weights, np.float32),
        np.full(len(users), EventType.PLAY.code, np.int8) if types is None else np.asarray(types, np.int8),
        list(numbers),
        content or {},
        tuple(notes),
    )


def read_log(path: Path, items_path: Path | None = None, *, category: str | None = None) -> Log:
    """Read events from a CSV file, plain or compressed (.xz, .gz), in any order of time.

    The columns are user_id, item_id, type and timestamp (whole seconds or milliseconds, the same for all rows), and `value` where a type is
    `rating`. Others are ignored, but for the column `category`, which describes the row's item. `items_path` names a file of items.
    Raises: BadFile.
    """
    users: list[str] = []
    items: list[str] = []
    types: list[str] = []
    times: list[float] = []
    values: list[float] = []
    content: dict[str, ItemContent] = {}
    unit: str | None = None
    for row, cells in _rows(path, COLUMNS):
        for column in COLUMNS:
            if not cells[column].strip():
                raise BadFile(f"{path.name}: column {column}, row {row} is empty")
        value, found = _time(path, row, cells["timestamp"])
        if found != (unit := unit or found):
            raise BadFile(
                f"{path.name}: column timestamp, row {row}: {cells['timestamp']} is in {found}, the rows before are in {unit}: use one unit"
            )
        users.append(cells["user_id"])
        items.append(cells["item_id"])
        types.append(cells["type"])
        times.append(value)
        values.append(_value(path, row, cells))
        if category and cells.get(category):
            content.setdefault(cells["item_id"], ItemContent([cells[category]]))
    if not users:
        raise BadFile(f"{path.name}: there are no events below the header")
    if items_path:
        content = read_items(items_path)
    scale = 1_000 if unit == "ms" else 1
    return _sorted_log(path.name.partition(".")[0], users, items, types, np.array(times) / scale, values, content, f"times are in {unit}")


def _sorted_log(
    name: str,
    users: Sequence[str],
    items: Sequence[str],
    types: Sequence[str],
    times_s: NDArray[np.float64],
    values: Sequence[float],
    content: Mapping[str, ItemContent],
    note: str,
) -> Log:
    order = np.argsort(times_s, kind="stable").tolist()
    codes, weights, notes = weights_of(types, values)
    whole_s = times_s[order].astype(np.int64)
    if whole_s[0] < _EARLY_S:
        whole_s += _SHIFT_S
    users, items = [users[i] for i in order], [items[i] for i in order]
    return made_log(name, users, items, whole_s, weights[order], codes[order], content=content, notes=(note, *notes))


def weights_of(types: Sequence[str], values: Sequence[float]) -> tuple[NDArray[np.int8], NDArray[np.float32], list[str]]:
    """Return codes of event types and weights under the settings, (n,) each, and notes on types that the product does not have."""
    codes, notes = {}, []
    for name in dict.fromkeys(types):
        kind = _TYPE_OF.get(name.strip().lower())
        if kind is None:
            kind = EventType.PLAY
            notes.append(f"type {name!r} is none of the product's and counts as play")
        elif kind.value != name:
            notes.append(f"type {name!r} counts as {kind.value}")
        codes[name] = kind.code
    by_event = np.fromiter(map(codes.__getitem__, types), np.int8, len(types))
    given = np.asarray(values, np.float64)
    unrated = (by_event == EventType.RATING.code) & np.isnan(given)
    if unrated.any():
        notes.append(f"{int(unrated.sum()):,} ratings have no value and count as play")
        by_event[unrated] = EventType.PLAY.code
    return by_event, event_weights(by_event, given, weight_table(load_settings())), notes


def _time(path: Path, row: int, text: str) -> tuple[float, str]:
    """Return a time and its unit."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadFile(f"{path.name}: column timestamp, row {row}: {text[:40]!r} is not a number of s or ms since 1970")
    unit = "s" if value < LEAST_MS else "ms"
    if not 0 <= value / (1 if unit == "s" else 1_000) <= MAX_S:
        raise BadFile(f"{path.name}: column timestamp, row {row}: {text[:40]!r} is no time in s or ms between 1970 and 2106")
    return value, unit


def _value(path: Path, row: int, cells: Mapping[str, str]) -> float:
    text = cells.get("value", "").strip()
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        if cells["type"].strip().lower() != EventType.RATING.value:
            return math.nan
        raise BadFile(f"{path.name}: column value, row {row}: {text[:40]!r} is not a number")
    return value


def read_items(path: Path) -> dict[str, ItemContent]:
    """Read items from a CSV file: item_id, and if it has them `categories`, separated by |, and further columns of text, which become
    attributes but for title, description and URLs. Columns of numbers are ignored. Raises: BadFile."""
    described = []
    for row, cells in _rows(path, ("item_id",)):
        if not cells["item_id"].strip():
            raise BadFile(f"{path.name}: column item_id, row {row} is empty")
        described.append(cells)
    names = [name for name in (described[0] if described else ()) if name not in _NO_ATTRIBUTES]
    names = [name for name in names if any(cells[name] for cells in described) and not all(_is_number(cells[name]) for cells in described)]
    return {
        cells["item_id"]: ItemContent(
            [part for part in cells.get("categories", "").split("|") if part], {name: cells[name] for name in names if cells[name]}
        )
        for cells in described
    }


_NO_ATTRIBUTES = {"item_id", "categories", "title", "name", "description", "text", "url", "image", "image_url"}


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True


def _rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows below the header, numbered from 1, by column. Raises: BadFile, naming the row."""
    row = 0
    try:
        with _opened(path) as lines:
            reader = csv.reader(lines, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for column in wanted:
                if header.count(column) != 1:
                    fault = "is there twice" if column in header else "is missing"
                    raise BadFile(f"{path.name}: column {column} {fault} in row 0, the header: {', '.join(header)[:200]}")
            for cells in reader:
                if not cells:
                    continue
                row += 1
                if len(cells) != len(header):
                    where = f"column {header[len(cells)]}, row {row} is missing" if len(cells) < len(header) else f"row {row}"
                    raise BadFile(f"{path.name}: {where}: the header has {len(header)} columns, the row {len(cells)}")
                yield row, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError:
        raise BadFile(f"{path.name}: row {row + 1} or one of the next is not UTF-8") from None
    except (csv.Error, EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"{path.name}: cannot be read after row {row}: {error}") from None
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path.suffix == ".xz":
        with lzma.open(path, "rt", encoding="utf-8-sig", newline="") as lines:
            yield lines
    elif path.suffix == ".gz":
        with gzip.open(path, "rb") as packed, io.TextIOWrapper(packed, encoding="utf-8-sig", newline="") as text:
            yield text
    else:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield lines


def _five_stars(folder: Path) -> Log:
    stream = movielens_1m(5.0)
    weights = np.ones(len(stream), np.float32)
    types, notes = np.full(len(stream), EventType.RATING.code, np.int8), ("ratings of five stars",)
    return made_log("ml-1m", stream.users, stream.items, stream.times_s, weights, types, content=stream.content, notes=notes)


def _of_file(path: str, category: str | None = None) -> Callable[[Path], Log]:
    return lambda folder: read_log(folder / path, category=category)


NAMED: dict[str, tuple[str, Callable[[Path], Log]]] = {
    "ml-1m": ("ml-1m/positives.csv.xz", _five_stars),
    "deskdrop": ("deskdrop/events.csv.xz", _of_file("deskdrop/events.csv.xz")),
    "foursquare-nyc": ("foursquare-nyc/events.csv.xz", _of_file("foursquare-nyc/events.csv.xz")),
    "taobao-userbehavior": ("taobao-userbehavior/events.csv.xz", _of_file("taobao-userbehavior/events.csv.xz", "category_id")),
    "yoochoose": ("small-fixtures/yoochoose-long-sessions.csv.xz", _of_file("small-fixtures/yoochoose-long-sessions.csv.xz")),
    "otto": ("small-fixtures/otto-20-sessions.csv.xz", _of_file("small-fixtures/otto-20-sessions.csv.xz")),
}
"""Data sets by name: the file in `RECSYS_DATA`, and how it is read."""


def named_log(name: str) -> Log:
    """Read a data set of `RECSYS_DATA`. Raises: DatasetMissing, BadFile."""
    path, read = NAMED[name]
    folder = data_folder()
    if not (folder / path).is_file():
        raise DatasetMissing(f"RECSYS_DATA has no {path}, which {name} is read from")
    log = read(folder)
    return replace(log, name=name)


def available() -> list[str]:
    """Return the names of the data sets that `RECSYS_DATA` has. Raises: DatasetMissing if there is none."""
    folder = data_folder()
    found = [name for name, (path, _) in NAMED.items() if (folder / path).is_file()]
    if not found:
        raise DatasetMissing(f"RECSYS_DATA has none of {', '.join(path for path, _ in NAMED.values())}")
    return found
