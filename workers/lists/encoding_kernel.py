"""The places of many lists as JSON, byte by byte, compiled. Shapes: U lists, K places, S sources.

A text is the bytes of a joined array from the end of the one before to its own; numbers are whole, in units of their last decimal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled, inlined

Bytes = NDArray[np.uint8]
I64 = NDArray[np.int64]


def _text(written: bytes) -> Bytes:
    return np.frombuffer(written, np.uint8)


_RANK, _ITEM, _SCORE = _text(b'{"rank":'), _text(b',"item_id":'), _text(b',"score":')
_SOURCES, _BECAUSE, _PROPENSITY = _text(b',"sources":{'), _text(b'},"because":['), _text(b'],"propensity":')
_MINUS = _text(b"-")
_COMMA, _ALL_CLOSED = _text(b","), _text(b"]}")
LONGEST_NUMBER = 24
"""Bytes of a number, and of a comma."""
LONGEST_PLACE = 96 + 2 * LONGEST_NUMBER
"""Bytes of a place without its ids, its score and its sources."""


@compiled
def write(
    openings: Bytes,
    opening_ends: I64,
    items: I64,
    because: I64,
    filled: I64,
    units: I64,
    propensities: I64,
    names: Bytes,
    name_ends: I64,
    ids: Bytes,
    id_ends: I64,
    marks: I64,
    marked: Bytes,
    marked_ends: I64,
    out: Bytes,
    ends: I64,
) -> None:
    """Write lists one after another to `out`, each from its opening to its end, which is noted in `ends` (U,).

    `items` (U, K), of which the first `filled` (U,) are written, `because` (U, K, 2), −1 for none; `units` (1 + S, U, K) of 1/10,000: the
    score, and what each source added, left out where that is 0; `propensities` (U, K) of 1/1,000,000; `names` (S) with a colon; `marks` (U,
    K) say which text of `marked` closes a place.
    """
    at = 0
    for row in range(len(items)):
        at = _put_text(out, at, openings, opening_ends, row)
        for place in range(filled[row]):
            if place:
                at = _put(out, at, _COMMA)
            at = _put_whole(out, _put(out, at, _RANK), place + 1)
            at = _put_text(out, _put(out, at, _ITEM), ids, id_ends, items[row, place])
            at = _put_score(out, _put(out, at, _SCORE), units[0, row, place])
            at = _put(out, at, _SOURCES)
            is_later = False
            for source in range(len(name_ends)):
                if units[1 + source, row, place]:
                    if is_later:
                        at = _put(out, at, _COMMA)
                    is_later = True
                    at = _put_score(out, _put_text(out, at, names, name_ends, source), units[1 + source, row, place])
            at = _put(out, at, _BECAUSE)
            is_later = False
            for reason in because[row, place]:
                if reason >= 0:
                    if is_later:
                        at = _put(out, at, _COMMA)
                    is_later = True
                    at = _put_text(out, at, ids, id_ends, reason)
            at = _put_propensity(out, _put(out, at, _PROPENSITY), propensities[row, place])
            at = _put_text(out, at, marked, marked_ends, marks[row, place])
        at = _put(out, at, _ALL_CLOSED)
        ends[row] = at


@inlined
def _put(out: Bytes, at: int, text: Bytes) -> int:
    """Write a text; where it ends."""
    for i in range(len(text)):
        out[at + i] = text[i]
    return at + len(text)


@inlined
def _put_text(out: Bytes, at: int, joined: Bytes, ends: I64, number: int) -> int:
    start = ends[number - 1] if number else 0
    for i in range(start, ends[number]):
        out[at + i - start] = joined[i]
    after: int = at + ends[number] - start
    return after


@inlined
def _put_whole(out: Bytes, at: int, number: int) -> int:
    n_digits, rest = 1, number
    while rest >= 10:
        rest //= 10
        n_digits += 1
    for i in range(n_digits - 1, -1, -1):
        out[at + i] = 48 + number % 10
        number //= 10
    return at + n_digits


@compiled
def _put_score(out: Bytes, at: int, units: int) -> int:
    """Write a number of four decimals. The divisor is written here, so that no division is made."""
    if units < 0:
        at, units = _put(out, at, _MINUS), -units
    return _put_fraction(out, _put_whole(out, at, units // 10_000), units % 10_000, 4)


@compiled
def _put_propensity(out: Bytes, at: int, units: int) -> int:
    """Write a number of six decimals."""
    return _put_fraction(out, _put_whole(out, at, units // 1_000_000), units % 1_000_000, 6)


@inlined
def _put_fraction(out: Bytes, at: int, fraction: int, decimals: int) -> int:
    """Write the point and the decimals behind it, without zeros at their end but for one behind the point."""
    out[at] = 46
    for i in range(decimals, 0, -1):
        out[at + i] = 48 + fraction % 10
        fraction //= 10
    while decimals > 1 and out[at + decimals] == 48:
        decimals -= 1
    return at + 1 + decimals


put, put_text, put_score = _put, _put_text, _put_score
"""For the rows of pages (`workers.lists.row_kernel`)."""
