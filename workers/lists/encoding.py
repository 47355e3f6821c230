"""From lists in arrays to the records of the recommendations topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from recsys.engine import Lists
from workers.lists import encoding_kernel
from workers.lists.place_endings import ending, endings
from workers.lists.texts import Texts

Bytes = NDArray[np.uint8]
I64 = NDArray[np.int64]

_SCORE_UNITS = 10_000
_PROPENSITY_UNITS = 1_000_000
"""Scores are written with four decimals, propensities with six."""
_PLAIN = 1e9
"""Numbers whose magnitude is below this are written digit by digit."""
_LEAST_PROPENSITY = 1e-4
"""Smaller ones than this are written with an exponent."""


class ListHead(NamedTuple):
    """Whose list it is and what it is up to date with. `event_id` is None when no event made it."""

    user_id: str
    partition: int
    source_offset: int
    event_id: str | None

    @classmethod
    def of_state(cls, user_id: str, partition: int, last_applied_offset: int) -> ListHead:
        """Return the head of a list that no event made. The schema has no offset below 0, so −1 (nothing applied yet) is written as 0."""
        return cls(user_id, partition, max(0, last_applied_offset), None)


class ItemIds:
    """The ids of items as JSON, by number. `names` may grow; numbers never change."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._joined: Bytes = np.empty(1 << 12, np.uint8)
        self._ends: I64 = np.empty(1 << 8, np.int64)
        self._n = 0

    def texts(self) -> Texts:
        """All of them as of now. Later ones are written behind, so what was given stays as it is."""
        more = Texts.of([orjson.dumps(name) for name in self._names[self._n :]])
        before, n = int(self._ends[self._n - 1]) if self._n else 0, self._n + len(more.ends)
        after = before + len(more.joined)
        self._joined, self._ends = _with_room(self._joined, after), _with_room(self._ends, n)
        self._joined[before:after], self._ends[self._n : n] = more.joined, more.ends + before
        self._n = n
        return Texts(self._joined[:after], self._ends[:n])


def _with_room(held: NDArray[Any], size: int) -> NDArray[Any]:
    return held if size <= len(held) else np.pad(held, (0, max(size, 2 * len(held)) - len(held)))


def encode_lists(
    heads: Sequence[ListHead],
    lists: Lists,
    ids: Texts,
    *,
    generated_ts_ms: int,
    model_versions: Mapping[str, str],
    variant: str,
    rule_names: Sequence[str] = (),
) -> list[bytes]:
    """Each list as the JSON of `schemas.Recommendations`; `ids` are the items' by number, `rule_names` those of the bits of
    `lists.rules`. Places with nothing left to list are dropped.

    Written by `record_kernel` from numbers in units of their last decimal. Tests hold that equal to what dictionaries give.
    """
    filled = np.isfinite(lists.scores).sum(axis=1)
    shared = _shared(model_versions, variant)
    openings = [_head(head, generated_ts_ms) + shared for head in heads]
    scores = np.where(np.isfinite(lists.scores), lists.scores, 0)
    values = np.stack([scores, *lists.contributions.values()]).astype(np.float64)  # (1 + S, U, K)
    listed = np.arange(scores.shape[1]) < filled[:, None]
    propensities = lists.propensities[listed]
    if max(values.max(initial=0), -values.min(initial=0)) >= _PLAIN or propensities.min(initial=1) < _LEAST_PROPENSITY:
        return [opening + _places(lists, row, int(filled[row]), ids, rule_names) for row, opening in enumerate(openings)]
    return _written(
        openings,
        lists,
        filled,
        np.rint(values * _SCORE_UNITS).astype(np.int64),
        np.rint(lists.propensities.astype(np.float64) * _PROPENSITY_UNITS).astype(np.int64),
        ids,
        *endings(lists, rule_names),
    )


def _written(
    openings: Sequence[bytes], lists: Lists, filled: I64, units: I64, propensities: I64, ids: Texts, marks: I64, marked: Texts
) -> list[bytes]:
    """Records of openings (U) and places, whose numbers are in `units` (1 + S, U, K) and `propensities` (U, K)."""
    before, names = Texts.of(openings), Texts.of([orjson.dumps(name) + b":" for name in lists.contributions])
    n_ids = ids.size_of(lists.items) + ids.size_of(lists.because) + marked.size_of(marks)
    fixed = encoding_kernel.LONGEST_PLACE + len(names.joined) + len(units) * encoding_kernel.LONGEST_NUMBER
    out = np.empty(len(before.joined) + n_ids + lists.items.size * fixed + 2 * len(openings), np.uint8)
    ends = np.empty(len(openings), np.int64)
    encoding_kernel.write(
        before.joined, before.ends, lists.items, lists.because, filled, units, propensities, names.joined, names.ends, ids.joined, ids.ends,
        marks, marked.joined, marked.ends, out, ends,
    )  # fmt: skip
    data = out.data
    return [bytes(data[start:end]) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


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


def _places(lists: Lists, row: int, n_places: int, ids: Texts, rule_names: Sequence[str]) -> bytes:
    """The places of one list and what closes it, whatever its numbers are."""

    def name(item: int) -> Any:
        return orjson.loads(ids.joined[ids.ends[item - 1] if item else 0 : ids.ends[item]].tobytes())

    places = [
        {
            "rank": place + 1,
            "item_id": name(int(lists.items[row, place])),
            "score": _rounded(lists.scores[row, place], 4),
            "sources": {source: value for source, part in lists.contributions.items() if (value := _rounded(part[row, place], 4)) != 0},
            "because": [name(item) for item in lists.because[row, place].tolist() if item >= 0],
            "propensity": _rounded(lists.propensities[row, place], 6),
        }
        | ending(lists, row, place, rule_names)
        for place in range(n_places)
    ]
    return orjson.dumps(places)[1:] + b"}"


def _rounded(value: np.float32, decimals: int) -> float:
    return round(float(value), decimals) + 0.0  # no −0.0
