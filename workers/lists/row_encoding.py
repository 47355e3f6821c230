"""Add the rows of pages to records of lists, which then have schema version 2. Shapes: U pages, B rows, T places of all rows together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from recsys.lists.result import Rows
from workers.lists.row_kernel import LONGEST_PLACE, LONGEST_ROW, write_rows
from workers.lists.texts import Texts

I64 = NDArray[np.int64]

_OLDER, _NEWER = b'{"schema_version":1,', b'{"schema_version":2,'
_UNITS = 10_000
"""Scores are written with four decimals."""
_PLAIN = 1e9
"""Numbers whose magnitude is below this are written digit by digit."""


def with_rows(records: Sequence[bytes], rows: Rows, ids: Texts, categories: Sequence[str]) -> list[bytes]:
    """Return the records (U) with the rows of their pages; one without any row is as it was. `ids` are those of the items and `categories`
    the texts of the categories, by number."""
    scores = np.where(rows.items >= 0, rows.scores, 0).astype(np.float64)
    if np.abs(scores).max(initial=0) >= _PLAIN:
        written = [_plainly(rows, page, ids, categories) for page in range(len(records))]
    else:
        written = _written(rows, np.rint(scores * _UNITS).astype(np.int64), ids, categories)
    return [
        b'%b%b,"rows":[%b]}' % (_NEWER, record[len(_OLDER) : -1], page) if page else record
        for record, page in zip(records, written, strict=True)
    ]


def _firsts(rows: Rows) -> I64:
    """Return where each row's places begin, and where the last one's end, (B + 1,)."""
    return np.cumsum([0, *(spec.size for spec in rows.specs)], dtype=np.int64)


def _written(rows: Rows, units: I64, ids: Texts, categories: Sequence[str]) -> list[bytes]:
    openings = Texts.of([orjson.dumps({"name": spec.name, "kind": spec.kind, "title": spec.title})[:-1] for spec in rows.specs])
    used = np.unique(rows.categories)  # few of the catalogue's are on some page
    named = Texts.of([orjson.dumps(categories[number]) for number in used[used >= 0].tolist()])
    places = np.searchsorted(used[used >= 0], rows.categories)
    of_rows = np.where(rows.categories >= 0, places, -1).astype(np.int64)
    n_pages, fixed = len(rows.items), len(openings.joined) + LONGEST_ROW * len(rows.specs)
    n_texts = ids.size_of(rows.items) + ids.size_of(rows.about) + named.size_of(of_rows)
    out = np.empty(n_pages * fixed + rows.items.size * LONGEST_PLACE + n_texts, np.uint8)
    ends = np.empty(n_pages, np.int64)
    write_rows(
        openings.joined, openings.ends, _firsts(rows), rows.items, units, rows.about, of_rows, ids.joined, ids.ends, named.joined,
        named.ends, out, ends,
    )  # fmt: skip
    data = out.data
    return [bytes(data[start:end]) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


def _plainly(rows: Rows, page: int, ids: Texts, categories: Sequence[str]) -> bytes:
    """Return the rows of one page, whatever its numbers are."""

    def name(item: int) -> Any:
        return orjson.loads(ids.joined[ids.ends[item - 1] if item else 0 : ids.ends[item]].tobytes())

    found, firsts = list[dict[str, Any]](), _firsts(rows).tolist()
    for row, (spec, first, end) in enumerate(zip(rows.specs, firsts, firsts[1:], strict=False)):
        items = [
            {"item_id": name(item), "score": round(float(score), 4) + 0.0}
            for item, score in zip(rows.items[page, first:end].tolist(), rows.scores[page, first:end].tolist(), strict=True)
            if item >= 0
        ]
        about, category = int(rows.about[page, row]), int(rows.categories[page, row])
        if items:
            stated: dict[str, Any] = {"name": spec.name, "kind": spec.kind, "title": spec.title}
            stated |= {"item_id": name(about)} if about >= 0 else {}
            stated |= {"category": categories[category]} if category >= 0 else {}
            found.append(stated | {"items": items})
    return orjson.dumps(found)[1:-1]
