"""From lists in arrays to the records of the recommendations topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from recsys.engine import Lists

Pieces = NDArray[np.object_]
"""Bytes of records, to be joined one after another."""

_BLOCK_LISTS = 128
"""Lists put together at once, so that references to their pieces stay in the processor's cache."""
_UNITS = 10_000
"""Scores are written with four decimals."""
_WHOLE = 256
"""Numbers from 0 to below this are written from tables."""


class ListHead(NamedTuple):
    """Whose list it is and what it is up to date with. `event_id` is None when no event made it."""

    user_id: str
    partition: int
    source_offset: int
    event_id: str | None


def encode_lists(
    heads: Sequence[ListHead],
    lists: Lists,
    item_ids: Sequence[str],
    *,
    generated_ts_ms: int,
    model_versions: Mapping[str, str],
    variant: str,
) -> list[bytes]:
    """Each list as the JSON of `schemas.Recommendations`; `item_ids` by item number. Places with nothing left to list are dropped.

    Joined from pieces that whole columns look up in tables: a tenth of what dictionaries cost, and they a sixth of the pydantic models.
    Tests hold the three forms equal.
    """
    filled = np.isfinite(lists.scores).sum(axis=1).tolist()
    ids = _IdPieces(lists, item_ids)
    shared = _shared(model_versions, variant)
    records: list[bytes] = []
    for start in range(0, len(heads), _BLOCK_LISTS):
        rows = slice(start, start + _BLOCK_LISTS)
        places = _place_pieces(lists, rows, ids)  # (U, K, P)
        n_pieces = places.shape[2]
        for head, n, pieces in zip(heads[rows], filled[rows], places.reshape(len(places), -1).tolist(), strict=True):
            del pieces[n * n_pieces :]
            records.append(_head(head, generated_ts_ms) + shared + b"".join(pieces) + (b"}]}" if n else b"]}"))
    return records


def _head(head: ListHead, generated_ts_ms: int) -> bytes:
    """The fields that differ from list to list."""
    at = (head.partition, head.source_offset)
    user_id, event_id = orjson.dumps(head.user_id), orjson.dumps(head.event_id)
    who = b'{"schema_version":1,"list_id":"%d-%d-%x","user_id":%b,"generated_ts_ms":%d,' % (*at, generated_ts_ms, user_id, generated_ts_ms)
    return b'%b"trigger":{"event_id":%b,"partition":%d,"source_offset":%d},' % (who, event_id, *at)


def _shared(model_versions: Mapping[str, str], variant: str) -> bytes:
    """The fields that all lists have in common, and the opening of the items."""
    joined = ",".join(f"{kind}={version}" for kind, version in sorted(model_versions.items())) or "none"
    shared = orjson.dumps({"model_versions": dict(model_versions), "model_version": joined, "variant": variant})
    return shared[1:-1] + b',"items":['


def _place_pieces(lists: Lists, rows: slice, ids: _IdPieces) -> Pieces:
    """The pieces of every place of some lists, (U, K, P); what follows the last place is the caller's."""
    items, because = lists.items[rows], lists.because[rows]
    scores = np.where(np.isfinite(lists.scores[rows]), lists.scores[rows], 0)
    columns: list[Pieces | bytes] = [_ranks(items.shape[1]), ids.item[ids.places[items]]]
    columns += _numbers(scores, {name: part[rows] for name, part in lists.contributions.items()})
    columns.append(b'},"because":[')
    named = np.zeros(items.shape, np.bool_)
    for reason in np.moveaxis(because, 2, 0):
        columns.append(ids.reason[ids.places[reason] + ids.stride * named])
        named |= reason >= 0
    columns.append(_propensity(lists.propensities[rows]))
    pieces = np.empty((*items.shape, len(columns)), object)
    for place, column in enumerate(columns):
        pieces[:, :, place] = column
    return pieces


