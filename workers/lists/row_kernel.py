"""The rows of many pages as JSON, byte by byte, compiled. Shapes: U pages, B rows, T places of all rows together.

A text is the bytes of a joined array from the end of the one before to its own; numbers are whole, in units of 1/10,000.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from workers.lists.encoding_kernel import LONGEST_NUMBER, put, put_score, put_text

Bytes = NDArray[np.uint8]
I64 = NDArray[np.int64]


def _text(written: bytes) -> Bytes:
    return np.frombuffer(written, np.uint8)


_ABOUT, _CATEGORY, _ITEMS = _text(b',"item_id":'), _text(b',"category":'), _text(b',"items":[')
_ITEM, _SCORE, _CLOSED = _text(b'{"item_id":'), _text(b',"score":'), _text(b"}")
_COMMA, _ROW_CLOSED = _text(b","), _text(b"]}")
LONGEST_ROW = 40
"""Bytes of a row without its opening, its texts and its places."""
LONGEST_PLACE = 24 + LONGEST_NUMBER
"""Bytes of a place without its id."""


@compiled
def write_rows(
    openings: Bytes,
    opening_ends: I64,
    firsts: I64,
    items: I64,
    units: I64,
    about: I64,
    categories: I64,
    ids: Bytes,
    id_ends: I64,
    names: Bytes,
    name_ends: I64,
    out: Bytes,
    ends: I64,
) -> None:
    """Write the rows of pages one after another to `out`, those of a page with commas between them, and note where each page ends in `ends`
    (U,).

    Row b begins with its opening (B), and its places are those from `firsts[b]` to `firsts[b + 1]` (B + 1,) of `items` and `units` (U, T),
    −1 behind the last item; a row without items is left out. `about` (U, B) are numbers of items, whose texts are `ids`, and `categories`
    (U, B) those of `names`, −1 for none.
    """
    at = 0
    for page in range(len(items)):
        is_later = False
        for row in range(len(firsts) - 1):
            if items[page, firsts[row]] < 0:
                continue
            if is_later:
                at = put(out, at, _COMMA)
            is_later = True
            at = put_text(out, at, openings, opening_ends, row)
            if about[page, row] >= 0:
                at = put_text(out, put(out, at, _ABOUT), ids, id_ends, about[page, row])
            if categories[page, row] >= 0:
                at = put_text(out, put(out, at, _CATEGORY), names, name_ends, categories[page, row])
            at = put(out, at, _ITEMS)
            for place in range(firsts[row], firsts[row + 1]):
                if items[page, place] < 0:
                    break
                if place > firsts[row]:
                    at = put(out, at, _COMMA)
                at = put_text(out, put(out, at, _ITEM), ids, id_ends, items[page, place])
                at = put_score(out, put(out, at, _SCORE), units[page, place])
                at = put(out, at, _CLOSED)
            at = put(out, at, _ROW_CLOSED)
        ends[page] = at
