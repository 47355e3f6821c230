"""Counts of how often items were chosen, halved at a bank of half-lives of event time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.state import leaders_kernel, popularity_kernel
from recsys.state.half_lives import ALL_TIME, HALF_LIVES_S, LIVE_SPANS, MOST_GROWTH, NAMED_HALF_LIVES_S, SPANS_S, WINDOWS_S, is_live
from recsys.state.item_row import WEIGHT_ONE
from recsys.state.leaders import Leaders
from recsys.state.leaders_kernel import Counts

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

TRENDING_SHARES = {"6h": 1.0, "4d": 0.175}
"""What the counts of two half-lives add to `trending`."""
ALL_TIME_SHARE = 1e-3
"""What the count of all time adds: it decides where nothing happened lately."""
_PLACE = {name: place for place, name in enumerate(WINDOWS_S)}
_SPANS_S: I64 = SPANS_S[1:]
_FINITE_S: F64 = np.array(list(NAMED_HALF_LIVES_S.values()), np.float64)
_SHORTEST_S = int(_SPANS_S.min())
_TRENDING: I64 = np.array([_PLACE[name] for name in TRENDING_SHARES], np.int64)
_PLACES: I64 = np.arange(len(HALF_LIVES_S))
_FILLED_SHARE = 8
"""Items with a sum are remembered up to this part of all items."""
_SHARES: F64 = np.array(list(TRENDING_SHARES.values()))


class Popularity:
    """Counts by item number, for a capacity of C items: `all_time` is (C,) float32, and the bank holds each item's count at H half-lives
    (`HALF_LIVES_S`), the last of which is for ever.

    Sums are exact whole numbers, so they depend on what was added and not on its order, and a worker that has been running for long and one
    that has just read its state return the same. An item takes 16 bytes of memory for each half-life with spans, and 13. Reads are of the
    event time `newest_s`, which `advance` moves.
    """

    def __init__(self, n_items: int = 256) -> None:
        self.all_time: F32 = np.zeros(n_items, np.float32)
        self.newest_s = 0
        self._units: I64 = np.zeros(n_items, np.int64)
        self._sums: F64 = np.zeros((n_items, len(_SPANS_S), LIVE_SPANS))
        self._marks: NDArray[np.bool_] = np.zeros(n_items, np.bool_)
        self._filled = [[_Filled() for _ in range(LIVE_SPANS)] for _ in _SPANS_S]
        self._leaders = Leaders(len(HALF_LIVES_S), n_items)

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        held = len(self.all_time)
        if n_items > held:
            more = max(n_items, 2 * held) - held
            self.all_time, self._units = np.pad(self.all_time, (0, more)), np.pad(self._units, (0, more))
            self._marks = np.pad(self._marks, (0, more))
            self._sums = np.pad(self._sums, ((0, more), (0, 0), (0, 0)))
            self._leaders.grow(len(self.all_time))

    def clear(self) -> None:
        """Forget everything."""
        self.__init__(len(self.all_time))  # type: ignore[misc]

    def advance(self, newest_s: int) -> None:
        """Move event time to `newest_s`: drop the spans that count no longer."""
        before_s = self.newest_s
        if newest_s <= before_s:
            return
        self.newest_s = newest_s
        if newest_s // _SHORTEST_S == before_s // _SHORTEST_S:
            return
        ended = newest_s // _SPANS_S - before_s // _SPANS_S
        for place in np.flatnonzero(ended).tolist():
            newest = newest_s // int(_SPANS_S[place])
            for slot in range(LIVE_SPANS) if ended[place] >= LIVE_SPANS else (newest % LIVE_SPANS,):
                self._filled[place][slot].empty(self._sums[:, place, slot])
            self._leaders.drop(place)

    def add(self, window: str, span: int, items: U32, units: I64) -> None:
        """Add `units` (n,) of 1/64, of any sign, to distinct `items` (n,) in a span of a window, as `batch_delta` made them. What no longer
        counts is passed over."""
        if window == ALL_TIME:
            self._units[items] += units
            self.all_time[items] = self._units[items] / WEIGHT_ONE
            self._note(len(HALF_LIVES_S) - 1, items, units)
            return
        place = _PLACE[window]
        self.advance(span * int(_SPANS_S[place]))
        if not self.holds(window, span):
            return
        self._sums[items, place, span % LIVE_SPANS] += units
        self._filled[place][span % LIVE_SPANS].note(items, len(self._units))
        self._note(place, items, units)

    def add_rows(self, windows: I64, spans: I64, starts: I64, ends: I64, records: U32) -> None:
        """Add `records[starts:ends]`, items and units of 1/64 (n, 2), of each row (R,) to its span of its window, by place in `WINDOWS`."""
        self.advance(int((spans * SPANS_S[windows]).max()))
        filled = np.zeros((len(WINDOWS_S), LIVE_SPANS), np.bool_)
        items = np.empty(len(records), np.uint32)
        held = popularity_kernel.Held(self._sums, self._units, self.all_time, self._marks)
        n_items = popularity_kernel.add(held, windows, spans, SPANS_S, self.newest_s, starts, ends, records, filled, items)
        items = items[:n_items].copy()
        for place, slot in np.argwhere(filled).tolist():
            self._filled[place][slot].note(items, len(self._units))
        self._leaders.note(items, self._counts())

    def put(self, window: str, span: int, items: U32, units: I64) -> None:
        """Replace the sums of distinct `items` (n,) in one span, as `add` would have summed them."""
        self.add(window, span, items, units - self.units(window, span)[items])

    def holds(self, window: str, span: int) -> bool:
        """Return True while the span counts."""
        return is_live(window, span, self.newest_s)

    def units(self, window: str, span: int) -> I64:
        """Return the sums of a span in units of 1/64, (C,); 0 for a span that does not count."""
        if window == ALL_TIME:
            return self._units
        place = _PLACE[window]
        newest = self.newest_s // int(_SPANS_S[place])
        if not newest - LIVE_SPANS < span <= newest:
            return np.zeros_like(self._units)
        return self._sums[:, place, span % LIVE_SPANS].astype(np.int64)

    def bank_of(self, numbers: I64) -> F32:
        """Return the counts of items `numbers` (P,) at every half-life: (P, H); 0 where a number is −1."""
        found = np.empty((len(numbers), len(HALF_LIVES_S)), np.float32)
        newest, factors = self._now()
        popularity_kernel.bank(self._sums, self.all_time, np.ascontiguousarray(numbers, np.int64), newest, factors, found)
        return found

    def bank(self) -> F32:
        """Return the counts of all items at every half-life, (H, C)."""
        return np.ascontiguousarray(self.bank_of(np.arange(len(self.all_time))).T)

    def tops(self, size: int, places: I64 = _PLACES) -> I64:
        """Return the `size` items (at most 256) with the highest counts above 0 at the half-lives `HALF_LIVES_S[places]`, highest first,
        equal ones by number: (P, `size`), −1 for none. Changes what is remembered: call it before lists are made in threads."""
        return self._leaders.tops(places, size, self._counts(), self._values)

    def trending(self) -> F32:
        """Return recent counts, halved every 6 hours and every 4 days of event time, with a trace of the all-time count: (C,)."""
        return self._blended(np.arange(len(self.all_time)))

    def trending_of(self, numbers: I64) -> F32:
        """Return `trending` of items `numbers`, of any shape."""
        return self._blended(np.ascontiguousarray(numbers, np.int64).ravel()).reshape(numbers.shape)

    def _blended(self, numbers: I64) -> F32:
        found = np.empty(len(numbers), np.float32)
        newest, factors = self._now()
        shares = (factors[_TRENDING] * _SHARES)[:, None] * np.where(newest[_TRENDING, None] == (0, 1), 1.0, 1.0 / MOST_GROWTH)
        popularity_kernel.blend(self._sums, self.all_time, numbers, _TRENDING, shares, ALL_TIME_SHARE, found)
        return found

    def _note(self, place: int, items: U32, units: I64) -> None:
        """Note that items grew at a half-life, or that some of them shrank."""
        if (units < 0).any():
            self._leaders.drop(place)
        else:
            self._leaders.note(items, self._counts())

    def _counts(self) -> Counts:
        return Counts(self._sums, self._units, self.newest_s // _SPANS_S % LIVE_SPANS)

    def _values(self, place: int) -> F64:
        """Return what orders all items at a half-life."""
        values = np.empty(len(self._units))
        leaders_kernel.ordering(self._counts(), place, values)
        return values

    def _now(self) -> tuple[I64, F64]:
        """Return the slots of the newest spans (H − 1,) and the factors of their sums."""
        return self.newest_s // _SPANS_S % LIVE_SPANS, 0.5 ** (self.newest_s % _SPANS_S / _FINITE_S) / WEIGHT_ONE


class _Filled:
    """Remembers which items have a sum in one span, until they are so many that emptying all is as fast."""

    def __init__(self) -> None:
        self._parts: list[U32] | None = []
        self._n = 0

    def note(self, items: U32, n_items: int) -> None:
        if self._parts is not None:
            self._parts.append(items)
            self._n += len(items)
            if self._n * _FILLED_SHARE > n_items:
                self._parts = None

    def empty(self, sums: F64) -> None:
        """Set the sums of these items, of all (N,), to 0."""
        if self._parts is None:
            sums[:] = 0
        elif self._parts:
            sums[np.concatenate(self._parts)] = 0
        self._parts, self._n = [], 0