class _IdPieces:
    """Ids of the items in some lists as JSON. `places` says by item number where an item's pieces are; under −1 are those of no item."""

    def __init__(self, lists: Lists, item_ids: Sequence[str]) -> None:
        wanted = np.zeros(len(item_ids) + 1, np.bool_)
        wanted[lists.items] = wanted[lists.because] = True
        numbers = np.flatnonzero(wanted[:-1])
        quoted = [orjson.dumps(item_ids[number]) for number in numbers.tolist()]
        self.places = np.empty(len(wanted), np.int32)
        self.places[numbers] = np.arange(len(numbers))
        self.places[-1] = len(numbers)
        self.stride = len(numbers) + 1
        """How far behind an id's place among the reasons it stands with a comma before it."""
        self.item = _column([*(name + b',"score":' for name in quoted), b""])
        self.reason = _column([*quoted, b"", *(b"," + name for name in quoted), b""])


def _column(pieces: Iterable[bytes]) -> Pieces:
    found = list(pieces)
    column = np.empty(len(found), object)
    column[:] = found
    return column


@cache
def _ranks(n_places: int) -> Pieces:
    """What opens a place, and closes the one before it, (K,)."""
    return _column((b"},{" if rank > 1 else b"{") + b'"rank":%d,"item_id":' % rank for rank in range(1, n_places + 1))


def _propensity(propensities: NDArray[np.float32]) -> Pieces | bytes:
    """What closes the reasons, and the propensity with six decimals."""
    before = b'],"propensity":'
    return before + b"1.0" if (propensities == 1).all() else before + _texts(propensities, 6)


def _numbers(scores: NDArray[np.float32], sources: Mapping[str, NDArray[np.float32]]) -> list[Pieces | bytes]:
    """The score, and what each source added to it where that is not 0, in columns of pieces (U, K)."""
    names = [orjson.dumps(name) + b":" for name in sources]
    values = np.stack([scores, *sources.values()]).astype(np.float64)  # (1 + S, U, K)
    units = np.rint(values * _UNITS)
    tabled = units.min(initial=0) >= 0 and units.max(initial=0) < _WHOLE * _UNITS
    there = units[1:] != 0
    named = np.zeros_like(there)  # whether an earlier source was named, so that a comma is due
    np.logical_or.accumulate(there[:-1], axis=0, out=named[1:])
    opening = b',"sources":{'
    if not tabled:
        texts = _texts(values, 4)
        later = [np.where(due, b"," + name, name) + text for name, due, text in zip(names, named, texts[1:], strict=True)]
        return [texts[0], opening, *(np.where(is_there, text, b"") for is_there, text in zip(there, later, strict=True))]
    whole, fraction = np.divmod(units.astype(np.int32), np.int32(_UNITS))
    whole[1:] = np.where(there, whole[1:] + _WHOLE * named, -1)
    fraction[1:][~there] = -1
    fractions = _fraction_table()[fraction]
    columns: list[Pieces | bytes] = [_whole_table(b"")[whole[0]], fractions[0], opening]
    for name, index, text in zip(names, whole[1:], fractions[1:], strict=True):
        columns += (_whole_table(name)[index], text)
    return columns


def _texts(values: NDArray[np.floating], decimals: int) -> Pieces:
    """Rounded numbers as JSON, whatever they are, in the shape of `values`."""
    rounded = np.round(values.astype(np.float64), decimals) + 0.0  # no −0.0
    return _column(orjson.dumps(rounded.ravel().tolist())[1:-1].split(b",")).reshape(values.shape)


@cache
def _whole_table(before: bytes) -> Pieces:
    """Whole numbers behind a name, once more with a comma before it, and nothing."""
    wholes = [before + b"%d" % whole for whole in range(_WHOLE)]
    return _column([*wholes, *(b"," + text for text in wholes), b""])


@cache
def _fraction_table() -> Pieces:
    """Fractions in units of 1/10,000 as they print shortest, and nothing."""
    return _column([b".0", *((b".%04d" % units).rstrip(b"0") for units in range(1, _UNITS)), b""])
